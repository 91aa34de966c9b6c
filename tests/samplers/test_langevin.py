"""Langevin dynamics at one level: what the noise is for, how large a step biases it, and where it gets stuck."""

import pytest
import torch
from gaussian_modes import LAMBDA, PRIOR, SCHEDULES, SHAPE, BulkNoise, law

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.mixture import GaussianMixtureDenoiser
from pdediff.noise import Generators
from pdediff.samplers.langevin import Langevin, langevin_step
from pdediff.schedules import score_from_x0
from pdediff.spaces import FunctionSpace

pytestmark = pytest.mark.methods
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
S = 0.5


def level(schedule, s=S):
    """A ladder of the one level s."""
    return schedule.time(torch.tensor([s], dtype=torch.float64))


@every_schedule
@pytest.mark.parametrize("noise", [False, True])
def test_steps_are_the_papers(schedule, noise):
    """eqs. 15 and 16 as printed, with ε = δ sigma_t² and the score from the denoiser."""
    t, delta = level(schedule)[0], 0.3
    model = GaussianDenoiser(PRIOR, FunctionSpace(("x",), SHAPE), 0.7, schedule)
    x, epsilon = Generators(0, range(3)).normal(6, dtype=torch.float64), delta * schedule(t)[1] ** 2
    expected = x + epsilon / 2 * score_from_x0(schedule, x, model(x, t), t)
    if noise:
        expected = expected + epsilon.sqrt() * Generators(1, range(3)).normal(6, dtype=torch.float64)
    found = langevin_step(model, x, t, delta, Generators(1, range(3)), noise)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@every_schedule
@pytest.mark.parametrize("delta", [0.1, 1.0, 3.0])
def test_discretisation_bias(schedule, delta):
    """The variance of x̄ goes from Λ = λ + s² to Λ/(1 − δ s²/(4Λ)), with (1 − δ s²/(2Λ))² a step; the mean stays m.

    After 60 steps, to rounding, in any schedule. In the end the largest bias, of the mode λ = 0.05, is 2 % for δ = 0.1,
    26 % for δ = 1 and 167 % for δ = 3.
    """
    mean, ratio = law(Langevin(60, delta), level(schedule), schedule)
    share = delta * S**2 / (LAMBDA + S**2)
    left = (1 - share / 2) ** 120
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=1e-9, atol=0)
    torch.testing.assert_close(ratio, left + (1 - left) / (1 - share / 4), rtol=1e-9, atol=0)
    assert float(1 / (1 - share / 4).min() - 1) == pytest.approx({0.1: 0.02, 1.0: 0.26, 3.0: 1.67}[delta], rel=0.1)


def test_without_noise_all_samples_are_one():
    """eq. 15 on a Gaussian: the spread of the samples is (1 − δ s²/(2Λ))^n of what it was, and tends to nothing.

    With the noise (eq. 16) steps of the same length keep the prior's variance, to the 1 to 26 % of δ = 1.
    """
    times, steps = level(SCHEDULES["ve"]), 400
    mean, collapsed = law(Langevin(steps, 1.0, noise=False), times)
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=1e-9, atol=0)
    torch.testing.assert_close(collapsed, (1 - S**2 / (2 * (LAMBDA + S**2))) ** (2 * steps), rtol=1e-6, atol=1e-20)
    assert float(collapsed.max()) < 1e-8
    _, kept = law(Langevin(100, 1.0), times)
    assert bool(((kept > 1) & (kept < 1.3)).all())


def two_modes(rows):
    """0.2 N(−2, 0.3²) + 0.8 N(2, 0.3²), in one dimension."""
    space = FunctionSpace(("x",), (1, 1), noise=BulkNoise(rows))
    field = CosineField((1, 1), torch.full((1, 1), 0.3**2))
    components = tuple(GaussianDenoiser(field, space, mean, SCHEDULES["ve"]) for mean in (-2.0, 2.0))
    return GaussianMixtureDenoiser(components, torch.tensor([0.2, 0.8]))


def test_on_a_mixture():
    """Two modes at ∓2 with the shares 0.2 and 0.8, at s = 0.2, from starts spread evenly over both.

    Without noise all samples end on one of two points. With noise each mode gets its own variance, to 5 %. But neither
    finds the shares: each sample stays in the basin where it began, and half of them are left.
    """
    rows = 4000
    model, times = two_modes(rows), level(SCHEDULES["ve"], 0.2)
    x_T = 4 * (torch.arange(rows, dtype=torch.float64)[:, None] + 0.5) / rows * 2 - 4
    climbed, drawn = (Langevin(300, 0.5, noise)(model, x_T, times, Generators(0, [])) for noise in (False, True))
    torch.testing.assert_close(climbed.abs(), torch.full_like(climbed, 2.0), rtol=0, atol=1e-6)
    for x_0 in (climbed, drawn):
        assert float((x_0 < 0).double().mean()) == pytest.approx(0.5, abs=0.02)
    exact = 0.3**4 / (0.3**2 + 0.2**2)
    for mode in (drawn[drawn < 0], drawn[drawn > 0]):
        assert float(mode.mean().abs()) == pytest.approx(2, abs=0.02)
        assert float(mode.var()) == pytest.approx(exact / (1 - 0.5 * 0.2**2 / (4 * (0.3**2 + 0.2**2))), rel=0.1)


def test_one_small_level_is_slow():
    """At s = 0.02 a mode of λ needs 2Λ/(δ s²) steps to forget its start: after 1000 of δ = 1 the largest (λ = 5) still
    has 92 % of an excess of variance, as predicted."""
    times = torch.tensor([20.0, 0.02], dtype=torch.float64)
    _, ratio = law(Langevin(1000, 1.0, noise=False), times)
    start = (LAMBDA + 400) / (LAMBDA + 0.02**2)
    expected = start * (1 - 0.02**2 / (2 * (LAMBDA + 0.02**2))) ** 2000
    torch.testing.assert_close(ratio, expected, rtol=1e-6, atol=0)
    assert float((expected / start).flatten()[-1]) == pytest.approx(0.92, abs=0.01)


@pytest.mark.parametrize(("steps", "delta"), [(0, 1.0), (5, 0.0), (5, 4.0), (5, float("nan"))])
def test_steps_that_cannot_be(steps, delta):
    """No steps, or one of a length that stands still or is unstable."""
    with pytest.raises(ValueError, match="0 < delta < 4 and steps ≥ 1"):
        Langevin(steps, delta)


def test_stable_below_four():
    """δ = 3.9 is stable for a mode that is all noise (λ ≪ s²), where δ = 4 is the limit; the variance is 40 times Λ."""
    tiny = CosineField((1, 1), torch.full((1, 1), 1e-12))
    model = GaussianDenoiser(tiny, FunctionSpace(("x",), (1, 1), noise=BulkNoise(1)), schedule=SCHEDULES["ve"])
    x, t = torch.ones(1, 1, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    for _ in range(100):
        x = langevin_step(model, x, t, 3.9, Generators(0, []), noise=False)
    assert float(x.abs()) == pytest.approx(0.95**100, rel=1e-6)
