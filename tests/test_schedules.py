"""Schedules and the conversions between predictions: identities, in float64, to rounding."""

import math

import pytest
import torch

from pdediff import schedules
from pdediff.schedules import CosineSchedule, FunctionalSchedule, VESchedule, VPSchedule, levels, noise_to_signal

SCHEDULES = {"functional": FunctionalSchedule(), "ve": VESchedule(), "vp": VPSchedule(), "cosine": CosineSchedule()}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)

T = torch.tensor([1e-3, 0.1, 1.0, 7.0, 200.0], dtype=torch.float64)[:, None]
UNIT = torch.tensor([1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999], dtype=torch.float64)  # of [0, 1]


def times(schedule):
    """Five times (5, 1), from hardly any noise to hardly any signal."""
    return schedule.time(T)


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
    """schedule.time(sigma_t/alpha_t) = t relative to t, from 10⁻¹² on, for tensors and for numbers, in kind."""
    torch.testing.assert_close(schedule.time(noise_to_signal(schedule, UNIT)), UNIT, rtol=1e-14, atol=0)
    for t, amplitudes in zip(UNIT.tolist(), zip(*schedule(UNIT), strict=True), strict=True):
        assert schedule(t) == pytest.approx([float(v) for v in amplitudes], rel=1e-14)
        assert schedule.time(noise_to_signal(schedule, t)) == pytest.approx(t, rel=1e-14)
    assert isinstance(schedule.time(0.3), float)


@every_schedule
def test_ratio_inverts_the_time(schedule):
    """sigma_t/alpha_t = s at t = schedule.time(s), from 10⁻⁹ to 10⁴.

    The cosine crowds large ratios near t = 1, s = 2/(π (1 − t)), so rounding of t costs s a factor of s.
    """
    s = torch.logspace(-9, 4, 14, dtype=torch.float64)
    torch.testing.assert_close(noise_to_signal(schedule, schedule.time(s)), s, rtol=1e-11, atol=0)
    small = s[s < 100]
    torch.testing.assert_close(noise_to_signal(schedule, schedule.time(small)), small, rtol=1e-13, atol=0)


@pytest.mark.parametrize("schedule", [VPSchedule(), VPSchedule(5.0, 5.0), CosineSchedule(), CosineSchedule(0.2)])
def test_bounded_schedules_preserve_variance(schedule):
    """alpha_t² + sigma_t² = 1 with (1, 0) at t = 0 exactly, noise growing with t, in tensors and numbers."""
    alpha_t, sigma_t = schedule(UNIT)
    torch.testing.assert_close(alpha_t**2 + sigma_t**2, torch.ones_like(UNIT), rtol=1e-14, atol=0)
    assert bool((sigma_t.diff() > 0).all())
    assert schedule(0.0) == pytest.approx((1.0, 0.0), rel=1e-15, abs=0)
    assert schedule.time(0.0) == 0.0
    torch.testing.assert_close(schedule.time(torch.zeros(2)), torch.zeros(2), rtol=0, atol=0)


def test_vp_in_single_precision():
    """float32 keeps seven digits of the small sigma_t: 1 − alpha_t² taken as a difference would keep none at 10⁻⁶."""
    for schedule in (VPSchedule(), CosineSchedule()):
        for found, expected in zip(schedule(UNIT.float()), schedule(UNIT.float().double()), strict=True):
            torch.testing.assert_close(found.double(), expected, rtol=5e-6, atol=0)
        small = UNIT[:5].float()
        torch.testing.assert_close(schedule.time(noise_to_signal(schedule, small)), small, rtol=2e-6, atol=0)


def test_vp_is_the_limit_of_ddpm():
    """ln alpha_t² at t = i/N exceeds ln Π_{j≤i} (1 − beta_j) of DDPM's chain of N steps by ½ ∫ beta² dt/N, to first
    order (the second term of each logarithm): 67/N at t = 1. The next order is below 1 % for N ≥ 2000."""
    limit = (20.0**3 - 0.1**3) / (20.0 - 0.1) / 6
    for n, within in [(1000, 0.02), (2000, 0.01), (4000, 0.005)]:
        beta = torch.linspace(0.1, 20.0, n, dtype=torch.float64) / n
        alpha_t, _ = VPSchedule()(torch.arange(1, n + 1, dtype=torch.float64) / n)
        difference = 2 * alpha_t.log() - torch.log1p(-beta).cumsum(0)
        assert n * float(difference[-1]) == pytest.approx(limit, rel=within)
        assert float(difference.abs().max()) == float(difference[-1])
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # as published
    torch.testing.assert_close(beta, torch.linspace(0.1, 20.0, 1000, dtype=torch.float64) / 1000, rtol=1e-12, atol=0)


def test_cosine_is_its_formula():
    """alpha_t² = f(t)/f(0) with f(t) = cos²((t + 0.008)/1.008 · π/2), as published; no signal at t = 1."""
    f = ((UNIT + 0.008) / 1.008 * math.pi / 2).cos().square()
    alpha_t, sigma_t = CosineSchedule()(UNIT)
    torch.testing.assert_close(alpha_t.square(), f / math.cos(0.008 / 1.008 * math.pi / 2) ** 2, rtol=1e-11, atol=0)
    torch.testing.assert_close(sigma_t[3:].square(), 1 - alpha_t[3:].square(), rtol=1e-13, atol=0)
    assert CosineSchedule()(1.0) == (0.0, pytest.approx(1.0, rel=1e-15))


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [(VPSchedule, (0, 1)), (VPSchedule, (2, 1)), (VPSchedule, (1, math.inf)), (CosineSchedule, (0.0,))],
)
def test_schedules_that_cannot_be(schedule, settings):
    """Rates that vanish, fall or are infinite; an offset of zero."""
    with pytest.raises(ValueError, match="must"):
        schedule(*settings)


@every_schedule
def test_predictions_convert_into_each_other(schedule):
    """From x_t = alpha_t x_0 + sigma_t eps all of x_0, eps and the score −eps/sigma_t follow from any one of them.

    To 1e-9, relative: recovering x_0 from x_t at s = 200 (or eps at s = 1e-3) loses a factor 10³ of 2e-16.
    """
    t, (x_0, epsilon) = times(schedule), states()
    alpha_t, sigma_t = schedule(t)
    x_t = alpha_t * x_0 + sigma_t * epsilon
    score = -epsilon / sigma_t
    for found, expected in [
        (schedules.epsilon_from_x0(schedule, x_t, x_0, t), epsilon),
        (schedules.x0_from_epsilon(schedule, x_t, epsilon, t), x_0),
        (schedules.score_from_epsilon(schedule, epsilon, t), score),
        (schedules.epsilon_from_score(schedule, score, t), epsilon),
        (schedules.score_from_x0(schedule, x_t, x_0, t), score),
        (schedules.x0_from_score(schedule, x_t, score, t), x_0),
    ]:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@every_schedule
def test_score_of_a_gaussian(schedule):
    """For x_0 ~ N(0, c) the score of N(0, alpha_t² c + sigma_t²) is what the posterior mean
    E[x_0 | x_t] = alpha_t c/(alpha_t² c + sigma_t²) x_t converts to (Tweedie's formula)."""
    t, c, (x_t, _) = times(schedule), 2.5, states()
    alpha_t, sigma_t = schedule(t)
    variance = alpha_t**2 * c + sigma_t**2
    found = schedules.score_from_x0(schedule, x_t, alpha_t * c / variance * x_t, t)
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
