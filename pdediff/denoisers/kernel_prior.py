"""A prior of blur kernels in closed form: which width is not known, and the shape is only roughly Gaussian.

A mixture with a component for each width w of a list, k ~ N(k_w, deviation² I), where k_w(j) ∝ exp(−|j|²/(2 w²)) sums
to one on the kernel's square. Kernels sum to one, so their values are small; the diffusion is one of z = k/scale.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.mixture import GaussianMixtureDenoiser
from pdediff.schedules import FunctionalSchedule, Schedule
from pdediff.spaces import FunctionSpace

KERNEL_SCALE = 0.3
"""k/z: z of a kernel 0.7 cells wide has the largest value 1. With a smaller one kernels are told apart at higher noise
levels, when the field is still too smooth to judge them by (`guidance.blind_dps`)."""


def kernel_prior(
    size: int,
    widths: Sequence[float],
    deviation: float = 2e-3,
    scale: float = KERNEL_SCALE,
    schedule: Schedule | None = None,
) -> GaussianMixtureDenoiser:
    """The denoiser of z = k/scale under the mixture, all widths equally likely.

    Parameters
    ----------
    size: K, odd, of the kernel's square.
    widths: standard deviations of the Gaussian kernels, in cells.
    deviation: standard deviation of each value of k about the nearest of them.
    scale: k/z.
    schedule: of the noise; the functional one by default.

    Returns
    -------
    a denoiser on the space of one field "k" of shape (K, K).

    """
    space = FunctionSpace(("k",), (size, size))
    spread = CosineField(space.shape, torch.full(space.shape, (deviation / scale) ** 2, dtype=torch.float64))
    schedule = FunctionalSchedule() if schedule is None else schedule
    components = [GaussianDenoiser(spread, space, gaussian_kernel(size, w) / scale, schedule) for w in widths]
    return GaussianMixtureDenoiser(tuple(components), torch.ones(len(components)))


def gaussian_kernel(size: int, width: float) -> Tensor:
    """k(j) ∝ exp(−|j|²/(2 width²)) on the K × K square about the origin, of sum one: (K, K), float64."""
    j = torch.arange(size, dtype=torch.float64) - size // 2
    profile = torch.exp(-0.5 * (j / width) ** 2)
    profile = profile / profile.sum()
    return profile[:, None] * profile
