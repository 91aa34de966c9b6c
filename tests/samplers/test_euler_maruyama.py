"""Euler–Maruyama on the reverse process: its coefficients, its order and its bias."""

import pytest
import torch
from gaussian_modes import LAMBDA, SCHEDULES, even_ladder, law

from pdediff.samplers.euler_maruyama import EulerMaruyama, coefficients

pytestmark = pytest.mark.methods
T = torch.tensor([0.01, 0.2, 0.5, 0.9], dtype=torch.float64)


def test_coefficients_in_closed_form():
    """f, g² = 0, 2t (exploding); −t/(1 + t²), 2t/(1 + t²) (functional); −beta/2, beta (VP, beta linear in t)."""
    beta = 0.1 + 19.9 * T
    expected = {
        "ve": (0 * T, 2 * T),
        "functional": (-T / (1 + T**2), 2 * T / (1 + T**2)),
        "vp": (-beta / 2, beta),
    }
    for name, pair in expected.items():
        torch.testing.assert_close(coefficients(SCHEDULES[name], T), pair, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_coefficients_make_the_schedule(schedule):
    """d alpha/dt = f alpha and d sigma²/dt = 2 f sigma² + g², by central differences, to their h² (h = 1e-5)."""
    f, g2 = coefficients(schedule, T)
    (alpha_t, sigma_t), (above, below) = schedule(T), (schedule(T + h) for h in (1e-5, -1e-5))
    torch.testing.assert_close((above[0] - below[0]) / 2e-5, f * alpha_t, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close((above[1] ** 2 - below[1] ** 2) / 2e-5, 2 * f * sigma_t**2 + g2, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_coefficients_whatever_the_caller_does(mode):
    """Differentiation of the schedule works where gradients are switched off."""
    with mode():
        found = coefficients(SCHEDULES["vp"], T.clone())
    torch.testing.assert_close(found, coefficients(SCHEDULES["vp"], T), rtol=0, atol=0)


def test_bias_of_the_variance():
    """In the exploding schedule, on an even ladder, Var(x_0)/λ − 1 = κ/2 whatever λ (to 5 %), and the mean is exact."""
    times, kappa = even_ladder(400)
    mean, ratio = law(EulerMaruyama(), times)
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=1e-9, atol=0)
    torch.testing.assert_close((ratio - 1) / kappa, torch.full_like(LAMBDA, 0.5), rtol=0.05, atol=0)
