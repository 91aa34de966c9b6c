"""The batched solver against a sparse direct one, on the work of one gradient: a solution and an adjoint.

Both run in this process, one after the other, on the same two-phase coefficients of contrast 4 (a = 12 and 3, split
along the sign of a smooth random field), f = 1 and u = 0 on the walls. The direct solver factorises once a sample and uses
the factor twice, as one would.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid

PHASES = (12.0, 3.0)


def solver_benchmark(
    shapes: Sequence[int] = (64, 128), batch: int = 16, repeats: int = 5, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Time a solution and an adjoint per sample, batched CG in float32 against LU in float64.

    Returns a row for each n of ``shapes`` (n × n cells): ``n``, ``batch``, ``contrast``, ``cg_ms`` and ``lu_ms`` (best of
    ``repeats``, milliseconds per sample), ``ratio`` = lu_ms / cg_ms, ``iterations`` (CG, mean over both solves) and
    ``difference`` (‖a_bar_cg − a_bar_lu‖/‖a_bar_lu‖, the two gradients).
    """
    rows = []
    for n in shapes:
        a = _two_phase(n, batch)
        u_bar = torch.randn(batch, n, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        cg = Darcy(Grid((n, n)), source=1.0, backend="cg")
        lu = Darcy(Grid((n, n)), source=1.0, backend="lu")
        a_cg, u_bar_cg = a.to(device, torch.float32), u_bar.to(device, torch.float32)

        def gradient(darcy: Darcy, a: Tensor, u_bar: Tensor) -> Tensor:
            return darcy.linearise(a).adjoint(u_bar)

        found = gradient(cg, a_cg, u_bar_cg)  # also the warm-up
        expected = gradient(lu, a[:1], u_bar[:1])
        iterations = cg.iterations / cg.solves
        cg_ms, lu_ms = math.inf, math.inf
        for _ in range(repeats):  # in turns, so that a busy machine slows both
            cg_ms = min(cg_ms, _milliseconds(lambda: gradient(cg, a_cg, u_bar_cg), device) / batch)  # noqa: B023
            lu_ms = min(lu_ms, _milliseconds(lambda: gradient(lu, a[:4], u_bar[:4]), "cpu") / 4)  # noqa: B023
        rows.append(
            {
                "n": n,
                "batch": batch,
                "contrast": max(PHASES) / min(PHASES),
                "cg_ms": cg_ms,
                "lu_ms": lu_ms,
                "ratio": lu_ms / cg_ms,
                "iterations": iterations,
                "difference": float((found[:1].cpu() - expected).norm() / expected.norm()),
            }
        )
    return rows


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
