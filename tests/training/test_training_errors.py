"""Held-out errors: the pieces of the measured error law against what they estimate."""

import math

import pytest
import torch

from pdediff.datasets.random_fields import CosineField, PeriodicField
from pdediff.denoisers import weights
from pdediff.training.errors import correlation, cosine_spectrum, measure_errors, tabulate


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(spectrum):
    """Q diag(spectrum) Qᵀ (D, D)."""
    field = CosineField(tuple(spectrum.shape), spectrum)
    d = spectrum.numel()
    return field.apply(torch.eye(d, dtype=torch.float64).reshape(d, *spectrum.shape)).reshape(d, d)


def test_tabulate_is_exact_for_a_constant():
    """A mean of equal squares is that square at every node, also where no prediction comes (prior count)."""
    table = tabulate(
        normal(2, 1, 8, 8).tanh(), torch.full((2, 1, 8, 8), 0.3, dtype=torch.float64), torch.linspace(-2, 2, 9)
    )
    torch.testing.assert_close(table, torch.full((9,), 0.3, dtype=torch.float64), rtol=1e-12, atol=0)


def test_tabulate_keeps_nodes_apart():
    """Predictions at two nodes: each gets its own mean, up to the prior count of ten; one between, the overall one."""
    prediction = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(10_000)
    square = torch.tensor([0.1, 0.9], dtype=torch.float64).repeat(10_000)
    table = tabulate(prediction, square, torch.linspace(-1, 1, 3, dtype=torch.float64))
    torch.testing.assert_close(
        table, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), rtol=0, atol=0.4 * 10 / 10_000
    )


def test_spectrum_of_a_kernel():
    """A kernel that ends within the domain gives C_ij = K(i − j) plus K at the lags to j's images in the walls.

    Q diag(spectrum) Qᵀ is compared with that sum, entry by entry, in two dimensions.
    """
    ny, nx = 6, 8
    y, x = torch.arange(ny, dtype=torch.float64), torch.arange(nx, dtype=torch.float64)
    kernel_y, kernel_x = (1 - y / 3).clamp(min=0), (1 - x / 4).clamp(min=0)  # tents: positive definite
    spectrum = cosine_spectrum((kernel_y[:, None] * kernel_x)[None])[0]

    def mirrored(kernel):
        n = len(kernel)
        padded = torch.cat([kernel, torch.zeros(n + 1, dtype=torch.float64)])
        i = torch.arange(n)
        direct, below, above = (i[:, None] - i).abs(), i[:, None] + i + 1, 2 * n - 1 - i[:, None] - i
        return padded[direct] + padded[below] + padded[above]

    floor = 1e-3  # eigenvalues below a thousandth of K(0) are raised to it: a tent's reach zero
    torch.testing.assert_close(
        dense(spectrum), torch.kron(mirrored(kernel_y), mirrored(kernel_x)), rtol=0, atol=2 * floor
    )


def test_spectrum_of_white_errors_is_flat():
    """K = δ has eigenvalues 1."""
    kernel = torch.zeros(2, 5, 7, dtype=torch.float64)
    kernel[:, 0, 0] = 1
    torch.testing.assert_close(cosine_spectrum(kernel), torch.ones_like(kernel), rtol=1e-13, atol=0)


def test_spectrum_is_positive():
    """An estimated kernel need not be positive definite; its spectrum is at least a thousandth of K(0)."""
    kernel = torch.zeros(1, 8, 8, dtype=torch.float64)
    kernel[0, 0, 0], kernel[0, 0, 1] = 1.0, -0.9
    assert float(cosine_spectrum(kernel).min()) == pytest.approx(1e-3)


def test_correlation_of_known_errors():
    """e = d·g with a stationary isotropic g of unit variance and deviations d that vary from pixel to pixel: K of g.

    1000 functions of 16 × 16 points; at lags up to 4 there are at least 16 independent patches a function, so that a
    correlation has a standard error of at most 1/√16000 = 0.008; 5 of them, and 0.02 for pooling lags into rings.
    """
    n, m = 16, 48
    lag = (torch.fft.fftfreq(m, dtype=torch.float64) * m).abs()
    kernel = torch.exp(-((lag[:, None] ** 2 + lag**2) / (2 * 2.0**2)))
    torus = PeriodicField((m, m), torch.fft.rfft2(kernel).real.clamp(min=0))
    g = torus.sample(1000, torch.Generator().manual_seed(0), torch.float64)[:, None, :n, :n]
    deviation = 0.1 + torch.rand(1000, 1, n, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = correlation(deviation * g, deviation)[0]
    distance = torch.hypot(torch.arange(n)[:, None] / n, torch.arange(n)[None] / n)
    expected = kernel[:n, :n] * (0.5 + 0.5 * torch.cos(math.pi * distance.clamp(max=1)))
    on_lattice = torch.tensor([[0, 1], [1, 0], [0, 2], [2, 0], [0, 3], [0, 4], [4, 0]])
    assert float(found[0, 0]) == 1
    for j, i in on_lattice.tolist():
        assert float(found[j, i]) == pytest.approx(float(expected[j, i]), abs=0.06), (j, i)


def test_correlation_ignores_the_certain():
    """Points of deviation zero have no say: white errors on half of the points are white."""
    deviation = (torch.arange(16) < 8).double().expand(400, 1, 16, 16)
    found = correlation(deviation * normal(400, 1, 16, 16), deviation)[0]
    assert float(found[0, 0]) == 1
    assert float(found.flatten()[1:].abs().max()) < 0.05  # 4 standard errors of 400 × 16 pairs


def test_measured_on_a_network():
    """A small untrained network on two-phase noise: a row a level, a law of the right shapes, power of the errors kept.

    With F = 0 the prediction is x/(1 + s²) and the error of white x_0 = ±1 has variance s²/(1 + s²) at every level: the
    card's rows show it to 4√(2/(64 × 64)) = 9 %.
    """
    torch.manual_seed(0)
    card = {
        "fields": ["a"],
        "shape": [8, 8],
        "network": {"patch": 2, "widths": [8, 16], "blocks": 1, "attention": True},
        "preconditioning": {"sigma_data": 1.0},
    }
    denoiser, generator = weights.build(card), torch.Generator().manual_seed(0)

    def draw(count):
        return torch.randint(0, 2, (count, 1, 8, 8), generator=generator).float() * 2 - 1

    errors, rows = measure_errors(denoiser, draw, generator, count=64, batch=32)
    assert errors.variance.shape == (19, 1, 41)
    assert errors.spectrum.shape == (19, 1, 8, 8)
    assert len(rows) == 19
    for row, s in zip(rows, errors.s.tolist(), strict=True):
        assert row["s"] == pytest.approx(s, rel=1e-2)
        assert row["mse"] == pytest.approx(s**2 / (1 + s**2), rel=0.09)
    denoiser.calibration = errors
    x_0 = draw(2).flatten(1)
    w = torch.randn(2, 64, generator=generator)
    assert bool(denoiser.error_law(x_0, 1.0).root(w).isfinite().all())
