"""The container: what it refuses, what it selects."""

from typing import Any

import numpy as np
import pytest

from pdediff.posterior.result import COST_KEYS, Observations, Posterior
from pdediff.solvers.grid import Grid

GRID = Grid((3, 4))


def observations(**changes: Any) -> Observations:
    columns = {
        "field": ["u", "a", "u"],
        "x": [0.1, 0.5, 0.9],
        "y": [0.2, 0.5, 0.8],
        "value": [1.0, 2.0, 3.0],
        "sigma": [0.5, 1.0, 2.0],
        "group": ["heads", "cores", "heads"],
        "predicted": [[1.5, 2.0, 1.0], [1.0, 1.0, 3.0]],
        "truth": [1.0, 2.0, 2.5],
    }
    return Observations(**(columns | changes))


def posterior(**changes: Any) -> Posterior:
    parts: dict[str, Any] = {
        "grid": GRID,
        "fields": {"a": np.ones((2, 3, 4)), "u": np.zeros((2, 3, 4))},
        "units": {"a": "m/d"},
        "observations": observations(),
        "truth": {"a": np.ones((3, 4))},
        "phases": None,
        "relative_residual": [1e-12, 2e-12],
    }
    return Posterior(**(parts | changes))


def test_what_was_not_given_has_its_neutral_value() -> None:
    """Units default to "", costs to None; everything numeric is float64."""
    result = posterior()
    assert result.n == 2
    assert result.units == {"a": "m/d", "u": ""}
    assert result.cost == dict.fromkeys(COST_KEYS)
    assert result.relative_residual.dtype == result.fields["a"].dtype == np.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": {"a": np.ones((2, 4, 3))}}, r"a: shape \(2, 4, 3\), expected \(2, 3, 4\)"),
        ({"fields": {"a": np.ones((2, 3, 4)), "u": np.ones((1, 3, 4))}}, "u: shape"),
        ({"fields": {}}, "at least one field"),
        ({"fields": {"a": np.ones((0, 3, 4))}}, "at least one sample"),
        ({"truth": {"a": np.ones((4, 3))}}, "truth of a: shape"),
        ({"truth": {"k": np.ones((3, 4))}}, "truth: unknown name 'k'; known are a, u"),
        ({"units": {"k": "m"}}, "units: unknown name 'k'"),
        ({"cost": {"seconds": 1.0}}, "cost: unknown name 'seconds'"),
        ({"relative_residual": [1e-12]}, "relative_residual: shape"),
        ({"observations": observations(predicted=np.ones((3, 3)))}, r"predicted: shape \(3, 3\), expected \(2, 3\)"),
        ({"phases": (12.0, 3.0)}, "0 < low < high"),
        ({"phases": (3.0, 12.0), "fields": {"a": np.zeros((2, 3, 4))}}, "positive"),
    ],
)
def test_a_wrong_part_is_refused_and_named(change: dict[str, Any], message: str) -> None:
    """Transposed fields, forgotten batch axes and unknown names stop here, and the message says where."""
    with pytest.raises(ValueError, match=message):
        posterior(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": [0.1, 0.5]}, r"x: shape \(2,\), expected \(3,\)"),
        ({"group": ["heads"]}, "group: shape"),
        ({"sigma": [1.0, 0.0, 1.0]}, "sigma must be positive"),
        ({"sigma": [1.0, np.nan, 1.0]}, "sigma must be positive"),
        ({"predicted": [1.0, 2.0, 3.0]}, "predicted: shape"),
        ({"truth": [1.0]}, "truth: shape"),
    ],
)
def test_wrong_observations_are_refused(change: dict[str, Any], message: str) -> None:
    """Every column has one entry a datum, and noise is positive."""
    with pytest.raises(ValueError, match=message):
        observations(**change)


def test_selection_keeps_columns_together() -> None:
    """Selecting the heads leaves their values, predictions and true values, in order."""
    data = observations()
    heads = data.select(data.group == "heads")
    assert len(heads) == 2
    assert heads.value.tolist() == [1.0, 3.0]
    assert heads.predicted is not None
    assert heads.predicted.tolist() == [[1.5, 1.0], [1.0, 3.0]]
    assert heads.truth is not None
    assert heads.truth.tolist() == [1.0, 2.5]


def test_standardised_misfit_by_hand() -> None:
    """(predicted - value) / sigma; without predictions there is none."""
    assert observations().standardised_misfit().tolist() == [[1.0, 0.0, -1.0], [0.0, -1.0, 0.0]]
    with pytest.raises(ValueError, match="no predictions"):
        observations(predicted=None).standardised_misfit()
