"""Accuracy, calibration and cost of a posterior, as the numbers of `metrics.json`.

Accuracy of the posterior mean (`relative_l2`, `error_rate`) and of single samples (`sample_*`, averaged over them, as
papers report it) are both given: in relative L2 the mean of the samples is always the better of the two (convexity).

*Relative L2* is |v - truth|_2 / |truth|_2. *Error rate* is the share of cells in the wrong phase, where the phase of
a = sqrt(a_lo a_hi) (a_hi / a_lo)^(x/2) is the sign of x, hence a threshold on log a at log sqrt(a_lo a_hi); the phase
of the mean is that of the mean of x.

*CRPS* is E|X - y| - E|X - X'| / 2, pointwise, its second term averaged over the n(n - 1) pairs of different samples
(the fair estimate of Ferro 2014: unbiased for any n, so runs of 20 and of 200 samples compare), averaged over the field
and divided by the truth's standard deviation.

*Coverage* uses order statistics: were the truth one more draw of the posterior, P(truth < x_(k)) = k / (n + 1), so
[x_(k), x_(n+1-k)] has the level p_k = 1 - 2k / (n + 1), whatever the distribution. The coverage of a level between two
p_k is interpolated between the coverages of their intervals, and so is exact for every n (interpolating the intervals'
ends instead covers up to a point too much). For 90 %, 19 samples give exactly their range; fewer than 19 give no such
interval, and the number is None.

*Brier* is the mean of (P - truth)^2, P the share of samples in the high phase. P is known to within sqrt(P(1 - P)/n):
even the exact posterior's Brier score is too large by the mean of P(1 - P)/n, and its reliability curve a little too
flat.

Cells have one size, so averages over cells are averages over the area. What makes no sense for a case is None.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pdediff.posterior.result import Observations, Posterior

FIELD_KEYS = (
    "relative_l2",
    "sample_relative_l2",
    "error_rate",
    "sample_error_rate",
    "crps",
    "coverage_90",
    "brier",
    "reliability",
)
BINS = 10


def metrics(posterior: Posterior) -> dict[str, Any]:
    """Return one variant's entry of `metrics.json`: {"a", "u", "observations", "pde", "parameters", "cost"}.

    Each is a dict; "parameters" is None where none was inferred.

    The values are floats, None, or a table (see `reliability`); nothing is NaN or infinite, so all of it is valid JSON.
    """
    return {
        "a": field_metrics(posterior, "a"),
        "u": field_metrics(posterior, "u"),
        "observations": observation_metrics(posterior.observations),
        "pde": {"relative_residual": _finite(posterior.relative_residual.max())},
        "parameters": parameter_metrics(posterior),
        "cost": {key: None if value is None else _finite(value) for key, value in posterior.cost.items()},
    }


def field_metrics(posterior: Posterior, name: str) -> dict[str, Any]:
    """Return the `FIELD_KEYS` of one field; all None where the field or its truth is not known."""
    values: dict[str, Any] = dict.fromkeys(FIELD_KEYS)
    if name not in posterior.fields or name not in posterior.truth:
        return values
    samples, truth = posterior.fields[name], posterior.truth[name]
    values["relative_l2"] = relative_l2(samples.mean(axis=0), truth)
    values["sample_relative_l2"] = relative_l2(samples, truth)
    values["crps"] = crps(samples, truth)
    if name == "a" and posterior.phases is not None:
        true_phase = phase(truth, posterior.phases)
        phases = phase(samples, posterior.phases)
        probability = phases.mean(axis=0)
        geometric_mean = np.exp(np.log(samples).mean(axis=0))
        values["error_rate"] = float((phase(geometric_mean, posterior.phases) != true_phase).mean())
        values["sample_error_rate"] = float((phases != true_phase).mean())
        values["brier"] = float(np.mean((probability - true_phase) ** 2))
        values["reliability"] = reliability(probability, true_phase)
    else:
        values["coverage_90"] = coverage(samples, truth, 0.9)
    return values


def parameter_metrics(posterior: Posterior) -> dict[str, dict[str, float | None]] | None:
    """Return {name: {"mean", "sd", "truth"}} of what was inferred along; the sd of a single sample is None."""
    return {
        name: {
            "mean": _finite(values.mean()),
            "sd": _finite(values.std(ddof=1)) if len(values) > 1 else None,
            "truth": posterior.true_parameters.get(name),
        }
        for name, values in posterior.parameters.items()
    } or None


def observation_metrics(observations: Observations) -> dict[str, Any]:
    """Return {"chi2", "rmse", "groups": {group: {"chi2", "rmse"}}}; None without data or predictions.

    `chi2` is the mean over samples of the mean squared standardised misfit, `rmse` the root of the mean squared misfit
    over samples and data, in the field's unit; it is None over data of several fields, whose units do not add.
    """
    groups = {
        str(group): _misfits(observations.select(observations.group == group))
        for group in dict.fromkeys(observations.group)
    }
    return {**_misfits(observations), "groups": groups}


def _misfits(observations: Observations) -> dict[str, float | None]:
    if observations.predicted is None or len(observations) == 0:
        return {"chi2": None, "rmse": None}
    one_field = len(set(observations.field)) == 1
    squared = (observations.predicted - observations.value) ** 2
    return {
        "chi2": _finite((observations.standardised_misfit() ** 2).mean()),
        "rmse": _finite(np.sqrt(squared.mean())) if one_field else None,
    }


def phase(a: np.ndarray, phases: tuple[float, float]) -> np.ndarray:
    """Return where a coefficient (any shape, positive) is in the high phase: log a >= log sqrt(low high); booleans."""
    return np.log(a) >= np.log(phases).mean()


def relative_l2(v: np.ndarray, truth: np.ndarray) -> float | None:
    """Return |v - truth| / |truth| for v (ny, nx), or its mean over samples for v (n, ny, nx); None if truth = 0."""
    norm = np.linalg.norm(truth)
    if norm == 0:
        return None
    return _finite(np.mean(np.sqrt(np.sum((v - truth) ** 2, axis=(-2, -1))) / norm))


def crps(samples: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the fair ensemble CRPS over the truth's standard deviation; samples (n, ny, nx), truth (ny, nx).

    None for a single sample, which has no pairs, and for a constant truth.
    """
    n, spread = len(samples), truth.std()
    if n < 2 or spread == 0:
        return None
    accuracy = np.abs(samples - truth).mean()
    # Sorted, the sum of |x_i - x_j| over all ordered pairs is 2 sum_k (2k - n + 1) x_(k), k = 0 ... n - 1.
    weights = 2.0 * np.arange(n) - n + 1.0
    pairs = np.tensordot(weights, np.sort(samples, axis=0), axes=1).mean() / (n * (n - 1))
    return _finite((accuracy - pairs) / spread)


def attainable_level(n: int) -> float:
    """Return (n - 1)/(n + 1), the level of the range of n samples: the widest interval that order statistics give."""
    return (n - 1) / (n + 1)


def interval(samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the central interval (lower, upper), each of samples.shape[1:], by order statistics along the first axis.

    Its ends are at the positions (1 ± level)/2 (n + 1), linearly between two samples (Weibull's plotting positions). A
    level above `attainable_level(n)` gives the samples' range.
    """
    n = len(samples)
    ordered = np.sort(samples, axis=0)
    # Rounded: (1 - 0.9)/2 · 20 must be position 1, the smallest sample.
    position = max(round((1 - level) / 2 * (n + 1), 9), 1.0) - 1
    k = min(int(position), n - 1)
    w, inner = position - k, min(k + 1, n - 1)
    lower = ordered[k] + w * (ordered[inner] - ordered[k])
    upper = ordered[n - 1 - k] + w * (ordered[n - 1 - inner] - ordered[n - 1 - k])
    return lower, upper


def coverage(samples: np.ndarray, truth: np.ndarray, level: float = 0.9) -> float | None:
    """Return the share of truth (...) inside the central interval of samples (n, ...); None where n is too small.

    The expectation under an exact posterior is the level itself, for any n and any distribution.
    """
    n = len(samples)
    if n < 2 or level > attainable_level(n) + 1e-9:
        return None
    # x_(k) <= truth <= x_(n+1-k) exactly for k up to this depth, which is 0 outside the samples' range.
    depth = np.minimum((samples <= truth).sum(axis=0), (samples >= truth).sum(axis=0))
    share = np.bincount(depth.ravel(), minlength=n + 1)[::-1].cumsum()[::-1] / depth.size
    k = np.arange(n // 2, 0, -1)
    return float(np.interp(level, [0.0, *(1 - 2 * k / (n + 1))], [0.0, *share[k]]))


def reliability(probability: np.ndarray, outcome: np.ndarray) -> dict[str, list]:
    """Return the reliability table of probabilities against boolean outcomes of the same shape.

    {"predicted", "observed", "count"}: ten entries each, for the bins [0, 0.1), [0.1, 0.2), ..., [0.9, 1]; the mean
    probability, the frequency of the outcome and the number of points in the bin; an empty bin has None, None and 0.
    """
    p = np.ravel(probability)
    # The tiny shift puts 0.3 = k/n, which times ten may round below 3, into its own bin.
    index = np.minimum((p * BINS + 1e-9).astype(int), BINS - 1)
    count = np.bincount(index, minlength=BINS)
    return _table(
        np.bincount(index, weights=p, minlength=BINS),
        np.bincount(index, weights=np.ravel(outcome).astype(float), minlength=BINS),
        count,
    )


def pooled_reliability(tables: Iterable[dict[str, list]]) -> dict[str, list]:
    """Return the table that all the points behind several reliability tables would have given together."""
    predicted, observed, count = np.zeros(BINS), np.zeros(BINS), np.zeros(BINS, dtype=int)
    for table in tables:
        n = np.asarray(table["count"])
        predicted += n * np.array([p or 0.0 for p in table["predicted"]])
        observed += n * np.array([o or 0.0 for o in table["observed"]])
        count += n
    return _table(predicted, observed, count)


def _table(predicted: np.ndarray, observed: np.ndarray, count: np.ndarray) -> dict[str, list]:
    """Return the table of the sums of the probabilities and of the outcomes in each bin."""

    def means(sums: np.ndarray) -> list[float | None]:
        return [float(s / c) if c else None for s, c in zip(sums, count, strict=True)]

    return {"predicted": means(predicted), "observed": means(observed), "count": [int(c) for c in count]}


def _finite(value: Any) -> float | None:
    """Return a float, or None for what JSON cannot say: NaN and infinities."""
    return float(value) if np.isfinite(value) else None
