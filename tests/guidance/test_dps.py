"""DPS where what it computes, and what it should, are known: Gaussian priors and linear data, in float64.

The dense Gaussian prior N(m, C) below has no symmetry, the data y = H x + noise see sums of its values, and the noise g
of x_t is white or has a covariance K of its own. A sampler is affine in x_T here, so that a batch of unit vectors shows
the mean and the covariance of what it draws: no Monte Carlo.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.special import dawsn
from torch import Tensor

from pdediff.denoisers.base import Preconditioning
from pdediff.denoisers.grid_operator import GridOperatorDenoiser
from pdediff.denoisers.unet import UNet
from pdediff.guidance.base import PosteriorDenoiser, condition, differentiate
from pdediff.guidance.dps import DPS, ddpm_beta
from pdediff.noise import Generators, WhiteNoise
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.heun import Heun
from pdediff.schedules import FunctionalSchedule, VESchedule, levels
from pdediff.spaces import FunctionSpace

D, M, SIGMA_Y = 6, 3, 0.5
WHITE = WhiteNoise()
FUNCTIONAL, VE = FunctionalSchedule(), VESchedule()
SCHEDULES = {"functional": FUNCTIONAL, "ve": VE}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive(seed):
    """A covariance of condition number below 100."""
    root = normal(D, D, seed=seed)
    return root @ root.T / D + 0.3 * torch.eye(D, dtype=torch.float64)


@dataclass(frozen=True)
class CorrelatedNoise:
    """g = K^{1/2} ξ."""

    k: Tensor

    def sample(self, generators, dimension, dtype, device):
        return generators.normal(dimension, dtype=dtype) @ torch.linalg.cholesky(self.k).T.to(dtype)

    def covariance(self, v):
        return v @ self.k.to(v)


@dataclass
class DenseGaussian:
    """E[x_0 | x_t] under N(m, C) and noise of covariance K, by dense solves; no bounds."""

    m: Tensor
    c: Tensor
    noise: object
    schedule: object
    noise_range = (1e-3, 1e3)
    bounds = (torch.tensor(-torch.inf), torch.tensor(torch.inf))

    @property
    def space(self):
        return FunctionSpace(("x",), (1, len(self.m)), noise=self.noise)

    def gain(self, t):
        """G (..., D, D) with x̂_0 = m + G (x_t − alpha_t m), at times t (...)."""
        alpha_t, sigma_t = (v[..., None, None] for v in self.schedule(torch.as_tensor(t, dtype=torch.float64)))
        k = self.noise.covariance(torch.eye(len(self.m), dtype=torch.float64))
        return alpha_t * torch.linalg.solve(alpha_t**2 * self.c + sigma_t**2 * k, self.c).mT

    def covariance(self, t):
        """Cov[x_0 | x_t] (..., D, D)."""
        return self.c - self.schedule(t)[0] * self.gain(t) @ self.c

    def __call__(self, x_t, t):
        alpha_t = self.schedule(torch.as_tensor(t, dtype=torch.float64))[0][..., None]
        x_0 = self.m + (self.gain(t) @ (x_t - alpha_t * self.m)[..., None])[..., 0]
        return x_0.to(x_t)


@dataclass
class LinearLikelihood:
    """log p(y | x) = −‖H x − y‖²/2, H and y in units of the noise."""

    h: Tensor
    y: Tensor

    def log_prob(self, x_0):
        return -0.5 * (x_0 @ self.h.T.to(x_0) - self.y.to(x_0)).square().sum(dim=-1)


@dataclass(frozen=True)
class ExactPosterior(PosteriorDenoiser):
    """E[x_0 | x_t, y] with the exact p(y | x_t) = N(H x̂_0, I + H Cov[x_0 | x_t] Hᵀ)."""

    denoiser: DenseGaussian
    likelihood: LinearLikelihood

    def __call__(self, x_t, t):
        x_0, h = self.denoiser(x_t, t), self.likelihood.h
        spread = torch.eye(len(h), dtype=h.dtype) + h @ self.denoiser.covariance(t) @ h.T
        residual = self.likelihood.y - x_0 @ h.T
        return condition(self.denoiser, x_0, residual @ torch.linalg.solve(spread, h @ self.denoiser.gain(t)), t)


NOISES = {"white": WHITE, "coloured": CorrelatedNoise(positive(1))}
every_noise = pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
LIKELIHOOD = LinearLikelihood(normal(M, D, seed=2) / SIGMA_Y, normal(M, seed=3) / SIGMA_Y)


def prior(schedule=FUNCTIONAL, noise=WHITE):
    return DenseGaussian(normal(D, seed=4), positive(5), noise, schedule)


def posterior():
    """Mean and covariance of the prior given the data."""
    model, h = prior(), LIKELIHOOD.h
    gain = model.c @ h.T @ torch.linalg.inv(torch.eye(M, dtype=torch.float64) + h @ model.c @ h.T)
    return model.m + gain @ (LIKELIHOOD.y - h @ model.m), model.c - gain @ h @ model.c


@every_noise
@every_schedule
def test_both_steps_in_closed_form(schedule, noise):
    """With x̂_0 affine in x_t and slope G: x̂_0 + (sigma_t²/alpha_t) K Gᵀ Hᵀ (y − H x̂_0), for sigma_y = 1; normalised,
    times ζ/(beta ‖y − H x̂_0‖). Each row at its own time, in any schedule, for any law of the noise.
    """
    model, x_t, t = prior(schedule, noise), normal(3, D, seed=6), torch.tensor([0.05, 1.0, 20.0], dtype=torch.float64)
    x_0 = model(x_t, t)
    residual = LIKELIHOOD.y - x_0 @ LIKELIHOOD.h.T
    gradient = torch.stack([model.gain(time).T @ LIKELIHOOD.h.T @ r for time, r in zip(t, residual, strict=True)])
    alpha_t, sigma_t = schedule(t)
    shift = (sigma_t**2 / alpha_t)[:, None] * noise.covariance(gradient)
    torch.testing.assert_close(DPS(model, LIKELIHOOD)(x_t, t), x_0 + shift, rtol=1e-10, atol=1e-10)
    beta = (0.01 + 39.8 * torch.log(1 + t**2)).sqrt() / 1000
    length = 0.3 / (beta * residual.norm(dim=1))
    normalised = DPS(model, LIKELIHOOD, "normalised", 0.3)
    torch.testing.assert_close(normalised(x_t, t), x_0 + length[:, None] * shift, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(normalised(x_t, 1.0)[1], normalised(x_t, t)[1], rtol=1e-10, atol=1e-10)


@pytest.mark.methods
@every_noise
@every_schedule
def test_conditioning_is_exact_for_an_exact_likelihood(schedule, noise):
    """x̂_0 + (sigma_t²/alpha_t) K ∇ log p(y | x_t) is the denoiser of the posterior N(mu, P), whatever
    the law of the noise."""
    model, x_t = prior(schedule, noise), normal(3, D, seed=6)
    expected = DenseGaussian(*posterior(), noise, schedule)
    for t in (0.05, 1.0, 20.0):
        found = ExactPosterior(model, LIKELIHOOD)(x_t, t)
        torch.testing.assert_close(found, expected(x_t, t), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("sampler", "order"), [(DDIM(), 1), (Heun(), 2)], ids=["ddim", "heun"])
def test_samplers_find_the_exact_posterior(sampler, order):
    """With the exact posterior denoiser, mean and covariance of what is drawn tend to the posterior's, at the sampler's
    order (fitted over 32 to 256 levels; within 0.15). x_T is given the law N(mu, P + s_max² I) that it has.
    """
    mean, covariance = posterior()
    counts, errors, s_max = [32, 64, 128, 256], [], 100.0
    root = torch.linalg.cholesky(covariance + s_max**2 * torch.eye(D, dtype=torch.float64))
    starts = torch.cat([mean[None], mean + root.T])
    for count in counts:
        times = levels(VE, s_max, 1e-3, count)
        x_0 = sampler(ExactPosterior(prior(VE), LIKELIHOOD), starts, times, Generators(0, [0]))
        spread = x_0[1:] - x_0[0]
        error = (x_0[0] - mean).norm() / mean.norm() + (spread.T @ spread - covariance).norm() / covariance.norm()
        errors.append(float(error))
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(order, abs=0.15)


RATIOS = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def three_modes(noise=WHITE):
    """x ~ N(0, I) and y_i = x_i + noise of standard deviation 1/R_i, y_i = 1; in units of the noise."""
    unit = torch.eye(3, dtype=torch.float64)
    model = DenseGaussian(0 * RATIOS, unit, noise, VE)
    return DPS(model, LinearLikelihood(RATIOS.diag(), RATIOS))


@pytest.mark.methods
def test_bias_of_the_deterministic_flow():
    """Mean √2 R F(R/√2) and standard deviation exp(−R²/2), for a posterior of mean R²/(1 + R²), variance 1/(1 + R²).

    Heun with 300 levels from s = 1000 to 0.001, to 2e-3. At R = 1: 0.719 and 0.607, for 0.5 and 0.707; at R = 2: 1.28
    and 0.135, for 0.8 and 0.447.
    """
    starts = torch.tensor([0.0, 1e3], dtype=torch.float64)[:, None].expand(2, 3)
    mean, higher = Heun()(three_modes(), starts, levels(VE, 1e3, 1e-3, 300), Generators(0, [0]))
    expected = 2**0.5 * RATIOS * torch.as_tensor(dawsn(RATIOS.numpy() / 2**0.5))
    torch.testing.assert_close(mean, expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(higher - mean, torch.exp(-(RATIOS**2) / 2), rtol=0, atol=2e-3)


@dataclass
class ScriptedNoise:
    """Draw k is 1 in row k + 1 of the batch, 0 in all others."""

    rows: int
    draws: int = 0

    def sample(self, generators, dimension, dtype, device):
        self.draws += 1
        return torch.eye(self.rows, dtype=dtype)[:, self.draws, None].expand(-1, dimension)

    def covariance(self, v):
        return v


@pytest.mark.methods
def test_bias_of_ancestral_sampling():
    """Mean 1 − exp(−R²) and variance (1 − exp(−2R²))/(2R²): DDIM(1) with every draw apart, from s = 200 to 0.01.

    200 and 400 levels, extrapolated (errors are of first order), to 1 %. At R = 1: 0.632 and 0.432, for 0.5 and 0.5; at
    R = 2: 0.982 and 0.125, for 0.8 and 0.2.
    """
    moments = []
    for count in (200, 400):
        starts = torch.zeros(count + 1, 3, dtype=torch.float64)
        starts[count] = 200.0
        model, times = three_modes(ScriptedNoise(count + 1)), levels(VE, 200.0, 1e-2, count)
        mean, *others = DDIM(1.0)(model, starts, times, Generators(0, [0]))
        moments.append(torch.stack([mean, (torch.stack(others) - mean).square().sum(dim=0)]))
    mean, variance = 2 * moments[1] - moments[0]
    torch.testing.assert_close(mean, 1 - torch.exp(-(RATIOS**2)), rtol=0.01, atol=0)
    torch.testing.assert_close(variance, (1 - torch.exp(-2 * RATIOS**2)) / (2 * RATIOS**2), rtol=0.01, atol=0)


def test_precise_data_need_many_levels():
    """R = 20: steps are stable if R² (1 − s_s/s_t)/4 < 2, which is 690 levels spaced evenly in ln s from 1000 to 0.001.

    Twice as many end near the datum y = 1 (measured: 1.002); a seventh of them 10⁶ times as far away and more (2e11).
    """
    one = torch.ones(1, dtype=torch.float64)
    model = DPS(DenseGaussian(0 * one, one[None], WHITE, VE), LinearLikelihood(20 * one[None], 20 * one))
    stable, unstable = (
        DDIM()(model, 0 * one[None], levels(VE, 1e3, 1e-3, count, rho=1e6), Generators(0, [0])) for count in (1380, 100)
    )
    assert float(stable) == pytest.approx(1, abs=0.02)
    assert float(unstable.abs()) > 1e6


def test_normalised_step_is_the_papers():
    """Fig. 4 as printed, its last 300 of 1000 steps with ζ_i = ζ/(2‖r‖), against DDIM(1) with the posterior denoiser.

    The same chain, start and noise. They differ by the √(1 − beta_t) of the derivation, and by beta(s) being a formula
    for a continuous time: by less than 1 % of what the guidance does.
    """
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bar = torch.cumprod(1 - beta, dim=0)

    class Chain:
        def __call__(self, t):
            at = bar[torch.as_tensor(t).long() - 1]
            return at.sqrt(), (1 - at).sqrt()

    model, zeta, generators = prior(Chain()), 0.005, Generators(1, range(2))
    times, start = torch.arange(300, 0, -1, dtype=torch.float64), normal(2, D, seed=6)
    x = start
    for i in range(299, -1, -1):
        x = x.detach().requires_grad_()
        x_0 = model(x, i + 1.0)
        square = (LIKELIHOOD.y - x_0 @ LIKELIHOOD.h.T).square().sum(dim=1)
        (gradient,) = torch.autograd.grad(square.sum(), x)
        before = bar[i - 1] if i > 0 else torch.ones(())
        deviation = ((1 - before) / (1 - bar[i]) * beta[i]).sqrt()
        z = generators.normal(D, dtype=torch.float64) if i > 0 else torch.zeros(2, D)
        x = (
            (1 - beta[i]).sqrt() * (1 - before) / (1 - bar[i]) * x
            + before.sqrt() * beta[i] / (1 - bar[i]) * x_0
            + deviation * z
            - zeta / (2 * square.sqrt())[:, None] * gradient
        )
    found = DDIM(1.0)(DPS(model, LIKELIHOOD, "normalised", zeta), start, times, Generators(1, range(2)))
    unguided = DDIM(1.0)(model, start, times, Generators(1, range(2)))
    assert float(((found - x).norm() / (unguided - x).norm()).detach()) < 0.01


def test_ddpm_beta():
    """beta as a function of s on DDPM's own chain, where ln(1 + s²) = −Σ ln(1 − beta_i): to 3 % from step 20 on."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bar = torch.cumprod(1 - beta, dim=0)
    torch.testing.assert_close(ddpm_beta(((1 - bar) / bar).sqrt())[20:], beta[20:], rtol=0.03, atol=0)


@pytest.mark.parametrize("settings", [{}, {"step": "normalised", "zeta": 0.02}], ids=["sigma", "normalised"])
class TestBothSteps:
    """What holds of both."""

    def test_schedules_are_interchangeable(self, settings):
        """The same noise gives the same x_0 in the variance-exploding and in the functional schedule, to rounding."""
        draws = []
        for schedule in SCHEDULES.values():
            model, generators = DPS(prior(schedule), LIKELIHOOD, **settings), Generators(0, range(2))
            times = levels(schedule, 50.0, 0.01, 30)
            draws.append(DDIM(1.0)(model, pure_noise(model, times[0], generators, torch.float64), times, generators))
        torch.testing.assert_close(draws[0], draws[1], rtol=1e-8, atol=1e-8)

    def test_batch_mates_do_not_matter(self, settings):
        """A row alone, and beside one whose misfit is 10⁶ times as large, has the same mean: no norm over the batch."""
        model, x_t = DPS(prior(), LIKELIHOOD, **settings), normal(2, D, seed=6)
        x_t[1] *= 1e6
        torch.testing.assert_close(model(x_t, 1.0)[0], model(x_t[:1], 1.0)[0], rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_differentiates_whatever_the_caller_does(self, settings, mode):
        """Under no_grad and inference_mode, with x_t and t made there, the result is the same and remembers nothing."""
        model, expected = DPS(prior(), LIKELIHOOD, **settings), normal(2, D, seed=6)
        expected = model(expected, torch.tensor([0.5, 1.0], dtype=torch.float64))
        with mode():
            x_t, t = normal(2, D, seed=6), torch.tensor([0.5, 1.0], dtype=torch.float64)
            found = model(x_t, t)
        assert not found.requires_grad
        assert torch.equal(found, expected)

    def test_single_precision(self, settings):
        """x_t in float32 gives a mean in float32, within 1e-4 of that in float64, at low and high levels."""
        model, x_t = DPS(prior(VE), LIKELIHOOD, **settings), normal(2, D, seed=6)
        for t in (0.01, 1.0, 100.0):
            found, expected = model((t * x_t).float(), t), model(t * x_t, t)
            assert found.dtype == torch.float32
            assert float((found - expected).norm() / expected.norm()) < 1e-4

    def test_data_that_are_met_exactly(self, settings):
        """r = 0: nothing to correct, and no division by the norm."""
        model, x_t = prior(), normal(2, D, seed=6)
        h = LIKELIHOOD.h[:1]
        met = LinearLikelihood(h, (model(x_t[:1], 1.0) @ h.T)[0])
        posterior_mean = DPS(model, met, **settings)(x_t, 1.0)
        assert bool(posterior_mean.isfinite().all())
        torch.testing.assert_close(posterior_mean[0], model(x_t, 1.0)[0], rtol=1e-6, atol=1e-6)

    def test_has_the_face_of_its_denoiser(self, settings):
        """Space, schedule, noise range and bounds are the prior's."""
        model = prior()
        wrapped = DPS(model, LIKELIHOOD, **settings)
        assert wrapped.space == model.space
        assert wrapped.schedule is model.schedule
        assert wrapped.noise_range == model.noise_range
        assert wrapped.bounds is model.bounds


def test_likelihood_is_asked_inside_the_bounds():
    """A prediction beyond the bounds is judged at the nearest point inside, and its gradient comes from there."""
    model, asked = prior(), []
    model.bounds = torch.tensor([-0.1, 0.1], dtype=torch.float64).unbind()

    def log_prob(x_0):
        asked.append(x_0.detach())
        return LIKELIHOOD.log_prob(x_0)

    x_t = normal(2, D, seed=6)
    x_0, value, gradient = differentiate(model, log_prob, x_t, 1.0)
    inside = x_0.clamp(-0.1, 0.1)
    assert bool((x_0 != inside).any())
    torch.testing.assert_close(x_0, model(x_t, 1.0))
    torch.testing.assert_close(asked[0], inside)
    torch.testing.assert_close(value, LIKELIHOOD.log_prob(inside))
    back = (LIKELIHOOD.y - inside @ LIKELIHOOD.h.T) @ LIKELIHOOD.h @ model.gain(1.0)
    torch.testing.assert_close(gradient, back, rtol=1e-10, atol=1e-10)


def test_gradient_through_a_network():
    """log p(y | x̂_0(x_t)) of a U-Net with random weights: its directional derivative, against central differences.

    The network runs in float32, so that differences of step 1e-2 agree to 1 % (measured: 2e-4, falling like h²).
    """
    torch.manual_seed(0)
    network = UNet(channels=1, widths=(8, 16)).requires_grad_(False)
    network.last.weight.normal_(std=0.3)
    model = GridOperatorDenoiser(network, FunctionSpace(("x",), (8, 8)), Preconditioning(sigma_data=1.0))
    data = LinearLikelihood(normal(5, 64, seed=1), normal(5, seed=2))
    x_t, direction, h = normal(2, 64, seed=3), normal(2, 64, seed=4), 1e-2
    _, _, gradient = differentiate(model, data.log_prob, x_t, 1.0)
    ahead, behind = (data.log_prob(model(x_t + sign * h * direction, 1.0)) for sign in (1, -1))
    torch.testing.assert_close((gradient * direction).sum(dim=1), (ahead - behind) / (2 * h), rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": "normalized"}, "'sigma' or 'normalised', not 'normalized'"),
        ({"step": "sigma", "zeta": 0.1}, "zeta belongs to the normalised step"),
        ({"step": "normalised"}, "needs a positive zeta, got None"),
        ({"step": "normalised", "zeta": 0.0}, "needs a positive zeta, got 0.0"),
        ({"step": "normalised", "zeta": float("nan")}, "needs a positive zeta, got nan"),
    ],
)
def test_refusals(settings, message):
    """An unknown step, a ζ where it means nothing, none where one is needed."""
    with pytest.raises(ValueError, match=message):
        DPS(prior(), LIKELIHOOD, **settings)
