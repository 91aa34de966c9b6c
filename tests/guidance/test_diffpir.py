"""DiffPIR: the proximal step by dense algebra, and the documented bias of the guided flow on Gaussian modes."""

from itertools import pairwise

import pytest
import torch
from closed_forms import LinearLikelihood, gaussian_problem
from unit_modes import unit_prior

from pdediff.guidance.diffpir import DiffPIR
from pdediff.guidance.proximal import InnerSolve
from pdediff.noise import Generators
from pdediff.samplers.heun import Heun
from pdediff.schedules import VESchedule, levels

F64, VE = torch.float64, VESchedule()
SOLVED = InnerSolve(iterations=60, reduction=1e-9)
RATIOS = torch.tensor([0.5, 1.0 + 1e-6, 2.0, 5.0], dtype=F64)  # the formulas have a removable singularity at R² = λ


def modes(lambda_=1.0):
    return DiffPIR(unit_prior(4), LinearLikelihood(RATIOS.diag(), RATIOS), lambda_)


def test_is_the_proximal_step():
    """argmin ½‖H z − y‖² + λ‖z − x̂_0‖²/(2 s²) by the normal equations, each row at its own time."""
    problem = gaussian_problem((4, 4), points=3, averages=3)
    h, y, t = problem.likelihood.operator, problem.likelihood.y, torch.tensor([0.1, 1.0, 10.0], dtype=F64)
    x_t = torch.randn(3, 16, generator=torch.Generator().manual_seed(1), dtype=F64)
    x_0 = problem.denoiser(x_t, t)
    found = DiffPIR(problem.denoiser, problem.likelihood, 3.0, SOLVED)(x_t, t)
    for row, s in enumerate(t):
        weight = 3.0 / s**2
        expected = torch.linalg.solve(h.T @ h + weight * torch.eye(16, dtype=F64), h.T @ y + weight * x_0[row])
        torch.testing.assert_close(found[row], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.methods
@pytest.mark.parametrize("lambda_", [1.0, 7.0])
def test_bias_of_the_deterministic_flow(lambda_):
    """Variance c^(c/(1−c)), c = R²/λ, for a posterior of 1/(1 + R²): Heun with 200 levels from s = 1000, to 0.5 %."""
    starts = torch.tensor([0.0, 1e3], dtype=F64)[:, None].expand(2, 4)
    low, high = Heun()(modes(lambda_), starts, levels(VE, 1e3, 1e-3, 200), Generators(0, [0]))
    c = RATIOS**2 / lambda_
    torch.testing.assert_close((high - low) ** 2, c ** (c / (1 - c)), rtol=5e-3, atol=0)


@pytest.mark.methods
@pytest.mark.parametrize("lambda_", [1.0, 7.0])
def test_bias_of_ancestral_sampling(lambda_):
    """Mean 1 − c^(c/(1−c)) and variance (1 − c^((1+c)/(1−c)))/(1 + c): DDIM(1), to 1.5 %.

    Each step of a mode is affine, x ← a x + b + tau g, along 200 and 400 levels from s = 200 to 0.003, extrapolated.
    """
    method, moments = modes(lambda_), []
    for count in (200, 400):
        times = levels(VE, 200.0, 3e-3, count)
        x = torch.tensor([0.0, 1.0], dtype=F64)[:, None].expand(2, 4)
        mean, variance = torch.zeros(4, dtype=F64), torch.full((4,), 200.0**2, dtype=F64)
        for t, s in pairwise(times):
            b, ab = (z + (s / t) ** 2 * (x_t - z) for x_t, z in zip(x, method(x, t), strict=True))
            mean, variance = b + (ab - b) * mean, (ab - b) ** 2 * variance + s**2 * (1 - (s / t) ** 2)
        moments.append(torch.stack([mean, variance]))
    mean, variance = 2 * moments[1] - moments[0]
    c = RATIOS**2 / lambda_
    torch.testing.assert_close(mean, 1 - c ** (c / (1 - c)), rtol=0.015, atol=0)
    torch.testing.assert_close(variance, (1 - c ** ((1 + c) / (1 - c))) / (1 + c), rtol=0.015, atol=0)


@pytest.mark.methods
def test_documented_numbers():
    """At R = 1 and λ = 1: variances 0.43 and 0.37 for 0.5, mean 0.63 for 0.5; precise data have their right width."""
    c = torch.tensor(1 + 1e-9, dtype=F64)
    assert float((1 - c ** ((1 + c) / (1 - c))) / (1 + c)) == pytest.approx(0.43, abs=0.005)
    assert float(c ** (c / (1 - c))) == pytest.approx(0.37, abs=0.005)
    assert float(1 - c ** (c / (1 - c))) == pytest.approx(0.63, abs=0.005)
    starts = torch.tensor([0.0, 1e3], dtype=F64)[:, None]
    for lambda_ in (1.0, 7.0):
        method = DiffPIR(unit_prior(1), LinearLikelihood(torch.full((1, 1), 100.0), torch.tensor([100.0])), lambda_)
        low, high = Heun()(method, starts, levels(VE, 1e3, 1e-4, 200), Generators(0, [0]))
        assert float((high - low) ** 2) * 100**2 == pytest.approx(lambda_, rel=0.02)


def test_a_sample_does_not_depend_on_its_batch():
    """Row 5 at its own time, alone and among 8; in float32 its type is kept."""
    problem, t = gaussian_problem(), torch.logspace(-1, 1, 8, dtype=F64)
    method, x_t = DiffPIR(problem.denoiser, problem.likelihood), torch.randn(8, 64, dtype=F64)
    batch = method(x_t, t)
    torch.testing.assert_close(method(x_t[5:6], float(t[5]))[0], batch[5], rtol=1e-9, atol=1e-9)
    assert method(x_t.float(), 1.0).dtype == torch.float32


def test_refusal():
    """A weight that is not positive."""
    with pytest.raises(ValueError, match=r"lambda of DiffPIR must be positive, got 0.0"):
        modes(0.0)
