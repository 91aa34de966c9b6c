"""What holds of every sampler: schedules are interchangeable, samples are independent, the caller is kept informed."""

import pytest
import torch

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.noise import Generators
from pdediff.samplers.base import finite, pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.heun import Heun
from pdediff.schedules import FunctionalSchedule, VESchedule, levels
from pdediff.solvers.errors import ConvergenceError
from pdediff.spaces import FunctionSpace

SHAPE, D = (4, 6), 24
VE, FUNCTIONAL = VESchedule(), FunctionalSchedule()
K2 = torch.arange(4.0)[:, None] ** 2 + torch.arange(6.0) ** 2
PRIOR = CosineField(SHAPE, 20 / (1 + K2) ** 1.5)
SPACE = FunctionSpace(("x",), SHAPE)
SAMPLERS = {"ddim": DDIM(), "ddim half": DDIM(0.5), "ddpm": DDIM(1.0), "heun": Heun()}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def draw(sampler, indices, schedule=VE, count=10, dtype=torch.float32, mean=0.7):
    """Samples of a run, from pure noise."""
    model, times = GaussianDenoiser(PRIOR, SPACE, mean, schedule), levels(schedule, 30.0, 0.05, count)
    generators = Generators(3, indices)
    return sampler(model, pure_noise(model, times[0], generators, dtype), times, generators)


@every_sampler
def test_schedules_are_interchangeable(sampler):
    """The same noise gives the same x_0 in the variance-exploding and in the functional schedule, to rounding."""
    ve = draw(sampler, range(3), VE, dtype=torch.float64)
    functional = draw(sampler, range(3), FUNCTIONAL, dtype=torch.float64)
    torch.testing.assert_close(functional, ve, rtol=1e-10, atol=1e-10)


@every_sampler
def test_a_sample_does_not_depend_on_its_batch(sampler):
    """Sample 5 of a run, alone and in a batch of 8, is the same to rounding in float32; the rest differ from it."""
    batch, alone = draw(sampler, range(8)), draw(sampler, [5])
    torch.testing.assert_close(alone[0], batch[5], rtol=0, atol=1e-4)
    assert float((batch - alone).abs().amax(dim=1).sort().values[1]) > 0.1


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_precision_of_the_start(sampler, dtype):
    """x_0 is in the dtype of x_T, although times are float64."""
    assert draw(sampler, range(2), dtype=dtype).dtype == dtype


@every_sampler
def test_evaluations_and_progress(sampler):
    """The denoiser is called as often as `evaluations` says; progress counts the levels to the last, in order."""
    model, times, calls, seen = GaussianDenoiser(PRIOR, SPACE), levels(FUNCTIONAL, 30.0, 0.05, 7), [], []

    class Counting:
        space, schedule = model.space, model.schedule

        def __call__(self, x_t, t):
            calls.append(float(t))
            return model(x_t, t)

    generators = Generators(0, [0])
    sampler(Counting(), pure_noise(model, times[0], generators), times, generators, lambda *done: seen.append(done))
    assert len(calls) == sampler.evaluations(7)
    assert (calls[0], calls[-1]) == (float(times[0]), float(times[-1]))
    assert seen == [(level, 7) for level in range(1, 8)]


@every_sampler
def test_one_level_is_the_denoiser(sampler):
    """On a ladder of one level x_0 = E[x_0 | x_T]."""
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
