"""BlindDPS (Chung et al. 2022; eqs. 42–48 and Algorithm 1): a field and the kernel that blurs it, each with its prior.

Two diffusions run side by side, x_t for the field and k_t for the kernel, and meet in the likelihood alone. As in DPS
it is taken at the predictions of both denoisers (eqs. 47 and 48), with gradients back through them:

    x̂_0 = D_x(x_t, t),        k̂_0 = P_C(D_k(k_t, t)),        r = (k̂_0 * x̂_0 − y)/sigma,

P_C the projection on non-negative kernels of sum one. A denoiser gives Tweedie's (x_t + (1 − ᾱ) ŝ)/√ᾱ, which lines 5
and 6 of the algorithm mean (they print √(1 − ᾱ) ŝ). In the notation of `guidance.base`, lines 11 to 13 shift the means
of x_0 and k_0 by (sigma_t²/alpha_t) ∇ of

    −(ζ/beta_t) (‖r‖ + λ R_k(k̂_0))        the paper's step, with the beta_t that `guidance.dps` derives, or
    −½ ‖r‖² − λ R_k(k̂_0)                  the step that the noise gives,

with a ζ for each of the two. The measure of sparsity is R_k(k) = ‖k‖₁/‖k‖₂ = 1/‖k‖₂ (Krishnan, Tay & Fergus 2011): one
for a single pixel, K for K² equal ones. ‖k‖₁ by itself is one for every kernel in C.

kernel_denoiser=None is the uniform prior of Fig. 6: nothing is known of k but that it is in C. Its denoiser is the
identity, k_t/alpha_t, before P_C.

What to expect. The kernel must not be decided while the field is still smooth: a smooth x̂_0 fits blurred data best with
no blur at all. Which noise level decides is a matter of the kernel's scale. With k = scale·z, values of z up to about
one (scale 0.3) are decided late enough; z of mean one (scale 1/K²) is not, and kernels come out too narrow. Measured on
32 × 32 cells with a Matérn field, a Gaussian kernel 1.7 cells wide on 11 × 11 cells, 7 widths from 0.6 to 2.8 in the
prior of kernels, 4 truths and 4 draws each; a draw of the posterior that knows the kernel is the yardstick:

    sigma, in deviations of the field            0.1       0.05      0.02
    kernel, total variation off the true one     0.13      0.09      0.15
    its width                                    1.71(25)  1.72(13)  1.88(38)
    field, relative error of a draw              0.27      0.22      0.26
    the same with the true kernel, exactly       0.26      0.22      0.18
    kernel of scale 1/K²: total variation                  0.42 (width 1.24)
    uniform prior: total variation               0.86      0.90      0.92
    field under it                               0.61      0.52      0.51

Precise data want more levels: at 0.02 the misfit is 13 % above the noise with the default 400. The spread of the widths
is not a posterior one, which would be some 3 %: DPS decides on a kernel at random among those near.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser
from pdediff.guidance.base import finite
from pdediff.guidance.dps import ddpm_beta
from pdediff.guidance.simplex import project_simplex
from pdediff.likelihoods.base import Likelihood
from pdediff.noise import Generators
from pdediff.schedules import levels, noise_to_signal
from pdediff.spaces import ProductSpace, Space


class BlindLikelihood(Likelihood, Protocol):
    """log p(y | x_0, k_0) of x_0 and z_0 = k_0/kernel_scale side by side; −‖r‖²/2 without a constant."""

    @property
    def size(self) -> int:
        """Number of data m."""
        ...

    @property
    def kernel_scale(self) -> float:
        """k_0/z_0."""
        ...

    @property
    def kernel_space(self) -> Space:
        """The space of z_0."""
        ...


@dataclass(frozen=True)
class BlindDPS:
    """Draws (x_0, z_0) given y, the kernel being k_0 = kernel_scale·z_0.

    Parameters
    ----------
    denoiser: the prior of the field, differentiable.
    kernel_denoiser: the prior of z, in the same schedule; None for the uniform prior.
    likelihood: of the data given both.
    levels: number of noise levels, over the noise ranges of both priors.
    lengths: of the paper's step for field and kernel, ζ/√m with m the number of data (√m is what ‖r‖ should be); None
        for the step that the noise gives, which asks for many levels where data are precise (`guidance.dps` says how
        many). Of the paper's step too, long ones need more levels.
    sparsity: λ, not negative.
    rho: how the levels crowd (see `schedules.levels`).
    device, dtype: of the samples.

    Raises
    ------
    ValueError: priors of different schedules, a length that is not positive, or a negative λ.

    """

    denoiser: Denoiser
    kernel_denoiser: Denoiser | None
    likelihood: BlindLikelihood
    levels: int = 400
    lengths: tuple[float, float] | None = (7e-4, 5e-5)
    sparsity: float = 0.0
    rho: float = 7.0
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.kernel_denoiser is not None and self.kernel_denoiser.schedule != self.denoiser.schedule:
            raise ValueError("the priors of field and kernel need one schedule")
        if self.lengths is not None and not min(self.lengths) > 0:
            raise ValueError(f"steps need positive lengths, not {self.lengths}")
        if not self.sparsity >= 0:
            raise ValueError(f"the weight of sparsity must not be negative, got {self.sparsity:g}")

    @property
    def space(self) -> ProductSpace:
        """The space of (x_0, z_0)."""
        kernel = self.likelihood.kernel_space if self.kernel_denoiser is None else self.kernel_denoiser.space
        return ProductSpace((self.denoiser.space, kernel))

    @property
    def noise_range(self) -> tuple[float, float]:
        """The hull of the priors' ranges."""
        low, high = zip(*(d.noise_range for d in (self.denoiser, self.kernel_denoiser) if d is not None), strict=True)
        return min(low), max(high)

    @property
    def evaluations(self) -> int:
        """Evaluations of either denoiser a sample, with their derivatives."""
        return self.levels

    def __call__(
        self, generators: Generators, progress: Callable[[int, int], None] = lambda level, count: None
    ) -> Tensor:
        """One draw for each generator: (B, D_x + D_k). Raises ConvergenceError when one is not finite."""
        schedule, space = self.denoiser.schedule, self.space
        s_min, s_max = self.noise_range
        times = levels(schedule, s_max, s_min, self.levels, self.rho)

        def noise() -> Tensor:
            return space.noise.sample(generators, space.dimension, self.dtype, torch.device(self.device))

        x_t = schedule(times[0])[1] * noise()
        for level, (t, s) in enumerate(pairwise(times)):
            x_0 = self._guided(x_t, t)
            (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
            kept = sigma_s * alpha_t / (sigma_t * alpha_s)
            epsilon = (x_t - alpha_t * x_0) / sigma_t
            x_t = alpha_s * x_0 + sigma_s * (kept * epsilon + (1 - kept**2).sqrt() * noise())
            progress(level + 1, self.levels)
        x_0, z_0 = space.split(self._guided(x_t, times[-1]))
        progress(self.levels, self.levels)
        return finite(torch.cat([x_0, self._project(z_0)], dim=-1))

    def _guided(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The predictions of x_0 and z_0, shifted towards the data: (B, D_x + D_k) -> (B, D_x + D_k)."""
        alpha_t, sigma_t = self.denoiser.schedule(t)
        with torch.inference_mode(False), torch.enable_grad():
            x_t = x_t.detach().clone().requires_grad_()
            x_0 = self._predict(x_t, t)
            (gradient,) = torch.autograd.grad(self._energy(x_0).sum(), x_t)
        if self.lengths is not None:
            beta_t = ddpm_beta(noise_to_signal(self.denoiser.schedule, t)).to(gradient)
            zetas = (length * self.likelihood.size**0.5 for length in self.lengths)
            parts = zip(zetas, self.space.split(gradient), strict=True)
            gradient = torch.cat([zeta / beta_t * part for zeta, part in parts], dim=-1)
        return x_0.detach() - (sigma_t**2 / alpha_t) * self.space.noise.covariance(gradient)

    def _predict(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x̂_0 and ẑ_0, the latter projected."""
        x_t, z_t = self.space.split(x_t)
        z_0 = z_t / self.denoiser.schedule(t)[0] if self.kernel_denoiser is None else self.kernel_denoiser(z_t, t)
        return torch.cat([self.denoiser(x_t, t), self._project(z_0)], dim=-1)

    def _energy(self, x_0: Tensor) -> Tensor:
        """‖r‖ + λ R_k, or ½ ‖r‖² + λ R_k: (B,)."""
        data = -self.likelihood.log_prob(x_0)
        if self.lengths is not None:
            data = (2 * data).clamp(min=torch.finfo(data.dtype).tiny).sqrt()  # without the root's infinite slope at 0
        if self.sparsity == 0:
            return data
        return data + self.sparsity / (self.likelihood.kernel_scale * self.space.split(x_0)[1]).norm(dim=-1)

    def _project(self, z: Tensor) -> Tensor:
        """P_C, in units of z."""
        return project_simplex(self.likelihood.kernel_scale * z) / self.likelihood.kernel_scale
