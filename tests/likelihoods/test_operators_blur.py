"""Gaussian blur: the kernel, what it keeps, and another implementation of it. Float64."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from pdediff.likelihoods.operators import GaussianBlur, gaussian_kernel
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

GRID = Grid((12, 20), x=(-1.0, 4.0), y=(0.0, 2.0))  # dx = 1/4, dy = 1/6
BOUNDARIES = {"mirror": "reflect", "periodic": "wrap", "replicate": "nearest", "zero": "constant"}

every_boundary = pytest.mark.parametrize("boundary", BOUNDARIES)


def fields(seed=0):
    return torch.randn(2, 12, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_boundary
@pytest.mark.parametrize("width", [0.03, 0.3, 3.0])
def test_scipy_blurs_the_same(boundary, width):
    """`scipy.ndimage.gaussian_filter` with its name of the boundary, from an eighth of a cell to most of the domain."""
    sigma = (width / GRID.dy, width / GRID.dx)
    expected = [
        scipy.ndimage.gaussian_filter(f, sigma, mode=BOUNDARIES[boundary], truncate=9) for f in fields().numpy()
    ]
    image = GaussianBlur(GRID, width, boundary)(fields()).unflatten(-1, GRID.shape)
    np.testing.assert_allclose(image.numpy(), expected, rtol=0, atol=1e-13)


@every_boundary
def test_conservation(boundary):
    """Mirror and periodic blurs keep the integral, and are symmetric; all but zero keep constants; zero loses both."""
    blur, v = GaussianBlur(GRID, 0.5, boundary), fields()
    kept = torch.allclose(blur(v).sum(-1), v.sum((1, 2)), rtol=1e-12)
    constant = torch.allclose(blur(torch.ones_like(v)), torch.ones(1, dtype=v.dtype), rtol=1e-13)
    symmetric = torch.allclose(blur(v), blur.adjoint(v.flatten(1)).flatten(1), rtol=1e-12)
    assert (kept, constant, symmetric) == {
        "mirror": (True, True, True),
        "periodic": (True, True, True),
        "replicate": (False, True, False),
        "zero": (False, False, True),
    }[boundary]


def test_widths_add_in_squares():
    """A blur of 0.3 after one of 0.4 is one of 0.5: to 1e-7, what sampling a Gaussian of 1.2 cells misses."""
    first, second, both = (GaussianBlur(GRID, w) for w in (0.4, 0.3, 0.5))
    image = second(first(fields()).unflatten(-1, GRID.shape))
    torch.testing.assert_close(image, both(fields()), rtol=0, atol=1e-7)


def test_a_cosine_only_shrinks():
    """cos(πk(x − x_0)/L) meets its mirror image smoothly, and a blur multiplies it by exp(−(πk w/L)²/2)."""
    x = torch.as_tensor(GRID.mesh()[0])
    wave = torch.cos(3 * math.pi * (x + 1) / 5)[None]
    expected = math.exp(-0.5 * (3 * math.pi * 0.4 / 5) ** 2) * wave
    torch.testing.assert_close(GaussianBlur(GRID, 0.4)(wave), expected.flatten(1), rtol=1e-9, atol=1e-9)


@every_boundary
def test_derivative_with_respect_to_the_width(boundary):
    """A width that requires a gradient gets the one that differences show, to their second order."""
    weight = fields(1).flatten(1)

    def value(width):
        return (GaussianBlur(GRID, width, boundary)(fields()) * weight).sum()

    width, step = torch.tensor(0.4, dtype=torch.float64, requires_grad=True), 1e-5
    (gradient,) = torch.autograd.grad(value(width), width)
    difference = (value(0.4 + step) - value(0.4 - step)) / (2 * step)
    torch.testing.assert_close(gradient, difference, rtol=1e-7, atol=1e-7)


def test_kernel():
    """Positive, symmetric, of sum one and of the stated variance; differentiable; a tiny width leaves one cell."""
    width = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    kernel = gaussian_kernel(width, 16)
    offsets = torch.arange(-16, 17)
    assert bool((kernel > 0).all())
    torch.testing.assert_close(kernel, kernel.flip(0))
    torch.testing.assert_close(kernel.sum().item(), 1.0)
    torch.testing.assert_close((kernel * offsets**2).sum().item(), 1.7**2, rtol=1e-9, atol=0)
    (gradient,) = torch.autograd.grad((kernel * offsets**2).sum(), width)
    torch.testing.assert_close(gradient.item(), 2 * 1.7, rtol=1e-9, atol=0)
    assert gaussian_kernel(torch.tensor(1e-200, dtype=torch.float64), 2).tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf"), 51.0])
def test_widths_that_are_refused(width):
    """One line with the bounds, the unit and what was given."""
    with pytest.raises(InputError, match="above 0, at most 50 m, got"):
        GaussianBlur(GRID, width)


def test_unknown_boundary():
    """One line with those that are known."""
    with pytest.raises(InputError, match="mirror, periodic, replicate, zero, not 'reflect'"):
        GaussianBlur(GRID, 0.4, "reflect")
