"""Diffusion EM: parameters theta of the operator, found along with the field.

Expectation–maximisation (Dempster, Laird & Rubin 1977) climbs the marginal likelihood p(y | theta) = ∫ p(y | x_0; theta)
p(x_0) dx_0, in which the prior decides how much of the data a field may explain:

    E:  x_1, …, x_P ~ p(x_0 | y; theta)        (a diffusion),
    M:  theta ← argmax 1/P Σ_i log p(y | x_i; theta) + log p(theta).

Two forms. "plain": a whole diffusion at each iteration. All of them have the same noise, so that theta follows a map
without noise of its own and converges to its fixed point; the map is extrapolated (SQUAREM, Varadhan & Roland 2008), as
EM itself is slow where fields fit the data well for any theta: it moves by the part of the information on theta that is
not lost by not knowing x_0. "fast" (Laroche, Almansa & Coupeté 2023): one diffusion, with an M step at each noise
level, from the draws of x_0 given x_t and y at that level; theta is the mean over the second half of the levels. Draws,
and not their means: means are smoother than the field, and a smooth field needs less blur.

theta is a point estimate, and one for all draws. It comes from `particles` diffusions with generators of their own and
so depends on the seed alone; the draws are made afterwards with theta fixed, one independent of the other. What is not
known of theta is missing from their spread.

Without the prior of x_0, argmax over theta and x_0 of p(y | x_0; theta) says nothing: the data themselves, without any
blur, fit at least as well as any blurred field.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import exp, log
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser, ErrorLaw
from pdediff.guidance.base import inside
from pdediff.guidance.maximise import maximise
from pdediff.guidance.proximal import Sensitivities, proximal_step
from pdediff.guidance.renoise import Annealing, renoise
from pdediff.likelihoods.base import LeastSquares, LinearisedMisfit
from pdediff.noise import Generators
from pdediff.schedules import levels

FIRST = 2**31  # number of the first particle: no sample of a run has it
LONGEST = 64.0  # of an extrapolation, in steps

Theta = Mapping[str, float]
Draw = Callable[[LeastSquares, Generators], Tensor]


class Family(Protocol):
    """Likelihoods p(y | x_0; theta) that differ by theta, without constants that depend on it."""

    @property
    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """(low, high) of each parameter; positive ones are searched in their logarithm."""
        ...

    @property
    def start(self) -> Theta:
        """First guess."""
        ...

    def __call__(self, theta: Theta) -> LeastSquares:
        """The likelihood for one theta."""
        ...

    def log_prior(self, theta: Theta) -> float:
        """log p(theta), up to a constant."""
        ...


@dataclass(frozen=True)
class Estimate:
    """theta, and the values that it went through."""

    theta: dict[str, float]
    path: list[dict[str, float]]


@dataclass(frozen=True)
class DiffusionEM:
    """Draws of x_0 given y and the estimated theta.

    Parameters
    ----------
    denoiser: the prior.
    family: the likelihoods.
    form: "fast" or "plain".
    particles: P.
    iterations: E steps of the plain form; a cycle of its extrapolation takes three.
    seed: of the particles.
    annealing: the diffusion, see `renoise`. That of the fast form is always it.
    draw: another posterior sampler for the plain form and the draws, (likelihood, generators) ↦ x_0 (B, D).
    device: of the samples.

    Raises
    ------
    ValueError: an unknown form, or fewer than one particle or iteration.

    """

    denoiser: Denoiser
    family: Family
    form: Literal["fast", "plain"] = "fast"
    particles: int = 32
    iterations: int = 15
    seed: int = 0
    annealing: Annealing = field(default_factory=Annealing)
    draw: Draw | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.form not in ("fast", "plain"):
            raise ValueError(f"the form of diffusion EM is 'fast' or 'plain', not {self.form!r}")
        if min(self.particles, self.iterations) < 1:
            raise ValueError(f"diffusion EM needs particles and iterations, got {self.particles}, {self.iterations}")

    @property
    def levels(self) -> int:
        """Number of noise levels of a draw."""
        return self.annealing.levels

    @property
    def evaluations(self) -> int:
        """Network evaluations a draw, once theta is known."""
        return self.levels

    @cached_property
    def estimate(self) -> Estimate:
        """theta, from particles whose noise is no draw's; computed once."""
        path = self._fast() if self.form == "fast" else self._plain()
        return Estimate(dict(path[-1]), path)

    def __call__(
        self, generators: Generators, progress: Callable[[int, int], None] = lambda level, count: None
    ) -> Tensor:
        """One sample for each generator, with theta fixed: (B, D)."""
        return self._draw(self.estimate.theta, generators, progress)

    def _draw(
        self, theta: Theta, generators: Generators, progress: Callable[[int, int], None] = lambda level, count: None
    ) -> Tensor:
        likelihood = self.family(theta)
        if self.draw is not None:
            return self.draw(likelihood, generators)
        return renoise(self.denoiser, likelihood, generators, self.annealing, progress, self.device)

    def _particles(self) -> Generators:
        return Generators(self.seed, range(FIRST, FIRST + self.particles))

    def _plain(self) -> list[Theta]:
        """E and M steps, with the same noise in every E step; after every two of them an extrapolation."""
        path, cycle = [self.family.start], [self.family.start]
        for _ in range(self.iterations):
            x = self._draw(cycle[-1], self._particles())

            def expected(theta: Theta, x: Tensor = x) -> Tensor:
                return self.family(theta).log_prob(x)

            cycle.append(m_step(self.family, expected, cycle[-1]))
            path.append(cycle[-1])
            if len(cycle) == 3:
                cycle = [_extrapolate(self.family, *cycle)]
        return path

    def _fast(self) -> list[Theta]:
        """One diffusion of all particles; at each level an M step, a draw of x_0 | x_t, y, and noise of the next."""
        denoiser, family, generators = self.denoiser, self.family, self._particles()
        space, inner, path = denoiser.space, self.annealing.inner, [self.family.start]

        def white(size: int) -> Tensor:
            return generators.normal(size, device=torch.device(self.device))

        def noise() -> Tensor:
            return space.noise.sample(generators, space.dimension, torch.float32, torch.device(self.device))

        s_min, s_max = denoiser.noise_range
        times = levels(denoiser.schedule, s_max, s_min, self.iterations, self.annealing.rho).tolist()
        z = None
        for t in times:
            alpha_t, sigma_t = denoiser.schedule(t)
            x_t = sigma_t * noise() if z is None else alpha_t * z + sigma_t * noise()
            x_0 = denoiser(x_t, t)
            law = denoiser.error_law(x_0, t)
            about = inside(denoiser, x_0 if z is None else z)

            def evidence(theta: Theta) -> Tensor:
                return log_evidence(family(theta).linearise(about, inner.solve_tolerance), law, x_0 - about)

            path.append(m_step(family, evidence, path[-1]))
            misfit = family(path[-1]).linearise(about, inner.solve_tolerance)
            z_0 = x_0 + law.root(white(law.dimension))
            precondition = Sensitivities(misfit).preconditioner(law)
            z = proximal_step(z_0, law, misfit, about, white(misfit.residual.shape[1]), inner, precondition)
        return path


def log_evidence(misfit: LinearisedMisfit, law: ErrorLaw, step: Tensor) -> Tensor:
    """log N(y; F(x̂_0), I + J C Jᵀ) without its 2π, of data linearised about z̄ = x̂_0 − step (B, D): (B,)."""
    spread = law.root_transposed(Sensitivities(misfit).rows).transpose(0, 1)
    matrix = (spread @ spread.mT).double()
    matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
    factor = torch.linalg.cholesky(matrix)
    residual = (misfit.residual + misfit.tangent(step)).double()[..., None]
    white = torch.linalg.solve_triangular(factor, residual, upper=False)[..., 0]
    return -0.5 * white.square().sum(dim=-1) - factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)


def m_step(family: Family, log_prob: Callable[[Theta], Tensor], theta: Theta) -> dict[str, float]:
    """argmax over theta of the mean of log_prob(theta) over particles (P,), plus log p(theta); begins at theta."""

    def objective(coordinates: dict[str, float]) -> float:
        candidate = _decode(family, coordinates)
        return float(log_prob(candidate).double().mean()) + family.log_prior(candidate)

    return _decode(family, maximise(objective, _encode(family, theta), _box(family)))


def _extrapolate(family: Family, first: Theta, second: Theta, third: Theta) -> dict[str, float]:
    """SQUAREM: with r = x_1 − x_0 and v = x_2 − x_1 − r, the point x_0 + 2a r + a² v, a = ‖r‖/‖v‖, inside the bounds.

    For one parameter and a map x ↦ c + q x this is its fixed point. a is between 1, which is x_2, and `LONGEST`.
    """
    x_0, x_1, x_2 = (_encode(family, theta) for theta in (first, second, third))
    r = {name: x_1[name] - x_0[name] for name in x_0}
    v = {name: x_2[name] - x_1[name] - r[name] for name in x_0}
    lengths = [sum(value**2 for value in step.values()) ** 0.5 for step in (r, v)]
    a = min(max(lengths[0] / max(lengths[1], 1e-300), 1.0), LONGEST)
    box = _box(family)
    beyond = {name: x_0[name] + 2 * a * r[name] + a**2 * v[name] for name in x_0}
    return _decode(family, {name: min(max(value, box[name][0]), box[name][1]) for name, value in beyond.items()})


def _encode(family: Family, theta: Theta) -> dict[str, float]:
    """Coordinates of the search: logarithms of positive parameters."""
    return {name: log(value) if family.bounds[name][0] > 0 else value for name, value in theta.items()}


def _decode(family: Family, coordinates: Theta) -> dict[str, float]:
    return {name: exp(value) if family.bounds[name][0] > 0 else value for name, value in coordinates.items()}


def _box(family: Family) -> dict[str, tuple[float, float]]:
    """Bounds of the coordinates."""
    low, high = (_encode(family, {name: b[i] for name, b in family.bounds.items()}) for i in (0, 1))
    return {name: (low[name], high[name]) for name in low}
