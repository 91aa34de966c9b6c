"""The posterior as arrays: n samples of every field on one grid, beside the data that they were drawn for.

Everything later (file, metrics, figures, report) is computed from this container alone, and it holds numpy arrays only,
so that none of them needs torch. Fields are stored (..., y, x); row 0 is the bottom. All shapes are checked on entry: a
transposed field or a forgotten batch axis is found here and not in a figure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from pdediff.solvers.grid import Grid

COST_KEYS = ("seconds_per_sample", "network_evaluations", "pde_solves", "peak_memory_mb")


@dataclass(eq=False)
class Observations:
    """m measurements y_i = (A field)_i + sigma_i e_i, e ~ N(0, 1), and what each of n samples predicts for them.

    Attributes:
        field: observed field of each datum, shape (m,), strings such as "u".
        x, y: sensor coordinates in the grid's unit, shape (m,).
        value: observed values in the field's unit, shape (m,).
        sigma: noise standard deviation, positive, in the field's unit, shape (m,).
        group: name of the sensor group of each datum, shape (m,), strings.
        predicted: noise-free prediction of each sample, shape (n, m), or None.
        truth: noise-free true values, shape (m,), or None where no truth is known.

    Raises:
        ValueError: a shape does not fit, or a sigma is not positive.
    """

    field: np.ndarray
    x: np.ndarray
    y: np.ndarray
    value: np.ndarray
    sigma: np.ndarray
    group: np.ndarray
    predicted: np.ndarray | None = None
    truth: np.ndarray | None = None

    def __post_init__(self) -> None:
        m = np.size(self.value)
        for name in ("field", "group"):
            setattr(self, name, _array(f"observations.{name}", getattr(self, name), (m,), np.str_))
        for name in ("x", "y", "value", "sigma"):
            setattr(self, name, _array(f"observations.{name}", getattr(self, name), (m,)))
        if self.predicted is not None:
            n = np.shape(self.predicted)[0] if np.ndim(self.predicted) == 2 else "n"
            self.predicted = _array("observations.predicted", self.predicted, (n, m))
        if self.truth is not None:
            self.truth = _array("observations.truth", self.truth, (m,))
        if not np.all(self.sigma > 0):
            raise ValueError("observations.sigma must be positive everywhere")

    def __len__(self) -> int:
        return len(self.value)

    def select(self, mask: np.ndarray) -> Observations:
        """Return the data where mask, shape (m,), is true; predictions and true values go with them."""
        columns = {name: getattr(self, name)[mask] for name in ("field", "x", "y", "value", "sigma", "group")}
        return replace(
            self,
            **columns,
            predicted=None if self.predicted is None else self.predicted[:, mask],
            truth=None if self.truth is None else self.truth[mask],
        )

    def standardised_misfit(self) -> np.ndarray:
        """Return (predicted - value) / sigma, shape (n, m).

        A sample of the exact posterior and the truth are exchangeable given the data, so over many problems every entry
        is N(0, 1); the misfit of the posterior *mean* is narrower than that.

        Raises:
            ValueError: there are no predictions.
        """
        if self.predicted is None:
            raise ValueError("these observations carry no predictions")
        return (self.predicted - self.value) / self.sigma


@dataclass(eq=False)
class Posterior:
    """n posterior samples of each field on a grid.

    Attributes:
        grid: the grid, shape (ny, nx).
        fields: name -> samples, shape (n, ny, nx), float64; "a" is the coefficient, "u" the solution.
        units: field name -> unit, "" where it has none.
        observations: the data and their predictions.
        truth: field name -> true field, shape (ny, nx); empty where no truth is known.
        phases: the two values (low, high) of a two-phase coefficient a, else None.
        relative_residual: |Au - b| / |b| of each sample, in float64, shape (n,); NaN where there is no equation.
        parameters: name -> samples, shape (n,), of numbers that were inferred along, such as the width of a blur.
        true_parameters: name -> true value; empty where none is known.
        cost: the keys of `COST_KEYS`; what was not measured is None.
        attrs: provenance, strings.

    Raises:
        ValueError: a shape does not fit the grid or the number of samples, a name is unknown, or the phases are not
            0 < low < high with a positive coefficient.
    """

    grid: Grid
    fields: dict[str, np.ndarray]
    units: dict[str, str]
    observations: Observations
    truth: dict[str, np.ndarray]
    phases: tuple[float, float] | None
    relative_residual: np.ndarray
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    true_parameters: dict[str, float] = field(default_factory=dict)
    cost: dict[str, float | None] = field(default_factory=dict)
    attrs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("a posterior needs at least one field")
        shape = tuple(self.grid.shape)
        n = len(next(iter(self.fields.values())))
        if n == 0:
            raise ValueError("a posterior needs at least one sample")
        self.fields = {name: _array(name, values, (n, *shape)) for name, values in self.fields.items()}
        for what, names, known in (
            ("units", self.units, self.fields),
            ("truth", self.truth, self.fields),
            ("true_parameters", self.true_parameters, self.parameters),
            ("cost", self.cost, COST_KEYS),
        ):
            if unknown := set(names) - set(known):
                raise ValueError(f"{what}: unknown name {min(unknown)!r}; known are {', '.join(known)}")
        self.units = {name: self.units.get(name, "") for name in self.fields}
        self.cost = {key: self.cost.get(key) for key in COST_KEYS}
        self.truth = {name: _array(f"truth of {name}", values, shape) for name, values in self.truth.items()}
        self.relative_residual = _array("relative_residual", self.relative_residual, (n,))
        self.parameters = {name: _array(f"parameter {name}", v, (n,)) for name, v in self.parameters.items()}
        predicted = self.observations.predicted
        if predicted is not None:
            self.observations.predicted = _array("observations.predicted", predicted, (n, len(self.observations)))
        if self.phases is not None:
            low, high = map(float, self.phases)
            if not 0 < low < high:
                raise ValueError(f"phases must be 0 < low < high, got ({low:g}, {high:g})")
            self.phases = (low, high)
            a = [values for values in (self.fields.get("a"), self.truth.get("a")) if values is not None]
            if not all((values > 0).all() for values in a):
                raise ValueError("a two-phase coefficient must be positive everywhere")

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(next(iter(self.fields.values())))


def _array(name: str, values: object, shape: tuple[object, ...], dtype: type = np.float64) -> np.ndarray:
    """Return values as an array of dtype (no copy where it is one already); ValueError where its shape is another."""
    array: np.ndarray = np.asarray(values, dtype=dtype)
    if array.shape != shape:
        raise ValueError(
            f"{name}: shape {array.shape}, expected ({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
        )
    return array
