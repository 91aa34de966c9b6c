"""Where the ladder starts: SDEdit and corrected noise, on Gaussian priors. Float64."""

import pytest
import torch
from gaussian_modes import LAMBDA, ONES, PRIOR, SCHEDULES, SHAPE, D, response, to_modes

from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.euler_maruyama import EulerMaruyama
from pdediff.samplers.heun import Heun
from pdediff.samplers.start import corrected_noise, levels_below, noised_start
from pdediff.schedules import levels, noise_to_signal
from pdediff.spaces import FunctionSpace

pytestmark = pytest.mark.methods
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
SPACE, VE = FunctionSpace(("x",), SHAPE), SCHEDULES["ve"]


@every_schedule
def test_levels_below(schedule):
    """The rest of the ladder from the first ratio that is not above s; asked for less than there is, it refuses."""
    times = levels(schedule, 20.0, 0.05, 12)
    below = levels_below(schedule, times, 1.0)
    assert torch.equal(below, times[-len(below) :])
    assert float(noise_to_signal(schedule, below[0])) <= 1.0 < float(noise_to_signal(schedule, times[-len(below) - 1]))
    with pytest.raises(ValueError, match=r"ends at a noise-to-signal ratio of 0\.05 > 0\.01"):
        levels_below(schedule, times, 0.01)


@every_schedule
def test_noised_start(schedule):
    """alpha_t x + sigma_t g, each row with its own generator, in the precision of x."""
    model, t = GaussianDenoiser(PRIOR, SPACE, schedule=schedule), schedule.time(torch.tensor(2.0, dtype=torch.float64))
    x, (alpha_t, sigma_t) = Generators(0, range(2)).normal(D, dtype=torch.float64), schedule(t)
    found = noised_start(model, x, t, Generators(1, [4, 7]))
    expected = alpha_t * x + sigma_t * Generators(1, [4, 7]).normal(D, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)
    assert noised_start(model, x.float(), t, Generators(1, [4, 7])).dtype == torch.float32


@pytest.mark.parametrize(
    ("sampler", "keeps", "draws", "within"),
    [
        (DDIM(eta=1.0), lambda q: q, lambda q: q * (1 + q), 0.02),
        (EulerMaruyama(), lambda q: q, lambda q: q * (1 + q), 0.02),
        (Heun(), lambda q: q.sqrt(), lambda q: q, 1e-3),
    ],
    ids=["ancestral", "reverse sde", "flow"],
)
def test_what_sdedit_keeps(sampler, keeps, draws, within):
    """From x noised to s = 0.7: E[x_0 | x] − m is q (x − m) if sampling is stochastic, √q (x − m) along the flow, and
    the variance of x_0 about it q (1 + q) s² or q s². With 400 levels from there on, to 2 % and 0.1 %.
    """
    s, q = 0.7, LAMBDA / (LAMBDA + 0.7**2)
    _, carried, drawn = response(sampler, levels(VE, s, 0.002, 400))  # x_t/alpha_t − m = (x − m) + s g
    torch.testing.assert_close(carried, keeps(q), rtol=within, atol=0)
    torch.testing.assert_close(carried**2 * s**2 + drawn, draws(q) * s**2, rtol=within, atol=0)


@every_schedule
def test_corrected_noise(schedule):
    """For N(m, λ) and q = λ/(λ + s²): mean alpha_T (1 − q) m, and of the standard deviation the share
    (1 + q/2) √(1 − q), exactly; at s = 2 √λ, where ladders of closed forms start, that is 98 %, and of pure noise 89 %.
    """
    model, s = GaussianDenoiser(PRIOR, SPACE, PRIOR.from_basis(ONES), schedule), 5.0
    t, q = schedule.time(torch.tensor(s, dtype=torch.float64)), LAMBDA / (LAMBDA + 25)
    found = to_modes(corrected_noise(model, t, Generators(0, range(3)), torch.float64))
    g = to_modes(pure_noise(model, t, Generators(0, range(3)), torch.float64))
    torch.testing.assert_close(found, schedule(t)[0] * (1 - q) * ONES + (1 + q / 2) * g, rtol=1e-10, atol=1e-12)


def test_corrected_noise_is_second_order():
    """What it leaves of the mean falls like s⁻² and of the deviation like s⁻⁴, for the coefficients of any denoiser.

    Here of a Gaussian one; pure noise leaves all of the mean, and s⁻² of the deviation.
    """
    q = LAMBDA.max() / (LAMBDA.max() + torch.tensor([10.0, 20.0], dtype=torch.float64) ** 2)
    deviation = 1 - (1 + q / 2) * (1 - q).sqrt()
    assert float(deviation[0] / deviation[1]) == pytest.approx(16, rel=0.1)
    assert corrected_noise(GaussianDenoiser(PRIOR, SPACE), torch.tensor(5.0), Generators(0, [0])).dtype == torch.float32
