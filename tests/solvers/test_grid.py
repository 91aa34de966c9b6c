"""The grid's geometry."""

import numpy as np
import pytest

from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid


def test_centres_are_midpoints():
    """Centres lie half a cell inside the walls and one width apart."""
    grid = Grid((2, 4), x=(1.0, 3.0), y=(-1.0, 1.0))
    x, y = grid.centres()
    np.testing.assert_allclose(x, [1.25, 1.75, 2.25, 2.75])
    np.testing.assert_allclose(y, [-0.5, 0.5])
    assert grid.cell_area == pytest.approx(0.5 * 1.0)
    mesh_x, mesh_y = grid.mesh()
    assert mesh_x.shape == mesh_y.shape == (2, 4)
    assert mesh_x[1, 2] == x[2]
    assert mesh_y[1, 2] == y[1]


def test_refined_cells_average_to_the_coarse_centres():
    """k × k fine centres of a coarse cell have its centre as mean."""
    grid = Grid((3, 5), x=(0.0, 2.0))
    fine = grid.refine(4)
    assert fine.shape == (12, 20)
    np.testing.assert_allclose(fine.centres()[0].reshape(5, 4).mean(1), grid.centres()[0])


def test_contains_and_cell_of_agree_with_the_centres():
    """Every centre is in its own cell, walls belong to the domain, and outside is refused by name."""
    grid = Grid((3, 4), x=(0.0, 2.0), y=(0.0, 1.0))
    x, y = grid.centres()
    assert all(grid.cell_of(x[i], y[j]) == (j, i) for j in range(3) for i in range(4))
    assert grid.cell_of(2.0, 1.0) == (2, 3)
    np.testing.assert_array_equal(grid.contains([[0, 0], [2, 1], [2.1, 0.5], [1, -0.1]]), [True, True, False, False])
    with pytest.raises(InputError, match=r"point \(3, 0\) is outside"):
        grid.cell_of(3.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (1, 4)}, "at least 2"),
        ({"shape": (4,)}, "at least 2"),
        ({"shape": (4.5, 4)}, "at least 2"),
        ({"shape": (4, 4), "x": (1.0, 0.0)}, "increasing"),
        ({"shape": (4, 4), "y": (0.0, np.inf)}, "increasing"),
        ({"shape": (4, 4), "y": ("a", 1)}, "two numbers"),
    ],
)
def test_wrong_grids_are_refused(arguments, message):
    """A wrong grid is an InputError that says what is wrong."""
    with pytest.raises(InputError, match=message):
        Grid(**arguments)
