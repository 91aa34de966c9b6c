"""Splines as functions of position: exact on cubics, of the known order elsewhere, differentiable. Float64."""

import numpy as np
import pytest
import torch

from pdediff.likelihoods.splines import TensorSpline

X, Y = np.array([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]), np.array([-1.0, -0.5, 0.2, 1.0, 1.5])  # uneven, of different lengths


def scattered(count=50, seed=0):
    """Points in the domain, its corners and some nodes among them."""
    inside = np.random.default_rng(seed).random((count, 2)) * [1.0, 2.5] + [0.0, -1.0]
    return torch.as_tensor(np.concatenate([inside, [[0, -1], [1, -1], [0, 1.5], [1, 1.5], [0.3, 0.2], [0.5, 0.7]]]))


def test_cubics_are_reproduced():
    """(1 + x − 2x³)(y³ − y² + 1/2), and a little beyond the outer nodes."""

    def function(x, y):
        return (1 + x - 2 * x**3) * (y**3 - y**2 + 0.5)

    points = torch.cat([scattered(), torch.tensor([[-0.1, 0.0], [1.1, 1.7]], dtype=torch.float64)])
    values = torch.as_tensor(function(X, Y[:, None]))[None]
    found = TensorSpline(X, Y)(values, points)[0]
    torch.testing.assert_close(found, function(points[:, 0], points[:, 1]), rtol=1e-12, atol=1e-12)


def test_nodes_are_met_and_rows_are_functions():
    """At its nodes a spline has the values, of each function of a batch its own, in any dtype."""
    values = torch.randn(3, len(Y), len(X), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nodes = torch.as_tensor(np.stack(np.meshgrid(X, Y), axis=-1).reshape(-1, 2))
    torch.testing.assert_close(TensorSpline(X, Y)(values, nodes), values.flatten(1), rtol=1e-12, atol=1e-12)
    single = TensorSpline(X, Y)(values.float(), nodes.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, values.flatten(1).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("derivative", "order"), [(0, 4), (1, 3), (2, 2)])
def test_order(derivative, order):
    """sin(3x + 1) e^y and its derivatives in x, by autograd, at order 4, 3 and 2 (in the root mean square)."""
    sizes, errors = [10, 20, 40, 80], []
    inside = scattered(400) * torch.tensor([1.0, 0.4]) + torch.tensor([0.0, 0.4])
    exact = 3**derivative * torch.sin(3 * inside[:, 0] + 1 + derivative * np.pi / 2) * torch.exp(inside[:, 1])
    for n in sizes:
        nodes = np.linspace(0, 1, n + 1)
        values = torch.as_tensor(np.sin(3 * nodes + 1) * np.exp(nodes[:, None]))[None]
        points = inside.clone().requires_grad_()
        found = TensorSpline(nodes, nodes)(values, points)[0]
        for _ in range(derivative):
            found = torch.autograd.grad(found.sum(), points, create_graph=True)[0][:, 0]
        errors.append(float((found - exact).square().mean().sqrt().detach()))
    assert -np.polyfit(np.log(sizes), np.log(errors), 1)[0] > order - 0.1


def test_second_derivatives_are_continuous():
    """On either side of a node value, slope and curvature agree; the third derivative does not."""
    spline, node = TensorSpline(X, Y), X[3]
    values = torch.randn(1, len(Y), len(X), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = torch.tensor([[node - 1e-12, 0.4], [node + 1e-12, 0.4]], dtype=torch.float64, requires_grad=True)
    found, jumps = spline(values, points)[0], []
    for _ in range(4):
        jumps.append(float((found[1] - found[0]).detach().abs()))
        found = torch.autograd.grad(found.sum(), points, create_graph=True)[0][:, 0]
    assert max(jumps[:3]) < 1e-8
    assert jumps[3] > 1
