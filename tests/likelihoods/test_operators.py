"""What holds of every observation operator: linear, the adjoint its transpose, differentiable, rows apart. Float64."""

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

from pdediff.likelihoods.operators import (
    Composition,
    GaussianBlur,
    Identity,
    Mask,
    OnCells,
    ParallelBeam,
    PointSensors,
    Stack,
    SupportAverage,
)
from pdediff.solvers.grid import Grid

GRID = Grid((6, 8), x=(-1.0, 3.0), y=(2.0, 3.0))
POINTS = np.array([GRID.x[0], GRID.y[0]]) + np.random.default_rng(0).random((40, 2)) * np.array([4.0, 1.0])

SENSORS, AVERAGE = PointSensors(GRID, POINTS), SupportAverage(GRID, 2)
BLUR = GaussianBlur(GRID, 0.4)
MASK = Mask.outside(GRID, x=(0.0, 1.6), y=(2.2, 2.9))
BEAM = ParallelBeam(GRID, [0.0, 33.0, 90.0, 145.0], 9)

OPERATORS = {
    "point sensors": SENSORS,
    "one sensor twice": PointSensors(GRID, [[0.1, 2.2], [0.1, 2.2]]),
    "no sensor": PointSensors(GRID, np.zeros((0, 2))),
    "blur": BLUR,
    "blur, periodic": GaussianBlur(GRID, 0.7, "periodic"),
    "blur, replicated": GaussianBlur(GRID, 0.7, "replicate"),
    "blur, zero": GaussianBlur(GRID, 0.7, "zero"),
    "average": AVERAGE,
    "average of oblong blocks": SupportAverage(GRID, (3, 4)),
    "mask": MASK,
    "every cell": Mask(GRID, np.ones(GRID.shape)),
    "tomography": BEAM,
    "average of a blur": Composition(AVERAGE, BLUR),
    "part of an average of a blur": Composition(
        Mask.inside(AVERAGE.coarse, x=(0.0, 3.0), y=(2.0, 2.7)), Composition(AVERAGE, BLUR)
    ),
    "tomography of a blur": Composition(BEAM, BLUR),
    "stack": Stack(MASK, Composition(AVERAGE, BLUR), BEAM),
    "on cells": OnCells(BLUR),
    "sensors and tomography": Stack(SENSORS, OnCells(Stack(BEAM, AVERAGE))),
}

every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_operator
def test_adjoint_is_the_transpose(operator):
    """⟨A v, d⟩ = ⟨v, Aᵀ d⟩ for each sample, and Aᵀ d is the gradient that autograd finds."""
    v = normal(3, *operator.in_shape).requires_grad_()
    data = operator(v)
    d = normal(*data.shape, seed=1)
    back = operator.adjoint(d)
    assert back.shape == v.shape
    torch.testing.assert_close((data * d).sum(-1), (v * back).sum((-2, -1)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(back, torch.autograd.grad((data * d).sum(), v)[0], rtol=1e-12, atol=1e-13)


@every_operator
def test_linearity(operator):
    """A(2 v − 3 w) = 2 A v − 3 A w, and so for the adjoint."""
    v, w = normal(2, 3, *operator.in_shape)
    d, e = normal(2, 3, len(operator))
    torch.testing.assert_close(operator(2 * v - 3 * w), 2 * operator(v) - 3 * operator(w), rtol=1e-12, atol=1e-12)
    expected = 2 * operator.adjoint(d) - 3 * operator.adjoint(e)
    torch.testing.assert_close(operator.adjoint(2 * d - 3 * e), expected, rtol=1e-12, atol=1e-12)


@every_operator
def test_shapes_places_and_precision(operator):
    """As many data as the shapes and the places say, each with a place in the domain; the field's own precision, to
    which the result in single precision is right."""
    v = normal(2, *operator.in_shape)
    data = operator(v)
    assert data.shape == (2, len(operator))
    assert operator.places.shape == (len(operator), 2)
    assert GRID.contains(operator.places).all()
    assert operator(v.float()).dtype == operator.adjoint(data.float()).dtype == torch.float32
    torch.testing.assert_close(operator(v.float()).double(), data, rtol=1e-5, atol=1e-5)


@every_operator
def test_rows_are_apart(operator):
    """A row alone gives what it gives in a batch, to rounding."""
    v, d = normal(8, *operator.in_shape), normal(8, len(operator))
    torch.testing.assert_close(operator(v)[5], operator(v[5:6])[0], rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(operator.adjoint(d)[5], operator.adjoint(d[5:6])[0], rtol=1e-14, atol=1e-14)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # of torch's own forward mode
@every_operator
def test_derivatives_of_both_modes(operator):
    """The derivative of a linear map is itself: Jacobian–vector products, second derivatives, and after a first use in
    inference mode."""
    v, w = normal(2, *operator.in_shape), normal(2, *operator.in_shape, seed=1)
    with torch.inference_mode():
        operator.adjoint(operator(v))
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(operator(forward_ad.make_dual(v, w))).tangent
    torch.testing.assert_close(tangent, operator(w), rtol=1e-13, atol=1e-13)
    v.requires_grad_()
    (gradient,) = torch.autograd.grad(0.5 * operator(v).square().sum(), v, create_graph=True)
    (second,) = torch.autograd.grad((gradient * w).sum(), v)
    torch.testing.assert_close(second, operator.adjoint(operator(w)), rtol=1e-12, atol=1e-13)


def test_operators_made_in_inference_mode_are_differentiable():
    """What an operator keeps serves autograd wherever it was made."""
    with torch.inference_mode():
        framed = [
            OnCells(made)
            for made in (GaussianBlur(GRID, 0.4), Mask(GRID, np.ones(GRID.shape)), ParallelBeam(GRID, [9], 5))
        ]
        operator = Stack(PointSensors(GRID, POINTS), *framed)
    v = normal(2, 8, 10).requires_grad_()
    (gradient,) = torch.autograd.grad(0.5 * operator(v).square().sum(), v)
    torch.testing.assert_close(gradient, operator.adjoint(operator(v)))


def test_composition_is_the_product():
    """A datum of the average of a blurred field is the average of the blurred image; the places are the outer one's."""
    both, v = OPERATORS["average of a blur"], normal(2, 6, 8)
    image = BLUR(v).unflatten(-1, (6, 8))
    torch.testing.assert_close(both(v), AVERAGE(image))
    assert both.out_shape == (3, 4)
    np.testing.assert_array_equal(both.places, AVERAGE.places)


def test_stack_is_side_by_side():
    """Data and places of one operator follow those of the other."""
    stack, v = Stack(MASK, BEAM), normal(2, 6, 8)
    torch.testing.assert_close(stack(v), torch.cat([MASK(v), BEAM(v)], dim=1))
    np.testing.assert_array_equal(stack.places, np.concatenate([MASK.places, BEAM.places]))


def test_walls_are_not_seen():
    """On a framed field an operator on cells gives what it gives on the cells; the adjoint leaves the walls at zero."""
    framed, v = OnCells(MASK), normal(2, 8, 10)
    torch.testing.assert_close(framed(v), MASK(v[:, 1:-1, 1:-1]))
    back = framed.adjoint(normal(2, len(framed)))
    assert float(back[:, [0, -1]].abs().max()) == float(back[:, :, [0, -1]].abs().max()) == 0


def test_identity():
    """Data are the field."""
    v = normal(2, 5)
    assert Identity()(v) is v
    assert Identity().adjoint(v) is v


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Composition(BLUR, AVERAGE), r"reads \(6, 8\), the inner one gives \(3, 4\)"),
        (lambda: Composition(AVERAGE, MASK), "the inner one gives"),
        (lambda: Stack(SENSORS, BLUR), "operators that read one shape"),
        (lambda: Stack(), "operators that read one shape"),
    ],
)
def test_shapes_that_do_not_fit(build, message):
    """One line names the shapes."""
    with pytest.raises(ValueError, match=message):
        build()
