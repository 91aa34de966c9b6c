"""Schedules and the conversions between predictions: identities, in float64, to rounding."""

import math

import pytest
import torch

from pdediff import schedules
from pdediff.schedules import FunctionalSchedule, VESchedule, levels, noise_to_signal

SCHEDULES = [FunctionalSchedule(), VESchedule()]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=["functional", "ve"])

T = torch.tensor([1e-3, 0.1, 1.0, 7.0, 200.0], dtype=torch.float64)[:, None]


def states():
    """x_t, x_0 and the noise between them, for five times."""
    x_0, epsilon = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x_0, epsilon


def test_functional_preserves_variance():
    """alpha_t² + sigma_t² = 1 and sigma_t/alpha_t = t, from pure signal (t = 0) to pure noise (t = 10⁸)."""
    t = torch.tensor([0.0, *T.flatten().tolist(), 1e8], dtype=torch.float64)
    alpha_t, sigma_t = FunctionalSchedule()(t)
    torch.testing.assert_close(alpha_t**2 + sigma_t**2, torch.ones_like(t), rtol=1e-14, atol=0)
    torch.testing.assert_close(sigma_t / alpha_t, t, rtol=1e-14, atol=0)
    assert FunctionalSchedule()(0.0) == (1.0, 0.0)


def test_variance_exploding_keeps_the_signal():
    """alpha_t = 1 in the type of t, sigma_t = t."""
    alpha_t, sigma_t = VESchedule()(T)
    assert torch.equal(alpha_t, torch.ones_like(T))
    assert torch.equal(sigma_t, T)
    assert VESchedule()(3.0) == (1.0, 3.0)


@every_schedule
def test_time_inverts_the_ratio(schedule):
    """schedule.time(sigma_t/alpha_t) = t, for tensors and for numbers."""
    torch.testing.assert_close(schedule.time(noise_to_signal(schedule, T)), T, rtol=1e-14, atol=0)
    assert schedule.time(noise_to_signal(schedule, 0.3)) == pytest.approx(0.3, rel=1e-14)


@every_schedule
def test_predictions_convert_into_each_other(schedule):
    """From x_t = alpha_t x_0 + sigma_t eps all of x_0, eps and the score −eps/sigma_t follow from any one of them.

    To 1e-9, relative: recovering x_0 from x_t at t = 200 (or eps at t = 1e-3) loses a factor 10³ of 2e-16.
    """
    x_0, epsilon = states()
    alpha_t, sigma_t = schedule(T)
    x_t = alpha_t * x_0 + sigma_t * epsilon
    score = -epsilon / sigma_t
    for found, expected in [
        (schedules.epsilon_from_x0(schedule, x_t, x_0, T), epsilon),
        (schedules.x0_from_epsilon(schedule, x_t, epsilon, T), x_0),
        (schedules.score_from_epsilon(schedule, epsilon, T), score),
        (schedules.epsilon_from_score(schedule, score, T), epsilon),
        (schedules.score_from_x0(schedule, x_t, x_0, T), score),
        (schedules.x0_from_score(schedule, x_t, score, T), x_0),
    ]:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@every_schedule
def test_score_of_a_gaussian(schedule):
    """For x_0 ~ N(0, c) the score of N(0, alpha_t² c + sigma_t²) is what the posterior mean
    E[x_0 | x_t] = alpha_t c/(alpha_t² c + sigma_t²) x_t converts to (Tweedie's formula)."""
    c, (x_t, _) = 2.5, states()
    alpha_t, sigma_t = schedule(T)
    variance = alpha_t**2 * c + sigma_t**2
    found = schedules.score_from_x0(schedule, x_t, alpha_t * c / variance * x_t, T)
    torch.testing.assert_close(found, -x_t / variance, rtol=1e-9, atol=1e-9)


@every_schedule
@pytest.mark.parametrize("rho", [1.0, 7.0, 1e4])
def test_levels_fall_from_end_to_end(schedule, rho):
    """The ratios at the times fall strictly, and start and end where asked (to 1e-9: a 10⁴-th power is taken)."""
    s = noise_to_signal(schedule, levels(schedule, 30.0, 0.02, 9, rho))
    assert s.shape == (9,)
    assert s.dtype == torch.float64
    assert bool((s.diff() < 0).all())
    assert s[[0, -1]].tolist() == pytest.approx([30.0, 0.02], rel=1e-9)


def test_levels_are_even_in_a_power():
    """s^(1/rho) is evenly spaced; for rho → ∞ so is ln s (to 1/rho)."""
    s = levels(VESchedule(), 30.0, 0.02, 9, 3.0)
    steps = s.pow(1 / 3).diff()
    torch.testing.assert_close(steps, steps.mean().expand(8), rtol=1e-12, atol=0)
    steps = levels(VESchedule(), 30.0, 0.02, 9, 1e5).log().diff()
    torch.testing.assert_close(steps, torch.full((8,), math.log(0.02 / 30) / 8, dtype=torch.float64), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("s_max", "s_min", "count", "rho"), [(1, 2, 5, 7), (1, 0, 5, 7), (2, 1, 1, 7), (2, 1, 5, 0)])
def test_levels_that_cannot_be(s_max, s_min, count, rho):
    """Rising levels, a zero level, a single one, or a power that is not positive."""
    with pytest.raises(ValueError, match="levels need s_max > s_min > 0"):
        levels(VESchedule(), s_max, s_min, count, rho)
