"""What holds of every sampler in every schedule: its order, the independence of samples and of schedules, progress."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from gaussian_modes import SCHEDULES, law
from torch import Tensor

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.noise import Generators
from pdediff.samplers.annealed_langevin import AnnealedLangevin
from pdediff.samplers.base import finite, pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.ddpm import DDPM
from pdediff.samplers.euler_maruyama import EulerMaruyama
from pdediff.samplers.heun import Heun
from pdediff.samplers.langevin import Langevin
from pdediff.samplers.predictor_corrector import PredictorCorrector
from pdediff.schedules import levels
from pdediff.solvers.errors import ConvergenceError
from pdediff.spaces import FunctionSpace

SHAPE, D = (4, 6), 24
VE, FUNCTIONAL = SCHEDULES["ve"], SCHEDULES["functional"]
K2 = torch.arange(4.0)[:, None] ** 2 + torch.arange(6.0) ** 2
PRIOR = CosineField(SHAPE, 20 / (1 + K2) ** 1.5)
SPACE = FunctionSpace(("x",), SHAPE)
INVARIANT = {  # the same function of x_T/alpha_T, the ratios s and the noise, whatever the schedule
    "ddim": DDIM(),
    "ddim half": DDIM(0.5),
    "ddim one": DDIM(1.0),
    "ddpm": DDPM(),
    "heun": Heun(),
    "langevin": Langevin(20),
    "gradient": Langevin(20, noise=False),
    "annealed langevin": AnnealedLangevin(2, 0.5),
    "predictor corrector": PredictorCorrector(),
    "heun corrector": PredictorCorrector(0.1, 2, Heun()),
}
SAMPLERS = INVARIANT | {"ddpm beta": DDPM("beta"), "euler maruyama": EulerMaruyama()}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def draw(sampler, indices, schedule=VE, count=10, dtype=torch.float32, mean=0.7):
    """Samples of a run, from pure noise."""
    model, times = GaussianDenoiser(PRIOR, SPACE, mean, schedule), levels(schedule, 30.0, 0.05, count)
    generators = Generators(3, indices)
    return sampler(model, pure_noise(model, times[0], generators, dtype), times, generators)


ORDERS = {
    "ddim": (DDIM(), 1),
    "ddim half": (DDIM(0.5), 1),
    "ddpm": (DDPM(), 1),
    "ddpm beta": (DDPM("beta"), 1),
    "euler maruyama": (EulerMaruyama(), 1),
    "heun": (Heun(), 2),
    "annealed langevin": (AnnealedLangevin(2, 1.5), 1),
}


@pytest.mark.methods
@every_schedule
@pytest.mark.parametrize(("sampler", "order"), ORDERS.values(), ids=ORDERS)
def test_orders(sampler, order, schedule):
    """Mean and variance of every mode of a Gaussian prior tend to the exact ones, at the sampler's (weak) order.

    The largest error of either, by mode; the order is fitted over 40 to 160 levels, to within 0.2.
    """
    counts, errors = [40, 80, 160], []
    for count in counts:
        mean, variance = law(sampler, levels(schedule, 20.0, 0.02, count), schedule)
        errors.append(float(torch.stack([mean - 1, variance - 1]).abs().max()))
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("schedule", list(SCHEDULES.values())[1:], ids=list(SCHEDULES)[1:])
@pytest.mark.parametrize("sampler", INVARIANT.values(), ids=INVARIANT)
def test_schedules_are_interchangeable(sampler, schedule):
    """The same noise gives the same x_0 in the variance-exploding schedule and in any other, to rounding.

    Not so `DDPM("beta")`, whose variance belongs to a schedule, nor Euler's rule in the schedule's own time.
    """
    expected, found = (draw(sampler, range(3), one, dtype=torch.float64) for one in (VE, schedule))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@dataclass(frozen=True)
class ScaledNoise:
    """g = w ξ, cell by cell."""

    w: Tensor

    def sample(self, generators, dimension, dtype, device):
        return self.w.to(dtype) * generators.normal(dimension, dtype=dtype)

    def covariance(self, v):
        return self.w.to(v) ** 2 * v


@pytest.mark.parametrize("name", [name for name in SAMPLERS if "corrector" not in name])
def test_any_noise_law(name):
    """x = w z, with z and its noise white: from w x_T every sampler draws w times what it draws of z from x_T.

    Correctors measure the lengths of ε̂ and g, which w changes; they are right for any law, but other numbers.
    """
    white, times = GaussianDenoiser(PRIOR, SPACE, 0.7), levels(FUNCTIONAL, 30.0, 0.05, 10)
    w = torch.linspace(0.5, 2, D, dtype=torch.float64)

    class Scaled:
        space, schedule = FunctionSpace(("x",), SHAPE, noise=ScaledNoise(w)), FUNCTIONAL

        def __call__(self, x_t, t):
            return w * white(x_t / w, t)

    x_T = pure_noise(white, times[0], Generators(0, range(2)), torch.float64)
    expected = w * SAMPLERS[name](white, x_T, times, Generators(1, range(2)))
    found = SAMPLERS[name](Scaled(), w * x_T, times, Generators(1, range(2)))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@every_sampler
def test_a_sample_does_not_depend_on_its_batch(sampler):
    """Sample 5 of a run, alone and in a batch of 8, is the same to rounding in float32; the rest differ from it."""
    batch, alone = draw(sampler, range(8)), draw(sampler, [5])
    torch.testing.assert_close(alone[0], batch[5], rtol=0, atol=1e-4)
    assert float((batch - alone).abs().amax(dim=1).sort().values[1]) > 0.1


@every_sampler
def test_in_inference_mode(sampler):
    """Callers switch differentiation off, and get the same samples."""
    expected = draw(sampler, range(2))
    with torch.inference_mode():
        found = draw(sampler, range(2))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_precision_of_the_start(sampler, dtype):
    """x_0 is in the dtype of x_T, although times are float64."""
    assert draw(sampler, range(2), dtype=dtype).dtype == dtype


@every_sampler
def test_evaluations_and_progress(sampler):
    """The denoiser is called as often as `evaluations` says, at falling levels down to the last; progress counts them.

    `Langevin` stays at the last level, and counts its steps.
    """
    model, times, calls, seen = GaussianDenoiser(PRIOR, SPACE), levels(FUNCTIONAL, 30.0, 0.05, 7), [], []

    class Counting:
        space, schedule = model.space, model.schedule

        def __call__(self, x_t, t):
            calls.append(float(t))
            return model(x_t, t)

    generators = Generators(0, [0])
    sampler(Counting(), pure_noise(model, times[0], generators), times, generators, lambda *done: seen.append(done))
    assert len(calls) == sampler.evaluations(7)
    assert calls == sorted(calls, reverse=True)
    assert calls[-1] == times[-1]
    count = sampler.evaluations(7) if isinstance(sampler, Langevin) else 7
    assert seen == [(done, count) for done in range(1, count + 1)]


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not isinstance(SAMPLERS[name], Langevin)])
def test_one_level_is_the_denoiser(name):
    """On a ladder of one level x_0 = E[x_0 | x_T]; but for `Langevin`, which works there."""
    sampler = SAMPLERS[name]
    model, t = GaussianDenoiser(PRIOR, SPACE), torch.tensor([0.3], dtype=torch.float64)
    x_T = pure_noise(model, t[0], Generators(0, range(2)))
    torch.testing.assert_close(sampler(model, x_T, t, Generators(1, range(2))), model(x_T, t[0]), rtol=1e-6, atol=1e-6)


@every_sampler
def test_fields_that_are_not_finite_are_an_error(sampler):
    """A denoiser that fails is not passed over in silence."""

    class Broken(GaussianDenoiser):
        def __call__(self, x_t, t):
            x_0 = super().__call__(x_t, t)
            x_0[1] = torch.nan
            return x_0

    model, times = Broken(PRIOR, SPACE), levels(FUNCTIONAL, 30.0, 0.05, 3)
    x_T = pure_noise(model, times[0], Generators(0, range(3)))
    with pytest.raises(ConvergenceError, match="1 of 3 samples are not finite"):
        sampler(model, x_T, times, Generators(1, range(3)))


def test_finite_returns_what_it_is_given():
    """Finite samples pass."""
    x_0 = torch.ones(2, 3)
    assert finite(x_0) is x_0


def test_pure_noise():
    """sigma_T g, in the precision asked for, each row from its own generator."""
    model, t = GaussianDenoiser(PRIOR, SPACE), torch.tensor(3.0, dtype=torch.float64)
    x_T = pure_noise(model, t, Generators(0, [4, 7]), torch.float64)
    torch.testing.assert_close(x_T, 3 / 10**0.5 * Generators(0, [4, 7]).normal(D, dtype=torch.float64))
    assert pure_noise(model, t, Generators(0, [4, 7])).dtype == torch.float32
