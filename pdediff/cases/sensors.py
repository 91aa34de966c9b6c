"""Where sensors stand.

Three rules, all exact in the number of sensors and reproducible from the group's seed with numpy's PCG64:

- uniform: independent, uniform in the domain. As on a real site, two may be close together;
- cells: cell centres, uniformly without replacement, the setting of published benchmarks;
- lattice: rows × columns = count, half a spacing from the sides, of all factorisations the one with the squarest cells.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pdediff.cases.observing import ObservationsSection, SensorSection
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

ELONGATION = 2.0  # of a lattice's cells, at most: 122 = 2 × 61 is not a regular lattice on a square


@dataclass(frozen=True)
class Sensors:
    """m point sensors and their noise law.

    Parameters
    ----------
    field : what each measures, "u" or "a": (m,).
    x, y : places, in the unit of the domain: (m,).
    group : name of the group of each: (m,).
    floor, relative : noise standard deviation sqrt(floor² + (relative·v)²) at true value v: (m,).
    """

    field: NDArray[np.str_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    group: NDArray[np.str_]
    floor: NDArray[np.float64]
    relative: NDArray[np.float64]

    def sigma(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Noise standard deviation of each sensor at true values ``value (m,)``, in the unit of its field."""
        return np.hypot(self.floor, self.relative * value)

    def __len__(self) -> int:
        return len(self.x)


def place(group: SensorSection, grid: Grid) -> NDArray[np.float64]:
    """Places (m, 2), as (x, y), of one group; none of one that has an operator.

    Raises InputError for more sensors than cells (cells) or a count that fills no regular lattice (lattice).
    """
    if group.points is not None:
        return np.array(group.points, dtype=np.float64).reshape(-1, 2)
    if group.operator is not None:
        return np.empty((0, 2))
    count = group.count or 0
    rng = np.random.default_rng(group.seed)
    if group.placement == "uniform":
        low, high = np.array([grid.x, grid.y]).T
        return low + (high - low) * rng.random((count, 2))
    if group.placement == "cells":
        if count > grid.ny * grid.nx:
            raise InputError(f"{count} sensors at cell centres, but the grid has {grid.ny * grid.nx} cells")
        j, i = np.divmod(rng.choice(grid.ny * grid.nx, size=count, replace=False), grid.nx)
        x, y = grid.centres()
        return np.stack([x[i], y[j]], axis=-1)
    lattice = _lattice(count, grid)
    if lattice is None:
        others = (n for k in range(1, min(count, 1000)) for n in (count - k, count + k))
        near = next((f", {n} do" for n in others if _lattice(n, grid)), "")
        raise InputError(f"{count} sensors fill no regular lattice on this domain{near}; or place them uniform")
    rows, columns = lattice
    x = grid.x[0] + (grid.x[1] - grid.x[0]) * (np.arange(columns) + 0.5) / columns
    y = grid.y[0] + (grid.y[1] - grid.y[0]) * (np.arange(rows) + 0.5) / rows
    return np.stack([np.tile(x, rows), np.repeat(y, columns)], axis=-1)


def place_all(observations: ObservationsSection, grid: Grid) -> Sensors:
    """All point sensors of a synthetic truth, group after group. Raises InputError like :func:`place`."""
    points, fields, names, floors, relatives = [np.empty((0, 2))], [], [], [], []
    for group in observations.sensors or ():
        level = group.noise or observations.noise
        floor, relative = level.coefficients if level else (0.0, 0.0)
        points.append(place(group, grid))
        count = len(points[-1])
        fields += [group.field] * count
        names += [group.name or group.field] * count
        floors += [floor] * count
        relatives += [relative] * count
    x, y = np.concatenate(points).T
    return Sensors(np.array(fields, str), x, y, np.array(names, str), np.array(floors), np.array(relatives))


def _lattice(count: int, grid: Grid) -> tuple[int, int] | None:
    """(rows, columns) with the squarest cells, or None if those are more elongated than ELONGATION."""
    width, height = grid.x[1] - grid.x[0], grid.y[1] - grid.y[0]
    divisors = [r for k in range(1, math.isqrt(count) + 1) if count % k == 0 for r in {k, count // k}]
    elongation = {r: abs(math.log((width * r / count) / (height / r))) for r in divisors}
    rows = min(divisors, key=lambda r: elongation[r])
    return (rows, count // rows) if elongation[rows] <= math.log(ELONGATION) + 1e-9 else None
