"""DAPS, decoupled annealing posterior sampling (Zhang et al. 2024).

Along falling noise levels t, with x_t ~ p(x_t | y) and s = sigma_t/alpha_t: take x_0 | x_t to be N(x̂_0, r_t² I), draw
from it given the data by Langevin steps on x_0, and put noise of the next level back:

    z ← z + h [(x̂_0 − z)/r_t² + ∇ log p(y | z)] + √(2h) ξ,        x_s = alpha_s z + sigma_s g.

The noise of the data is their own, sigma; r_t² = s²/(1 + s²/sigma_data²), right for a white prior of deviation
sigma_data (the paper has r_t = s). x̂_0 is Tweedie's, E[x_0 | x_t], or with `flow_steps` > 1 the end of the probability
flow by as many Euler steps: likelier under the prior, but a draw and not the mean.

Nothing here is tuned. The log-density of z has the curvature 1/r_t² + ‖J‖² at most, with J the Jacobian of the misfit
in units of sigma. Power iteration gives ‖J‖² for each sample, at each level; where the data are not linear, at each
step, and the largest of a level counts. h = step/(1/r_t² + ‖J‖²) is stable below 2. The steps start from a draw of
N(x̂_0, r_t² I), not from x̂_0, so that what the data do not see is right at once.

The bias, for a Gaussian prior: along a direction of curvature c = 1/r_t² + R_i² the N steps multiply the distance to
the mean by (1 − hc)^N, and their own law has the variance 1/(c (1 − hc/2)). The stiffest directions come out too wide
by up to 1/(1 − step/2); data that are much less precise than the most precise one, so that N h c is not large, are not
yet heard of. For a white prior nothing else is wrong, and a recursion over levels and steps gives both
(`tests/guidance/test_daps.py`). For data y = R x + e of several R at once on a unit prior, from s = 10 to 0.02,
relative to the posterior:

    R                                               0.5     1       2       5       20
    mean, by default settings                       0.643   0.794   0.966   1.000   1.000
    variance                                        1.061   1.107   1.058   1.061   1.191
    mean, with 1000 steps of 0.2 a level            0.934   0.981   1.000   1.000   1.000
    variance                                        1.008   1.009   1.009   1.023   1.064

A prior that is not white adds the error of r_t² I.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser
from pdediff.guidance.base import finite, inside, white_variance
from pdediff.likelihoods.base import LeastSquares, LinearisedMisfit
from pdediff.noise import Generators
from pdediff.schedules import levels

TOLERANCE = 1e-3  # relative, of solves inside the misfit's derivative
POWER_ITERATIONS = 2  # on from the direction where the last ones ended


@dataclass(frozen=True)
class DAPS:
    """Decoupled annealing with Langevin steps.

    Parameters
    ----------
    denoiser: the prior; it is not differentiated.
    likelihood: Gaussian noise; it is linearised at each Langevin step.
    levels: number of noise levels, over the denoiser's noise range.
    langevin_steps: N, at each level.
    step: their length h in units of 1/(1/r_t² + ‖J‖²), below 2.
    flow_steps: network evaluations a level for x̂_0; 1 is E[x_0 | x_t].
    sigma_data: standard deviation of x_0, for r_t.
    rho: how the levels crowd (see `schedules.levels`).
    device, dtype: of the samples.

    Raises
    ------
    ValueError: a step that is not stable, or no steps.

    """

    denoiser: Denoiser
    likelihood: LeastSquares
    levels: int = 50
    langevin_steps: int = 100
    step: float = 0.5
    flow_steps: int = 1
    sigma_data: float = 1.0
    rho: float = 7.0
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if not 0 < self.step < 2:
            raise ValueError(f"Langevin steps are stable for a step between 0 and 2, got {self.step:g}")
        if min(self.langevin_steps, self.flow_steps) < 1:
            raise ValueError(f"daps needs steps, got {self.langevin_steps=} and {self.flow_steps=}")

    @property
    def evaluations(self) -> int:
        """Network evaluations a sample."""
        return self.levels * self.flow_steps

    def __call__(
        self, generators: Generators, progress: Callable[[int, int], None] = lambda level, count: None
    ) -> Tensor:
        """One sample for each generator: (B, D). Raises ConvergenceError when a sample is not finite."""
        space, schedule = self.denoiser.space, self.denoiser.schedule
        device = torch.device(self.device)
        s_min, s_max = self.denoiser.noise_range
        times = levels(schedule, s_max, s_min, self.levels, self.rho).tolist()

        def white(*shape: int) -> Tensor:
            return generators.normal(*shape, dtype=self.dtype, device=device)

        def noise() -> Tensor:
            return space.noise.sample(generators, space.dimension, self.dtype, device)

        x_t = schedule(times[0])[1] * noise()
        direction = white(self.likelihood.size)
        misfit: LinearisedMisfit | None = None
        for level, t in enumerate(times):
            x_0 = self._predict(x_t, t)
            variance = white_variance(self.denoiser, x_t, t, self.sigma_data)
            start, *xi = white(self.langevin_steps + 1, space.dimension).unbind(dim=1)
            z, curvature = x_0 + variance.sqrt() * start, torch.zeros_like(variance)
            for step, xi_k in enumerate(xi):
                misfit = self.likelihood.linearise(inside(self.denoiser, z), TOLERANCE, misfit)
                if step == 0 or not self.likelihood.linear:
                    latest, direction = largest_curvature(misfit, direction)
                    curvature = torch.maximum(curvature, latest)
                h = self.step / (1 / variance + curvature)
                z = z + h * ((x_0 - z) / variance - misfit.adjoint(misfit.residual)) + (2 * h).sqrt() * xi_k
            if level + 1 < len(times):
                alpha_s, sigma_s = schedule(times[level + 1])
                x_t = alpha_s * z + sigma_s * noise()
            progress(level + 1, len(times))
        return finite(z)

    def _predict(self, x_t: Tensor, t: float) -> Tensor:
        """x̂_0 (B, D): the denoiser's, after Euler steps of the probability flow from s towards s_min."""
        schedule, (s_min, _) = self.denoiser.schedule, self.denoiser.noise_range
        alpha_t, sigma_t = schedule(t)
        s, x = sigma_t / alpha_t, x_t / alpha_t
        ratio = min(s_min / s, 1.0) ** (1 / self.flow_steps)
        x_0 = self.denoiser(x_t, t)
        for _ in range(self.flow_steps - 1):
            s, x = ratio * s, x_0 + ratio * (x - x_0)
            t = schedule.time(s)
            x_0 = self.denoiser(schedule(t)[0] * x, t)
        return x_0


def largest_curvature(misfit: LinearisedMisfit, direction: Tensor) -> tuple[Tensor, Tensor]:
    """‖J‖² (B, 1) by power iteration on J Jᵀ from a direction (B, m), and the direction that it ends with.

    The estimate is from below; on a direction that is kept along the levels it is good after a few of them.
    """
    for _ in range(POWER_ITERATIONS):
        image = misfit.tangent(misfit.adjoint(direction / direction.norm(dim=-1, keepdim=True)))
        curvature, direction = image.norm(dim=-1, keepdim=True), image
    return curvature, direction
