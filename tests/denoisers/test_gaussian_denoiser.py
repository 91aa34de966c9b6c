"""The closed-form denoiser against dense linear algebra and automatic differentiation, in float64.

Both covariances are positive definite and of no symmetry that could hide a swapped axis; tolerances are rounding of
matrices of condition number below 10⁴.
"""

import pytest
import torch

from pdediff.datasets.random_fields import CosineField, PeriodicField, benchmark_field
from pdediff.denoisers.base import WhiteErrorLaw, white_error_law
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.schedules import FunctionalSchedule, VESchedule, score_from_x0
from pdediff.spaces import FunctionSpace

SHAPE, D = (4, 6), 24
SPACE = FunctionSpace(("x",), SHAPE)
I = torch.eye(D, dtype=torch.float64)


def cosine():
    """Rough in x, smooth in y."""
    ky, kx = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    return CosineField(SHAPE, 3 / (1 + ky**2 + 0.3 * kx**2))


def periodic():
    """The same on the torus."""
    ky = (torch.fft.fftfreq(4) * 4).abs()
    return PeriodicField(SHAPE, 3 / (1 + ky[:, None] ** 2 + 0.3 * torch.arange(4.0) ** 2))


COVARIANCES = {"cosine": cosine(), "periodic": periodic()}
SCHEDULES = {"functional": FunctionalSchedule(), "ve": VESchedule()}
MEANS = {"zero": 0.0, "number": 1.5, "field": torch.linspace(-2, 3, D, dtype=torch.float64).reshape(SHAPE)}

every_covariance = pytest.mark.parametrize("covariance", COVARIANCES.values(), ids=COVARIANCES)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_mean = pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)


def dense(covariance):
    """C as a matrix (D, D)."""
    return covariance.apply(I.reshape(D, *SHAPE)).reshape(D, D)


def points(batch=3):
    return torch.randn(batch, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@every_mean
@every_schedule
@every_covariance
def test_posterior_mean(covariance, schedule, mean):
    """D = m + alpha_t C (alpha_t² C + sigma_t² I)⁻¹ (x_t − alpha_t m) with a dense solve; each row at its own time."""
    denoiser, c = GaussianDenoiser(covariance, SPACE, mean, schedule), dense(covariance)
    t, x_t = torch.tensor([0.05, 1.0, 20.0], dtype=torch.float64), points()
    m = torch.as_tensor(mean, dtype=torch.float64).expand(SHAPE).flatten()
    rows = []
    for row, alpha_t, sigma_t in zip(x_t, *schedule(t), strict=True):
        rows.append(m + alpha_t * c @ torch.linalg.solve(alpha_t**2 * c + sigma_t**2 * I, row - alpha_t * m))
    torch.testing.assert_close(denoiser(x_t, t), torch.stack(rows), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(denoiser(x_t, 1.0)[1], rows[1], rtol=1e-11, atol=1e-11)


@every_schedule
@every_covariance
@pytest.mark.parametrize("t", [0.05, 1.0, 20.0])
def test_error_law_is_the_posterior_covariance(covariance, schedule, t):
    """L Lᵀ = sigma_t² C (alpha_t² C + sigma_t² I)⁻¹, densely; L = Lᵀ, and both act on each row alone."""
    denoiser, c = GaussianDenoiser(covariance, SPACE, schedule=schedule), dense(covariance)
    law = denoiser.error_law(points(), t)
    assert law.dimension == D
    root = law.root(I)
    alpha_t, sigma_t = schedule(t)
    expected = sigma_t**2 * torch.linalg.solve(alpha_t**2 * c + sigma_t**2 * I, c)
    torch.testing.assert_close(root.T @ root, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(law.root_transposed(I), root.T, rtol=1e-11, atol=1e-12)


@every_mean
@every_schedule
@every_covariance
def test_log_evidence(covariance, schedule, mean):
    """ln p(x_t) is that of the dense N(alpha_t m, alpha_t² C + sigma_t² I), each row at its own time, and its gradient
    is the score that the posterior mean converts to (eq. 27). Waves stored once and meant twice count twice."""
    denoiser, c = GaussianDenoiser(covariance, SPACE, mean, schedule), dense(covariance)
    t, x_t = torch.tensor([0.05, 1.0, 20.0], dtype=torch.float64), points().requires_grad_()
    m = torch.as_tensor(mean, dtype=torch.float64).expand(SHAPE).flatten()
    found = denoiser.log_evidence(x_t, t)
    for row, x, alpha_t, sigma_t in zip(found, x_t, *schedule(t), strict=True):
        law = torch.distributions.MultivariateNormal(alpha_t * m, alpha_t**2 * c + sigma_t**2 * I)
        torch.testing.assert_close(row, law.log_prob(x), rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(denoiser.log_evidence(x_t, 1.0)[1], found[1], rtol=1e-14, atol=0)
    (score,) = torch.autograd.grad(found.sum(), x_t)
    expected = score_from_x0(schedule, x_t, denoiser(x_t, t), t[:, None])
    torch.testing.assert_close(score, expected, rtol=1e-8, atol=1e-8)


@every_mean
@every_schedule
@every_covariance
def test_second_order_tweedie(covariance, schedule, mean):
    """Cov[x_0 | x_t] = (sigma_t²/alpha_t) ∂D/∂x_t, the Jacobian from reverse-mode differentiation of the code."""
    denoiser, t = GaussianDenoiser(covariance, SPACE, mean, schedule), 0.7
    jacobian = torch.func.jacrev(lambda x_t: denoiser(x_t[None], t)[0])(points()[0])
    alpha_t, sigma_t = schedule(t)
    root = denoiser.error_law(points(), t).root(I)
    torch.testing.assert_close(sigma_t**2 / alpha_t * jacobian, root.T @ root, rtol=1e-11, atol=1e-12)


def test_both_schedules_are_one_path():
    """D depends on x_t/alpha_t and sigma_t/alpha_t only: VE at s and the functional schedule at t = s agree."""
    s, x = 0.8, points()
    ve = GaussianDenoiser(COVARIANCES["cosine"], SPACE, 0.3, VESchedule())
    functional = GaussianDenoiser(COVARIANCES["cosine"], SPACE, 0.3, FunctionalSchedule())
    alpha_t = FunctionalSchedule()(s)[0]
    torch.testing.assert_close(functional(alpha_t * x, s), ve(x, s), rtol=1e-12, atol=1e-12)


def test_limits():
    """At s → 0 the observation is all (D = x_t), at s → ∞ the prior is (D = m)."""
    denoiser, x_t = GaussianDenoiser(COVARIANCES["periodic"], SPACE, 1.5, VESchedule()), points()
    torch.testing.assert_close(denoiser(x_t, 1e-6), x_t, rtol=0, atol=1e-9)
    torch.testing.assert_close(denoiser(x_t, 1e6), torch.full_like(x_t, 1.5), rtol=0, atol=1e-5)


@every_mean
def test_keeps_single_precision(mean):
    """A mean given in float64 does not raise the precision of x_t."""
    denoiser = GaussianDenoiser(COVARIANCES["cosine"], SPACE, mean)
    x_0 = denoiser(points().float(), 1.0)
    assert x_0.dtype == torch.float32
    torch.testing.assert_close(x_0, denoiser(points(), 1.0).float(), rtol=1e-5, atol=1e-5)


def test_a_singular_covariance():
    """The benchmark's law has no constant mode: D keeps the mean out, without 0/0."""
    denoiser = GaussianDenoiser(benchmark_field(SHAPE), SPACE, schedule=VESchedule())
    x_0 = denoiser(points() + 5, 1.0)
    torch.testing.assert_close(x_0.mean(dim=1), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-13)
    assert bool(denoiser.error_law(x_0, 1.0).root(points()).isfinite().all())


def test_white_metric():
    """r_t² = sigma_t²/(alpha_t² + sigma_t²/sigma_data²), which is the posterior variance where C = sigma_data² I."""
    flat = CosineField(SHAPE, torch.full(SHAPE, 4.0))
    for schedule in SCHEDULES.values():
        law = GaussianDenoiser(flat, SPACE, schedule=schedule, metric="white").error_law(points(), 0.7)
        alpha_t, sigma_t = schedule(0.7)
        assert isinstance(law, WhiteErrorLaw)
        assert law.dimension == D
        assert law.r_t**2 == pytest.approx(sigma_t**2 / (alpha_t**2 + sigma_t**2 / 4), rel=1e-12)
        exact = GaussianDenoiser(flat, SPACE, schedule=schedule).error_law(points(), 0.7)
        torch.testing.assert_close(law.root(points()), exact.root(points()), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(law.root_transposed(points()), law.root(points()))
    assert white_error_law(1e9, 2.0, D).r_t == pytest.approx(2.0)  # no signal: the prior's own spread


def test_noise_range_and_bounds():
    """The ladder starts where the largest mode drowns (s² = 4 λ_max) and ends at a tenth of a point's deviation; bounds
    are five deviations about the extreme means."""
    covariance = COVARIANCES["cosine"]
    denoiser = GaussianDenoiser(covariance, SPACE, MEANS["field"])
    s_min, s_max = denoiser.noise_range
    deviations = dense(covariance).diagonal().sqrt()
    assert s_max == pytest.approx(2 * 3**0.5)
    assert s_min == pytest.approx(0.1 * float(deviations.square().mean().sqrt()))
    reach = 5 * float(deviations.max())
    assert denoiser.bounds == pytest.approx((-2 - reach, 3 + reach))


def test_refusals():
    """Query points, a condition, a space that does not fit, an unknown metric."""
    covariance = COVARIANCES["cosine"]
    denoiser = GaussianDenoiser(covariance, SPACE)
    for extra in ({"query": points()}, {"condition": points()}):
        with pytest.raises(ValueError, match="answers on its grid and takes no condition"):
            denoiser(points(), 1.0, **extra)
    with pytest.raises(ValueError, match="x has 23 values"):
        denoiser(points()[:, :23], 1.0)
    for space in (FunctionSpace(("x",), (6, 4)), FunctionSpace(("x", "y"), SHAPE)):
        with pytest.raises(ValueError, match="does not fit"):
            GaussianDenoiser(covariance, space)
    with pytest.raises(ValueError, match="'exact' or 'white'"):
        GaussianDenoiser(covariance, SPACE, metric="exat")
