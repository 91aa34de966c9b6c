"""Parallel-beam tomography: exact chords, closed-form projections, symmetries, order of accuracy. Float64."""

import math

import numpy as np
import pytest
import torch

from pdediff.likelihoods.operators import ParallelBeam
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

GRID = Grid((9, 14), x=(-1.0, 3.0), y=(2.0, 5.0))  # 4 × 3, a diagonal of 5
ANGLES = [0.0, 17.0, 45.0, 90.0, 123.4, 180.0, -60.0, 1e-7, 90 - 1e-7]


def lines(beam, grid):
    """Foot point and direction (m, 2) of each line."""
    theta = np.radians(beam.angle)
    centre = np.array([sum(grid.x), sum(grid.y)]) / 2
    normal = np.stack([-np.sin(theta), np.cos(theta)], 1)
    return centre + beam.offset[:, None] * normal, np.stack([np.cos(theta), np.sin(theta)], 1)


def clipped(grid, foot, direction):
    """Entry and exit of a line in the rectangle, edge by edge (Liang & Barsky): another way to the chord."""
    low, high = -np.inf, np.inf
    for axis, ends in enumerate((grid.x, grid.y)):
        if abs(direction[axis]) < 1e-14:
            continue
        a, b = sorted((end - foot[axis]) / direction[axis] for end in ends)
        low, high = max(low, a), min(high, b)
    return low, high


def test_a_constant_gives_the_chords():
    """The integral of 1 is the length of the line's piece inside the domain, and its place the middle of the piece."""
    beam = ParallelBeam(GRID, ANGLES, 23)
    chords = beam(torch.ones(1, 9, 14, dtype=torch.float64))[0].numpy()
    for chord, place, foot, direction in zip(chords, beam.places, *lines(beam, GRID), strict=True):
        low, high = clipped(GRID, foot, direction)
        assert chord == pytest.approx(high - low, rel=1e-12)
        np.testing.assert_allclose(place, foot + (low + high) / 2 * direction, rtol=0, atol=1e-12)


@pytest.mark.parametrize("angle", ANGLES)
def test_every_length_is_exact(angle):
    """The length in each cell is that of the line clipped to the cell, whether it is met at all, or near a corner."""
    beam = ParallelBeam(GRID, [angle], 8)
    rows = beam.adjoint(torch.eye(len(beam), dtype=torch.float64)).numpy()
    for row, foot, direction in zip(rows, *lines(beam, GRID), strict=True):
        for j in range(9):
            for i in range(14):
                x, y = (
                    (GRID.x[0] + i * GRID.dx, GRID.x[0] + (i + 1) * GRID.dx),
                    (GRID.y[0] + j * GRID.dy, GRID.y[0] + (j + 1) * GRID.dy),
                )
                low, high = clipped(Grid((2, 2), x, y), foot, direction)
                middle = foot + (low + high) / 2 * direction
                inside = x[0] <= middle[0] <= x[1] and y[0] <= middle[1] <= y[1]
                assert row[j, i] == pytest.approx(max(high - low, 0.0) if inside else 0.0, abs=1e-11)


def test_lines_along_edges_are_shared():
    """A line between two rows counts half for either; one on the wall for the row beside it."""
    grid = Grid((6, 8), x=(0.0, 8.0), y=(0.0, 6.0))  # a diagonal of 10: five rays lie at -4, -2, 0, 2, 4
    beam = ParallelBeam(grid, [0.0, 90.0], 5)
    horizontal = beam.adjoint(torch.eye(len(beam), dtype=torch.float64))[:3].sum(-1) / 8
    assert horizontal.tolist() == [[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0.5, 0.5]]
    vertical = beam.adjoint(torch.eye(len(beam), dtype=torch.float64))[3:].sum(-2) / 6
    assert vertical[[0, 4]].tolist() == [[0] * 7 + [1.0], [1.0] + [0] * 7]  # x = 8 first: n points to the left
    assert vertical[2].tolist() == [0, 0, 0, 0.5, 0.5, 0, 0, 0]


def blob(grid, width=0.25, centre=(0.8, 3.6)):
    x, y = grid.mesh()
    return torch.as_tensor(np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * width**2)))[None]


def projected_blob(beam, grid, width=0.25, centre=(0.8, 3.6)):
    """∫ exp(−|p − c|²/(2w²)) along a line at the distance d from c: √(2π) w exp(−d²/(2w²))."""
    foot, direction = lines(beam, grid)
    away = np.array(centre) - foot
    distance = away[:, 0] * direction[:, 1] - away[:, 1] * direction[:, 0]
    return math.sqrt(2 * math.pi) * width * np.exp(-(distance**2) / (2 * width**2))


@pytest.mark.parametrize(("angles", "least", "most"), [([10, 26.565, 45, 77, 137], 1.9, 2.4), ([0, 90], 0.9, 1.6)])
def test_order_of_accuracy(angles, least, most):
    """Projections of a blob, well inside, against the closed form (root mean square over the rays). Across the grid the
    order is the second, and the error on 144 × 224 cells is below 2e-4 of the largest datum; along it, the first."""
    errors, refinements = [], [2, 4, 8, 16]
    for k in refinements:
        grid = GRID.refine(k)
        beam = ParallelBeam(grid, angles, 31)
        exact = projected_blob(beam, grid)
        errors.append(np.square(beam(blob(grid))[0].numpy() - exact).mean() ** 0.5 / exact.max())
    assert least < -np.polyfit(np.log(refinements), np.log(errors), 1)[0] < most
    assert errors[-1] < (2e-4 if least > 1 else 1e-2)


def test_a_view_holds_the_integral():
    """The data of a view, times the distance of its rays, are the integral of the field 2π w² (rays finer than the
    blob: to 0.2 %)."""
    grid = GRID.refine(6)
    beam = ParallelBeam(grid, [10.0, 77.0, 152.0], 101)
    data = beam(blob(grid))[0].numpy()
    for angle in (10.0, 77.0, 152.0):
        assert data[beam.angle == angle].sum() * 5.0 / 101 == pytest.approx(2 * math.pi * 0.25**2, rel=2e-3)


def test_the_other_way_round():
    """Views at θ and θ + 180 are the same lines in the opposite order."""
    there, back = ParallelBeam(GRID, [37.0], 19), ParallelBeam(GRID, [217.0], 19)
    field = torch.randn(1, 9, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(there(field), back(field).flip(1))


def test_turning_field_and_view_together():
    """A field turned by 90 degrees, seen from a view turned by 90 degrees, gives the same data; so does one that is
    mirrored in x, seen from the mirrored view, with the rays in the opposite order."""
    square = Grid((10, 10), x=(-1.0, 1.0), y=(-1.0, 1.0))
    angles, field = np.array([0.0, 12.0, 45.0, 71.0]), torch.randn(1, 10, 10, dtype=torch.float64)
    data = ParallelBeam(square, angles, 15)(field)
    turned = field.transpose(1, 2).flip(2)  # counter-clockwise: the value at (x, y) goes to (−y, x)
    torch.testing.assert_close(ParallelBeam(square, angles + 90, 15)(turned), data)
    for angle in angles:
        mirrored = ParallelBeam(square, [180 - angle], 15)(field.flip(2))
        torch.testing.assert_close(mirrored, ParallelBeam(square, [angle], 15)(field).flip(1))


def test_far_from_the_origin():
    """Coordinates of a survey (hundreds of kilometres away) leave the lengths as they are: they are counted from the
    domain's centre."""
    field = torch.randn(1, 9, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    away = Grid((9, 14), x=(399_999.0, 400_003.0), y=(5_000_002.0, 5_000_005.0))
    torch.testing.assert_close(
        ParallelBeam(away, ANGLES, 15)(field), ParallelBeam(GRID, ANGLES, 15)(field), rtol=1e-8, atol=1e-8
    )


def test_rays_that_miss_are_left_out():
    """All rays of the diagonal view cross a square; of those along an axis only the share 1/√2 does, and the offsets
    say which."""
    square = Grid((10, 10))
    diagonal, axial = (ParallelBeam(square, [angle], 20) for angle in (45.0, 0.0))
    assert (len(diagonal), len(axial)) == (20, 14)
    assert np.abs(axial.offset).max() < 0.5
    np.testing.assert_allclose(np.diff(axial.offset), math.sqrt(2) / 20)


@pytest.mark.parametrize(("angles", "rays"), [([], 5), ([0.0, float("nan")], 5), ([0.0], 0)])
def test_settings_that_are_refused(angles, rays):
    """One line says what is needed."""
    with pytest.raises(InputError, match="finite angles and at least one ray"):
        ParallelBeam(GRID, angles, rays)
