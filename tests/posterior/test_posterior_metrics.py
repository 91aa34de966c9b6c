"""Metrics against closed forms, against arrays worked out by hand, and on posteriors known to be exact."""

import json
import math

import numpy as np
import pytest

from pdediff.posterior.metrics import (
    FIELD_KEYS,
    attainable_level,
    coverage,
    crps,
    interval,
    metrics,
    phase,
    pooled_reliability,
    relative_l2,
    reliability,
)
from pdediff.posterior.result import COST_KEYS, Observations, Posterior
from pdediff.solvers.grid import Grid


def no_data() -> Observations:
    empty = np.empty(0)
    return Observations(empty, empty, empty, empty, empty, empty)


def two_by_two(a: list, truth: list | None, phases: tuple[float, float] | None = None) -> Posterior:
    """A posterior on a 2 × 2 grid from the samples [a00, a01, a10, a11]."""
    return Posterior(
        grid=Grid((2, 2)),
        fields={"a": np.reshape(np.array(a, float), (-1, 2, 2))},
        units={},
        observations=no_data(),
        truth={} if truth is None else {"a": np.reshape(np.array(truth, float), (2, 2))},
        phases=phases,
        relative_residual=np.full(len(a), 1e-12),
    )


def test_two_phase_metrics_by_hand() -> None:
    """Phases 1 and 4 (threshold 2), two samples, four cells, truth high, high, low, low.

    Cell 1: 4 and 4, both high. Cell 2: 16 and 0.5, geometric mean 2.83, high. Cell 3: 2.5 and 1, mean 1.58, low.
    Cell 4: 8 and 0.25, mean 1.41, low (the arithmetic mean 4.1 is high). So the mean has no wrong cell; the first
    sample is wrong in cells 3 and 4, the second in cell 2: 3 of 8.
    """
    result = metrics(two_by_two([[4, 16, 2.5, 8], [4, 0.5, 1, 0.25]], [4, 4, 1, 1], (1.0, 4.0)))["a"]
    assert result["error_rate"] == 0.0
    assert result["sample_error_rate"] == 3 / 8
    assert result["brier"] == pytest.approx((0 + 0.25 + 0.25 + 0.25) / 4)
    assert result["coverage_90"] is None
    table = result["reliability"]
    assert table["count"] == [0, 0, 0, 0, 0, 3, 0, 0, 0, 1]
    assert table["predicted"][5] == 0.5
    assert table["observed"][5] == pytest.approx(1 / 3)
    assert (table["predicted"][9], table["observed"][9]) == (1.0, 1.0)
    assert table["predicted"][0] is None


def test_error_rate_thresholds_the_mean_of_log_a() -> None:
    """Phases 3 and 12, threshold 6: of 12, 12, 1 the arithmetic mean 8.3 is high, but the geometric one 5.2 is low.

    Of 12, 12, 2 both are high (8.7 and 6.6). The truth is high everywhere, so half of the cells are wrong.
    """
    samples = np.array([[12, 12, 12, 12], [12, 12, 12, 12], [2, 1, 2, 1]], float)
    result = metrics(two_by_two(samples.tolist(), [12, 12, 12, 12], (3.0, 12.0)))["a"]
    assert result["error_rate"] == 0.5


def test_phase_is_the_sign_of_x() -> None:
    """a = 6 · 2^x is in the high phase of (3, 12) exactly where x >= 0."""
    x = np.linspace(-1.5, 1.5, 31)
    x = x[np.abs(x) > 1e-12]
    assert np.array_equal(phase(6 * 2**x, (3.0, 12.0)), x > 0)


def test_relative_l2_by_hand() -> None:
    """Truth (3, 4) has norm 5; samples off by (3, 4) and by 0 have errors 1 and 0, mean 1/2; a zero truth has none."""
    truth = np.array([[3.0, 4.0]])
    samples = np.stack([2 * truth, truth])
    assert relative_l2(samples[0], truth) == 1.0
    assert relative_l2(samples, truth) == 0.5
    assert relative_l2(samples.mean(axis=0), truth) == 0.5
    assert relative_l2(truth, 0 * truth) is None


def test_crps_equals_its_definition() -> None:
    """The sorted formula is the mean of |X - y| less half the mean over pairs of different samples."""
    rng = np.random.default_rng(0)
    samples, truth = rng.standard_normal((7, 2, 3)), rng.standard_normal((2, 3))
    pairs = np.abs(samples[:, None] - samples[None]).sum(axis=(0, 1)) / (7 * 6)
    expected = (np.abs(samples - truth).mean(axis=0) - pairs / 2).mean() / truth.std()
    assert crps(samples, truth) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [2, 20])
def test_crps_of_a_gaussian_and_its_fairness(n: int) -> None:
    """For X ~ N(0, 1), CRPS(y) = y (2Φ(y) - 1) + 2φ(y) - 1/√π; the fair estimate has this mean at any n.

    40 000 cells: the standard error of the mean over cells is about 0.005 at n = 2; the unfair estimate would be off by
    1/(n √π) = 0.28 there.
    """
    rng = np.random.default_rng(1)
    truth = np.tile(np.linspace(-2, 2, 200), (200, 1))
    samples = rng.standard_normal((n, *truth.shape))
    cdf = np.array([0.5 * (1 + math.erf(y / math.sqrt(2))) for y in truth[0]])
    density = np.exp(-(truth[0] ** 2) / 2) / math.sqrt(2 * math.pi)
    exact = (truth[0] * (2 * cdf - 1) + 2 * density - 1 / math.sqrt(math.pi)).mean() / truth.std()
    assert crps(samples, truth) == pytest.approx(exact, abs=4 * 0.005)


def test_crps_needs_pairs_and_a_varying_truth() -> None:
    """One sample has no spread to judge, and a constant truth no standard deviation to divide by."""
    assert crps(np.ones((1, 2, 2)), np.eye(2)) is None
    assert crps(np.ones((3, 2, 2)), np.ones((2, 2))) is None


def test_interval_of_19_samples_is_their_range() -> None:
    """Position 0.05 · 20 = 1: exactly the smallest and the largest sample; at 39 the second ones."""
    rng = np.random.default_rng(2)
    for n, k in ((19, 0), (39, 1)):
        samples = rng.standard_normal((n, 5))
        lower, upper = interval(samples, 0.9)
        ordered = np.sort(samples, axis=0)
        assert np.array_equal(lower, ordered[k])
        assert np.array_equal(upper, ordered[-1 - k])


def test_interval_between_order_statistics() -> None:
    """n = 20 equally spaced samples 1 ... 20: positions 1.05 and 19.95; level 0 is the median; level 1 is the range."""
    samples = np.arange(1.0, 21.0)[::-1]
    assert interval(samples, 0.9) == pytest.approx((1.05, 19.95))
    assert interval(samples, 0.0) == pytest.approx((10.5, 10.5))
    assert interval(samples, 1.0) == pytest.approx((1.0, 20.0))


@pytest.mark.parametrize("n", [19, 20, 29, 38, 100])
@pytest.mark.parametrize("level", [0.03, 0.5, 0.9])
def test_coverage_of_an_exact_posterior(n: int, level: float) -> None:
    """Truth and samples from one (skewed) distribution: the level's share of truths is inside, at every n and level.

    100 000 independent cells: the standard error is below 0.0016.
    """
    rng = np.random.default_rng(n)
    truth, samples = rng.exponential(size=100_000), rng.exponential(size=(n, 100_000))
    assert coverage(samples, truth, level) == pytest.approx(level, abs=4 * 0.0016)


def test_coverage_by_hand() -> None:
    """Samples 1 ... 4: level 3/5 for [1, 4], 1/5 for [2, 3]; truths 0, 1.5, 2, 4: shares 3/4 and 1/4, ends included."""
    samples = np.tile(np.array([[3.0], [1.0], [4.0], [2.0]]), 4)
    truth = np.array([0.0, 1.5, 2.0, 4.0])
    assert coverage(samples, truth, 0.6) == pytest.approx(0.75)
    assert coverage(samples, truth, 0.2) == pytest.approx(0.25)
    assert coverage(samples, truth, 0.4) == pytest.approx(0.5)
    assert coverage(samples, truth, 0.1) == pytest.approx(0.125)
    assert coverage(samples, truth, 0.7) is None


def test_coverage_of_too_narrow_and_too_wide_posteriors() -> None:
    """Halved and doubled standard deviations: P(|z| < 1.645/2) = 0.59 and P(|z| < 2 · 1.645) = 0.999, to within 1.5 %.

    With 200 samples the interval's ends scatter by about 0.1, which costs a little of either.
    """
    rng = np.random.default_rng(3)
    truth, samples = rng.standard_normal(20_000), rng.standard_normal((200, 20_000))
    assert coverage(samples / 2, truth) == pytest.approx(0.589, abs=0.015)
    assert coverage(samples * 2, truth) == pytest.approx(0.999, abs=0.015)


def test_coverage_needs_enough_samples() -> None:
    """18 samples reach 17/19 = 89.5 % at most, so there is no 90 % interval; there is an 80 % one from 9 on."""
    assert attainable_level(18) < 0.9 < attainable_level(20)
    assert coverage(np.zeros((18, 1)), np.zeros(1)) is None
    assert coverage(np.zeros((19, 1)), np.zeros(1)) == 1.0
    assert coverage(np.zeros((9, 1)), np.zeros(1), 0.8) == 1.0
    assert coverage(np.zeros((8, 1)), np.zeros(1), 0.8) is None


def test_every_share_of_20_samples_falls_into_its_bin() -> None:
    """k/20 for k = 0 ... 20 lands in bin k // 2 (the last in bin 9), whatever 10 · k/20 rounds to."""
    table = reliability(np.arange(21) / 20, np.zeros(21, dtype=bool))
    assert table["count"] == [2] * 9 + [3]


def test_reliability_of_calibrated_probabilities() -> None:
    """Outcomes drawn with the stated probabilities lie on the diagonal to within 4 standard errors (0.5/√20 000)."""
    rng = np.random.default_rng(4)
    p = rng.random(200_000)
    table = reliability(p, rng.random(200_000) < p)
    assert sum(table["count"]) == 200_000
    assert table["observed"] == pytest.approx(table["predicted"], abs=4 * 0.5 / math.sqrt(20_000))


def test_pooling_equals_one_table_of_everything() -> None:
    """Pooled tables of parts are the table of the whole, empty bins included."""
    rng = np.random.default_rng(5)
    p, outcome = rng.random(500) ** 3, rng.random(500) < 0.3
    parts = [reliability(p[i : i + 100], outcome[i : i + 100]) for i in range(0, 500, 100)]
    whole, pooled = reliability(p, outcome), pooled_reliability(parts)
    assert pooled["count"] == whole["count"]
    for key in ("predicted", "observed"):
        assert pooled[key] == pytest.approx(whole[key], rel=1e-12)
    assert pooled_reliability([])["count"] == [0] * 10


def test_observation_metrics_by_hand() -> None:
    """Misfits (1, 2) and (0, 0) with sigma (1, 2): chi2 = (1 + 1 + 0 + 0)/4; two fields have no common rmse."""
    columns = {
        "x": [0, 1],
        "y": [0, 1],
        "value": [1.0, 1.0],
        "sigma": [1.0, 2.0],
        "predicted": [[2.0, 3.0], [1.0, 1.0]],
    }
    one = Observations(field=["u", "u"], group=["heads", "heads"], **columns)
    two = Observations(field=["u", "a"], group=["heads", "cores"], **columns)
    base = two_by_two([[1, 1, 1, 1], [1, 1, 1, 1]], None)
    base.observations = one
    result = metrics(base)["observations"]
    assert result["chi2"] == 0.5
    assert result["rmse"] == pytest.approx(math.sqrt(5 / 4))
    assert result["groups"] == {"heads": {"chi2": 0.5, "rmse": result["rmse"]}}
    base.observations = two
    result = metrics(base)["observations"]
    assert (result["chi2"], result["rmse"]) == (0.5, None)
    assert result["groups"]["cores"]["rmse"] == pytest.approx(math.sqrt(2))


def test_chi2_of_exact_posterior_samples_is_one() -> None:
    """Prior N(0, 1), one datum of noise sigma: y less a sample of the exact posterior has variance sigma².

    20 000 data, one sample each: the standard error of chi2 is sqrt(2/20 000) = 0.01.
    """
    rng = np.random.default_rng(6)
    m, sigma = 20_000, 0.7
    y = rng.standard_normal(m) + sigma * rng.standard_normal(m)
    sample = y / (1 + sigma**2) + sigma / math.sqrt(1 + sigma**2) * rng.standard_normal(m)
    ones = np.ones(m)
    base = two_by_two([[1, 1, 1, 1]], None)
    base.observations = Observations(np.full(m, "u"), ones, ones, y, sigma * ones, np.full(m, "g"), predicted=[sample])
    assert metrics(base)["observations"]["chi2"] == pytest.approx(1, abs=0.04)


def test_every_key_is_there_and_null_where_it_makes_no_sense() -> None:
    """No truth, no solution, no data, a NaN residual: all keys, all None, valid JSON."""
    empty = two_by_two([[1, 2, 3, 4]], None)
    empty.relative_residual = np.array([np.nan])
    result = metrics(empty)
    assert result["a"] == result["u"] == dict.fromkeys(FIELD_KEYS)
    assert result["observations"] == {"chi2": None, "rmse": None, "groups": {}}
    assert result["pde"] == {"relative_residual": None}
    assert result["cost"] == dict.fromkeys(COST_KEYS)
    json.dumps(result, allow_nan=False)


def test_continuous_coefficient_has_coverage_and_no_phases() -> None:
    """Without phases a has coverage (from 19 samples on) and neither error rates nor reliability."""
    rng = np.random.default_rng(7)
    result = metrics(two_by_two(rng.random((19, 4)).tolist(), [2, 0.5, 0.5, 0.5]))["a"]
    assert result["coverage_90"] is not None
    assert [result[key] for key in ("error_rate", "sample_error_rate", "brier", "reliability")] == [None] * 4


def test_relative_residual_is_the_largest() -> None:
    """One sample that does not satisfy the equation is not averaged away."""
    result = two_by_two([[1, 1, 1, 1], [1, 1, 1, 1]], None)
    result.relative_residual = np.array([1e-12, 3e-5])
    assert metrics(result)["pde"]["relative_residual"] == 3e-5
