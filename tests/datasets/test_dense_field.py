"""Dense Gaussian fields against the fields of the same law that have a fast transform, in float64."""

import math

import pytest
import torch

from pdediff.datasets.dense_field import DenseField, dense_variogram
from pdediff.datasets.embedding import embed
from pdediff.datasets.random_fields import CosineField
from pdediff.datasets.variograms import Variogram
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid
from pdediff.spaces import FunctionSpace

SHAPE, N = (5, 8), 40
GRID = Grid((6, 9), x=(-1.0, 2.0), y=(0.0, 1.0))


def cosine():
    ky, kx = (torch.arange(n, dtype=torch.float64) for n in SHAPE)
    return CosineField(SHAPE, 3 / (1 + ky[:, None] ** 2 + 0.3 * kx**2))


def matrix(field):
    """C as a matrix, column by column."""
    n = math.prod(field.shape)
    return field.apply(torch.eye(n, dtype=torch.float64).reshape(n, *field.shape)).reshape(n, n)


COSINE = cosine()
DENSE = DenseField(SHAPE, matrix(COSINE))


def fields(count=3, shape=SHAPE):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    "function",
    [lambda c: c, torch.sqrt, torch.reciprocal, lambda c: c / (c + torch.tensor([0.1, 1.0, 10.0])[:, None, None])],
    ids=["C", "root", "inverse", "denoiser of a level per field"],
)
def test_functions_of_the_covariance(function):
    """f(C) x of the dense field is that of the cosine field with the same matrix, whatever f."""
    torch.testing.assert_close(
        DENSE.apply(fields(), function), COSINE.apply(fields(), function), rtol=1e-10, atol=1e-11
    )


def test_trace_and_variance():
    """tr C, ln det C and diag C."""
    torch.testing.assert_close(DENSE.trace(lambda c: c), COSINE.trace(lambda c: c))
    torch.testing.assert_close(DENSE.trace(torch.log), COSINE.trace(torch.log))
    torch.testing.assert_close(DENSE.pointwise_variance(), COSINE.pointwise_variance())


def test_colour_is_a_root_of_the_covariance():
    """With white xi, L xi has covariance L Lᵀ = C exactly; `sample` is L times the generator's normal numbers."""
    root = DENSE.colour(torch.eye(N, dtype=torch.float64).reshape(N, *SHAPE)).reshape(N, N).T
    torch.testing.assert_close(root @ root.T, matrix(COSINE))
    xi = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(DENSE.sample(4, torch.Generator().manual_seed(3), torch.float64), DENSE.colour(xi))


def test_denoiser_and_its_error_law():
    """`GaussianDenoiser` takes a dense field: the same means, errors and noise range as with the cosines, each row at a
    time of its own; differentiable, in single precision too, after kept copies were made under inference mode."""
    space = FunctionSpace(("x",), SHAPE)
    dense, fast = (GaussianDenoiser(covariance, space, mean=0.7) for covariance in (DENSE, COSINE))
    x_t, t = fields().flatten(1).requires_grad_(), torch.tensor([0.1, 1.0, 7.0], dtype=torch.float64)
    with torch.inference_mode():
        dense(x_t.float(), t)
    torch.testing.assert_close(dense(x_t, t), fast(x_t, t), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(dense(x_t.float(), t.float()).double(), fast(x_t, t), rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(dense(x_t.float(), t.float()).square().sum(), x_t)
    (expected,) = torch.autograd.grad(fast(x_t, t).square().sum(), x_t)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
    w = fields().flatten(1)
    torch.testing.assert_close(dense.error_law(x_t, 0.8).root(w), fast.error_law(x_t, 0.8).root(w))
    assert dense.noise_range == pytest.approx(fast.noise_range)


@pytest.mark.parametrize(
    "variogram",
    [
        Variogram("matern", variance=2.0, range=0.4, smoothness=1.5, anisotropy=0.3, angle=35.0),
        Variogram("exponential", range=3.0, nugget=0.2),
    ],
    ids=["matern", "a range beyond the domain"],
)
def test_variogram_on_a_window(variogram):
    """The covariance is that of the embedded field, cropped from its torus; there is no point outside the window."""
    dense, embedded = dense_variogram(variogram, GRID), embed(variogram, GRID, tolerance=1e-12)
    assert dense.shape == GRID.shape
    torch.testing.assert_close(
        matrix(dense),
        embedded.covariance(torch.eye(54, dtype=torch.float64).reshape(54, 6, 9)).flatten(1),
        rtol=0,
        atol=1e-9,
    )


def test_singular_covariance():
    """A field of rank 2 stays in its plane: C^{1/2} kills what is orthogonal to it."""
    plane = torch.linalg.qr(fields(2).flatten(1).T).Q
    field = DenseField(SHAPE, plane @ plane.T)
    assert int((field.spectrum > 0.5).sum()) == 2
    x = field.sample(5, torch.Generator().manual_seed(1), torch.float64).flatten(1)
    torch.testing.assert_close(x @ plane @ plane.T, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (torch.eye(39), r"40 points cannot have shape \(39, 39\)"),
        (torch.eye(40) - torch.tril(torch.ones(40, 40), -1), "symmetric"),
        (torch.full((40, 40), float("nan")), "finite"),
        (torch.eye(40) - 0.1, "least eigenvalue is -3"),
    ],
    ids=["size", "asymmetric", "not a number", "indefinite"],
)
def test_what_is_no_covariance_is_refused(covariance, message):
    """One line says what is wrong."""
    with pytest.raises(InputError, match=message):
        DenseField(SHAPE, covariance)
