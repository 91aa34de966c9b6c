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

from pdediff.denoisers.base import Denoiser
from pdediff.guidance.maximise import maximise
from pdediff.guidance.renoise import Annealing, renoise
from pdediff.likelihoods.base import LeastSquares, LinearisedMisfit
from pdediff.noise import Generators

FIRST = 2**31  # number of the first particle: no sample of a run has it
GROW,SHRINK,LONGEST = 2.0,0.5,1000.0

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
        tail = path[len(path) // 2 :] if self.form == "fast" else path[-1:]
        coordinates = [_encode(self.family, theta) for theta in tail]
        mean = {name: sum(c[name] for c in coordinates) / len(tail) for name in coordinates[0]}
        return Estimate(_decode(self.family, mean), path)

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
        """An E step with the same noise, an M step."""
        path, st = [self.family.start], {}
        for _ in range(self.iterations):
            target = m_step(self.family, self._draw(path[-1], self._particles()), path[-1])
            path.append(accelerate(self.family, path, target, st))
        return path

    def _fast(self) -> list[Theta]:
        """An M step at each level of one diffusion."""
        learning = Learning(self.family, [self.family.start])
        renoise(self.denoiser, learning, self._particles(), self.annealing, device=self.device)
        return learning.path


@dataclass(frozen=True)
class Learning:
    """A likelihood that takes an M step whenever it is linearised anew: at each level, about the draws of the last.

    Parameters
    ----------
    family: the likelihoods.
    path: values of theta so far, the current one last; grows.

    """

    family: Family
    path: list[Theta]
    st: dict = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of data m."""
        return self.family(self.path[-1]).size

    @property
    def linear(self) -> bool:
        """Whether the misfit is linear in x_0, for any theta."""
        return self.family(self.path[-1]).linear

    def linearise(self, zeta: Tensor, tolerance: float, near: Any = None) -> LinearisedMisfit:
        """The misfit for the theta that suits the draws x_0 = zeta (P, D) best; the first ones know nothing yet."""
        if near is not None:
            self.path.append(accelerate(self.family, self.path, m_step(self.family, zeta, self.path[-1]), self.st))
        return self.family(self.path[-1]).linearise(zeta, tolerance, near)


def m_step(family: Family, x: Tensor, theta: Theta) -> dict[str, float]:
    """argmax of the mean of log p(y | x_i; theta) over draws x (P, D), plus log p(theta); begins at theta."""

    def objective(coordinates: dict[str, float]) -> float:
        candidate = _decode(family, coordinates)
        return float(family(candidate).log_prob(x).double().mean()) + family.log_prior(candidate)

    return _decode(family, maximise(objective, _encode(family, theta), _box(family)))


def accelerate(family: Family, path: list[Theta], target: Theta, stretch: dict[str, float]) -> dict[str, float]:
    x, y = _encode(family, path[-1]), _encode(family, target)
    box = _box(family)
    new = {}
    for name in x:
        step = y[name] - x[name]
        old = stretch.get(name)
        w = 1.0 if old is None else (old[0] * GROW if old[1] * step > 0 else max(old[0] * SHRINK, 1.0))
        w = min(w, LONGEST)
        stretch[name] = (w, step)
        new[name] = min(max(x[name] + w * step, box[name][0]), box[name][1])
    return _decode(family, new)


def _encode(family: Family, theta: Theta) -> dict[str, float]:
    """Coordinates of the search: logarithms of positive parameters."""
    return {name: log(value) if family.bounds[name][0] > 0 else value for name, value in theta.items()}


def _decode(family: Family, coordinates: Theta) -> dict[str, float]:
    return {name: exp(value) if family.bounds[name][0] > 0 else value for name, value in coordinates.items()}


def _box(family: Family) -> dict[str, tuple[float, float]]:
    """Bounds of the coordinates."""
    low, high = (_encode(family, {name: b[i] for name, b in family.bounds.items()}) for i in (0, 1))
    return {name: (low[name], high[name]) for name in low}
