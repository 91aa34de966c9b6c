"""The batched solver against a sparse direct one, on the work of one gradient: a solution and an adjoint.

Both run in this process, in turns, on the same two-phase coefficients of contrast 4 (a = 12 and 3, split along the
sign of a smooth random field), f = 1 and u = 0 on the walls. CG is timed whole, from the coefficient to the gradient;
the direct solver only for one factorisation a sample and two triangular solves with it.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pdediff.solvers.darcy import Darcy
from pdediff.solvers.finite_volumes import FiniteVolumes
from pdediff.solvers.grid import Grid
from pdediff.solvers.lu import SparseLU

PHASES = (12.0, 3.0)


def solver_benchmark(
    shapes: Sequence[int] = (64, 128), batch: int = 16, repeats: int = 5, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Time a solution and an adjoint per sample: batched CG in float32 against ``splu`` and two solves in float64.

    Returns a row for each n of ``shapes`` (n × n cells): ``n``, ``batch``, ``contrast``; ``cg_ms`` and ``lu_ms``, the
    best of ``repeats`` in milliseconds per sample; ``ratio`` = lu_ms / cg_ms; ``iterations``, the mean over CG's two
    solves; and ``difference``, ‖λ_cg − λ_lu‖₂/‖λ_lu‖₂ of the adjoint states of the first sample.
    """
    return [_compare(n, batch, repeats, device) for n in shapes]


def _compare(n: int, batch: int, repeats: int, device: str) -> dict[str, Any]:
    a = _two_phase(n, batch)
    u_bar = torch.randn(batch, n, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    darcy = Darcy(Grid((n, n)), source=1.0, backend="cg")
    volumes = FiniteVolumes(darcy.grid, darcy.boundary, 1.0, (), False, torch.float64, "cpu")
    few = slice(0, min(batch, 4))  # LU's time per sample does not depend on their number
    t = volumes.transmissibilities(a[few])
    b = volumes.right_hand_side(t)
    a_32, u_bar_32 = a.to(device, torch.float32), u_bar.to(device, torch.float32)

    def by_cg() -> Tensor:
        linearisation = darcy.linearise(a_32)
        state = linearisation.adjoint_state(u_bar_32)
        linearisation.gradient(state)
        return state

    def by_lu() -> Tensor:
        factors = SparseLU(t, singular=False)
        factors.solve(b)
        return factors.solve(u_bar[few])

    found, expected = by_cg()[0].cpu(), by_lu()[0]  # also the warm-up
    iterations = darcy.iterations / darcy.solves
    cg_ms, lu_ms = math.inf, math.inf
    for _ in range(repeats):  # in turns, so that a busy machine slows both
        cg_ms = min(cg_ms, _milliseconds(by_cg, device) / batch)
        lu_ms = min(lu_ms, _milliseconds(by_lu, "cpu") / len(b))
    return {
        "n": n,
        "batch": batch,
        "contrast": max(PHASES) / min(PHASES),
        "cg_ms": cg_ms,
        "lu_ms": lu_ms,
        "ratio": lu_ms / cg_ms,
        "iterations": iterations,
        "difference": float((found - expected).norm() / expected.norm()),
    }


def _two_phase(n: int, batch: int) -> Tensor:
    """Two phases split along the sign of a random field with 8 × 8 cosine modes, of amplitude 1/(k² + l²)."""
    k = torch.arange(8, dtype=torch.float64)
    modes = torch.cos(math.pi * k[:, None] * (torch.arange(n, dtype=torch.float64) + 0.5) / n)
    amplitude = (k[:, None] ** 2 + k**2).clamp_min(1).reciprocal()
    amplitude[0, 0] = 0
    noise = torch.randn(batch, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    field = modes.T @ (amplitude * noise) @ modes
    return torch.where(field >= 0, PHASES[0], PHASES[1]).to(torch.float64)


def _milliseconds(work: Callable[[], object], device: str) -> float:
    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    wait()
    start = time.perf_counter()
    work()
    wait()
    return 1e3 * (time.perf_counter() - start)
