"""A unit Gaussian prior whose modes are seen one by one: y_i = R_i x_i + e_i, in units of the noise, with y_i = R_i.

So the datum says x_i = 1 with a noise of 1/R_i, and the posterior has the mean R²/(1 + R²) and the variance 1/(1 + R²).
A method that is linear in x_t and y keeps the modes Gaussian and apart, and its bias is a recursion for mean and
variance of each.
"""

import torch
from closed_forms import LinearLikelihood

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.schedules import VESchedule
from pdediff.spaces import FunctionSpace

RATIOS = torch.tensor([0.5, 1.0, 2.0, 5.0, 20.0], dtype=torch.float64)
MEAN, VARIANCE = RATIOS**2 / (1 + RATIOS**2), 1 / (1 + RATIOS**2)
S_MIN, S_MAX = 0.02, 10.0


class UnitPrior(GaussianDenoiser):
    """x_0 ~ N(0, I), x̂_0 = x̄/(1 + s²), over a range of levels wide enough to leave no trace."""

    noise_range = (S_MIN, S_MAX)


def unit_prior(d, schedule=None):
    space = FunctionSpace(("x",), (1, d))
    return UnitPrior(CosineField((1, d), torch.ones(1, d)), space, schedule=schedule or VESchedule())


def unit_modes(ratios=RATIOS, schedule=None):
    """The prior, and the likelihood of modes with the given R."""
    return unit_prior(len(ratios), schedule), LinearLikelihood(ratios.diag(), ratios)


def assert_moments(z, mean, variance, deviations=4.0):
    """Draws z (n, D) have means and variances (D,), to so many deviations of Monte-Carlo error of Gaussian draws."""
    n, z = len(z), z.double()
    assert bool(((z.mean(0) - mean).abs() < deviations * (variance / n).sqrt()).all())
    assert bool(((z.var(0) / variance - 1).abs() < deviations * (2 / n) ** 0.5).all())
