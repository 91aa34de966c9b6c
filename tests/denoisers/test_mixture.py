"""The closed-form mixture against quadrature on a fine grid, in float64.

The integrands are smooth and vanish at the ends of the grid, where the trapezoidal rule converges faster than any power
of the step: 1e-9 is far above its error here, and above rounding.
"""

import pytest
import torch

from pdediff.datasets.random_fields import CosineField, PeriodicField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.mixture import GaussianMixtureDenoiser
from pdediff.schedules import CosineSchedule, FunctionalSchedule, VESchedule, VPSchedule, score_from_x0
from pdediff.spaces import FunctionSpace

SCHEDULES = {"functional": FunctionalSchedule(), "ve": VESchedule(), "vp": VPSchedule(), "cosine": CosineSchedule()}
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MEANS = torch.tensor([[-2.0, 1.0], [1.5, 0.5], [0.0, -2.0]], dtype=torch.float64)
SPECTRA = torch.tensor([[0.3, 0.6], [1.0, 0.2], [0.2, 0.2]], dtype=torch.float64)  # along (1, 1) and (1, −1)

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_dimension = pytest.mark.parametrize("d", [1, 2])
every_ratio = pytest.mark.parametrize("s", [0.2, 1.0, 5.0])


def mixture(d=2, schedule=SCHEDULES["functional"], metric="exact"):
    """Three components in R^d, correlated where d = 2."""
    space = FunctionSpace(("x",), (1, d))
    components = tuple(
        GaussianDenoiser(CosineField((1, d), spectrum[None, :d]), space, mean[None, :d], schedule, metric)
        for mean, spectrum in zip(MEANS, SPECTRA, strict=True)
    )
    return GaussianMixtureDenoiser(components, WEIGHTS)


def grid(d):
    """Points z (N, d) of a grid on [−8, 8]^d, and the prior's density times the cell's volume at each (3, N)."""
    axis = torch.linspace(-8, 8, 321 if d == 2 else 2001, dtype=torch.float64)
    z = torch.cartesian_prod(*[axis] * d).reshape(-1, d)
    rotation = (
        torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / 2**0.5 if d == 2 else torch.eye(1).double()
    )
    laws = [
        torch.distributions.MultivariateNormal(mean[:d], rotation @ torch.diag(spectrum[:d]) @ rotation.T)
        for mean, spectrum in zip(MEANS, SPECTRA, strict=True)
    ]
    prior = torch.stack([w * law.log_prob(z).exp() for w, law in zip(WEIGHTS, laws, strict=True)])
    return z, prior * float(axis[1] - axis[0]) ** d


def quadrature(x_t, alpha_t, sigma_t):
    """p(x_t), p(k | x_t) (K,), E[x_0 | x_t] (d,), E[x_0 | x_t, k] (K, d) and Cov[x_0 | x_t] (d, d) by sums."""
    d = x_t.shape[-1]
    z, prior = grid(d)
    misfit = (x_t - alpha_t * z).square().sum(dim=1) / sigma_t**2
    joint = prior * torch.exp(-misfit / 2) / (2 * torch.pi * sigma_t**2) ** (d / 2)
    evidence = joint.sum(dim=1)
    weights = joint.sum(dim=0) / evidence.sum()
    mean = weights @ z
    covariance = (weights[:, None] * (z - mean)).T @ (z - mean)
    return evidence.sum(), evidence / evidence.sum(), mean, joint @ z / evidence[:, None], covariance


def points(d=2, batch=4):
    return 2 * torch.randn(batch, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@every_schedule
@every_dimension
@every_ratio
def test_against_quadrature(schedule, d, s):
    """Evidence, responsibilities, posterior mean and the components' own means at four points."""
    model, t = mixture(d, schedule), schedule.time(s)
    alpha_t, sigma_t = schedule(t)
    x_t = alpha_t * points(d)
    condition = torch.tensor([0, 1, 2, 0])
    found = [model.log_evidence(x_t, t).exp(), model.responsibilities(x_t, t), model(x_t, t)]
    conditional = model(x_t, t, condition=condition)
    for i, x in enumerate(x_t):
        evidence, r, mean, means, _ = quadrature(x, alpha_t, sigma_t)
        for value, expected in zip(found, (evidence, r, mean), strict=True):
            torch.testing.assert_close(value[i], expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(conditional[i], means[condition[i]], rtol=1e-9, atol=1e-9)


@every_schedule
@every_dimension
def test_second_order_tweedie(schedule, d):
    """Cov[x_0 | x_t] by quadrature is (sigma_t²/alpha_t) ∂D/∂x_t, by reverse-mode differentiation of the code."""
    model, t = mixture(d, schedule), schedule.time(1.0)
    alpha_t, sigma_t = schedule(t)
    for x in alpha_t * points(d):
        jacobian = torch.func.jacrev(lambda x_t: model(x_t[None], t)[0])(x)
        expected = quadrature(x, alpha_t, sigma_t)[-1]
        torch.testing.assert_close(sigma_t**2 / alpha_t * jacobian, expected, rtol=1e-9, atol=1e-9)


@every_schedule
def test_score(schedule):
    """∇ ln p(x_t) by differentiating the evidence is the score that the posterior mean converts to (eq. 27)."""
    model, t = mixture(2, schedule), schedule.time(torch.tensor([0.2, 0.5, 1.0, 5.0], dtype=torch.float64))
    x_t = points().requires_grad_()
    (score,) = torch.autograd.grad(model.log_evidence(x_t, t).sum(), x_t)
    torch.testing.assert_close(score, score_from_x0(schedule, x_t, model(x_t, t), t[:, None]), rtol=1e-9, atol=1e-9)


@every_schedule
def test_all_schedules_are_one_path(schedule):
    """D depends on x_t/alpha_t and s = sigma_t/alpha_t only."""
    s, x = 0.8, points()
    t = schedule.time(s)
    found = mixture(2, schedule)(schedule(t)[0] * x, t)
    torch.testing.assert_close(found, mixture(2, VESchedule())(x, s), rtol=1e-10, atol=1e-10)


@every_ratio
def test_error_law(s):
    """L Lᵀ is (sigma_t²/alpha_t) ∂D/∂x_t at x_t = alpha_t x_0, row by row; L and Lᵀ are adjoint; one row is as in a
    batch. It is its own marginal: there is one field."""
    model, x_0 = mixture(), points()
    law = model.error_law(x_0, s)
    assert law.dimension == 3 * 2 + 3
    alpha_t, sigma_t = model.schedule(s)
    basis = torch.eye(2, dtype=torch.float64)[:, None].expand(2, 4, 2)
    covariance = law.root(law.root_transposed(basis)).permute(1, 0, 2)
    for row, x in zip(covariance, x_0, strict=True):
        jacobian = torch.func.jacrev(lambda x_t: model(x_t[None], s)[0])(alpha_t * x)
        torch.testing.assert_close(row, sigma_t**2 / alpha_t * jacobian, rtol=1e-9, atol=1e-11)
    w = torch.randn(5, 4, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    v = torch.randn(5, 4, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close((law.root(w) * v).sum(-1), (w * law.root_transposed(v)).sum(-1), rtol=1e-12, atol=1e-12)
    alone = model.error_law(x_0[1:2], s)
    torch.testing.assert_close(alone.root(w[:, 1:2]), law.root(w)[:, 1:2], rtol=1e-12, atol=1e-14)
    assert law.marginal(slice(0, 2)) is law


@pytest.mark.parametrize(
    ("deviation", "s", "expected"),
    [(0.3, 0.1, 1.0), (0.3, 0.5, 0.75), (0.3, 1.0, 1.16), (0.3, 10.0, 1.0), (0.1, 0.5, 0.36), (0.1, 1.0, 1.2)],
)
def test_error_law_between_two_modes(deviation, s, expected):
    """The documented ratio of mean variances, law over exact, for modes at ±1 of weights 0.3 and 0.7: exact where there
    is little noise or much. 100000 draws determine it to 0.01."""
    space, variance = FunctionSpace(("x",), (1, 1)), torch.full((1, 1), deviation**2)
    parts = [GaussianDenoiser(CosineField((1, 1), variance), space, m, VESchedule()) for m in (-1.0, 1.0)]
    model = GaussianMixtureDenoiser(tuple(parts), torch.tensor([0.3, 0.7]))
    generator = torch.Generator().manual_seed(0)
    x_0, _ = model.sample(100_000, generator, torch.float64)
    x_t = (x_0 + s * torch.randn(x_0.shape, generator=generator, dtype=torch.float64)).requires_grad_()
    prediction = model(x_t, s)
    exact = s**2 * torch.autograd.grad(prediction.sum(), x_t)[0]
    law = model.error_law(prediction.detach(), s).covariance(torch.ones_like(x_0))
    assert float(law.mean() / exact.mean()) == pytest.approx(expected, abs=0.015)


def test_white_components():
    """Components of white metric give white laws within; the spread between them stays."""
    x_0 = points()
    law = mixture(metric="white").error_law(x_0, 1.0)
    assert law.dimension == 9
    exact, v = mixture().error_law(x_0, 1.0), torch.ones_like(x_0)
    torch.testing.assert_close(law.between, exact.between)
    assert not torch.allclose(law.covariance(v), exact.covariance(v))


def test_one_component_is_a_gaussian():
    """K = 1, and K = 2 of the same component, on a torus with odd and shared waves."""
    k = torch.arange(3.0)
    field = PeriodicField((3, 5), 2 / (1 + torch.tensor([0.0, 1.0, 1.0])[:, None] + k**2))
    gaussian = GaussianDenoiser(field, FunctionSpace(("x",), (3, 5)), mean=0.5)
    x_t = points(15)
    for count in (1, 2):
        model = GaussianMixtureDenoiser((gaussian,) * count, torch.ones(count))
        torch.testing.assert_close(model(x_t, 0.7), gaussian(x_t, 0.7), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(model.log_evidence(x_t, 0.7), gaussian.log_evidence(x_t, 0.7), rtol=1e-12, atol=0)
        law, expected = model.error_law(x_t, 0.7), gaussian.error_law(x_t, 0.7)
        torch.testing.assert_close(law.covariance(x_t), expected.covariance(x_t), rtol=1e-12, atol=1e-12)
    assert (model.bounds, model.noise_range) == (gaussian.bounds, gaussian.noise_range)


def test_each_row_is_alone():
    """A row at its own time and condition, alone and in a batch of 8; float32 in, float32 out, to its rounding."""
    model, x_t = mixture(), points(batch=8)
    t = torch.logspace(-1, 1, 8, dtype=torch.float64)
    condition = torch.arange(8) % 3
    for given in (None, condition):
        together = model(x_t, t, condition=given)
        for i in range(8):
            own = None if given is None else given[i : i + 1]
            alone = model(x_t[i : i + 1], float(t[i]), condition=own)
            torch.testing.assert_close(alone[0], together[i], rtol=1e-13, atol=1e-14)
        single = model(x_t.float(), t.float(), condition=given)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single, together.float(), rtol=1e-5, atol=1e-5)


def test_far_from_every_component():
    """At x_t = 10⁴, where every density is zero in floating point, the answer is the nearest component's."""
    model = mixture()
    x_t = torch.tensor([[1e4, 1e4]], dtype=torch.float64)
    assert bool(model.log_evidence(x_t, 0.1).isfinite().all())
    k = model.responsibilities(x_t, 0.1).argmax(dim=1)
    torch.testing.assert_close(model(x_t, 0.1), model(x_t, 0.1, condition=k))


def test_draws_have_the_law():
    """Proportions, and each component's mean and covariance, within 4 standard errors of 20000 draws; float32."""
    n = 20_000
    x_0, k = mixture().sample(n, torch.Generator().manual_seed(0))
    assert x_0.dtype == torch.float32
    share = torch.bincount(k, minlength=3) / n
    assert bool(((share - WEIGHTS).abs() < 4 * (WEIGHTS * (1 - WEIGHTS) / n).sqrt()).all())
    for j in range(3):
        own = x_0[k == j].double()
        along = own @ torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / 2**0.5
        mean = torch.stack([MEANS[j].sum(), MEANS[j, 0] - MEANS[j, 1]]) / 2**0.5
        assert bool(((along.mean(0) - mean).abs() < 4 * (SPECTRA[j] / len(own)).sqrt()).all())
        assert bool(((along.var(0) / SPECTRA[j] - 1).abs() < 4 * (2 / len(own)) ** 0.5).all())


def test_noise_range_and_bounds():
    """Ten times the largest distance of a mean from the overall mean; bounds are the hull of five deviations."""
    model = mixture()
    s_min, s_max = model.noise_range
    assert s_max == pytest.approx(10 * float((MEANS - WEIGHTS @ MEANS).norm(dim=1).max()))
    assert s_min == pytest.approx(0.1 * 0.2**0.5)
    low, high = zip(*(c.bounds for c in model.components), strict=True)
    assert model.bounds == (min(low), max(high))


def test_refusals():
    """Components that do not belong together, weights that do not fit, query points, conditions that name nothing."""
    model = mixture()
    other = GaussianDenoiser(CosineField((2, 1), torch.ones(2, 1)), FunctionSpace(("x",), (2, 1)))
    for components in (
        (),
        (*model.components[:2], other),
        (*model.components[:2], *mixture(2, VESchedule()).components),
    ):
        with pytest.raises(ValueError, match="one space and one schedule"):
            GaussianMixtureDenoiser(components, WEIGHTS)
    for weights in (WEIGHTS[:2], torch.tensor([0.5, 0.5, 0.0]), torch.tensor([1.0, 1.0, float("nan")])):
        with pytest.raises(ValueError, match="as many positive weights"):
            GaussianMixtureDenoiser(model.components, weights)
    with pytest.raises(ValueError, match="answers on its grid"):
        model(points(), 1.0, query=points())
    for condition in (torch.tensor([0, 1, 2, 3]), torch.tensor([0, -1, 2, 2]), torch.tensor([0])):
        with pytest.raises(ValueError, match="an index from 0 to 2 for each sample"):
            model(points(), 1.0, condition=condition)
