"""Who finds both modes, and in the right proportion?

The prior is an even mixture of N((−2, −1), I/4) and N((2, 1), I/4), and the datum y = x_2 + e = 0.4, e ~ N(0, 1),
leaves both modes open: the posterior has 65 % of its mass in the right one, and x_2 within it has the mean 0.88 and the
variance 0.2. Both modes are found by all; what differs is how many of the samples go to which:

    share of the right mode    posterior    0.655        mean and variance of x_2 there    0.88    0.200
    twisted SMC, 16 particles               0.66                                           0.87    0.19
    Monte Carlo, K = 64                     0.63                                           0.87    0.18
    moment matching                         0.61                                           0.86    0.18
    renoise, not perturbed, churn 1         0.61                                           0.86    0.17
    renoise (flagship)                      0.59                                           0.90    0.20
    ΠGDM                                    0.58                                           0.88    0.18
    DDRM                                    0.56                                           0.79    0.05
    DiffPIR                                 0.55                                           0.80    0.16
    DAPS                                    0.55                                           0.86    0.27
    DPS                                     0.71                                           0.85    0.18

The choice falls at the levels where x_t no longer has two minds, and depends on what a method makes of x_0 | x_t there,
which is two clusters. One Gaussian of the right moments is the best that one Gaussian can be; r_t² I hears too little
of the datum, DPS too much.
"""

import pytest
import torch
from closed_forms import LinearLikelihood, mixture_posterior

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.mixture import GaussianMixtureDenoiser
from pdediff.guidance.daps import DAPS
from pdediff.guidance.ddrm import DDRM
from pdediff.guidance.diffpir import DiffPIR
from pdediff.guidance.dps import DPS
from pdediff.guidance.moments import MomentMatching
from pdediff.guidance.monte_carlo import MonteCarlo
from pdediff.guidance.pigdm import PiGDM
from pdediff.guidance.renoise import Annealing, renoise
from pdediff.guidance.twisted_smc import TwistedSMC
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.schedules import VESchedule, levels
from pdediff.spaces import FunctionSpace

F64, N, VARIANCE = torch.float64, 1000, 0.25
SPACE, SCHEDULE = FunctionSpace(("x",), (1, 2)), VESchedule()
MEANS, WEIGHTS = torch.tensor([[-2.0, -1.0], [2.0, 1.0]], dtype=F64), torch.tensor([0.5, 0.5], dtype=F64)
FIELD = CosineField((1, 2), torch.full((1, 2), VARIANCE))
PRIOR = GaussianMixtureDenoiser(tuple(GaussianDenoiser(FIELD, SPACE, mean[None], SCHEDULE) for mean in MEANS), WEIGHTS)
DATUM = LinearLikelihood(torch.tensor([[0.0, 1.0]], dtype=F64), torch.tensor([0.4], dtype=F64))
COVARIANCES = VARIANCE * torch.eye(2, dtype=F64).expand(2, 2, 2)


def sampled(posterior):
    """Ancestral sampling along 60 levels."""

    def draw(generators):
        method, (s_min, s_max) = posterior(generators), PRIOR.noise_range
        times = levels(SCHEDULE, s_max, s_min, 60)
        return DDIM(1.0)(method, pure_noise(method, times[0], generators), times, generators)

    return draw


def flagship(**settings):
    return lambda generators: renoise(PRIOR, DATUM, generators, Annealing(levels=40, **settings))


METHODS = {  # who, and share, mean and variance as documented
    "moments": (sampled(lambda generators: MomentMatching(PRIOR, DATUM)), 0.61, 0.86, 0.18),
    "monte-carlo": (sampled(lambda generators: MonteCarlo(PRIOR, DATUM, generators)), 0.63, 0.87, 0.18),
    "renoise": (flagship(), 0.59, 0.90, 0.20),
    "renoise-mode": (flagship(perturb=False, churn=1.0), 0.61, 0.86, 0.17),
    "pigdm": (sampled(lambda generators: PiGDM(PRIOR, DATUM, sigma_data=2.0)), 0.58, 0.88, 0.18),
    "ddrm": (DDRM(PRIOR, DATUM), 0.56, 0.79, 0.05),
    "diffpir": (sampled(lambda generators: DiffPIR(PRIOR, DATUM)), 0.55, 0.80, 0.16),
    "daps": (DAPS(PRIOR, DATUM, levels=25, langevin_steps=25, sigma_data=2.0), 0.55, 0.86, 0.27),
    "smc": (TwistedSMC(PRIOR, DATUM, particles=16, levels=40), 0.66, 0.87, 0.19),
    "dps": (sampled(lambda generators: DPS(PRIOR, DATUM)), 0.71, 0.85, 0.18),
}


def test_the_posterior():
    """The numbers of the module's first line."""
    weights, means, covariances = mixture_posterior(WEIGHTS, MEANS, COVARIANCES, DATUM.operator, DATUM.y)
    assert float(weights[1]) == pytest.approx(0.655, abs=5e-4)
    assert float(means[1, 1]) == pytest.approx(0.88)
    assert float(covariances[1, 1, 1]) == pytest.approx(0.2)


@pytest.mark.methods
@pytest.mark.parametrize(("draw", "share", "mean", "variance"), METHODS.values(), ids=METHODS)
def test_proportion_of_the_modes(draw, share, mean, variance):
    """The table of the module, from 1000 samples: each number to 4 deviations of Monte-Carlo error and its rounding."""
    z = draw(Generators(1, range(N))).double()
    right = z @ MEANS[1] > 0
    x = z[right, 1]
    assert float(right.double().mean()) == pytest.approx(share, abs=0.005 + 4 * (share * (1 - share) / N) ** 0.5)
    assert float(x.mean()) == pytest.approx(mean, abs=0.005 + 4 * (variance / len(x)) ** 0.5)
    assert float(x.var()) == pytest.approx(variance, abs=0.005 + 4 * variance * (2 / len(x)) ** 0.5)
