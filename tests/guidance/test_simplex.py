"""Projection on the probability simplex: the conditions of optimality, and all supports tried by hand."""

from itertools import combinations

import pytest
import torch

from pdediff.guidance.simplex import project_simplex


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_enumeration(v):
    """The nearest point among those that are optimal on some support: v − τ there, zero elsewhere."""
    found = []
    for size in range(1, len(v) + 1):
        for support in combinations(range(len(v)), size):
            k = torch.zeros_like(v)
            k[list(support)] = v[list(support)] - (v[list(support)].sum() - 1) / size
            if bool((k >= 0).all()):
                found.append(k)
    return min(found, key=lambda k: float((k - v).norm()))


@pytest.mark.parametrize("spread", [0.01, 0.3, 10.0])
def test_optimality(spread):
    """k ≥ 0, Σ k = 1, and v − k is the same number where k > 0 and no larger where k = 0."""
    v = spread * normal(20, 15)
    k = project_simplex(v)
    assert bool((k >= 0).all())
    torch.testing.assert_close(k.sum(dim=1), torch.ones(20, dtype=v.dtype))
    tau = (v - k).masked_fill(k == 0, -torch.inf).amax(dim=1, keepdim=True)
    torch.testing.assert_close(torch.where(k > 0, v - k, tau), tau.expand_as(v))
    assert bool((v - k <= tau + 1e-12).all())


def test_against_all_supports():
    """Five values: the best of 31 candidates."""
    for v in normal(20, 5, seed=1):
        torch.testing.assert_close(project_simplex(v), by_enumeration(v))


def test_projections_stay():
    """Twice is once; and a constant added changes nothing, however large."""
    k = project_simplex(normal(8, 9))
    torch.testing.assert_close(project_simplex(k), k)
    torch.testing.assert_close(project_simplex(k + 1e6), k, rtol=0, atol=1e-9)


def test_derivative():
    """On the support the mean comes off, elsewhere zero; against central differences, exact where nothing switches."""
    v, direction, h = 0.3 * normal(6, 9), normal(6, 9, seed=1), 1e-7
    support = project_simplex(v) > 0
    expected = support * (direction - (support * direction).sum(dim=1, keepdim=True) / support.sum(dim=1, keepdim=True))
    difference = (project_simplex(v + h * direction) - project_simplex(v - h * direction)) / (2 * h)
    torch.testing.assert_close(difference, expected, rtol=1e-6, atol=1e-6)
    _, tangent = torch.autograd.functional.jvp(project_simplex, v, direction)
    torch.testing.assert_close(tangent, expected)


def test_rows_apart():
    """A row alone, and beside others of any size, has the same projection; any number of leading axes."""
    v = normal(4, 7) * torch.tensor([1e-3, 1.0, 1e3, 1.0], dtype=torch.float64)[:, None]
    together = project_simplex(v)
    assert all(torch.equal(project_simplex(row), image) for row, image in zip(v, together, strict=True))
    assert torch.equal(project_simplex(v.view(2, 2, 7)), together.view(2, 2, 7))
