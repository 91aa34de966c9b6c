"""Poisson observations: counts y ~ Poisson(gain · A(x_0)) of an intensity A (Chung et al. 2023; Fig. 4, right).

A(x_0) is in the unit of the observed field, the gain in counts a unit, so that λ = gain · A(x_0) is the expected number
of counts. Two forms, each up to a constant and zero where λ = y:

    "exact"         log p = Σ_i y_i ln(λ_i/y_i) − (λ_i − y_i),
    "gaussian"      log p = −‖y − λ‖²_Λ,  Λ = diag(1/(2y)):  the paper's, a Gaussian of variance y (at least 1).

The second tends to the first as counts grow: at λ = y ± √y they differ by 1/(3√y), to leading order. As both are zero
for a perfect fit, −2 log p is a squared misfit (the deviance, of the first), which is what the normalised step of DPS
takes; with the step "sigma" DPS has the likelihood's own gradient. Below `floor` counts the exact log p is continued
along its tangent: an intensity that has become negative is called back, with the slope y/floor − 1.

To read intensities of a case's fields, `predict` may be that of Gaussian observations:
`PoissonObservations(GaussianObservations(physics, groups).predict, counts, gain)`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class PoissonObservations:
    """Independent counts y_i ~ Poisson(gain · A_i(x_0)).

    Parameters
    ----------
    predict: A, noise-free intensities (B, m) of x_0 (B, D), in the field's unit; differentiable.
    counts: y (m,), not negative.
    gain: counts a unit of intensity, a positive number or (m,).
    form: "exact", or the paper's weighted "gaussian".
    floor: expected counts below which the exact log-likelihood is continued along its tangent.

    Raises
    ------
    ValueError: negative counts, a gain or floor that is not positive, or an unknown form.

    """

    predict: Callable[[Tensor], Tensor]
    counts: Tensor
    gain: float | Tensor = 1.0
    form: Literal["exact", "gaussian"] = "exact"
    floor: float = 0.1

    def __post_init__(self) -> None:
        if self.form not in ("exact", "gaussian"):
            raise ValueError(f"the form of a Poisson likelihood is 'exact' or 'gaussian', not {self.form!r}")
        if not bool((self.counts >= 0).all()):
            raise ValueError(f"counts must not be negative, got {float(self.counts.min()):g}")
        if not (bool((torch.as_tensor(self.gain) > 0).all()) and self.floor > 0):
            raise ValueError(f"gain and floor must be positive, got {self.gain} and {self.floor}")

    def log_prob(self, x_0: Tensor) -> Tensor:
        """log p(y | x_0) − log p(y | λ = y): (B, D) -> (B,), differentiable."""
        intensity = self.predict(x_0)
        y, rate = self.counts.to(intensity), torch.as_tensor(self.gain).to(intensity) * intensity
        if self.form == "gaussian":
            return -((y - rate).square() / (2 * y.clamp(min=1))).sum(dim=-1)
        above = rate.clamp(min=self.floor)
        tangent = (rate - above) * (y / self.floor - 1)  # zero above the floor
        return (torch.xlogy(y, above) - torch.xlogy(y, y) - (above - y) + tangent).sum(dim=-1)
