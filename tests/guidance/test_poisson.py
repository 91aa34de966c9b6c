"""Poisson observations: the likelihood against torch's, the paper's approximation, and DPS with both steps."""

import pytest
import torch
from closed_forms import gaussian_problem
from test_pigdm import points
from unit_modes import unit_prior

from pdediff.guidance.dps import DPS, ddpm_beta
from pdediff.likelihoods.poisson import PoissonObservations
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.schedules import VESchedule, levels

F64 = torch.float64
COUNTS = torch.tensor([0.0, 1.0, 3.0, 50.0], dtype=F64)
FORMS = ("exact", "gaussian")


def intensities(x):
    return x.exp()


def fields(batch=5):
    return torch.randn(batch, 4, generator=torch.Generator().manual_seed(0), dtype=F64)


def test_exact_form_is_the_poisson_law():
    """Value, up to a constant of the data, and gradient are those of torch's Poisson law, at any intensities."""
    x = fields().requires_grad_()
    law = torch.distributions.Poisson(20.0 * intensities(x))
    best = torch.distributions.Poisson(COUNTS.clamp(min=1e-300)).log_prob(COUNTS).sum()
    found = PoissonObservations(intensities, COUNTS, gain=20.0).log_prob(x)
    expected = law.log_prob(COUNTS).sum(dim=1) - best
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(value.sum(), x)[0] for value in (found, expected)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("form", FORMS)
def test_zero_where_the_data_are_met(form):
    """log p is 0 at gain · A = y and negative elsewhere: −2 log p is a squared misfit. A gain for each datum."""
    gain = torch.tensor([2.0, 4.0, 1.0, 10.0], dtype=F64)
    likelihood = PoissonObservations(lambda x: x, COUNTS, gain, form)
    met = (COUNTS / gain)[None]
    torch.testing.assert_close(likelihood.log_prob(met), torch.zeros(1, dtype=F64), rtol=0, atol=1e-12)
    assert bool((likelihood.log_prob(met + fields().abs()) < 0).all())


def test_gaussian_form_is_the_papers():
    """−‖y − λ‖²_Λ with Λ = diag(1/(2y)), and a variance of one for no counts."""
    likelihood = PoissonObservations(intensities, COUNTS, 20.0, "gaussian")
    weight = torch.tensor([1 / 2, 1 / 2, 1 / 6, 1 / 100], dtype=F64)
    expected = -(weight * (COUNTS - 20 * intensities(fields())) ** 2).sum(dim=1)
    torch.testing.assert_close(likelihood.log_prob(fields()), expected)


def test_forms_agree_for_many_counts():
    """At λ = y + √y they differ by 1/(3√y), to leading order: at y = 10⁴, 10⁶ within 2 %."""
    for y in (1e4, 1e6):
        x = torch.tensor([[y + y**0.5]], dtype=F64)
        values = [
            PoissonObservations(lambda x: x, torch.tensor([y], dtype=F64), form=form).log_prob(x) for form in FORMS
        ]
        assert float((values[0] - values[1]).abs()) * 3 * y**0.5 == pytest.approx(1, rel=0.02)


def test_negative_intensities_are_called_back():
    """Below the floor log p is its own tangent: continuous with its slope, concave, finite at −100, positive slope."""
    likelihood = PoissonObservations(lambda x: x, torch.tensor([3.0], dtype=F64), floor=0.1)
    x = torch.tensor([[-100.0], [0.1 - 1e-7], [0.1 + 1e-7]], dtype=F64, requires_grad=True)
    value = likelihood.log_prob(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert bool(value.isfinite().all())
    torch.testing.assert_close(slope[:, 0], torch.full((3,), 3 / 0.1 - 1, dtype=F64), rtol=1e-5, atol=0)
    assert abs(float((value[2] - value[1]).detach())) < 1e-5


def test_normalised_step_is_the_papers():
    """Fig. 4, right: −ζ ∇‖y − A(x̂_0)‖_Λ, for the shift of x̂_0 in units of sigma_t²/(alpha_t beta) and of √2 ‖·‖_Λ."""
    problem, x_t, t = gaussian_problem((2, 2), points=1, averages=1), points(4), 1.0
    counts = torch.tensor([7.0, 2.0, 1.0, 12.0], dtype=F64)
    method = DPS(
        problem.denoiser, PoissonObservations(intensities, counts, 5.0, "gaussian"), step="normalised", zeta=0.01
    )
    found = method(x_t, t)
    x = x_t.clone().requires_grad_()
    x_0 = problem.denoiser(x, t)
    norm = ((counts - 5 * intensities(x_0)) ** 2 / (2 * counts)).sum(dim=1).sqrt()
    (gradient,) = torch.autograd.grad(norm.sum(), x)
    alpha_t, sigma_t = problem.denoiser.schedule(t)
    step = sigma_t**2 / alpha_t * 0.01 / ddpm_beta(torch.tensor(t, dtype=F64)) * 2**0.5
    torch.testing.assert_close(found, (x_0 - step * gradient).detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.methods
@pytest.mark.parametrize("form", FORMS)
def test_dps_recovers_intensities(form):
    """y ~ Poisson(g (10 + x)) with x a unit Gaussian and g = 10: nearly Gaussian data of R² = g²/y ≈ 1.

    DPS with the true step (ancestral, 120 levels) has the bias that it has for Gaussian data: mean 1 − exp(−R²) of
    what the datum says, variance (1 − exp(−2R²))/(2R²). To 5 % of the deviation for what is not Gaussian (1/(3√y) =
    3 %) and for the levels, and 4 deviations of Monte-Carlo error.
    """
    n, counts = 1000, torch.tensor([100.0], dtype=F64)
    method = DPS(unit_prior(1), PoissonObservations(lambda x: 9.0 + x, counts, 10.0, form))
    generators, times = Generators(1, range(n)), levels(VESchedule(), 50.0, 0.01, 120)
    x = DDIM(1.0)(method, pure_noise(method, times[0], generators), times, generators).double()
    mean, variance = 1 - torch.exp(torch.tensor(-1.0)), (1 - torch.exp(torch.tensor(-2.0))) / 2
    assert float(x.mean()) == pytest.approx(float(mean), abs=(0.05 + 4 / n**0.5) * float(variance) ** 0.5)
    assert float(x.var() / variance) == pytest.approx(1, abs=0.1 + 4 * (2 / n) ** 0.5)


@pytest.mark.parametrize("form", FORMS)
def test_a_sample_does_not_depend_on_its_batch(form):
    """Row 4 alone and among 5 has the same log p; in the dtype of x_0."""
    likelihood = PoissonObservations(intensities, COUNTS, 20.0, form)
    assert torch.equal(likelihood.log_prob(fields()[4:]), likelihood.log_prob(fields())[4:])
    assert likelihood.log_prob(fields().float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "weighted"}, "'exact' or 'gaussian', not 'weighted'"),
        ({"counts": torch.tensor([2.0, -1.0])}, "counts must not be negative, got -1"),
        ({"gain": 0.0}, "gain and floor must be positive"),
        ({"floor": 0.0}, "gain and floor must be positive"),
    ],
)
def test_refusals(settings, message):
    """Counts and rates that no Poisson law has."""
    with pytest.raises(ValueError, match=message):
        PoissonObservations(**({"predict": intensities, "counts": COUNTS} | settings))
