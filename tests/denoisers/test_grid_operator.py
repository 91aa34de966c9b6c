"""Network denoisers: identities of the preconditioning, independence of schedule and batch. No network is trained."""

import pytest
import torch

from pdediff.denoisers.base import Preconditioning, WhiteErrorLaw
from pdediff.denoisers.calibration import CalibratedErrors, CosineErrorLaw
from pdediff.denoisers.grid_operator import GridOperatorDenoiser
from pdediff.denoisers.unet import UNet
from pdediff.schedules import FunctionalSchedule, VESchedule
from pdediff.spaces import FunctionSpace

SPACE = FunctionSpace(("a",), (8, 8))
SCALING = Preconditioning(sigma_data=0.7, mean=0.3)


def denoiser(schedule=None, seed=None, **settings):
    """An untrained U-Net, whose last layer is zero unless a seed fills it."""
    torch.manual_seed(1)
    network = UNet(patch=2, widths=(8, 16), blocks=1).eval()
    if seed is not None:
        torch.manual_seed(seed)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return GridOperatorDenoiser(network, SPACE, SCALING, schedule or VESchedule(), **settings)


def points(batch=3, dtype=torch.float32):
    return torch.randn(batch, 64, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("s", [1e-3, 0.1, 0.7, 5.0, 300.0])
def test_inputs_and_targets_have_unit_variance(s):
    """For data of variance sigma_data² the network's input has variance c_in² (sigma_data² + s²) = 1, and its target
    (x_0 − c_skip x)/c_out has variance ((1 − c_skip)² sigma_data² + c_skip² s²)/c_out² = 1, at every noise level."""
    c_skip, c_out, c_in, c_noise = SCALING.coefficients(torch.tensor(s, dtype=torch.float64))
    assert float(c_in**2 * (0.49 + s**2)) == pytest.approx(1, rel=1e-12)
    assert float(((1 - c_skip) ** 2 * 0.49 + c_skip**2 * s**2) / c_out**2) == pytest.approx(1, rel=1e-10)
    assert float(c_noise) == pytest.approx(float(torch.tensor(s, dtype=torch.float64).log()) / 4, rel=1e-12)


def test_an_untrained_network_is_the_white_gaussian_denoiser():
    """With F = 0, D = mean + sigma_data²/(sigma_data² + s²) (x − mean): the posterior mean of white Gaussian data."""
    x_t = points()
    s = torch.tensor([0.05, 1.0, 30.0])
    expected = 0.3 + (0.49 / (0.49 + s**2))[:, None] * (x_t - 0.3)
    torch.testing.assert_close(denoiser()(x_t, s), expected, rtol=1e-5, atol=1e-6)


def test_limits():
    """Whatever the network says: D → x_t for s → 0 (c_out → s), and stays within sigma_data·F of the mean for s → ∞."""
    x_t, network = points(), denoiser(seed=2)
    torch.testing.assert_close(network(x_t, 1e-6), x_t, rtol=0, atol=1e-4)
    far = network(1e6 * x_t, 1e6)
    scaled = network.network((x_t.reshape(-1, 1, 8, 8)), torch.full((3,), 1e6).log() / 4).flatten(1)
    torch.testing.assert_close(far, 0.3 + 0.7 * scaled, rtol=1e-3, atol=1e-3)


def test_schedule_does_not_matter():
    """One set of weights, two schedules: the functional one at (alpha_t x, t = s) predicts the x_0 of VE at (x, s)."""
    x, s = points(), torch.tensor([0.1, 1.0, 10.0])
    alpha_t = FunctionalSchedule()(s)[0]
    ve, functional = denoiser(VESchedule(), seed=2), denoiser(FunctionalSchedule(), seed=2)
    torch.testing.assert_close(functional(alpha_t[:, None] * x, s), ve(x, s), rtol=1e-4, atol=1e-5)


def test_batch_does_not_matter():
    """A row alone and in a batch, to float32 rounding of differently blocked convolutions."""
    network, x_t, t = denoiser(seed=2), points(8), torch.linspace(0.1, 5, 8)
    batch = network(x_t, t)
    for i in (0, 5):
        torch.testing.assert_close(network(x_t[i : i + 1], t[i : i + 1]), batch[i : i + 1], rtol=1e-4, atol=1e-5)


def test_loss_is_the_scaled_square_error():
    """|D(x_0 + s g) − x_0|²/c_out², averaged over the grid, for each sample."""
    network, s = denoiser(seed=2), torch.tensor([0.1, 1.0, 10.0])
    x_0, g = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    error = network((x_0 + s[:, None, None, None] * g).flatten(1), s) - x_0.flatten(1)
    c_out = 0.7 * s / (0.49 + s**2).sqrt()
    torch.testing.assert_close(network.loss(x_0, g, s), error.square().mean(dim=1) / c_out**2, rtol=1e-5, atol=1e-6)


def test_loss_of_the_zero_network_is_one_on_average():
    """White Gaussian data and F = 0: the loss's mean is the target's variance 1; 200 × 64 values, 4√(2/N) = 0.05."""
    x_0, g = torch.randn(2, 200, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    s = torch.logspace(-2, 2, 200)
    assert float(denoiser().loss(0.3 + 0.7 * x_0, g, s).mean().detach()) == pytest.approx(1, abs=0.05)


def test_double_precision_around_the_network():
    """x_t in float64 comes back in float64, with the network evaluated in float32."""
    network, x_t = denoiser(seed=2), points(dtype=torch.float64)
    x_0 = network(x_t, 1.0)
    assert x_0.dtype == torch.float64
    torch.testing.assert_close(x_0.float(), network(x_t.float(), 1.0), rtol=1e-4, atol=1e-5)


def test_half_precision_network():
    """bfloat16 has 8 bits: predictions agree with float32 to a few per cent, and keep the type of x_t."""
    x_t = points()
    with torch.no_grad():
        half, full = denoiser(seed=2, precision=torch.bfloat16)(x_t, 1.0), denoiser(seed=2)(x_t, 1.0)
    assert half.dtype == torch.float32
    assert 0 < float((half - full).norm() / full.norm()) < 0.05


def test_differentiable():
    """The gradient of D with respect to x_t agrees with central differences, to 1 % in float32."""
    network, x_t = denoiser(seed=2), points(1).requires_grad_()
    v, w, h = points(1).flip(1), points(2)[1:], 1e-2
    gradient = torch.autograd.grad((network(x_t, 1.0) * w).sum(), x_t)[0]
    with torch.no_grad():
        difference = ((network(x_t + h * v, 1.0) - network(x_t - h * v, 1.0)) * w).sum() / (2 * h)
    assert float((gradient * v).sum()) == pytest.approx(float(difference), rel=1e-2)


def test_error_law_is_white_until_measured():
    """Without a calibration: r_t I of the ratio s = sigma_t/alpha_t; with one: its law at that ratio."""
    law = denoiser(FunctionalSchedule()).error_law(points(), 2.0)
    assert isinstance(law, WhiteErrorLaw)
    assert law.r_t == pytest.approx(2 / (1 + (2 / 0.7) ** 2) ** 0.5)
    nodes = torch.tensor([[-1.0, 0.0, 1.5]], dtype=torch.float64)
    s = torch.tensor([0.1, 10.0], dtype=torch.float64)
    calibration = CalibratedErrors(s, nodes, torch.ones(2, 1, 3, dtype=torch.float64), torch.ones(2, 1, 8, 8))
    measured = denoiser(calibration=calibration)
    assert isinstance(measured.error_law(points(), 2.0), CosineErrorLaw)
    assert [float(v) for bound in measured.bounds for v in bound.unique()] == pytest.approx([-1.65, 2.25])


def test_noise_range_and_bounds():
    """From a fifth of sigma_data to the amplitude of a mode that holds a quarter of the power, sigma_data² · 64."""
    assert denoiser().noise_range == pytest.approx((0.14, 0.7 * 8 / 2))
    assert [float(v) for bound in denoiser().bounds for v in bound.unique()] == pytest.approx([-3.2, 3.8])


def two_channels():
    network = UNet(channels=2, patch=2, widths=(8, 16), blocks=1).eval()
    return GridOperatorDenoiser(
        network, FunctionSpace(("a", "u"), (8, 8)), Preconditioning((0.5, 4.0), (0.3, -1.0)), VESchedule()
    )


def test_channels_have_scalings_of_their_own():
    """With F = 0 each channel is denoised as white Gaussian data of its own mean and sigma_data; the noise range spans
    both; the bounds are five standard deviations; a loss of squared errors counts each channel in its own units."""
    denoiser, s = two_channels(), torch.tensor([0.05, 1.0, 30.0])
    x_t = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    for channel, (sigma, mean) in enumerate(((0.5, 0.3), (4.0, -1.0))):
        x = x_t.unflatten(1, (2, 64))[:, channel]
        expected = mean + (sigma**2 / (sigma**2 + s**2))[:, None] * (x - mean)
        torch.testing.assert_close(denoiser(x_t, s).unflatten(1, (2, 64))[:, channel], expected, rtol=1e-5, atol=1e-6)
    assert denoiser.noise_range == pytest.approx((0.1, 0.5 * 4 * 8))
    low, high = (bound.unflatten(0, (2, 64))[:, 0] for bound in denoiser.bounds)
    torch.testing.assert_close(low, torch.tensor([-2.2, -21.0]))
    torch.testing.assert_close(high, torch.tensor([2.8, 19.0]))
    x_0, g = torch.randn(2, 3, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    c_skip, c_out, _, _ = denoiser.preconditioning.coefficients(s)
    mean = torch.tensor([0.3, -1.0])[:, None, None]
    error = mean + c_skip[..., None, None] * (x_0 + s[:, None, None, None] * g - mean) - x_0
    expected = (error / c_out[..., None, None]).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(denoiser.loss(x_0, g, s), expected)


def test_refusals():
    """Query points and conditions belong to other denoisers; a function on another grid is refused."""
    for extra in ({"query": points()}, {"condition": points()}):
        with pytest.raises(ValueError, match="answers on its grid and takes no condition"):
            denoiser()(points(), 1.0, **extra)
    with pytest.raises(ValueError, match="x has 63 values"):
        denoiser()(points()[:, :63], 1.0)
