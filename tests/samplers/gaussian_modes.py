"""A Gaussian prior in whose modes the law that a sampler draws from can be read off exactly. Float64, no Monte Carlo.

The prior N(m, C) has eigenvalues λ from 0.05 to 5 in the cosine basis, and the coefficient 1 of m in every mode. The
denoiser acts on each mode alone, and so do the samplers, which are affine in x_T and in the noise of each step. So a
batch shows their law: its row 0 starts from the mean of x_T and draws no noise, row 1 starts 1 away in every mode, and
each further row is 1 in every mode of one of the draws. Exact is the law of E[x_0 | x_t] at the last level: of mean 1
and variance λ²/(λ + s_min²), from which the prior's λ differs by less than 0.8 %.
"""

import math
from dataclasses import dataclass, field

import torch

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.noise import Generators
from pdediff.schedules import CosineSchedule, FunctionalSchedule, VESchedule, VPSchedule, levels, noise_to_signal
from pdediff.spaces import FunctionSpace

SCHEDULES = {"ve": VESchedule(), "functional": FunctionalSchedule(), "vp": VPSchedule(), "cosine": CosineSchedule()}
SHAPE, D = (2, 3), 6
LAMBDA = torch.logspace(math.log10(0.05), math.log10(5), D, dtype=torch.float64).reshape(SHAPE)
ONES, PRIOR = torch.ones_like(LAMBDA), CosineField(SHAPE, LAMBDA)
S_MAX, S_MIN = 20.0, 0.02


def from_modes(c):
    return PRIOR.from_basis(c).flatten(-2)


def to_modes(x):
    return PRIOR.to_basis(x.unflatten(-1, SHAPE))


@dataclass
class ScriptedNoise:
    """Draw k is 1 in every mode of row k + 2 of the batch, 0 in all others."""

    rows: int
    calls: list = field(default_factory=list)

    def sample(self, generators, dimension, dtype, device):
        g = torch.zeros(self.rows, D, dtype=dtype)
        g[len(self.calls) + 2] = from_modes(ONES)
        self.calls.append(dimension)
        return g

    def covariance(self, v):
        return v


@dataclass
class BulkNoise:
    """White noise for many samples at once, from one generator."""

    rows: int
    seed: int = 0

    def __post_init__(self):
        self.generator = torch.Generator().manual_seed(self.seed)

    def sample(self, generators, dimension, dtype, device):
        return torch.randn(self.rows, dimension, generator=self.generator, dtype=dtype)

    def covariance(self, v):
        return v


def response(sampler, times, schedule=SCHEDULES["ve"]):
    """By mode: the mean of what a sampler draws, its factor from a deviation of x_T/alpha_T to one of x_0, and the
    variance that it draws anew."""
    rows = 2 + sampler.evaluations(len(times))  # no sampler draws more often
    space = FunctionSpace(("x",), SHAPE, noise=ScriptedNoise(rows))
    model = GaussianDenoiser(PRIOR, space, PRIOR.from_basis(ONES), schedule)
    starts = from_modes(ONES).repeat(rows, 1)
    starts[1] *= 2
    x_T = schedule(times[0])[0] * starts
    mean, moved, *drawn = to_modes(sampler(model, x_T, times, Generators(0, range(rows))))
    return mean, moved - mean, (torch.stack(drawn) - mean).square().sum(dim=0)


def law(sampler, times, schedule=SCHEDULES["ve"]):
    """Mean and variance by mode of what a sampler draws, relative to the exact ones: 1 and 1 are right."""
    mean, carried, drawn = response(sampler, times, schedule)
    s_max, s_min = noise_to_signal(schedule, times[[0, -1]])
    return mean, (carried**2 * (LAMBDA + s_max**2) + drawn) / (LAMBDA**2 / (LAMBDA + s_min**2))


def even_ladder(count, s_min=0.005):
    """Levels from S_MAX to s_min in the ratio e^κ, and κ."""
    return levels(SCHEDULES["ve"], S_MAX, s_min, count, rho=1e6), math.log(S_MAX / s_min) / (count - 1)
