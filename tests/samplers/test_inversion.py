"""DDIM inversion: the round trip, the latent of a Gaussian prior, and what latents are good for. Float64."""

import numpy as np
import pytest
import torch
from gaussian_modes import LAMBDA, ONES, PRIOR, SCHEDULES, SHAPE, D, to_modes

from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.noise import Generators
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.heun import Heun
from pdediff.samplers.inversion import invert
from pdediff.schedules import levels
from pdediff.spaces import FunctionSpace

pytestmark = pytest.mark.methods
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
S_MAX = 20.0


def problem(count, schedule=SCHEDULES["ve"], s_min=0.001):
    """A denoiser of N(m, C), a ladder, and three fields of the prior."""
    mean = PRIOR.from_basis(ONES)
    model = GaussianDenoiser(PRIOR, FunctionSpace(("x",), SHAPE), mean, schedule)
    xi = Generators(0, range(3)).normal(D, dtype=torch.float64).unflatten(-1, SHAPE)
    return model, levels(schedule, S_MAX, s_min, count), (mean + PRIOR.from_basis(LAMBDA.sqrt() * xi)).flatten(1)


@pytest.mark.parametrize(("flow", "order"), [(DDIM(), 1), (Heun(), 3)], ids=["ddim", "heun"])
@every_schedule
def test_round_trip(flow, order, schedule):
    """x_0 → x_T → x_0 errs by order 1 in the levels with DDIM, 3 with Heun: fitted over 40 to 160, within 0.25."""
    counts, errors = [40, 80, 160], []
    for count in counts:
        model, times, x_0 = problem(count, schedule)
        again = flow(model, invert(model, x_0, times, flow), times, Generators(0, range(3)))
        errors.append(float((again - x_0).norm() / x_0.norm()))
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(order, abs=0.25)


@every_schedule
def test_latent_of_a_gaussian_prior(schedule):
    """x_T/alpha_T − m = (x_0 − m) √((λ + s_max²)/λ) in every mode: Heun with 200 levels, to 5e-4; DDIM to 2 %."""
    model, times, x_0 = problem(200, schedule)
    expected = (to_modes(x_0) - ONES) * ((LAMBDA + S_MAX**2) / LAMBDA).sqrt()
    for flow, within in ((Heun(), 5e-4), (None, 0.02)):
        found = to_modes(invert(model, x_0, times, flow) / schedule(times[0])[0]) - ONES
        assert float(((found - expected) / expected).abs().max()) < within


def test_bottom_of_the_ladder():
    """However many levels, the round trip keeps 1 − (s²/(λ + s²))² of x_0 − m: s_min = 0.1, 400 levels, to 2e-5."""
    model, times, x_0 = problem(400, s_min=0.1)
    again = Heun()(model, invert(model, x_0, times, Heun()), times, Generators(0, range(3)))
    kept = (to_modes(again) - ONES) / (to_modes(x_0) - ONES)
    expected = (1 - (0.01 / (LAMBDA + 0.01)) ** 2).expand_as(kept)
    torch.testing.assert_close(kept, expected, rtol=2e-5, atol=0)


def test_interpolation_in_the_latent():
    """Between two fields of the prior: z_w = √(1 − w) z_1 + √w z_2 of their latents is one of the prior again.

    With z = (x_T/alpha_T − m)/√(λ + s_max²), the field of z_w has the modes m + √λ z_w; the straight line between the
    fields has half of the prior's variance in its middle.
    """
    model, times, x_0 = problem(200)
    width = (LAMBDA + S_MAX**2).sqrt()
    z = (to_modes(invert(model, x_0, times, Heun())) - ONES) / width
    latent = ONES + width * (0.5**0.5 * z[0] + 0.5**0.5 * z[1])
    found = to_modes(Heun()(model, PRIOR.from_basis(latent).reshape(1, D), times, Generators(0, [0])))
    first, second, _ = to_modes(x_0) - ONES
    torch.testing.assert_close(found[0] - ONES, 0.5**0.5 * (first + second), rtol=0, atol=1e-3)


def test_variation_of_a_field():
    """A field is varied within the prior: z' = √(1 − w²) z + w g. Then x_0' − m = √(1 − w²) (x_0 − m) + w √λ g."""
    model, times, x_0 = problem(200)
    width, w = (LAMBDA + S_MAX**2).sqrt(), 0.3
    g = to_modes(Generators(5, range(3)).normal(D, dtype=torch.float64))
    z = (to_modes(invert(model, x_0, times, Heun())) - ONES) / width
    varied = PRIOR.from_basis(ONES + width * ((1 - w**2) ** 0.5 * z + w * g)).flatten(1)
    found = to_modes(Heun()(model, varied, times, Generators(0, range(3)))) - ONES
    torch.testing.assert_close(
        found, (1 - w**2) ** 0.5 * (to_modes(x_0) - ONES) + w * LAMBDA.sqrt() * g, rtol=0, atol=1e-3
    )


def test_batch_mates_do_not_matter():
    """The latent of a field alone and beside others is the same."""
    model, times, x_0 = problem(20)
    torch.testing.assert_close(invert(model, x_0[1:2], times)[0], invert(model, x_0, times)[1], rtol=1e-12, atol=1e-12)


def test_only_deterministic_flows():
    """A stochastic step has no inverse."""
    model, times, x_0 = problem(5)
    with pytest.raises(ValueError, match=r"not eta = 0\.5"):
        invert(model, x_0, times, DDIM(0.5))
