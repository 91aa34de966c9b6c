"""The measured error law: its algebra, and its measurement on denoisers whose errors are known in closed form."""

import pytest
import torch

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.base import Preconditioning
from pdediff.denoisers.calibration import FLOOR, INFLATION, CalibratedErrors, CosineErrorLaw, interpolate, locate
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.schedules import VESchedule
from pdediff.spaces import FunctionSpace
from pdediff.training.errors import measure_errors


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_root_is_a_square_root():
    """L = S Q diag(root), densely, with Q from the basis functions; Lᵀ is its transpose; samples do not mix."""
    shape, d = (2, 3, 4), 24
    deviation, root_spectrum = normal(2, d).exp(), normal(*shape, seed=1).exp()
    law = CosineErrorLaw(deviation, root_spectrum)
    assert law.dimension == d
    eye, w = torch.eye(d, dtype=torch.float64), normal(2, d, seed=2)
    q = CosineField.from_basis(eye.reshape(d, *shape)).reshape(d, d).T  # column k is basis function k
    for i in range(2):
        alone = CosineErrorLaw(deviation[i], root_spectrum)
        expected = torch.diag(deviation[i]) @ q @ torch.diag(root_spectrum.flatten())
        torch.testing.assert_close(alone.root(eye).T, expected, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(alone.root_transposed(eye), expected, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(law.root(w)[i], expected @ w[i], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(law.root_transposed(w)[i], expected.T @ w[i], rtol=1e-12, atol=1e-13)


def test_interpolation_is_piecewise_linear():
    """Exact at and between nodes, constant beyond them; `locate` gives the interval and the place in it."""
    nodes, table = torch.linspace(-1, 1, 5), torch.tensor([3.0, 1.0, 0.0, 4.0, 4.5])
    values = torch.tensor([-9.0, -1.0, -0.75, 0.0, 0.125, 1.0, 9.0])
    torch.testing.assert_close(interpolate(values, nodes, table), torch.tensor([3.0, 3.0, 2.0, 0.0, 1.0, 4.5, 4.5]))
    left, place = locate(values, nodes)
    assert left.tolist() == [0, 0, 0, 2, 2, 3, 3]
    torch.testing.assert_close(place, torch.tensor([0.0, 0.0, 0.5, 0.0, 0.25, 1.0, 1.0]))


def pointwise_variance(law):
    """diag(L Lᵀ) of each sample (B, D), without the inflation."""
    eye = torch.eye(law.dimension).expand(len(law.deviation), -1, -1)
    return sum((law.root(column) / INFLATION).square() for column in eye.transpose(0, 1).to(law.deviation))


@pytest.mark.parametrize(
    ("s", "low", "high"),
    [(1.0, 0.1, 0.4), (0.1, 0.01, 0.04), (1e-3, 0.01, 0.04), (10.0, 1.0, 4.0), (1e3, 2.0, 2.0)],
)
def test_pointwise_variance_is_the_table(s, low, high):
    """diag(L Lᵀ) is the tabulated variance at the predicted value, whatever the spectrum (which alone is not even).

    ln variance is linear in ln s: midway between 0.1 and 10 is 1; beyond the ends it is that of the last level.
    """
    levels = torch.tensor([0.1, 10.0, 20.0], dtype=torch.float64)
    nodes = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)
    variance = torch.tensor([[[0.01, 0.04]], [[1.0, 4.0]], [[2.0, 2.0]]], dtype=torch.float64)
    errors = CalibratedErrors(levels, nodes, variance, normal(3, 1, 2, 2).exp())
    law = errors.law(torch.tensor([[-1.0, 1.0, 0.0, -5.0], [1.0, 1.0, 1.0, 1.0]]), s)
    expected = torch.tensor([[low, high, (low + high) / 2, low], [high, high, high, high]])
    torch.testing.assert_close(pointwise_variance(law), expected, rtol=1e-5, atol=0)
    assert law.deviation.dtype == law.root_spectrum.dtype == torch.float32


def test_channels_have_laws_of_their_own():
    """Two channels of independent errors: each has the variance of its own table, and no covariance with the other."""
    nodes = torch.tensor([[-1.0, 1.0], [0.0, 10.0]], dtype=torch.float64)
    variance = torch.tensor([[0.01, 0.04], [9.0, 16.0]], dtype=torch.float64).expand(2, 2, 2)
    errors = CalibratedErrors(torch.tensor([0.1, 1.0]), nodes, variance, normal(2, 2, 2, 2).exp())
    law = errors.law(torch.tensor([[-1.0, 1.0, 0.0, 0.0, 0.0, 10.0, 5.0, 20.0]]), 0.5)
    expected = torch.tensor([[0.01, 0.04, 0.025, 0.025, 9.0, 16.0, 12.5, 16.0]])
    torch.testing.assert_close(pointwise_variance(law), expected, rtol=1e-5, atol=0)
    units = torch.eye(8)
    root = torch.cat([law.root(unit[None]) for unit in units])
    assert torch.equal((root.T @ root)[:4, 4:], torch.zeros(4, 4))
    for part in (slice(0, 4), slice(4, 8)):
        marginal, w = law.marginal(part), normal(1, 8)
        torch.testing.assert_close(marginal.root(w[:, part]), law.root(w)[:, part])
        torch.testing.assert_close(marginal.root_transposed(w[:, part]), law.root_transposed(w)[:, part])
        assert marginal.dimension == 4


class Synthetic:
    """What `measure_errors` needs of a denoiser, around a function (x, s) -> E[x_0 | x]."""

    def __init__(self, function, sigma_data=1.0):
        self.function, self.preconditioning = function, Preconditioning(sigma_data)

    def denoise(self, x, s):
        return self.function(x, float(s[0]))


def test_gaussian_errors_are_recovered():
    """A Gaussian prior diagonal in cosines: the error's covariance is Q diag(s² λ/(λ + s²)) Qᵀ at every prediction.

    The law's mean variance, and its correlation of neighbours (pooled over the domain, in y and in x), are compared
    with the exact ones at every level. 768 functions have at least 768 × 8 independent values of weight at any level,
    which gives the variance to 4√(2/6144) = 7 %; correlations are closer, but the law is stationary and the exact one
    is not quite: 0.05.
    """
    shape, generator = (16, 16), torch.Generator().manual_seed(0)
    k2 = torch.arange(16.0)[:, None] ** 2 + torch.arange(16.0) ** 2
    prior = CosineField(shape, 40 / (9 + k2) ** 1.5)
    exact = GaussianDenoiser(prior, FunctionSpace(("x",), shape), schedule=VESchedule())
    sigma_data = float(prior.pointwise_variance().mean().sqrt())
    denoiser = Synthetic(lambda x, s: exact(x.flatten(1), s).reshape(x.shape), sigma_data)
    errors, rows = measure_errors(
        denoiser, lambda n: prior.sample(n, generator, torch.float64)[:, None], generator, count=768, batch=128
    )
    assert [row["s"] for row in rows] == pytest.approx(errors.s.tolist(), rel=1e-2)
    eye = torch.eye(256, dtype=torch.float64)
    for row, s in zip(rows, errors.s.tolist(), strict=True):
        root = exact.error_law(eye, s).root(eye)
        law = errors.law(torch.zeros(256, dtype=torch.float64), s)
        measured = law.root_transposed(eye) / INFLATION
        found, expected = measured @ measured.T, root.T @ root
        assert row["mse"] == pytest.approx(float(expected.trace()) / 256, rel=0.07)
        assert float(found.trace()) == pytest.approx(float(expected.trace()), rel=0.1)
        for step in (1, 16):
            correlations = [float(c.diagonal(step).sum() / c.trace()) for c in (found, expected)]
            assert correlations[0] == pytest.approx(correlations[1], abs=0.05), (s, step)


def test_two_phase_errors_are_recovered():
    """Independent x_0 = ±1: the posterior mean is D = tanh(x/s²), the error's variance 1 − D², its spectrum flat.

    Of 512 × 256 values at least 500 are near each node inside (−0.9, 0.9), where the square error has a standard
    deviation of at most 1: 4 standard errors are below 0.18, and 0.1 for most. A mode's power sums correlations, each
    of them known to 1/√(512 × 256) = 0.003 or better, at some 30 distances with weights of up to 100.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(n):
        return torch.randint(0, 2, (n, 1, 16, 16), generator=generator).double() * 2 - 1

    errors, _ = measure_errors(Synthetic(lambda x, s: torch.tanh(x / s**2)), draw, generator, count=512, batch=128)
    assert errors.nodes[0, 0] == -1
    assert errors.nodes[0, -1] == 1
    assert bool((errors.variance >= FLOOR).all())
    for level in (6, 7, 8):  # s = 0.8, 1.3, 2.0: predictions all over [−1, 1]
        table, nodes = errors.variance[level, 0], errors.nodes[0]
        inside = nodes.abs() < 0.9
        torch.testing.assert_close(table[inside], (1 - nodes**2)[inside], rtol=0, atol=0.15)
        assert float((table - 1 + nodes**2)[inside].abs().mean()) < 0.03
        spectrum = errors.spectrum[level, 0]
        assert float(spectrum.mean()) == pytest.approx(1, abs=0.05)
        assert float((spectrum - 1).abs().max()) < 0.3
