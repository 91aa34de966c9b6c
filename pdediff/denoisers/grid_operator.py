"""`GridOperatorDenoiser`: a network on a regular latent grid.

The points of the function space are the grid here, so the network is applied to the field as an image. The network was
trained on white noise of ratio s = sigma_t/alpha_t; every schedule reaches it through x_t/alpha_t (see `schedules`).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pdediff.denoisers.base import ErrorLaw, Preconditioning, batch_times, white_error_law
from pdediff.denoisers.calibration import CalibratedErrors
from pdediff.schedules import FunctionalSchedule, Schedule, noise_to_signal
from pdediff.spaces import FunctionSpace


@dataclass
class GridOperatorDenoiser:
    """Network denoiser on the grid of its function space.

    Parameters
    ----------
    network: F(x, c_noise), mapping (B, channels, ny, nx) and (B,) to (B, channels, ny, nx); in float32.
    space: the function space; its shape is the training grid.
    preconditioning: the scalings around F.
    schedule: the schedule in which t is given.
    precision: dtype in which F is evaluated (`torch.bfloat16` halves the time on CPUs that have it); the scalings
        around F are always in the dtype of x_t.
    calibration: measured law of the denoising error; without it `error_law` is white.

    """

    network: nn.Module
    space: FunctionSpace
    preconditioning: Preconditioning
    schedule: Schedule = field(default_factory=FunctionalSchedule)
    precision: torch.dtype = torch.float32
    calibration: CalibratedErrors | None = None

    def __call__(
        self, x_t: Tensor, t: Tensor | float, query: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """E[x_0 | x_t]: (B, D) -> (B, D).

        Raises ValueError for query points or a condition: this denoiser was trained on a grid and without condition.
        """
        if query is not None or condition is not None:
            raise ValueError("a grid denoiser answers on its grid and takes no condition")
        t = batch_times(t, x_t)
        alpha_t = self.schedule(t)[0]
        x = self.space.grid_view(x_t / alpha_t[:, None])
        return self.denoise(x, noise_to_signal(self.schedule, t)).flatten(1)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Half as far again from the mean as held-out functions went; uncalibrated, five standard deviations."""
        mean, sigma_data = (torch.as_tensor(v) for v in (self.preconditioning.mean, self.preconditioning.sigma_data))
        reach = 5 * sigma_data
        if self.calibration is not None:
            reach = 1.5 * (self.calibration.nodes - mean.reshape(-1, 1)).abs().amax(dim=1)
        low, high = ((mean + sign * reach).expand(self.space.channels) for sign in (-1, 1))
        return low.repeat_interleave(self.space.points), high.repeat_interleave(self.space.points)

    @property
    def noise_range(self) -> tuple[float, float]:
        """From a fifth of the data's standard deviation, to the amplitude of a mode with a quarter of all power.

        All of a function's power in one mode of the cosine basis would be sigma_data² times the number of points. The
        channel of least deviation sets the lower end, that of the largest the upper one.
        """
        sigma_data = torch.as_tensor(self.preconditioning.sigma_data)
        return 0.2 * float(sigma_data.min()), 0.5 * float(sigma_data.max()) * self.space.points**0.5

    def denoise(self, x: Tensor, s: Tensor) -> Tensor:
        """Denoise x = x_0 + s g (B, channels, ny, nx) of ratios s (B,), same shape."""
        *scales, c_noise = self.preconditioning.coefficients(s)
        c_skip, c_out, c_in = (c.reshape(len(s), -1, 1, 1) for c in scales)
        mean = torch.as_tensor(self.preconditioning.mean, dtype=x.dtype, device=x.device).reshape(-1, 1, 1)
        with torch.autocast(x.device.type, self.precision, enabled=self.precision != torch.float32):
            prediction = self.network(((x - mean) * c_in).float(), c_noise.float())
        return mean + c_skip * (x - mean) + c_out * prediction.to(x.dtype)

    def loss(self, x_0: Tensor, g: Tensor, s: Tensor) -> Tensor:
        """Denoising loss of each sample (B,): |D − x_0|²/c_out², averaged over grid and channels.

        This is eq. 51 with w = 1/c_out². x_0 and g are (B, channels, ny, nx), s (B,).
        """
        c_out = self.preconditioning.coefficients(s)[1].reshape(len(s), -1)
        error = self.denoise(x_0 + s[:, None, None, None] * g, s) - x_0
        return (error.square().mean(dim=(2, 3)) / c_out.square()).mean(dim=1)

    def error_law(self, x_0: Tensor, t: float) -> ErrorLaw:
        """Calibrated law of the denoising error at time t about predictions x_0 (B, D); white if none was measured."""
        s = noise_to_signal(self.schedule, t)
        if self.calibration is None:
            sigma_data = float(torch.as_tensor(self.preconditioning.sigma_data).square().mean().sqrt())
            return white_error_law(s, sigma_data, self.space.dimension)
        return self.calibration.law(x_0, s)
