"""Families of likelihoods: what they build, and where their parameters may lie."""

import math

import pytest
import torch

from pdediff.likelihoods.direct import DirectPhysics
from pdediff.likelihoods.families import LikelihoodFamily, blur_width, sensor_gain
from pdediff.likelihoods.operators import GaussianBlur, OnCells, PointSensors
from pdediff.likelihoods.physics import replicate_walls
from pdediff.parametrisations import Shifted
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid
from pdediff.spaces import FunctionSpace

SHAPE = (6, 8)
GRID = Grid(SHAPE, x=(0.0, 2.0))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def physics():
    """The field is x_0 itself."""
    mean = torch.zeros(SHAPE, dtype=torch.float64)
    return DirectPhysics(FunctionSpace(("a",), SHAPE), Shifted(mean, SHAPE), Darcy(GRID))


def test_blur_width():
    """log p(y | x; w) is that of the field blurred with width w, and its derivative is the operator's."""
    x, y, sigma = normal(3, *SHAPE), normal(48, seed=1), 0.5 + normal(48, seed=2).square()
    family = blur_width(physics(), GRID, y, sigma, (0.05, 0.8))
    for width in (0.1, 0.6):
        blurred = GaussianBlur(GRID, width)(x)
        expected = -0.5 * ((blurred - y) / sigma).square().sum(dim=1)
        torch.testing.assert_close(family({"width": width}).log_prob(x.flatten(1)), expected)
    assert family({"width": 0.1}).linear
    assert family.start == {"width": pytest.approx(0.2)}  # the geometric mean


def test_sensor_gain():
    """y = gain · A x + noise, with the adjoint that belongs to it."""
    x, y, sigma = normal(3, *SHAPE), normal(4, seed=1), torch.full((4,), 0.3, dtype=torch.float64)
    sensors = PointSensors(GRID, [[0.1, 0.2], [1.0, 0.5], [1.9, 0.9], [0.7, 0.4]])
    family = sensor_gain(physics(), sensors, y, sigma, (0.1, 10.0), "a")
    likelihood = family({"gain": 2.5})
    expected = -0.5 * ((2.5 * sensors(replicate_walls(x)) - y) / sigma).square().sum(dim=1)
    torch.testing.assert_close(likelihood.log_prob(x.flatten(1)), expected)
    linear, dx, v = likelihood.linearise(x.flatten(1), 1e-9), normal(3, 48, seed=3), normal(3, 4, seed=4)
    torch.testing.assert_close((linear.tangent(dx) * v).sum(1), (dx * linear.adjoint(v)).sum(1))


def test_priors_of_parameters():
    """Flat by default; normal in the logarithm of positive parameters, in the parameter itself for others."""
    blur = OnCells(GaussianBlur(GRID, 0.1))
    bounds = {"gain": (0.1, 10.0), "head": (-5.0, 5.0)}
    flat = LikelihoodFamily(lambda theta: blur, bounds)
    assert flat.log_prior({"gain": 3.0, "head": 1.0}) == 0
    assert flat.start == {"gain": pytest.approx(1.0), "head": 0.0}
    known = LikelihoodFamily(lambda theta: blur, bounds, {"head": 2.0}, {"gain": (2.0, 0.1), "head": (1.0, 0.5)})
    expected = -0.5 * (math.log(1.5) / 0.1) ** 2 - 0.5 * (2.0 / 0.5) ** 2
    assert known.log_prior({"gain": 3.0, "head": 3.0}) == pytest.approx(expected)
    assert known.start["head"] == 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "the family has none"),
        (({"a": (1.0, 2.0)}, {"b": 1.0}), "b has none"),
        (({"a": (1.0, 2.0)}, {}, {"b": (1.0, 1.0)}), "b has none"),
        (({"a": (2.0, 1.0)},), "a cannot start at"),
        (({"a": (1.0, 2.0)}, {"a": 3.0}), "a cannot start at 3 between 1 and 2"),
    ],
)
def test_refusals(arguments, message):
    """No parameter, one without bounds, bounds or a start that make no sense."""
    with pytest.raises(ValueError, match=message):
        LikelihoodFamily(lambda theta: None, *arguments)
