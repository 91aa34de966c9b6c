"""The flagship: decoupled annealing with exact physics.

Along falling noise levels t, with x_t ~ p(x_t | y):

    x̂_0 = D(x_t, t),        z ~ p(x_0 | x_t, y)  (the proximal step),        x_s = alpha_s z + sigma_s g.

If z is an exact draw then x_s is one of p(x_s | y), whatever x_t was: there is no step size in time, and nothing to
back-propagate through the network. It is the decoupled annealing of DAPS (Zhang et al. 2024) with
randomise-then-optimise in place of its Langevin steps. The fresh g may be mixed with the noise that x_t already holds,

    x_s = alpha_s z + sigma_s (ρ (x_t − alpha_t z)/sigma_t + √(1 − ρ²) g),
    ρ = ((sigma_s alpha_t)/(sigma_t alpha_s))^churn,

which keeps every marginal (the DDIM family, eq. 31, with z in place of x̂_0). churn = 1 is ancestral sampling, which in
the limit of many levels asks only for the right mean of x_0 | x_t, y; churn = ∞ (ρ = 0) is the plain loop, which
forgets the errors of earlier levels at once but asks for the right law. Between them lies a diffusion with Langevin
corrections.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser
from pdediff.guidance.proximal import InnerSolve, Preconditioner, Sensitivities, proximal_step
from pdediff.likelihoods.base import LeastSquares, LinearisedMisfit
from pdediff.noise import Generators
from pdediff.schedules import levels
from pdediff.solvers.errors import ConvergenceError


@dataclass(frozen=True)
class Annealing:
    """The ladder of noise levels and the inner solves on it.

    Parameters
    ----------
    levels: number of noise levels, over the denoiser's noise range.
    rho: how the levels crowd (see `schedules.levels`).
    steps: Gauss–Newton steps at each level.
    inner: accuracy of each of them.
    refresh: levels after which the sensitivities that precondition the inner solves are computed anew.
    refactor: levels after which they are combined with the law L anew; a divisor of `refresh`.
    most_sensitivities: with more of them (data × B × D) there is no preconditioner; four bytes each.
    churn: how fast the noise is renewed, at least 1; see above.
    perturb: draw z (True) or take its mode (False: too narrow a posterior, for comparison only).

    """

    levels: int = 80
    rho: float = 20.0
    steps: int = 1
    inner: InnerSolve = field(default_factory=InnerSolve)
    refresh: int = 8
    refactor: int = 4
    most_sensitivities: int = 2**27
    churn: float = 2.0
    perturb: bool = True


ACCURACY = {
    "fast": Annealing(levels=30),
    "normal": Annealing(levels=80),
    "high": Annealing(levels=200, inner=InnerSolve(iterations=8, reduction=1e-3, solve_tolerance=1e-4)),
}
"""The one knob of a case. Nothing else is tuned, and nothing per case."""


def renoise(
    denoiser: Denoiser,
    likelihood: LeastSquares,
    generators: Generators,
    annealing: Annealing,
    progress: Callable[[int, int], None] = lambda level, count: None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Draw from p(x_0 | y), one sample for each generator: (B, D).

    `progress(level, count)` is called after each level. Raises ConvergenceError when a sample is not finite.
    """
    space, schedule = denoiser.space, denoiser.schedule
    device, dtype = torch.device(device), torch.float32
    s_min, s_max = denoiser.noise_range
    times = levels(schedule, s_max, s_min, annealing.levels, annealing.rho).tolist()

    def noise() -> Tensor:
        return space.noise.sample(generators, space.dimension, dtype, device)

    alpha_t, sigma_t = schedule(times[0])
    x_t = sigma_t * noise()
    z: Tensor | None = None
    misfit: LinearisedMisfit | None = None
    precondition: Preconditioner | None = None
    for level, t in enumerate(times):
        x_0 = denoiser(x_t, t)
        law = denoiser.error_law(x_0, t)
        scale = 1.0 if annealing.perturb else 0.0
        w_0 = scale * generators.normal(law.dimension, dtype=dtype, device=device)
        e = scale * generators.normal(likelihood.size, dtype=dtype, device=device)
        z = x_0 if z is None else z
        for step in range(annealing.steps):
            about = z.clamp(*denoiser.bounds)
            misfit = likelihood.linearise(about, annealing.inner.solve_tolerance, misfit)
            if step == 0 and 0 < likelihood.size * x_t.numel() <= annealing.most_sensitivities:
                if level % annealing.refresh == 0:
                    sensitivities = Sensitivities(misfit)
                if level % annealing.refactor == 0:
                    precondition = sensitivities.preconditioner(law)
            z = proximal_step(x_0, law, misfit, about, w_0, e, annealing.inner, precondition)
        if level + 1 < len(times):
            alpha_s, sigma_s = schedule(times[level + 1])
            g = noise()
            if math.isfinite(annealing.churn):
                kept = (sigma_s * alpha_t / (sigma_t * alpha_s)) ** annealing.churn
                g = kept * (x_t - alpha_t * z) / sigma_t + (1 - kept**2) ** 0.5 * g
            x_t = alpha_s * z + sigma_s * g
            alpha_t, sigma_t = alpha_s, sigma_s
        progress(level + 1, len(times))
    assert z is not None
    if not bool(torch.isfinite(z).all()):
        raise ConvergenceError(f"{int((~torch.isfinite(z)).any(dim=1).sum())} of {len(z)} samples are not finite")
    return z
