"""Sensor placement: exact counts, reproducible, inside, and distributed as stated."""

import numpy as np
import pytest

from pdediff.cases.observing import ObservationsSection, SensorSection
from pdediff.cases.sensors import place, place_all
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

GRID = Grid((20, 40), (-1.0, 3.0), (5.0, 7.0))


def group(**keys: object) -> SensorSection:
    return SensorSection.model_validate(keys)


@pytest.mark.parametrize(("placement", "count"), [("uniform", 77), ("cells", 77), ("lattice", 72)])
def test_count_domain_and_seed(placement: str, count: int) -> None:
    """Exactly `count` sensors inside; the same seed gives the same places, another seed others (not for a lattice)."""
    points = place(group(count=count, placement=placement, seed=4), GRID)
    assert points.shape == (count, 2)
    assert GRID.contains(points).all()
    np.testing.assert_array_equal(points, place(group(count=count, placement=placement, seed=4), GRID))
    other = place(group(count=count, placement=placement, seed=5), GRID)
    assert np.array_equal(points, other) == (placement == "lattice")


def test_uniform_is_uniform() -> None:
    """20 000 points: mean and variance of each coordinate within five standard errors of a uniform law's."""
    n = 20_000
    points = place(group(count=n), GRID)
    for k, (low, high) in enumerate((GRID.x, GRID.y)):
        z = (points[:, k] - low) / (high - low)
        assert abs(z.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / n)
        assert abs(z.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / n)


def test_cells_are_centres_without_replacement() -> None:
    """As many sensors as cells visit every centre once; one more is refused."""
    points = place(group(count=800, placement="cells"), GRID)
    x, y = GRID.mesh()
    assert {tuple(p) for p in points} == set(zip(x.ravel(), y.ravel(), strict=True))
    with pytest.raises(InputError, match="801 sensors at cell centres, but the grid has 800 cells"):
        place(group(count=801, placement="cells"), GRID)


def test_lattice_is_regular() -> None:
    """8 sensors on 4 × 2: two rows of four, spacing 1, half a spacing from the sides; 7 are refused and 8 proposed."""
    points = place(group(count=8, placement="lattice"), GRID)
    np.testing.assert_allclose(points[:4], [[-0.5, 5.5], [0.5, 5.5], [1.5, 5.5], [2.5, 5.5]])
    np.testing.assert_allclose(points[4:], [[-0.5, 6.5], [0.5, 6.5], [1.5, 6.5], [2.5, 6.5]])
    with pytest.raises(InputError, match="7 sensors fill no regular lattice on this domain, 6 do"):
        place(group(count=7, placement="lattice"), Grid((8, 8)))


def test_groups_and_their_noise() -> None:
    """Groups follow each other; each has its own noise law, or the common one: hypot(floor, relative·v)."""
    observations = ObservationsSection.model_validate(
        {
            "sensors": [
                {"points": [[0, 6], [1, 6]], "name": "wells"},
                {"count": 1, "field": "a", "noise": {"relative": 0.1, "floor": 3}},
            ],
            "noise": {"sigma": 0.5},
        }
    )
    sensors = place_all(observations, GRID)
    assert sensors.field.tolist() == ["u", "u", "a"]
    assert sensors.group.tolist() == ["wells", "wells", "a"]
    np.testing.assert_allclose(sensors.x[:2], [0, 1])
    np.testing.assert_allclose(sensors.sigma(np.array([7.0, -7.0, -40.0])), [0.5, 0.5, 5.0], rtol=1e-15)
