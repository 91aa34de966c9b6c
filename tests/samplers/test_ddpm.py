"""DDPM as published, against the DDIM family and against its bias in closed form."""

import pytest
import torch
from gaussian_modes import LAMBDA, PRIOR, S_MAX, S_MIN, SCHEDULES, SHAPE, D, even_ladder, law

from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.ddpm import DDPM
from pdediff.schedules import levels
from pdediff.spaces import FunctionSpace

pytestmark = pytest.mark.methods


@pytest.mark.parametrize("rho", [1.0, 7.0, 1e5])
@pytest.mark.parametrize("count", [2, 3, 40])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_is_ddim_at_eta_one(schedule, count, rho):
    """Given the same noise, DDPM with β̃ and DDIM(eta=1) draw the same x_0, to rounding: any schedule, any ladder."""
    times = levels(schedule, S_MAX, S_MIN, count, rho)
    model = GaussianDenoiser(PRIOR, FunctionSpace(("x",), SHAPE), 0.7, schedule)
    x_T = pure_noise(model, times[0], Generators(0, range(3)), torch.float64)
    found, expected = (sampler(model, x_T, times, Generators(1, range(3))) for sampler in (DDPM(), DDIM(eta=1.0)))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_algorithm_2(variance):
    """The chain of 20 steps with integer times, line by line as in Fig. 2: the same noise gives the same x_0."""
    steps, betas = 20, torch.linspace(1e-3, 0.2, 20, dtype=torch.float64)
    alpha, alpha_bar = 1 - betas, torch.cumprod(1 - betas, dim=0)

    class Chain:
        def __call__(self, t):
            bar = alpha_bar[(t - 1).long()]
            return bar.sqrt(), (1 - bar).sqrt()

    schedule = Chain()
    model, generators = GaussianDenoiser(PRIOR, FunctionSpace(("x",), SHAPE), 0.7, schedule), Generators(1, range(2))
    times = torch.arange(steps, 0, -1, dtype=torch.float64)
    x = start = pure_noise(model, times[0], Generators(0, range(2)), torch.float64)
    for i, t in zip(range(steps - 1, -1, -1), times, strict=True):
        epsilon = (x - alpha_bar[i].sqrt() * model(x, t)) / (1 - alpha_bar[i]).sqrt()
        x = (x - (1 - alpha[i]) / (1 - alpha_bar[i]).sqrt() * epsilon) / alpha[i].sqrt()
        if i > 0:
            square = betas[i] * (1 - alpha_bar[i - 1]) / (1 - alpha_bar[i]) if variance == "posterior" else betas[i]
            x = x + square.sqrt() * generators.normal(D, dtype=torch.float64)
    found = DDPM(variance)(model, start, times, Generators(1, range(2)))
    torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-12)


def test_bias_of_the_variance():
    """On an even ladder Var(x_0)/λ − 1 is −κ with β̃, κ with beta in the exploding schedule; to 5 % (400 levels).

    With beta in a preserving schedule it falls with λ, through 0 at λ = 1.
    """
    times, kappa = even_ladder(400)
    for variance, expected in (("posterior", -1.0), ("beta", 1.0)):
        _, ratio = law(DDPM(variance), times)
        torch.testing.assert_close((ratio - 1) / kappa, torch.full_like(LAMBDA, expected), rtol=0.05, atol=0)
    bias = (law(DDPM("beta"), times, SCHEDULES["functional"])[1] - 1).flatten() / kappa
    assert bool((bias.diff() < 0).all())
    assert bool((bias.sign() == (1 - LAMBDA.flatten()).sign()).all())
    assert bool((bias.abs() < 1).all())


def test_bias_of_ddim():
    """−κ/2 at eta = 0 and −κ at eta = 1, to 5 %."""
    times, kappa = even_ladder(400)
    for eta, expected in ((0.0, -0.5), (1.0, -1.0)):
        _, ratio = law(DDIM(eta), times)
        torch.testing.assert_close((ratio - 1) / kappa, torch.full_like(LAMBDA, expected), rtol=0.05, atol=0)


def test_variance_is_one_of_two():
    """Another word is refused."""
    with pytest.raises(ValueError, match="'posterior' or 'beta', not 'learned'"):
        DDPM("learned")
