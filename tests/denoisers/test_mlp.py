"""The perceptron for points: its limits without training, its condition, and what a short training reaches."""

import pytest
import torch

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.base import WhiteErrorLaw
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.mixture import GaussianMixtureDenoiser
from pdediff.denoisers.mlp import MLPDenoiser
from pdediff.schedules import VESchedule, VPSchedule
from pdediff.spaces import FunctionSpace

SPACE = FunctionSpace(("x",), (1, 2))


def denoiser(**settings):
    """Random weights, the last layer's included."""
    torch.manual_seed(0)
    model = MLPDenoiser(SPACE, 2.0, width=16, depth=2, mean=0.5, **settings).double()
    torch.nn.init.normal_(model.last.weight)
    return model


def points(batch=8):
    return torch.randn(batch, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_untrained_is_the_best_linear_denoiser():
    """D = m + sigma_data²/(sigma_data² + s²) (x − m), the closed form for N(m, sigma_data² I)."""
    model = MLPDenoiser(SPACE, 2.0, mean=0.5, schedule=VESchedule())
    gaussian = GaussianDenoiser(CosineField((1, 2), torch.full((1, 2), 4.0)), SPACE, 0.5, VESchedule())
    torch.testing.assert_close(model(points(), 1.5), gaussian(points(), 1.5), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_schedules_are_one_path():
    """D depends on x_t/alpha_t and s only, here to rounding of float64."""
    s, x = 0.8, points()
    vp = VPSchedule()
    found = denoiser(schedule=vp)(vp(vp.time(s))[0] * x, vp.time(s))
    torch.testing.assert_close(found, denoiser(schedule=VESchedule())(x, s), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_condition_and_null_token():
    """A label is its unit vector; −1 and NaN withhold a row's, None everyone's; a condition changes the answer."""
    model, x_t, k = denoiser(labels=3), points(), torch.tensor([0, 1, 2, -1, 0, 1, 2, -1])
    found, without = model(x_t, 1.0, condition=k), model(x_t, 1.0)
    given = k >= 0
    torch.testing.assert_close(found[~given], without[~given], rtol=1e-14, atol=0)
    assert bool((found != without).any(dim=1)[given].all())
    vectors = torch.eye(3, dtype=torch.float64)[k].where(given[:, None], torch.nan)
    torch.testing.assert_close(model(x_t, 1.0, condition=vectors), found, rtol=1e-14, atol=0)
    zeros = model(x_t, 1.0, condition=torch.zeros(8, 3, dtype=torch.float64))  # given, and zero
    assert bool((zeros != without).any(dim=1).all())


@torch.no_grad()
def test_each_row_is_alone():
    """A row at its own time and label, alone and in a batch of 8."""
    model, x_t, k = denoiser(labels=3), points(), torch.tensor([0, 1, 2, -1, 0, 1, 2, -1])
    t = torch.logspace(-1, 1, 8, dtype=torch.float64)
    together = model(x_t, t, condition=k)
    for i in range(8):
        alone = model(x_t[i : i + 1], float(t[i]), condition=k[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-12, atol=1e-12)


def test_loss():
    """|D − x_0|²/c_out² with 1/c_out² = 1/s² + 1/sigma_data², the mean over values, of each sample."""
    model, x_0, s = denoiser(labels=3), points(), torch.linspace(0.1, 3, 8, dtype=torch.float64)
    g = torch.randn(8, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    k = torch.arange(8) % 3
    error = model.denoise(x_0 + s[:, None] * g, s, k) - x_0
    expected = error.square().mean(dim=1) * (1 / s**2 + 1 / 4)
    torch.testing.assert_close(model.loss(x_0, g, s, k), expected, rtol=1e-12, atol=0)


def test_keeps_the_precision_of_x_t():
    """The network computes in its own precision, the answer comes in that of x_t."""
    assert MLPDenoiser(SPACE, 1.0)(points(), 1.0).dtype == torch.float64
    assert denoiser()(points().float(), 1.0).dtype == torch.float32


def test_what_guidance_asks():
    """White errors, five deviations about the mean, and noise from a fiftieth of the data to ten times its reach."""
    model = denoiser()
    assert model.bounds == (-9.5, 10.5)
    assert model.noise_range == pytest.approx((0.04, 10 * 2**0.5 * 2))
    assert model.error_law(points(), 1.0) == WhiteErrorLaw(pytest.approx((1 / (1 + 1 / 4)) ** 0.5), 2)


def test_refusals():
    """Query points, and conditions of another shape or for a denoiser that has none."""
    with pytest.raises(ValueError, match="no query points"):
        denoiser()(points(), 1.0, query=points())
    for labels, condition in [(0, torch.zeros(8)), (0, torch.zeros(8, 0)), (3, torch.zeros(8, 2)), (3, torch.zeros(7))]:
        with pytest.raises(ValueError, match="a condition of shape"):
            denoiser(labels=labels)(points(), 1.0, condition=condition)


def test_learns_a_mixture_and_its_labels():
    """400 steps with a fifth of the labels withheld: both E[x_0 | x_t] and E[x_0 | x_t, k] of two Gaussians.

    The error against the closed form is below a tenth of the error that the closed form itself makes, E|D − x_0|², at
    every noise level (measured: 0.003 to 0.04).
    """
    parts = [
        GaussianDenoiser(CosineField((1, 2), torch.full((1, 2), v)), SPACE, torch.tensor([mean]))
        for mean, v in [((-1.0, 0.5), 0.1), ((1.0, 1.0), 0.3)]
    ]
    exact = GaussianMixtureDenoiser(tuple(parts), torch.tensor([0.3, 0.7]))
    torch.manual_seed(0)
    model, generator = MLPDenoiser(SPACE, 1.0, labels=2), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 400)
    for _ in range(400):
        x_0, k = exact.sample(256, generator)
        s = torch.exp(1.2 * torch.randn(256, generator=generator) - 0.5)
        label = k.where(torch.rand(256, generator=generator) > 0.2, -1)
        optimiser.zero_grad()
        model.loss(x_0, torch.randn(256, 2, generator=generator), s, label).mean().backward()
        optimiser.step()
        decay.step()
    x_0, k = exact.sample(4000, generator)
    for s in (0.1, 0.3, 1.0, 3.0):
        x_t = exact.schedule(s)[0] * (x_0 + s * torch.randn(4000, 2, generator=generator))
        for condition in (None, k):
            with torch.no_grad():
                expected = exact(x_t, s, condition=condition)
                excess = (model(x_t, s, condition=condition) - expected).square().mean()
            assert float(excess / (expected - x_0).square().mean()) < 0.1
