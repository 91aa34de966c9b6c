"""Parametrisations: inverse, derivative and its transpose."""

import math

import pytest
import torch

from pdediff.parametrisations import LogNormal, TwoPhase

TWO_PHASE = TwoPhase(3.0, 12.0)
PADDED = LogNormal(mean=-2.0, shape=(3, 4), padded=(6, 10))
CASES = [(TWO_PHASE, (3, 4)), (PADDED, (6, 10)), (LogNormal(0.5, (3, 4), (3, 4)), (3, 4))]
every_map = pytest.mark.parametrize(("parametrisation", "shape"), CASES, ids=["two-phase", "padded", "log-normal"])


def normal(*shape, seed=0):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_two_phase_is_six_times_two_to_the_x():
    """Phases 3 and 12: a = 6·2^x, so x = −1, 0, 1 are a = 3, 6, 12."""
    x = torch.tensor([-1.0, 0.0, 1.0, 2.5], dtype=torch.float64)
    torch.testing.assert_close(TWO_PHASE.field(x), 6 * 2**x, rtol=1e-14, atol=0)
    assert TWO_PHASE.rate == pytest.approx(math.log(2), rel=1e-15)


def test_log_normal_uses_the_lower_left_of_a_torus():
    """a = exp(mean + x) on the first rows and columns; what lies in the padding has no effect."""
    x = normal(6, 10)
    a = PADDED.field(x)
    torch.testing.assert_close(a, torch.exp(x[:, :3, :4] - 2), rtol=1e-14, atol=0)
    x[:, 3:], x[:, :, 4:] = 7.0, 7.0
    assert torch.equal(PADDED.field(x), a)


@every_map
def test_inverse(parametrisation, shape):
    """field(inverse(a)) = a; inverse(field(x)) = x on the field's cells, and 0, the prior mean, in the padding."""
    x = normal(*shape)
    a = parametrisation.field(x)
    assert bool((a > 0).all())
    back = parametrisation.inverse(a)
    assert back.shape == x.shape
    torch.testing.assert_close(parametrisation.field(back), a, rtol=1e-13, atol=0)
    torch.testing.assert_close(back[:, :3, :4], x[:, :3, :4], rtol=1e-12, atol=1e-13)
    assert not back[:, 3:].any()
    assert not back[:, :, 4:].any()


@every_map
def test_tangent_is_the_derivative(parametrisation, shape):
    """Central differences with h = 1e-5 agree to their h² (1e-9, relative)."""
    x, dx, h = normal(*shape), normal(*shape, seed=1), 1e-5
    difference = (parametrisation.field(x + h * dx) - parametrisation.field(x - h * dx)) / (2 * h)
    found = parametrisation.tangent(parametrisation.field(x), dx)
    assert float((found - difference).norm() / difference.norm()) < 1e-9


@every_map
def test_adjoint_is_the_transpose(parametrisation, shape):
    """⟨da, ā⟩ = ⟨dx, x̄⟩ for each sample, to rounding; and the gradient that autograd finds."""
    x, dx, a_bar = normal(*shape).requires_grad_(), normal(*shape, seed=1), normal(3, 4, seed=2)
    a = parametrisation.field(x)
    x_bar = parametrisation.adjoint(a.detach(), a_bar)
    left = (parametrisation.tangent(a.detach(), dx) * a_bar).sum(dim=(1, 2))
    torch.testing.assert_close((x_bar * dx).sum(dim=(1, 2)), left, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(x_bar, torch.autograd.grad(a, x, a_bar)[0], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("low", "high"), [(12, 3), (3, 3), (0, 3), (-1, 3)])
def test_phases_must_increase(low, high):
    """Equal or swapped phases have no inverse, and a phase of 0 no logarithm."""
    with pytest.raises(ValueError, match="0 < low < high"):
        TwoPhase(low, high)


def test_padding_must_hold_the_field():
    """A torus smaller than the field would cut it."""
    with pytest.raises(ValueError, match="does not fit"):
        LogNormal(0.0, (3, 4), (6, 3))
