"""Conditions on the walls and sources inside."""

import numpy as np
import pytest

from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid
from pdediff.solvers.source import Well, source_field

GRID = Grid((3, 4), x=(0.0, 2.0), y=(0.0, 1.5))
NO_FLOW = {side: Flux(0.0) for side in ("left", "right", "bottom", "top")}


def test_data_is_evaluated_at_the_face_centres():
    """A number, an array and an expression on walls; left and right run upwards, bottom and top to the right."""
    boundary = Boundary(left=Value("y"), right=Flux([1, 2, 3]), top=Value("10*x + y"))
    data = boundary.evaluate(GRID)
    np.testing.assert_allclose(data["left"], [0.25, 0.75, 1.25])
    np.testing.assert_allclose(data["right"], [1, 2, 3])
    np.testing.assert_allclose(data["bottom"], np.zeros(4))
    np.testing.assert_allclose(data["top"], 10 * GRID.centres()[0] + 1.5)
    assert boundary.is_value("left")
    assert not boundary.is_value("right")
    assert not boundary.all_flux


def test_boundaries_compare_and_hash():
    """Equal data, however given, makes equal boundaries."""
    assert Boundary(left=Flux(np.array([1.0, 2.0]))) == Boundary(left=Flux([1, 2]))
    assert hash(Boundary(top=Value("x"))) == hash(Boundary(top=Value("x")))


def test_wells_are_rates_in_their_cells():
    """A well adds rate / cell_area to one cell, so its integral is its rate; two in one cell add up."""
    wells = [Well(0.3, 0.2, 2.0), Well(0.3, 0.2, 1.0), Well(2.0, 1.5, -5.0)]
    f = source_field(GRID, "x", wells) - source_field(GRID, "x")
    assert f[0, 0] * GRID.cell_area == pytest.approx(3.0)
    assert f[2, 3] * GRID.cell_area == pytest.approx(-5.0)
    assert np.count_nonzero(f) == 2


def test_all_flux_boundaries_must_balance():
    """With fluxes on all walls ∫f + wells + inflow must vanish: 1e-8 relative passes, more is refused with the sum."""
    boundary = Boundary(**{**NO_FLOW, "left": Flux(2.0)})  # 2 × 1.5 enters
    boundary.check_compatible(GRID, source_field(GRID, -1.0))  # over an area of 3
    boundary.check_compatible(GRID, source_field(GRID, 0.0, [Well(1.0, 1.0, -3.0)]))
    boundary.check_compatible(GRID, source_field(GRID, -1.0 * (1 + 1e-9)))
    with pytest.raises(InputError, match="add up to 3 and not 0"):
        boundary.check_compatible(GRID, source_field(GRID, 0.0))
    Boundary(**{**NO_FLOW, "left": Value(0)}).check_compatible(GRID, source_field(GRID, 5.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Boundary(left=3.0), "must be a Value or a Flux"),
        (lambda: Value(np.nan), "finite"),
        (lambda: Flux({}), "number, an array or an expression"),
        (lambda: Value(np.zeros((2, 2))), "one number a face"),
        (lambda: Value("sin(pi*z)"), "unknown name 'z'"),
        (lambda: Boundary(left=Value([1.0, 2.0])).evaluate(GRID), "left has 2 numbers, but the wall has 3"),
        (lambda: Boundary(bottom=Value("1/y")).evaluate(GRID), "not finite"),
        (lambda: Well(np.nan, 0, 1), "finite"),
        (lambda: source_field(GRID, 0.0, [Well(9.0, 0.0, 1.0)]), "well: point .* outside"),
        (lambda: source_field(GRID, np.zeros((4, 3))), r"shape \(4, 3\), but the grid is \(3, 4\)"),
        (lambda: source_field(GRID, np.full((3, 4), np.inf)), "not finite in 12 of 12"),
        (lambda: source_field(GRID, [[1], [2, 3]]), "number, an array or an expression"),
    ],
)
def test_wrong_data_is_refused(make, message):
    """Wrong data is an InputError that says what is wrong."""
    with pytest.raises(InputError, match=message):
        make()
