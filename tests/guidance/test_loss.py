"""Guidance by a loss: DPS is the case of the misfit; a loss on an average moves the average, and as far as it says."""

import pytest
import torch
from closed_forms import gaussian_problem
from test_pigdm import points
from unit_modes import unit_prior

from pdediff.guidance.dps import DPS
from pdediff.guidance.loss import LossGuidance
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.schedules import VESchedule, levels

F64 = torch.float64


@pytest.mark.parametrize("t", [0.1, 1.0, 10.0])
def test_dps_is_guidance_by_the_misfit(t):
    """L = −log p(y | x_0) with w = 1 is DPS, to the bit; with another w the shift is w times as long."""
    problem, x_t = gaussian_problem(), points(64)
    dps = DPS(problem.denoiser, problem.likelihood)(x_t, t)
    assert torch.equal(LossGuidance(problem.denoiser, lambda x: -problem.likelihood.log_prob(x))(x_t, t), dps)
    tripled = LossGuidance(problem.denoiser, lambda x: -problem.likelihood.log_prob(x), scale=3.0)(x_t, t)
    x_0 = problem.denoiser(x_t, t)
    torch.testing.assert_close(tripled - x_0, 3 * (dps - x_0), rtol=1e-9, atol=1e-9)


@pytest.mark.methods
def test_a_loss_on_the_average():
    """L = (mean(x) − 1)² of five independent unit values with w = 2.5 is a datum of R² = 2w/5 = 1 on √5 mean(x).

    Ancestral sampling gives it the mean 1 − exp(−R²) and the variance (1 − exp(−2R²))/(2R²) of DPS, in units of the
    prior's; 1000 samples of 150 levels, to 4 deviations of Monte-Carlo error and 3 % for the levels. What is orthogonal
    to it stays as the prior has it, but for the 1 % to 2 % that the levels lack.
    """
    prior, n = unit_prior(5), 1000
    method = LossGuidance(prior, lambda x: (x.mean(dim=-1) - 1).square(), scale=2.5)
    generators, times = Generators(1, range(n)), levels(VESchedule(), 50.0, 0.01, 150)
    x = DDIM(1.0)(method, pure_noise(method, times[0], generators), times, generators).double()
    e = torch.exp(torch.tensor(-1.0))
    average, variance = x.mean(dim=1), (1 - e**2) / 2
    assert float(average.mean()) == pytest.approx(float(1 - e), abs=0.03 + 4 * float(variance / 5 / n) ** 0.5)
    assert 5 * float(average.var()) / float(variance) == pytest.approx(1, abs=0.03 + 4 * (2 / n) ** 0.5)
    rest = x - average[:, None]
    assert float(rest.square().sum() / (4 * n)) == pytest.approx(1, abs=0.03 + 4 * (2 / (4 * n)) ** 0.5)


def test_a_sample_does_not_depend_on_its_batch():
    """Row 5 alone and among 8; and whatever the caller says of gradients."""
    problem, x_t = gaussian_problem(), points(64, 8)
    method = LossGuidance(problem.denoiser, lambda x: x.abs().sum(dim=-1), scale=0.1)
    batch = method(x_t, 1.0)
    torch.testing.assert_close(method(x_t[5:6], 1.0)[0], batch[5], rtol=1e-12, atol=1e-12)
    with torch.inference_mode():
        assert torch.equal(method(x_t.clone(), 1.0), batch)
