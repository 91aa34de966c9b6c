"""Annealed Langevin dynamics: the published form, and the bias that its docstring derives."""

import pytest
import torch
from gaussian_modes import LAMBDA, PRIOR, SCHEDULES, SHAPE, D, even_ladder, law

from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.noise import Generators
from pdediff.samplers.annealed_langevin import AnnealedLangevin
from pdediff.schedules import score_from_x0
from pdediff.spaces import FunctionSpace

pytestmark = pytest.mark.methods
VE = SCHEDULES["ve"]


def test_is_the_published_loop():
    """Song & Ermon's Algorithm 1 in scores, ε_i = ε s_i²/s_L², from its second level on: the same x_L.

    ε = 2e-3 at s_L = 0.1 is δ = 0.2.
    """
    times, steps, epsilon = torch.tensor([3.0, 1.0, 0.3, 0.1], dtype=torch.float64), 4, 2e-3
    model = GaussianDenoiser(PRIOR, FunctionSpace(("x",), SHAPE), 0.7, VE)
    x = x_T = 3 * Generators(0, range(2)).normal(D, dtype=torch.float64)
    generators = Generators(1, range(2))
    for s in times[1:]:
        length = epsilon * s**2 / times[-1] ** 2
        for _ in range(steps):
            score = score_from_x0(VE, x, model(x, s), s)
            x = x + length / 2 * score + length.sqrt() * generators.normal(D, dtype=torch.float64)
    found = AnnealedLangevin(steps, 0.2)(model, x_T, times, Generators(1, range(2)))
    torch.testing.assert_close(found, model(x, times[-1]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("steps", "delta"), [(1, 1.0), (5, 1.0), (5, 0.2), (2, 2.0)])
def test_bias_of_the_variance(steps, delta):
    """Var(x_0)/λ − 1 = (1 + δ/4)/(δ K/2κ − 1) on an even ladder of 200 levels, to 3 %; the mean is exact.

    From 2 % (K = 5, δ = 1) to 11 % (K = 1), where DDPM with as many levels has −4 %.
    """
    times, kappa = even_ladder(200)
    mean, ratio = law(AnnealedLangevin(steps, delta), times)
    expected = torch.full_like(LAMBDA, (1 + delta / 4) / (delta * steps / (2 * kappa) - 1))
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=1e-9, atol=0)
    torch.testing.assert_close(ratio - 1, expected, rtol=0.03, atol=0)


@pytest.mark.parametrize(("steps", "delta"), [(0, 1.0), (5, 0.0), (5, 4.0), (5, float("nan"))])
def test_steps_that_cannot_be(steps, delta):
    """No steps, or one of a length that stands still or is unstable."""
    with pytest.raises(ValueError, match="0 < delta < 4 and steps ≥ 1"):
        AnnealedLangevin(steps, delta)
