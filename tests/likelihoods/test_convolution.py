"""Convolution with small kernels: the sum itself, both adjoints, and the likelihood of field and kernel."""

import pytest
import torch

from pdediff.denoisers.kernel_prior import gaussian_kernel
from pdediff.likelihoods.convolution import BlindConvolution, Convolution, KnownBlur, kernel_width
from pdediff.likelihoods.operators import GaussianBlur
from pdediff.solvers.grid import Grid

SHAPE, SIZE = (7, 10), 5
every_boundary = pytest.mark.parametrize("boundary", ["mirror", "periodic"])


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def image_of(i, n, boundary):
    """The cell that stands at place i beyond the walls."""
    return i % n if boundary == "periodic" else min(i % (2 * n), 2 * n - 1 - i % (2 * n))


@every_boundary
def test_the_sum_itself(boundary):
    """(k * x)_i = Σ_j k_j x_{i−j}, term by term; one kernel for all, or one for each."""
    x, k = normal(2, *SHAPE), normal(2, SIZE, SIZE, seed=1)
    expected = torch.zeros_like(x)
    for iy in range(SHAPE[0]):
        for ix in range(SHAPE[1]):
            for jy in range(-2, 3):
                for jx in range(-2, 3):
                    y, z = image_of(iy - jy, SHAPE[0], boundary), image_of(ix - jx, SHAPE[1], boundary)
                    expected[:, iy, ix] += k[:, jy + 2, jx + 2] * x[:, y, z]
    convolution = Convolution(SHAPE, SIZE, boundary)
    torch.testing.assert_close(convolution(x, k), expected)
    torch.testing.assert_close(convolution(x, k[1])[1], expected[1])


@every_boundary
@pytest.mark.parametrize(("shape", "size"), [(SHAPE, SIZE), ((9, 9), 9), ((4, 6), 1)])
def test_adjoints(boundary, shape, size):
    """⟨k * x, d⟩ = ⟨x, field_adjoint(d, k)⟩ = ⟨k, kernel_adjoint(d, x)⟩ for each sample; autograd's are the same."""
    convolution = Convolution(shape, size, boundary)
    x, k = normal(3, *shape).requires_grad_(), normal(3, size, size, seed=1).requires_grad_()
    d = normal(3, *shape, seed=2)
    product = (convolution(x, k) * d).sum((1, 2))
    x_bar, k_bar = convolution.field_adjoint(d, k), convolution.kernel_adjoint(d, x)
    torch.testing.assert_close((x * x_bar).sum((1, 2)), product)
    torch.testing.assert_close((k * k_bar).sum((1, 2)), product)
    for found, expected in zip(torch.autograd.grad(product.sum(), (x, k)), (x_bar, k_bar), strict=True):
        torch.testing.assert_close(found, expected)


def test_agrees_with_the_gaussian_blur():
    """A Gaussian kernel that is cut off at six widths: the operator of the same width, to 1e-7."""
    shape, width = (16, 20), 1.2
    grid = Grid(shape, x=(0.0, 20.0), y=(0.0, 16.0))
    x = normal(2, *shape)
    known = KnownBlur(Convolution(shape, 15), gaussian_kernel(15, width))
    torch.testing.assert_close(known(x), GaussianBlur(grid, width)(x), rtol=0, atol=1e-7)
    d = normal(2, 320, seed=1)
    torch.testing.assert_close((known(x) * d).sum(1), (x * known.adjoint(d)).sum((1, 2)))


@every_boundary
def test_log_prob(boundary):
    """−½ ‖(k * x − y)/sigma‖² with k = scale·z, of each row alone; its gradient is that of both adjoints."""
    convolution, scale, sigma = Convolution(SHAPE, SIZE, boundary), 0.2, 0.5 + normal(*SHAPE, seed=5).square()
    y, x, z = normal(*SHAPE, seed=2), normal(3, *SHAPE), normal(3, SIZE, SIZE, seed=1)
    likelihood = BlindConvolution(convolution, y, sigma, scale)
    x_0 = torch.cat([x.flatten(1), z.flatten(1)], dim=1).requires_grad_()
    residual = (convolution(x, scale * z) - y) / sigma
    value = likelihood.log_prob(x_0)
    torch.testing.assert_close(value, -0.5 * residual.square().sum((1, 2)))
    assert likelihood.size == residual[0].numel()
    assert likelihood.kernel_space.dimension + likelihood.size == x_0.shape[1]
    (gradient,) = torch.autograd.grad(value.sum(), x_0)
    back = -residual / sigma
    x_bar, k_bar = convolution.field_adjoint(back, scale * z), convolution.kernel_adjoint(back, x)
    torch.testing.assert_close(gradient, torch.cat([x_bar.flatten(1), scale * k_bar.flatten(1)], dim=1))
    torch.testing.assert_close(likelihood.log_prob(x_0[1:2]), value[1:2])
    field, kernel = likelihood.split(x_0)
    torch.testing.assert_close(field, x)
    torch.testing.assert_close(kernel, scale * z)


def test_a_field_of_its_own():
    """The field may be any function of the first part of x_0: here the exponential of a corner of a larger grid."""
    convolution, y = Convolution(SHAPE, SIZE), normal(*SHAPE, seed=2)

    def corner(x):
        return x.unflatten(-1, (9, 12))[:, :7, :10].exp()

    x, z = normal(2, 108), normal(2, SIZE * SIZE, seed=1)
    found = BlindConvolution(convolution, y, 0.1, field=corner).log_prob(torch.cat([x, z], dim=1))
    direct = BlindConvolution(convolution, y, 0.1).log_prob(torch.cat([corner(x).flatten(1), z], dim=1))
    torch.testing.assert_close(found, direct)


@pytest.mark.parametrize("width", [0.8, 1.5])
def test_kernel_width(width):
    """The width of a Gaussian kernel, wherever its centre; cells and the cut cost less than 1 %."""
    k = torch.stack([gaussian_kernel(15, width), gaussian_kernel(15, width).roll((1, -2), (0, 1))])
    torch.testing.assert_close(kernel_width(k), torch.full((2,), width, dtype=k.dtype), rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SHAPE, 4), "odd size, not 4"),
        ((SHAPE, 9), "size 9 is larger"),
        ((SHAPE, 3, "zero"), "'mirror' or 'periodic', not 'zero'"),
    ],
)
def test_refusals_of_the_operator(arguments, message):
    with pytest.raises(ValueError, match=message):
        Convolution(*arguments)


def test_refusals_of_the_likelihood():
    """Data of another shape, a sigma or a scale of zero."""
    convolution = Convolution(SHAPE, SIZE)
    with pytest.raises(ValueError, match="data of shape"):
        BlindConvolution(convolution, torch.zeros(7, 9), 0.1)
    for sigma, scale in ((0.0, 1.0), (0.1, 0.0)):
        with pytest.raises(ValueError, match="must be positive"):
            BlindConvolution(convolution, torch.zeros(SHAPE), sigma, scale)
