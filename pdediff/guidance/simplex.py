"""Projection on the probability simplex: the kernels of a blur are not negative and sum to one.

The nearest point of {k : k ≥ 0, Σ k = 1} to v is (Held, Wolfe & Crowder 1974; Duchi et al. 2008)

    P_C(v) = max(v − τ, 0),        τ = (Σ_{i ≤ ρ} v_(i) − 1)/ρ,

with v_(1) ≥ v_(2) ≥ … and ρ the largest number for which v_(ρ) > τ: the values below τ are cut off and the others moved
by the same amount. So P_C(v + c) = P_C(v) for every constant c: a penalty on Σ|k|, which moves all positive values by
the same amount, does nothing here.
"""

import torch
from torch import Tensor


def project_simplex(v: Tensor) -> Tensor:
    """The nearest probability vector to each row of v: (..., D) -> (..., D).

    By sorting, O(D log D). Differentiable where no value is at the threshold: the derivative takes the mean off a
    direction on the support, and is zero elsewhere.
    """
    falling = v.sort(dim=-1, descending=True).values
    falling = falling - falling[..., :1].detach()  # no effect on P_C; large constants cost no digits
    excess = falling.cumsum(dim=-1) - 1
    count = torch.arange(1, v.shape[-1] + 1, dtype=v.dtype, device=v.device)
    rho = (falling * count > excess).sum(dim=-1, keepdim=True)
    tau = excess.gather(-1, rho - 1) / rho
    return (v - v.amax(dim=-1, keepdim=True).detach() - tau).clamp(min=0)
