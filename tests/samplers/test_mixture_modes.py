"""Who finds both modes of a mixture in the right proportion, and each with its own width. Float64.

0.25 N(m_1, 0.3² I) + 0.75 N(m_2, 0.3² I) in 16 dimensions, the means 4 apart: fourteen standard deviations. Samplers
start from pure noise at s_max = 40, where the modes are one, and end at s_min = 0.02.
"""

import pytest
import torch
from gaussian_modes import SCHEDULES, BulkNoise

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.mixture import GaussianMixtureDenoiser
from pdediff.noise import Generators
from pdediff.samplers.annealed_langevin import AnnealedLangevin
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.ddpm import DDPM
from pdediff.samplers.euler_maruyama import EulerMaruyama
from pdediff.samplers.heun import Heun
from pdediff.samplers.langevin import Langevin
from pdediff.samplers.predictor_corrector import PredictorCorrector
from pdediff.schedules import levels
from pdediff.spaces import FunctionSpace

pytestmark = pytest.mark.methods
D, ROWS, SHARE, WIDTH = 16, 1000, 0.25, 0.3
FOUR_ERRORS = 4 * (SHARE * (1 - SHARE) / ROWS) ** 0.5  # 5.5 %


def draw(sampler, schedule, count):
    """The share of the first mode, and the standard deviation within modes, of ROWS samples."""
    space = FunctionSpace(("x",), (4, 4), noise=BulkNoise(ROWS))
    field = CosineField((4, 4), torch.full((4, 4), WIDTH**2))
    means = (-3.0 / D**0.5, 1.0 / D**0.5)  # constant fields of length 3 and 1: the mean of the mixture is 0
    components = tuple(GaussianDenoiser(field, space, mean, schedule) for mean in means)
    model = GaussianMixtureDenoiser(components, torch.tensor([SHARE, 1 - SHARE]))
    times = levels(schedule, 40.0, 0.02, count)
    x_0 = sampler(model, pure_noise(model, times[0], Generators(0, []), torch.float64), times, Generators(0, []))
    first = x_0.mean(dim=1) < -1 / D**0.5
    spread = torch.where(first[:, None], x_0 - means[0], x_0 - means[1])
    return float(first.double().mean()), float(spread.square().mean().sqrt())


@pytest.mark.parametrize(
    ("sampler", "schedule", "expected", "within"),
    [
        (DDIM(), "ve", SHARE, 0.04),
        (DDPM(), "vp", SHARE, 0.06),
        (EulerMaruyama(), "vp", SHARE, 0.06),
        (Heun(), "cosine", SHARE, 0.01),
        (AnnealedLangevin(), "ve", 0.277, 0.06),
        (PredictorCorrector(), "ve", SHARE, 0.06),
    ],
    ids=lambda value: str(value) if isinstance(value, str | float) else type(value).__name__,
)
def test_ladders_find_both(sampler, schedule, expected, within):
    """80 levels: the share to four standard errors, the width to the sampler's bias.

    Annealed Langevin lags behind the falling noise, and so do its shares (0.277, known from 8000 samples to 0.005).
    """
    share, width = draw(sampler, SCHEDULES[schedule], 80)
    assert share == pytest.approx(expected, abs=FOUR_ERRORS)
    assert width == pytest.approx(WIDTH, rel=within)


def test_one_level_does_not():
    """Langevin at s_min alone, from the same start: 200 steps later half of the samples are on either side, far out."""
    share, width = draw(Langevin(200, 1.0), SCHEDULES["ve"], 80)
    assert share == pytest.approx(0.5, abs=FOUR_ERRORS)
    assert width > 10 * WIDTH
