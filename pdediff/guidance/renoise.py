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

z may live in fewer variables than x_0 (`unknowns`), and instead of the measured error law the step may use the
denoiser's Jacobian (`moments`): the mean of x_0 | x_t, y in place of a draw, which is all that ancestral sampling asks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pdediff.denoisers.base import Covariance, Denoiser
from pdediff.guidance.base import finite
from pdediff.guidance.moments import JacobianCovariance
from pdediff.guidance.proximal import InnerSolve, Preconditioner, Sensitivities, proximal_step
from pdediff.guidance.unknowns import Everything, Unknowns
from pdediff.likelihoods.base import LeastSquares, LinearisedMisfit
from pdediff.noise import Generators
from pdediff.schedules import levels


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
    perturb: draw z (True) or take its mode (False: too narrow a posterior unless churn is 1).
    covariance: the denoiser's measured error law, or its Jacobian (without perturbations).

    Raises
    ------
    ValueError: perturbations with the Jacobian, which has no root to draw with.

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
    covariance: Literal["measured", "jacobian"] = "measured"

    def __post_init__(self) -> None:
        if self.perturb and self.covariance == "jacobian":
            raise ValueError("the Jacobian has no root to draw perturbations with: set perturb=False")


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
    unknowns: Unknowns | None = None,
) -> Tensor:
    """Draw from p(x_0 | y), one sample for each generator: (B, D).

    The likelihood is linearised in the `unknowns`, which are all of x_0 by default. `progress(level, count)` is called
    after each level. Raises ConvergenceError when a sample is not finite, and ValueError for a Jacobian with unknowns.
    """
    space, schedule = denoiser.space, denoiser.schedule
    device, dtype = torch.device(device), torch.float32
    s_min, s_max = denoiser.noise_range
    unknowns = Everything(denoiser.bounds) if unknowns is None else unknowns
    if annealing.covariance == "jacobian" and not isinstance(unknowns, Everything):
        raise ValueError("the denoiser's Jacobian is the covariance of all of x_0, not of other unknowns")
    times = levels(schedule, s_max, s_min, annealing.levels, annealing.rho).tolist()

    def noise() -> Tensor:
        return space.noise.sample(generators, space.dimension, dtype, device)

    alpha_t, sigma_t = schedule(times[0])
    x_t = sigma_t * noise()
    zeta: Tensor | None = None
    misfit: LinearisedMisfit | None = None
    precondition: Preconditioner | None = None
    for level, t in enumerate(times):
        jacobian = JacobianCovariance(denoiser, x_t, t) if annealing.covariance == "jacobian" else None
        x_0 = denoiser(x_t, t) if jacobian is None else jacobian.x_0
        zeta_0, law = unknowns.restrict(x_0, denoiser.error_law(x_0, t))
        covariance: Covariance = law if jacobian is None else jacobian
        zeta = zeta_0 if zeta is None else zeta
        e = torch.zeros(len(x_0), likelihood.size, dtype=dtype, device=device)
        if annealing.perturb:
            zeta_0 = zeta_0 + law.root(generators.normal(law.dimension, dtype=dtype, device=device))
            e = generators.normal(likelihood.size, dtype=dtype, device=device)
        for step in range(annealing.steps):
            about = unknowns.clamp(zeta)
            misfit = likelihood.linearise(about, annealing.inner.solve_tolerance, misfit)
            if step == 0 and 0 < likelihood.size * zeta.numel() <= annealing.most_sensitivities:
                if level % annealing.refresh == 0:
                    sensitivities = Sensitivities(misfit)
                if level % annealing.refactor == 0:
                    precondition = sensitivities.preconditioner(law)
            zeta = proximal_step(zeta_0, covariance, misfit, about, e, annealing.inner, precondition)
        z = unknowns.complete(zeta)
        if level + 1 < len(times):
            alpha_s, sigma_s = schedule(times[level + 1])
            g = noise()
            if math.isfinite(annealing.churn):
                kept = (sigma_s * alpha_t / (sigma_t * alpha_s)) ** annealing.churn
                g = kept * (x_t - alpha_t * z) / sigma_t + (1 - kept**2) ** 0.5 * g
            x_t = alpha_s * z + sigma_s * g
            alpha_t, sigma_t = alpha_s, sigma_s
        progress(level + 1, len(times))
    return finite(z)
