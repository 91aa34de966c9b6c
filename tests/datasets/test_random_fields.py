"""Random fields against their laws: exact linear algebra, or Monte-Carlo bounds that follow from the sample size."""

import math

import numpy as np
import pytest
import scipy.fft
import torch

from pdediff.datasets.random_fields import CosineField, PeriodicField, benchmark_field
from pdediff.datasets.variograms import Variogram
from pdediff.solvers.errors import InputError


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _periodic(shape):
    """A torus with the spectrum of a heat kernel plus white noise: even in k, positive."""
    ny, nx = shape
    ky, kx = torch.fft.fftfreq(ny, dtype=torch.float64), torch.fft.rfftfreq(nx, dtype=torch.float64)
    return PeriodicField(shape, 2 * torch.exp(-20 * (ky[:, None] ** 2 + 2 * kx**2)) + 0.1)


def _cosine(shape):
    ky, kx = (torch.arange(n, dtype=torch.float64) for n in shape)
    return CosineField(shape, 3 / (1 + ky[:, None] ** 2 + kx**2))


FIELDS = [_cosine((5, 8)), _periodic((5, 8)), _periodic((6, 7))]


def _dense(field):
    """The covariance matrix, column by column."""
    n = math.prod(field.shape)
    return field.apply(torch.eye(n, dtype=torch.float64).reshape(n, *field.shape)).reshape(n, n)


@pytest.mark.parametrize("field", FIELDS)
def test_functions_of_the_covariance(field):
    """C is symmetric; C^{1/2} C^{1/2} = C; C⁻¹ C = I; (C + s_b I)⁻¹ with one s per sample is the dense inverse."""
    x = torch.randn(3, *field.shape, generator=_generator(), dtype=torch.float64)
    matrix = _dense(field)
    torch.testing.assert_close(matrix, matrix.T)
    torch.testing.assert_close(field.apply(field.apply(x, torch.sqrt), torch.sqrt), field.apply(x))
    torch.testing.assert_close(field.apply(field.apply(x), torch.reciprocal), x)
    s = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    expected = torch.linalg.solve(matrix + s[:, None, None] * torch.eye(len(matrix)), x.reshape(3, -1, 1))
    torch.testing.assert_close(
        field.apply(x, lambda c: 1 / (c + s[:, None, None])).reshape(3, -1),
        expected.squeeze(-1),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize("field", FIELDS)
def test_trace_and_variance_are_those_of_the_matrix(field):
    """tr C, ln det C and diag C from the spectrum are those of the dense matrix."""
    matrix = _dense(field)
    torch.testing.assert_close(field.trace(lambda c: c), matrix.trace())
    torch.testing.assert_close(field.trace(torch.log), torch.linalg.slogdet(matrix).logabsdet)
    torch.testing.assert_close(field.pointwise_variance(), matrix.diagonal().reshape(field.shape))


@pytest.mark.parametrize("field", FIELDS)
def test_colour_is_a_root_of_the_covariance(field):
    """With white xi, L xi has covariance L Lᵀ = C exactly; `sample` is L times the generator's normal numbers."""
    n = math.prod(field.shape)
    root = field.colour(torch.eye(n, dtype=torch.float64).reshape(n, *field.shape)).reshape(n, n).T
    torch.testing.assert_close(root @ root.T, _dense(field))
    xi = torch.randn(4, *field.shape, generator=_generator(3), dtype=torch.float64)
    torch.testing.assert_close(field.sample(4, _generator(3), torch.float64), field.colour(xi))


def test_sample_covariance():
    """Of n = 20000 samples each entry of the empirical covariance has standard error √((C_ii C_jj + C_ij²)/n); the
    errors so standardised have mean square 1 (± 0.5: 300 entries, but they are correlated) and none exceeds 5.5."""
    field, n = _cosine((4, 6)), 20_000
    x = field.sample(n, _generator(1), torch.float64).reshape(n, -1)
    matrix = _dense(field)
    variance = matrix.diagonal()
    z = (x.T @ x / n - matrix) / ((variance[:, None] * variance + matrix**2) / n).sqrt()
    assert abs(float(z.square().mean()) - 1) < 0.5
    assert float(z.abs().max()) < 5.5


def test_single_precision_and_reproducibility():
    """The same seed gives the same fields, another seed others; C x in float32 is right to a few roundings."""
    field = benchmark_field((64, 48))
    a, b, c = field.sample(2, _generator(5)), field.sample(2, _generator(5)), field.sample(2, _generator(6))
    assert a.dtype == torch.float32
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    exact = field.apply(a.double())
    assert float((field.apply(a) - exact).abs().max()) < 2e-6 * float(exact.abs().max())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_generator_gives_the_same_fields_on_another_device():
    """Noise is drawn where the generator lives: CPU numbers coloured on the GPU agree with the CPU's fields."""
    for field in (benchmark_field((64, 64)), benchmark_field((200, 200)), _periodic((32, 32))):
        expected = field.sample(2, _generator(), torch.float64)
        torch.testing.assert_close(field.sample(2, _generator(), torch.float64, "cuda").cpu(), expected)


def test_apply_is_differentiable_after_inference_mode():
    """Kept copies of the spectrum made under inference mode serve autograd: the gradient of ½ xᵀCx is Cx."""
    field = _cosine((5, 8))
    x = torch.randn(5, 8, generator=_generator())
    with torch.inference_mode():
        expected = field.apply(x)
    x.requires_grad_()
    (0.5 * (x * field.apply(x)).sum()).backward()
    torch.testing.assert_close(x.grad, expected.clone())


@pytest.mark.parametrize("s", [32, 128, 200])
def test_benchmark_law_is_the_published_formula(s):
    """For given xi, mu = IDCT_ortho(s xi τ^{α−1} (π²(k1² + k2²) + τ²)^{−α/2}) without its k = 0 term, to 1e-12."""
    alpha, tau = 2.0, 3.0
    xi = np.random.default_rng(0).standard_normal((s, s))
    k1, k2 = np.meshgrid(np.arange(s), np.arange(s), indexing="ij")
    coefficient = s * xi * tau ** (alpha - 1) * (np.pi**2 * (k1**2 + k2**2) + tau**2) ** (-alpha / 2)
    coefficient[0, 0] = 0
    expected = scipy.fft.idctn(coefficient, norm="ortho")
    np.testing.assert_allclose(
        benchmark_field((s, s)).colour(torch.from_numpy(xi)).numpy(), expected, rtol=0, atol=1e-12
    )


def test_benchmark_standard_deviation():
    """Root mean square over the domain: √Σ_{k≠0} (τ/(π²k² + τ²))² = 0.2921 at 128², which 400 samples show to 2 %."""
    field = benchmark_field((128, 128))
    assert math.isclose(float(field.pointwise_variance().mean().sqrt()), 0.2921, abs_tol=5e-5)
    mu = field.sample(400, _generator(2))
    assert math.isclose(float(mu.square().mean().sqrt()), 0.2921, rel_tol=0.03)
    assert float(mu.mean(dim=(1, 2)).abs().max()) < 1e-6


def test_benchmark_law_does_not_depend_on_the_grid_or_the_unit():
    """The variance at a place is the same on 64² and 128² cells and, with dx ≠ dy, 64 × 32 cells, but for truncated
    modes (measured: 0.1 and 0.2 %); it is exactly the same when the lengths and τ are given in another unit."""
    fine = benchmark_field((128, 128)).pointwise_variance().reshape(64, 2, 64, 2).mean(dim=(1, 3))
    coarse = benchmark_field((64, 64)).pointwise_variance()
    torch.testing.assert_close(coarse, fine, rtol=0.003, atol=0)
    scaled = benchmark_field((64, 64), tau=0.03, lengths=(100.0, 100.0)).pointwise_variance()
    torch.testing.assert_close(scaled, coarse)
    stretched = benchmark_field((64, 32), lengths=(1.0, 1.0)).pointwise_variance()
    torch.testing.assert_close(stretched, coarse.reshape(64, 32, 2).mean(dim=2), rtol=0.003, atol=0)


def test_benchmark_law_is_matern_far_from_the_walls():
    """At τ = 20 on a 2 × 1 rectangle with dx ≠ dy, the covariance with the central cell, plus 1/(τ² L_x L_y) for the
    missing mean, is Matérn with ν = 1, ℓ = √2/τ, σ² = 1/(4π), to 0.5 % of σ² for images and truncated modes."""
    (ny, nx), (ly, lx), tau = (128, 160), (1.0, 2.0), 20.0
    field = benchmark_field((ny, nx), tau=tau, lengths=(ly, lx))
    delta = torch.zeros(ny, nx, dtype=torch.float64)
    delta[ny // 2, nx // 2] = 1
    covariance = field.apply(delta).numpy() + 1 / (tau**2 * lx * ly)
    dy, dx = (np.arange(ny) - ny // 2)[:, None] * ly / ny, (np.arange(nx) - nx // 2) * lx / nx
    variance = 1 / (4 * np.pi)
    expected = Variogram("matern", variance, math.sqrt(2) / tau, smoothness=1.0).covariance(dx, dy)
    inner = np.s_[ny // 4 : -ny // 4, nx // 4 : -nx // 4]
    np.testing.assert_allclose(covariance[inner], expected[inner], rtol=0, atol=0.005 * variance)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosineField((4, 4), torch.ones(4, 3)), "shape"),
        (lambda: PeriodicField((4, 4), torch.ones(4, 4)), "shape"),
        (lambda: PeriodicField((4, 4), torch.arange(12.0).reshape(4, 3)), "even in k_y"),
        (lambda: CosineField((2, 2), -torch.ones(2, 2)), "not negative"),
        (lambda: CosineField((2, 2), torch.full((2, 2), torch.nan)), "finite"),
        (lambda: benchmark_field((4, 4), tau=0.0), "positive"),
        (lambda: benchmark_field((4, 4), lengths=(1.0, -1.0)), "positive"),
    ],
)
def test_wrong_input(make, message):
    """A spectrum of another layout or not a covariance's, and parameters out of bounds, are refused."""
    with pytest.raises(InputError, match=message):
        make()
