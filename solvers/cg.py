"""Preconditioned conjugate gradients (Hestenes & Stiefel 1952) for a batch of symmetric positive definite systems.

Every sample runs its own iteration: its step lengths are its own scalars, and once its residual has met its tolerance
its step length is 0, so what it converges to does not depend on the batch it is in. Work is done in place; the only
wait for the device is the question whether any sample is still active.
"""

from collections.abc import Callable

import torch
from torch import Tensor

CHECK_EVERY = {"cpu": 1, "cuda": 4}  # iterations between questions that wait for the device


def conjugate_gradients(
    apply: Callable[[Tensor, Tensor], object],
    precondition: Callable[[Tensor], Tensor],
    r: Tensor,
    tolerance: Tensor,
    max_iterations: int,
    zero_mean: bool = False,
) -> tuple[Tensor, Tensor]:
    """Solve A x = r from x = 0.

    Parameters
    ----------
    apply : ``apply(p, out)`` writes A p to ``out``.
    precondition : ``precondition(r)`` returns M⁻¹ r, in a tensor that the next call of either function may overwrite.
    r : right-hand sides ``(B, …)``; overwritten with the last residual.
    tolerance : ``(B,)``, largest ‖r‖₂ that counts as converged.
    max_iterations : after which the current x is returned; the caller judges it.
    zero_mean : A's null space is the constants, so what rounding errors add to the mean of r is taken out again.

    Returns
    -------
    x, and the iterations that each sample took ``(B,)``.
    """
    batch = r.shape[0]
    column = (batch,) + (1,) * (r.dim() - 1)
    x, q, work = torch.zeros_like(r), torch.empty_like(r), torch.empty_like(r)
    flat_work, flat_r = work.view(batch, -1), r.view(batch, -1)

    def dot(v: Tensor, w: Tensor) -> Tensor:
        torch.mul(v, w, out=work)
        return flat_work.sum(1)

    check_every = CHECK_EVERY.get(r.device.type, 4)
    active = torch.linalg.vector_norm(flat_r, dim=1) > tolerance
    iterations = active.new_zeros(batch, dtype=torch.int64)
    zero = r.new_zeros(())
    z = precondition(r)
    p = z.clone()
    rz = dot(r, z)
    for k in range(max_iterations):
        if k % check_every == 0 and not active.any():
            break
        iterations += active
        apply(p, q)
        alpha = torch.where(active, rz / dot(p, q), zero).view(column)
        x.addcmul_(alpha, p)
        r.addcmul_(alpha, q, value=-1)
        if zero_mean:
            flat_r -= flat_r.mean(1, keepdim=True)
        active = active & (torch.linalg.vector_norm(flat_r, dim=1) > tolerance)
        z = precondition(r)
        rz_old, rz = rz, dot(r, z)
        beta = torch.where(active, rz / rz_old, zero).view(column)
        torch.addcmul(z, beta, p, out=p)
    return x, iterations
