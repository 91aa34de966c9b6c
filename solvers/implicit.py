"""u = A(a)⁻¹ b as one differentiable operation of a and b.

With λ = A⁻¹ u_bar (A is symmetric), the reverse mode is b_bar = λ and a_bar = −∂(λ · A u)/∂a at fixed λ and u; the
forward mode is du = A⁻¹ (db − (dA) u). Both are written with the operation itself, so derivatives of any order exist,
and they are those of the discrete solution map, exact to the solver's tolerance.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pdediff.solvers.finite_volumes import FiniteVolumes
from pdediff.solvers.system import System


class Solver:
    """What the passes through one operation share: how to build its system, and the system once it is built.

    Parameters
    ----------
    build : ``a (B, [2,] ny, nx)`` to its System.
    volumes : the discretisation, of a's type and device.
    rtol : relative tolerance.
    start : ``(B, ny, nx)``, where the first solve starts.
    """

    def __init__(
        self, build: Callable[[Tensor], System], volumes: FiniteVolumes, rtol: float, start: Tensor | None = None
    ) -> None:
        self.build, self.volumes, self.rtol = build, volumes, rtol
        self._start = start
        self._system: System | None = None

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """A(a)⁻¹ b, not differentiable; a is the same tensor of numbers in every call."""
        if self._system is None:
            self._system = self.build(a)
        start, self._start = self._start, None  # near u, not near the derivatives that come next
        return self._system.inverse(b, self.rtol, start)


class Inverse(torch.autograd.Function):
    """(a, b) ↦ A(a)⁻¹ b for ``a (B, [2,] ny, nx)`` and ``b (B, ny, nx)``."""

    @staticmethod
    def forward(a: Tensor, b: Tensor, solver: Solver) -> Tensor:
        """u; nothing is recorded here."""
        return solver(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Solver], output: Tensor) -> None:
        """Keep what both modes need."""
        a, _, ctx.solver = inputs
        ctx.save_for_backward(a, output)
        ctx.save_for_forward(a, output)

    @staticmethod
    def backward(ctx: Any, u_bar: Tensor) -> tuple[Tensor | None, Tensor, None]:
        """(a_bar, b_bar) from u_bar: one solve."""
        a, u = ctx.saved_tensors
        state = Inverse.apply(a, u_bar, ctx.solver)
        volumes = ctx.solver.volumes
        faces = volumes.derivative_faces(volumes.transmissibilities(a), u, homogeneous=True)
        a_bar = -volumes.cotangent(a, faces, state) if ctx.needs_input_grad[0] else None
        return a_bar, state, None

    @staticmethod
    def jvp(ctx: Any, da: Tensor | None, db: Tensor | None, _: None) -> Tensor:
        """Change of u under da and db: one solve."""
        a, u = ctx.saved_tensors
        rhs = torch.zeros_like(u) if db is None else db
        if da is not None:
            volumes = ctx.solver.volumes
            faces = volumes.derivative_faces(volumes.transmissibilities(a), u, homogeneous=True)
            rhs = rhs - volumes.tangent(a, faces, da)
        return Inverse.apply(a, rhs, ctx.solver)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None, None], a: Tensor, b: Tensor, solver: Solver) -> tuple:
        """The mapped axis joins the batch."""
        n = info.batch_size

        def front(v: Tensor, dim: int | None) -> Tensor:
            return v.expand(n, *v.shape) if dim is None else v.movedim(dim, 0)

        a, b = front(a, in_dims[0]), front(b, in_dims[1])
        u = Inverse.apply(a.flatten(0, 1), b.flatten(0, 1), Solver(solver.build, solver.volumes, solver.rtol))
        return u.unflatten(0, (n, -1)), 0
