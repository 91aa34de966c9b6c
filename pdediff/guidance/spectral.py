"""The singular value decomposition of linear data, H = U diag(s) Vᵀ, in units of their noise.

Along the columns of V the data are independent numbers: ȳ = diag(1/s) Uᵀ y is Vᵀ x_0 plus independent noise of standard
deviations 1/s. What is orthogonal to V the data do not see. H is not asked for: its rows are adjoint products, and
everything is in float64, as the singular values of a smoothing H span many decades.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdediff.guidance.proximal import Sensitivities
from pdediff.likelihoods.base import LeastSquares


@dataclass(frozen=True)
class Spectrum:
    """ȳ = Vᵀ x_0 + noise of standard deviations `noise`.

    Parameters
    ----------
    data: ȳ (1, k), or (B, k) where each sample has data of its own.
    noise: 1/s (k,), rising.
    v: orthonormal columns (D, k).

    """

    data: Tensor
    noise: Tensor
    v: Tensor

    def to(self, x: Tensor) -> "Spectrum":
        """The same in the dtype and on the device of x."""
        return Spectrum(self.data.to(x), self.noise.to(x), self.v.to(x))


def decompose(likelihood: LeastSquares, dimension: int, device: str | torch.device = "cpu") -> Spectrum:
    """Decompose data that are linear in x_0 (D values), at the price of m adjoint products and m² D operations.

    Directions that the data see with less than the rounding error of their largest singular value are left out. Raises
    ValueError for data that are not linear.
    """
    if not likelihood.linear:
        raise ValueError("ddrm needs a linear problem: data that depend on x_0 through an equation have no spectrum")
    origin = torch.zeros(1, dimension, dtype=torch.float64, device=device)
    misfit = likelihood.linearise(origin, tolerance=1e-10)
    h = Sensitivities(misfit).rows[:, 0]
    u, s, v_t = torch.linalg.svd(h, full_matrices=False)
    seen = s > s[0] * max(h.shape) * torch.finfo(s.dtype).eps
    u, s, v_t = u[:, seen], s[seen], v_t[seen]
    return Spectrum(-misfit.residual @ u / s, 1 / s, v_t.T)
