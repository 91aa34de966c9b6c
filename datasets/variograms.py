"""Variograms: how the difference between two points of a random field grows with their distance.

A stationary field Z of variance σ² and correlation ρ has covariance C(h) = σ² ρ(r) and variogram

    γ(h) = ½ Var[Z(p + h) − Z(p)] = C(0) − C(h).

With the anisotropic distance r, measured in units of the range ℓ, the correlations are

    exponential           ρ(r) = exp(−r)
    squared-exponential   ρ(r) = exp(−r²/2)
    matern                ρ(r) = 2^(1−ν)/Γ(ν) · z^ν K_ν(z),   z = √(2ν) r

so `range` is the correlation length ℓ itself, not the practical range at which ρ falls to 5 % (3ℓ for the exponential
one). Matérn with ν = ½ is the exponential, and tends to the squared-exponential as ν → ∞; samples have derivatives of
every order below ν. At half-integer ν = p + ½ the Bessel function is an exponential times a polynomial of degree p.

Anisotropy stretches distance: with h split into a part along the direction of the long range and a part across it,
r² = (h_along² + (h_across / anisotropy)²)/ℓ². A nugget τ² (measurement noise, or variation below the cell) adds to C at
zero lag only, so γ jumps to τ² next to the origin.

Source: Chilès & Delfiner, Geostatistics (2012), §2.5; Rasmussen & Williams, Gaussian Processes (2006), §4.2.
"""

import difflib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gamma, kv

from pdediff.solvers.errors import InputError

KINDS = ("matern", "exponential", "squared-exponential")
LARGEST_SMOOTHNESS = 50.0  # there Matérn is within 0.5 % of its limit, and z^ν K_ν(z) still fits a double
FAR = 700.0  # exp(−z) is still a normal number; beyond it every correlation is zero


@dataclass(frozen=True)
class Variogram:
    """A stationary covariance in the plane.

    Parameters
    ----------
    kind : "matern", "exponential" or "squared-exponential".
    variance : σ² > 0, in the field's unit squared.
    range : correlation length ℓ > 0 along the long direction, in the unit of length of the grid.
    smoothness : ν in (0, 50] of the Matérn kind; the others ignore it.
    anisotropy : short range divided by long range, in (0, 1].
    angle : direction of the long range, degrees counter-clockwise from x.
    nugget : τ² ≥ 0, variance added at zero lag only.

    Raises
    ------
    InputError : an unknown kind, or a number outside its bounds.
    """

    kind: str = "matern"
    variance: float = 1.0
    range: float = 0.2
    smoothness: float = 1.5
    anisotropy: float = 1.0
    angle: float = 0.0
    nugget: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            close = difflib.get_close_matches(str(self.kind).lower(), KINDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(KINDS)}"
            raise InputError(f"unknown variogram kind {self.kind!r}; {hint}")
        for name, bounds, valid in (
            ("variance", "positive", self.variance > 0),
            ("range", "positive", self.range > 0),
            ("smoothness", f"in (0, {LARGEST_SMOOTHNESS:g}]", 0 < self.smoothness <= LARGEST_SMOOTHNESS),
            ("anisotropy", "in (0, 1], short range / long range", 0 < self.anisotropy <= 1),
            ("angle", "finite, in degrees", True),
            ("nugget", "zero or positive", self.nugget >= 0),
        ):
            if not (valid and math.isfinite(getattr(self, name))):
                raise InputError(f"variogram {name} must be {bounds}, got {getattr(self, name):g}")

    @property
    def sill(self) -> float:
        """C(0) = σ² + τ²: the variance of the field, and γ at large lags."""
        return self.variance + self.nugget

    @property
    def extent(self) -> tuple[float, float]:
        """Half the sides, along x and along y, of the box around the ellipse r = 1."""
        long, short = self.range, self.range * self.anisotropy
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        return math.hypot(long * cos, short * sin), math.hypot(long * sin, short * cos)

    def covariance(self, dx: ArrayLike, dy: ArrayLike) -> NDArray[np.float64]:
        """C(dx, dy) of lags of any shapes that broadcast."""
        dx, dy = np.asarray(dx, dtype=np.float64), np.asarray(dy, dtype=np.float64)
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        r = np.hypot(along, across / self.anisotropy) / self.range
        return self.variance * self._correlation(r) + self.nugget * ((dx == 0) & (dy == 0))

    def gamma(self, dx: ArrayLike, dy: ArrayLike) -> NDArray[np.float64]:
        """γ(dx, dy) = C(0, 0) − C(dx, dy) of lags of any shapes that broadcast."""
        return self.sill - self.covariance(dx, dy)

    def _correlation(self, r: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.kind == "exponential":
            return np.exp(-np.minimum(r, FAR))
        if self.kind == "squared-exponential":
            return np.exp(-np.minimum(0.5 * r**2, FAR))
        return matern(r, self.smoothness)


def matern(r: NDArray[np.float64], nu: float) -> NDArray[np.float64]:
    """Matérn correlation of smoothness nu at distances r ≥ 0 in units of the range."""
    z = np.minimum(math.sqrt(2 * nu) * r, FAR)
    p = round(nu - 0.5)
    if nu == p + 0.5:
        polynomial = np.zeros_like(z)
        for k in range(p, -1, -1):  # Horner: the coefficient of z^k is 2^k p! (2p − k)! / ((2p)! k! (p − k)!)
            numerator = 2**k * math.factorial(p) * math.factorial(2 * p - k)
            polynomial = polynomial * z + numerator / (
                math.factorial(2 * p) * math.factorial(k) * math.factorial(p - k)
            )
        return np.exp(-z) * polynomial
    with np.errstate(invalid="ignore", over="ignore"):
        correlation = 2 ** (1 - nu) / gamma(nu) * z**nu * kv(nu, z)
    # K_ν overflows next to z = 0 (at zero itself if ν is small); there ρ = 1 − z²/(4(ν − 1)) is exact to rounding.
    return np.where(np.isfinite(correlation), correlation, 1 - z**2 / (4 * max(nu - 1, 1)))
