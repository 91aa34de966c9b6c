"""DDIM on a Gaussian prior, where every number it should give is known. Float64, no Monte Carlo.

The prior N(0, C) has eigenvalues λ from 0.05 to 5 in the cosine basis; the denoiser acts on each mode alone, and so
does the sampler. One row of numbers with the coefficient 1 in every mode therefore shows the factor of all modes at
once. The sampler is linear in x_T and in the noise of each step: with one of them 1 and the others 0 in each row of a
batch, the variance of what it draws is the sum of the squares over the rows.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
import torch

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.schedules import FunctionalSchedule, VESchedule, levels
from pdediff.spaces import FunctionSpace

SHAPE, D = (3, 4), 12
VE, FUNCTIONAL = VESchedule(), FunctionalSchedule()
LAMBDA = torch.logspace(np.log10(0.05), np.log10(5), D, dtype=torch.float64).reshape(SHAPE)
ONES, PRIOR = torch.ones_like(LAMBDA), CosineField(SHAPE, LAMBDA)
S_MAX, S_MIN = 20.0, 0.02


@dataclass
class ScriptedNoise:
    """Draw k is 1 in every mode of row k + 1 of the batch, 0 in all others."""

    rows: int
    calls: list = field(default_factory=list)

    def sample(self, generators, dimension, dtype, device):
        g = torch.zeros(self.rows, D, dtype=dtype)
        g[len(self.calls) + 1] = from_modes(ONES)
        self.calls.append(dimension)
        return g

    def covariance(self, v):
        return v


def from_modes(c):
    return PRIOR.from_basis(c).flatten(-2)


def to_modes(x):
    return PRIOR.to_basis(x.unflatten(-1, SHAPE))


def denoiser(schedule, noise=None):
    space = FunctionSpace(("x",), SHAPE) if noise is None else FunctionSpace(("x",), SHAPE, noise=noise)
    return GaussianDenoiser(PRIOR, space, schedule=schedule)


def factors(sampler, count, schedule=VE):
    """x_0 of x_T = alpha_T (1 in every mode), by mode: deterministic samplers only."""
    times = levels(schedule, S_MAX, S_MIN, count)
    x_T = schedule(times[0])[0] * from_modes(ONES)[None]
    return to_modes(sampler(denoiser(schedule), x_T, times, Generators(0, [0])))[0]


def flow():
    """The factor of the exact probability flow from S_MAX to S_MIN, then the denoiser's."""
    scale = ((LAMBDA + S_MIN**2) / (LAMBDA + S_MAX**2)).sqrt()
    return scale * LAMBDA / (LAMBDA + S_MIN**2)


def order(counts, errors):
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("schedule", [VE, FUNCTIONAL], ids=["ve", "functional"])
def test_deterministic_steps_in_closed_form(schedule):
    """eta = 0: each step multiplies a mode of x/alpha by (λ + s_t s_s)/(λ + s_t²), and the last one by λ/(λ + s²)."""
    s = levels(VE, S_MAX, S_MIN, 9)
    expected = LAMBDA / (LAMBDA + s[-1] ** 2)
    for s_t, s_s in pairwise(s):
        expected = expected * (LAMBDA + s_t * s_s) / (LAMBDA + s_t**2)
    torch.testing.assert_close(factors(DDIM(), 9, schedule), expected, rtol=1e-12, atol=0)


def test_deterministic_first_order():
    """eta = 0 converges to the probability flow, x/alpha ∝ √(λ + s²), at first order in the number of levels.

    The order fitted over 32 to 512 levels to the largest relative error of any mode lies within 0.1 of 1.
    """
    counts = [32, 64, 128, 256, 512]
    errors = [float((factors(DDIM(), count) / flow() - 1).abs().max()) for count in counts]
    assert order(counts, errors) == pytest.approx(1, abs=0.1)


def test_deterministic_in_the_start():
    """eta = 0 draws nothing: the generators are left as they were, and x_T alone decides."""
    times, model = levels(VE, S_MAX, S_MIN, 9), denoiser(VE)
    generators = Generators(1, range(3))
    x_T = pure_noise(model, times[0], Generators(0, range(3)))
    x_0 = DDIM()(model, x_T, times, generators)
    assert torch.equal(x_0, DDIM()(model, x_T, times, Generators(2, range(3))))
    assert torch.equal(generators.normal(5), Generators(1, range(3)).normal(5))
    assert not torch.equal(DDIM(0.5)(model, x_T, times, generators), x_0)


def variance(eta, count, start=lambda s: LAMBDA + s**2):
    """The exact variance by mode of what the sampler draws, started with the variance `start` of x_T/alpha_T."""
    noise = ScriptedNoise(count)
    times = levels(VE, S_MAX, S_MIN, count)
    x_T = torch.zeros(count, D, dtype=torch.float64)
    x_T[0] = from_modes(start(S_MAX).sqrt())
    rows = to_modes(DDIM(eta)(denoiser(VE, noise), x_T, times, Generators(0, range(count))))
    assert len(noise.calls) == (count - 1 if eta > 0 else 0)
    return rows.square().sum(dim=0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_variance_tends_to_the_priors(eta):
    """For every eta the variance tends to that of D(x_t) under the prior's own x_t, λ²/(λ + s_min²), at first order.

    Which is the prior's λ to s_min²/λ, at most 0.8 %. The order fitted over 40 to 320 levels lies within 0.1 of 1.
    Measured with 128 levels: a mode has at most 3 % too much variance (eta = 0), 4 % (0.5), 7 % too little (1).
    """
    counts, expected = [40, 80, 160, 320], LAMBDA**2 / (LAMBDA + S_MIN**2)
    errors = [float((variance(eta, count) / expected - 1).abs().max()) for count in counts]
    assert order(counts, errors) == pytest.approx(1, abs=0.1)
    assert errors[-1] < 0.03


def test_who_forgets_the_start():
    """Pure noise at s_max lacks the prior's variance: a mode starts with s_max² and not with λ + s_max².

    eta = 0 keeps the ratio s_max²/(λ + s_max²) of the variances to the end, exactly; eta = 1 forgets it.
    """
    kept, forgotten = (variance(eta, 64, lambda s: s**2 * ONES) / variance(eta, 64) for eta in (0.0, 1.0))
    torch.testing.assert_close(kept, S_MAX**2 / (LAMBDA + S_MAX**2), rtol=1e-12, atol=0)
    torch.testing.assert_close(forgotten, ONES, rtol=1e-3, atol=0)


@dataclass
class DiscreteVP:
    """The chain of DDPM: alpha_t = √ᾱ_t for integer t, from beta_1 … beta_N."""

    beta: torch.Tensor

    def __call__(self, t):
        bar = torch.cumprod(1 - self.beta, dim=0)[(t - 1).long()]
        return bar.sqrt(), (1 - bar).sqrt()


def test_ancestral_is_ddpm():
    """eta = 1 on the integer times of DDPM is its Algorithm 2 with the variance β̃_t, in the form of Fig. 4, lines 3–6.

    The same start, noise and denoiser; x_0 agrees to rounding.
    """
    steps = 20
    schedule = DiscreteVP(torch.linspace(1e-3, 0.2, steps, dtype=torch.float64))
    beta, alpha_bar = schedule.beta, torch.cumprod(1 - schedule.beta, dim=0)
    model, generators = denoiser(schedule), Generators(1, range(2))
    x = start = pure_noise(model, torch.tensor(steps), Generators(0, range(2)), torch.float64)
    for i in range(steps - 1, 0, -1):
        before, now = alpha_bar[i - 1], alpha_bar[i]
        x_0 = model(x, torch.tensor(i + 1.0))
        z = generators.normal(D, dtype=torch.float64)
        x = (
            (1 - beta[i]).sqrt() * (1 - before) / (1 - now) * x
            + before.sqrt() * beta[i] / (1 - now) * x_0
            + ((1 - before) / (1 - now) * beta[i]).sqrt() * z
        )
    expected = model(x, torch.tensor(1.0))
    times = torch.arange(steps, 0, -1, dtype=torch.float64)
    found = DDIM(1.0)(model, start, times, Generators(1, range(2)))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("eta", [-0.1, 1.01, float("nan")])
def test_eta_out_of_range(eta):
    """Beyond 1 the kept noise would have a negative variance."""
    with pytest.raises(ValueError, match="eta must be between 0 and 1"):
        DDIM(eta)
