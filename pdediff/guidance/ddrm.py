"""DDRM, denoising diffusion restoration (Kawar, Elad, Ermon & Song 2022): linear data, mode by mode.

In the singular basis of the data (`spectral`) each component is observed by itself, ȳ = x̄_0 + noise of deviation ν, or
not at all. x̄ = x_t/alpha_t is x_0 plus noise of deviation s = sigma_t/alpha_t. From the level s_t to s, with x̂_0 the
denoiser's prediction, each component of x̄ takes one of three ways (section 3.2 there), with fresh white g:

    not observed        x̂_0 + √(1−η²) s (x̄ − x̂_0)/s_t + η s g               fresh noise of the share η
    s < ν               x̂_0 + √(1−η²) s (ȳ − x̂_0)/ν + η s g                 the datum is noisier than the level
    s ≥ ν               (1−η_b) x̂_0 + η_b ȳ + √(s² − η_b² ν²) g             the datum is less noisy

At the top an observed component starts from ȳ with the noise topped up to s_max, and the result is the prediction at
the lowest level. Nothing is differentiated, and a level costs one evaluation: fast, and stable at any precision.

It is not a posterior sampler. Of what a component was at the last level only x̂_0 is kept, and that is a mean: noise is
put back at each level, but never the spread that x_0 has about x̂_0, so that all components come out too narrow. And an
observed one at s < ν is drawn towards ȳ at each level anew, however many there are: with η < 1 it ends at ȳ, not where
the posterior is. For a mode of a Gaussian prior of variance v, R² = v/ν², mean and variance follow from a recursion
over the levels (`tests/guidance/test_ddrm.py`). By default settings, from s = 10 √v to 0.02 √v:

    R                               0       0.5     1       2       5       20
    mean/ȳ, posterior               0       0.200   0.500   0.800   0.962   0.998
            20 levels               0       0.383   0.613   0.830   0.957   0.997
            1000 levels             0       0.849   0.936   0.974   0.991   0.998
    variance/v, posterior           1       0.800   0.500   0.200   0.038   0.0025
            20 levels               0.652   0.178   0.110   0.049   0.013   0.0009
            1000 levels             0.760   0.042   0.019   0.008   0.003   0.0008
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser
from pdediff.guidance.base import finite
from pdediff.guidance.spectral import Spectrum, decompose
from pdediff.likelihoods.base import LeastSquares
from pdediff.noise import Generators
from pdediff.schedules import levels, noise_to_signal


@dataclass(frozen=True)
class DDRM:
    """Restoration samples of x_0 given linear data, for a prior with white noise.

    Parameters
    ----------
    denoiser: the prior; its noise is white.
    likelihood: Gaussian noise, linear in x_0.
    levels: number of noise levels, over the denoiser's noise range.
    eta: share of fresh noise where data do not decide, η.
    eta_b: weight of data that are less noisy than the level, η_b.
    rho: how the levels crowd (see `schedules.levels`).
    device, dtype: of the samples.

    Raises
    ------
    ValueError: data that are not linear in x_0, or η or η_b outside [0, 1].

    """

    denoiser: Denoiser
    likelihood: LeastSquares
    levels: int = 20
    eta: float = 0.85
    eta_b: float = 1.0
    rho: float = 7.0
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    spectrum: Spectrum = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (0 <= self.eta <= 1 and 0 <= self.eta_b <= 1):
            raise ValueError(f"eta and eta_b must be between 0 and 1, got {self.eta:g} and {self.eta_b:g}")
        spectrum = decompose(self.likelihood, self.denoiser.space.dimension, self.device)
        object.__setattr__(self, "spectrum", spectrum.to(torch.empty(0, dtype=self.dtype, device=self.device)))

    @property
    def evaluations(self) -> int:
        """Network evaluations a sample: one a level."""
        return self.levels

    def __call__(
        self, generators: Generators, progress: Callable[[int, int], None] = lambda level, count: None
    ) -> Tensor:
        """One sample for each generator: (B, D). Raises ConvergenceError when a sample is not finite."""
        space, schedule = self.denoiser.space, self.denoiser.schedule
        s_min, s_max = self.denoiser.noise_range
        times = levels(schedule, s_max, s_min, self.levels, self.rho)

        def noise() -> Tensor:
            return space.noise.sample(generators, space.dimension, self.dtype, torch.device(self.device))

        ratios = noise_to_signal(schedule, times).tolist()
        g = noise()
        x = self._place(ratios[0] * g, self._informed(ratios[0], 0 * self.spectrum.data, g, eta_b=1.0))
        for level, t in enumerate(times):
            x_0 = self.denoiser(schedule(t)[0] * x, t)
            if level + 1 < len(times):
                s_t, s = ratios[level], ratios[level + 1]
                g = noise()
                unseen = x_0 + s * ((1 - self.eta**2) ** 0.5 * (x - x_0) / s_t + self.eta * g)
                x = self._place(unseen, self._informed(s, x_0 @ self.spectrum.v, g, self.eta_b))
            progress(level + 1, len(times))
        return finite(x_0)

    def _informed(self, s: float, x_0: Tensor, g: Tensor, eta_b: float) -> Tensor:
        """The observed components (B, k) at the level s, from those of x̂_0 (B, k) and fresh noise g (B, D)."""
        y, nu, g = self.spectrum.data, self.spectrum.noise, g @ self.spectrum.v
        noisy = x_0 + s * ((1 - self.eta**2) ** 0.5 * (y - x_0) / nu + self.eta * g)
        precise = x_0 + eta_b * (y - x_0) + (s**2 - eta_b**2 * nu**2).clamp(min=0).sqrt() * g
        return torch.where(nu > s, noisy, precise)

    def _place(self, x: Tensor, components: Tensor) -> Tensor:
        """x (B, D) with its observed components replaced."""
        return x + (components - x @ self.spectrum.v) @ self.spectrum.v.T
