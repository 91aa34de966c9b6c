"""Where the ladder starts, when it is not pure noise.

SDEdit (Meng et al. 2022). A field x that is known roughly, a sketch or an old model, is noised to a level t and sampled
from there on:

    below = levels_below(schedule, times, s)                       # the part of the ladder with noise-to-signal ≤ s
    x_t = noised_start(denoiser, x, below[0], generators)          # alpha_t x + sigma_t g
    x_0 = DDIM(eta=1.0)(denoiser, x_t, below, generators)

A stochastic sampler then draws from p(x_0 | x_t). Of a prior N(m, λ) in a mode, with q = λ/(λ + s²),

                             mean of x_0         variance of x_0 about it
    ancestral, reverse SDE   m + q (x − m)       q (1 + q) s²
    probability flow         m + √q (x − m)      q s²,

so modes with λ ≫ s² stay as x has them, to about s, and the others are drawn anew. With x itself a draw of the prior,
x_t has its law p(x_t): an exact start for priors that can be drawn from.

Pure noise leaves out alpha_T x_0. `corrected_noise` puts the larger part of it back, for any denoiser. In
x̄ = x_t/alpha_t and s = sigma_t/alpha_t the probability flow (see `heun`) is d(x̄/s)/ds = −D/s², D = E[x_0 | x_t], and D
tends to E[x_0] + Cov[x_0] C⁻¹ (x̄/s)/s for large s. Integrated from s = ∞, where x̄/s = g is a draw of the noise law,

    x̄ = s g + s ∫_s^∞ D/s'² ds' = s g + E[x_0] + Cov[x_0] C⁻¹ g/(2 s) + … = s g + (D(0) + D(s g))/2 + O(1/s²).

For a prior N(m, λ) the start then has the mean alpha_T (1 − q) m instead of 0, and of the standard deviation of x_T it
has the share (1 + q/2) √(1 − q) ≈ 1 − 3q²/8, where pure noise has √(1 − q) ≈ 1 − q/2.
"""

import torch
from torch import Tensor

from pdediff.noise import Generators
from pdediff.samplers.base import ConditionalMean, noise_like, pure_noise
from pdediff.schedules import Schedule, noise_to_signal


def levels_below(schedule: Schedule, times: Tensor, s: float) -> Tensor:
    """The times of a ladder whose noise-to-signal ratio is at most s. Raises ValueError when there are none."""
    below = times[noise_to_signal(schedule, times) <= s]
    if len(below) == 0:
        raise ValueError(
            f"the ladder ends at a noise-to-signal ratio of {noise_to_signal(schedule, times[-1]):g} > {s:g}"
        )
    return below


def noised_start(denoiser: ConditionalMean, x: Tensor, t: Tensor, generators: Generators) -> Tensor:
    """alpha_t x + sigma_t g from clean fields x (B, D), one for each generator: where a ladder from t may start."""
    alpha_t, sigma_t = denoiser.schedule(t)
    return alpha_t * x + sigma_t * noise_like(denoiser, x, generators)


def corrected_noise(
    denoiser: ConditionalMean,
    t: Tensor,
    generators: Generators,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Tensor:
    """sigma_T g + alpha_T (D(0) + D(sigma_T g))/2: (B, D), for two calls of the denoiser; see above."""
    noise = pure_noise(denoiser, t, generators, dtype, device)
    x_0 = (denoiser(torch.zeros_like(noise), t) + denoiser(noise, t)) / 2
    return noise + denoiser.schedule(t)[0] * x_0
