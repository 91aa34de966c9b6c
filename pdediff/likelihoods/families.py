"""Likelihoods with parameters: operators that are known up to a few numbers theta, p(y | x_0; theta).

A blur of unknown width, sensors of unknown gain, a wall whose head nobody measured. A family builds the likelihood for
any theta and says where theta may lie; `guidance.diffusion_em` estimates it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import log

from torch import Tensor

from pdediff.likelihoods.base import LeastSquares
from pdediff.likelihoods.gaussian import GaussianObservations
from pdediff.likelihoods.operators import GaussianBlur, LinearOperator, OnCells
from pdediff.likelihoods.physics import Group, Physics
from pdediff.solvers.grid import Grid

Theta = Mapping[str, float]


@dataclass(frozen=True)
class LikelihoodFamily:
    """p(y | x_0; theta) from a function that builds it.

    The likelihoods of a family must drop the same constant: a noise level among the parameters would need the
    normalising constant −Σ log sigma, which Gaussian observations leave out.

    Parameters
    ----------
    build: the likelihood for parameters by name.
    bounds: (low, high) of each parameter, in its own unit. Positive ones are searched in their logarithm.
    start: first guess; the middle of the bounds by default, of their logarithms if they are positive.
    centres: (c, d) for parameters that something is known of: log theta ~ N(log c, d²) for positive ones, theta ~
        N(c, d²) for others. All else is flat: the estimate is of maximum likelihood.

    Raises
    ------
    ValueError: no parameter, bounds that do not increase, a start outside them, or one of an unknown parameter.

    """

    build: Callable[[Theta], LeastSquares]
    bounds: Mapping[str, tuple[float, float]]
    start: Mapping[str, float] = field(default_factory=dict)
    centres: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = {*self.start, *self.centres} - set(self.bounds)
        if not self.bounds or unknown:
            raise ValueError(f"each parameter needs bounds; {', '.join(sorted(unknown)) or 'the family'} has none")
        start = {
            name: (low * high) ** 0.5 if low > 0 else (low + high) / 2 for name, (low, high) in self.bounds.items()
        }
        start |= self.start
        for name, (low, high) in self.bounds.items():
            if not (low < high and low <= start[name] <= high):
                raise ValueError(f"{name} cannot start at {start[name]:g} between {low:g} and {high:g}")
        object.__setattr__(self, "start", start)

    def __call__(self, theta: Theta) -> LeastSquares:
        """log p(y | x_0; theta) as a likelihood of x_0."""
        return self.build(theta)

    def log_prior(self, theta: Theta) -> float:
        """log p(theta), up to a constant."""
        total = 0.0
        for name, (centre, deviation) in self.centres.items():
            distance = log(theta[name] / centre) if self.bounds[name][0] > 0 else theta[name] - centre
            total -= 0.5 * (distance / deviation) ** 2
        return total


def blur_width(
    physics: Physics,
    grid: Grid,
    value: Tensor,
    sigma: Tensor,
    bounds: tuple[float, float],
    field: str = "a",
) -> LikelihoodFamily:
    """An image of a field through a Gaussian blur, theta = {"width"} in the grid's unit.

    Parameters
    ----------
    physics: gives the field.
    grid: its cells.
    value, sigma: the image (ny·nx,) and the standard deviation of its noise (ny·nx,), in the field's unit.
    bounds: of the width, positive.
    field: which field is seen.

    """

    def build(theta: Theta) -> LeastSquares:
        blur = OnCells(GaussianBlur(grid, theta["width"]))
        return GaussianObservations(physics, [Group(field, blur, value, sigma)])

    return LikelihoodFamily(build, {"width": bounds})


def sensor_gain(
    physics: Physics,
    operator: LinearOperator,
    value: Tensor,
    sigma: Tensor,
    bounds: tuple[float, float],
    field: str = "u",
) -> LikelihoodFamily:
    """Sensors that all show the same multiple of what they see, theta = {"gain"}: y = gain · A(field) + noise.

    Parameters
    ----------
    physics: gives the field.
    operator: A, from the field on cells and walls to data (B, m).
    value, sigma: data (m,) and the standard deviation of their noise (m,), in the unit that the sensors show.
    bounds: of the gain.
    field: which field is seen.

    """

    def build(theta: Theta) -> LeastSquares:
        return GaussianObservations(physics, [Group(field, Amplified(operator, theta["gain"]), value, sigma)])

    return LikelihoodFamily(build, {"gain": bounds})


@dataclass(frozen=True)
class Amplified:
    """gain · A.

    Parameters
    ----------
    operator: A.
    gain: a number.

    """

    operator: LinearOperator
    gain: float

    def __call__(self, field: Tensor) -> Tensor:
        """gain · A field: (B, …) -> (B, m)."""
        return self.gain * self.operator(field)

    def adjoint(self, data: Tensor) -> Tensor:
        """gain · Aᵀ data: (B, m) -> (B, …)."""
        return self.gain * self.operator.adjoint(data)
