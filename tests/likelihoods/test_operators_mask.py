"""Masks: which cells are seen."""

import numpy as np
import pytest
import torch

from pdediff.likelihoods.operators import Mask
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

GRID = Grid((4, 6), x=(0.0, 3.0), y=(-1.0, 1.0))  # cells of 1/2


def fields():
    return torch.arange(48.0).reshape(2, 4, 6)


def test_inside_and_outside_share_the_cells():
    """Outpainting sees the cells with centres in the box (walls included), inpainting the others; together all."""
    box = {"x": (0.75, 2.1), "y": (-0.3, 1.0)}
    inside, outside = Mask.inside(GRID, **box), Mask.outside(GRID, **box)
    assert inside(fields())[0].tolist() == [7, 8, 9, 13, 14, 15, 19, 20, 21]
    assert sorted([*inside(fields())[1].tolist(), *outside(fields())[1].tolist()]) == list(range(24, 48))
    np.testing.assert_allclose(inside.places[:2], [[0.75, -0.25], [1.25, -0.25]])


def test_any_array():
    """A boolean array, row by row; all cells seen is the identity, flattened."""
    seen = np.zeros((4, 6), bool)
    seen[2, 1], seen[0, 5] = True, True
    assert Mask(GRID, seen)(fields()).tolist() == [[5, 13], [29, 37]]
    torch.testing.assert_close(Mask(GRID, np.ones((4, 6)))(fields()), fields().flatten(1))


def test_adjoint_fills_with_zeros():
    """A Aᵀ = I, and Aᵀ A sets what is not seen to zero."""
    mask = Mask.outside(GRID, x=(0.0, 1.0), y=(-1.0, 0.0))
    hole = torch.ones(4, 6)
    hole[:2, :2] = 0
    torch.testing.assert_close(mask.adjoint(mask(fields())), hole * fields())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Mask(GRID, np.ones((6, 4))), r"grid of 4 × 6 has shape \(6, 4\)"),
        (lambda: Mask(GRID, np.zeros((4, 6))), "at least one cell"),
        (lambda: Mask.outside(GRID, x=(0, 3), y=(-1, 1)), "at least one cell"),
        (lambda: Mask.inside(GRID, x=(5, 6), y=(-1, 1)), r"centre in the box \[5, 6\] × \[-1, 1\]"),
        (lambda: Mask.outside(GRID, x=(0.3, 0.7), y=(-1, 1)), "centre in the box"),
    ],
)
def test_masks_that_are_refused(build, message):
    """One line says what is wrong."""
    with pytest.raises(InputError, match=message):
        build()
