"""Point sensors: exact for bilinear functions, second order for smooth ones. Float64, to rounding."""

import numpy as np
import pytest
import torch

from pdediff.likelihoods.operators import PointSensors
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

GRID = Grid((5, 7), x=(-1.0, 3.0), y=(2.0, 3.0))


def framed_nodes(grid):
    """Coordinates (ny + 2, nx + 2) of walls, corners and cell centres."""
    x, y = grid.centres()
    x, y = np.concatenate([[grid.x[0]], x, [grid.x[1]]]), np.concatenate([[grid.y[0]], y, [grid.y[1]]])
    return np.broadcast_to(x, (len(y), len(x))), np.broadcast_to(y[:, None], (len(y), len(x)))


def scattered(count, seed=0):
    """Points all over the domain, half of them within half a cell of a wall."""
    rng = np.random.default_rng(seed)
    unit = rng.random((count, 2))
    unit[: count // 2] = np.where(rng.random((count // 2, 2)) < 0.5, 0.08 * unit[: count // 2], unit[: count // 2])
    return np.array([GRID.x[0], GRID.y[0]]) + unit * np.array([4.0, 1.0])


SPECIAL = {
    "corners": [[-1.0, 2.0], [3.0, 2.0], [-1.0, 3.0], [3.0, 3.0]],
    "walls": [[-1.0, 2.33], [3.0, 2.71], [0.123, 2.0], [1.7, 3.0]],
    "centres": np.stack(np.meshgrid(*GRID.centres()), -1).reshape(-1, 2),
    "scattered": scattered(200),
}


@pytest.mark.parametrize("points", SPECIAL.values(), ids=SPECIAL)
def test_bilinear_functions_are_read_exactly(points):
    """1 − 2x + 3y + 0.5xy anywhere in the closed domain, the half-cells beside the walls and the corners included."""

    def function(x, y):
        return 1 - 2 * x + 3 * y + 0.5 * x * y

    field = torch.as_tensor(function(*framed_nodes(GRID)))[None]
    x, y = np.asarray(points, dtype=float).T
    read = PointSensors(GRID, points)(field)[0]
    np.testing.assert_allclose(read.numpy(), function(x, y), rtol=1e-13, atol=1e-13)


def test_order_of_accuracy():
    """A smooth field is read to second order: the order fitted to the errors (root mean square) is 1.9 or more."""
    points, refinements, errors = scattered(1000, seed=1), [2, 4, 8, 16], []
    for k in refinements:
        grid = GRID.refine(k)
        x, y = framed_nodes(grid)
        read = PointSensors(grid, points)(torch.as_tensor(np.sin(2 * x) * np.exp(y))[None])[0]
        errors.append(np.square(read.numpy() - np.sin(2 * points[:, 0]) * np.exp(points[:, 1])).mean() ** 0.5)
    order = -np.polyfit(np.log(refinements), np.log(errors), 1)[0]
    assert order > 1.9


def test_length_and_precision():
    """As many data as points; the field's own precision."""
    sensors = PointSensors(GRID, scattered(40))
    assert len(sensors) == 40
    field = torch.ones(2, 7, 9)
    assert sensors(field).dtype == sensors.adjoint(torch.ones(2, 40)).dtype == torch.float32
    torch.testing.assert_close(sensors(field), torch.ones(2, 40))


@pytest.mark.parametrize("point", [(-1.001, 2.5), (3.001, 2.5), (0.0, 1.999), (0.0, 3.001), (float("nan"), 2.5)])
def test_sensors_outside_are_refused(point):
    """One line that names the sensor and the domain; also when only one of several is outside."""
    with pytest.raises(InputError, match=r"sensor at \(.*\) is outside the domain \[-1.0, 3.0\] × \[2.0, 3.0\]"):
        PointSensors(GRID, [(0.0, 2.5), point])
