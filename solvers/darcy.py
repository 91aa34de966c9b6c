"""Steady Darcy flow on a rectangle, −∇·(a∇u) = f, solved in batches and differentiated exactly.

The same equation is DC resistivity (a conductivity, u potential), steady heat conduction (a conductivity, u
temperature) and confined groundwater flow (a transmissivity, u head). ``Darcy`` fixes the domain, the walls and the
sources; its methods take coefficients ``a`` with any leading axes. The discretisation is in ``finite_volumes``, the
solver in ``system``, the differentiable operation u = A⁻¹ b in ``implicit``.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pdediff.solvers.boundary import Boundary
from pdediff.solvers.errors import InputError
from pdediff.solvers.finite_volumes import Faces, FiniteVolumes
from pdediff.solvers.grid import Grid
from pdediff.solvers.implicit import Inverse, Solver
from pdediff.solvers.linearisation import Linearisation
from pdediff.solvers.source import SourceLike, Well
from pdediff.solvers.system import Backend, System, contrast
from pdediff.solvers.transforms import FastPoisson
from pdediff.solvers.walls import Walls

__all__ = ["Darcy", "Linearisation", "Well", "solve"]

RTOL = {torch.float32: 1e-6, torch.float64: 1e-10}
SINGLE_UP_TO = 1e6  # contrast; float32 is within 4e-5 of the exact solutions there; above it float64 is used
CG_UP_TO = 1e4  # contrast; above it one factorisation costs less than the iterations do on a CPU


class Darcy:
    """The problem −∇·(a∇u) = f on a grid, for any positive coefficient a.

    Parameters
    ----------
    grid : the cells.
    boundary : values or fluxes on the walls; u = 0 on all of them if not given.
    source : f per unit area: a number, an array ``(ny, nx)`` or an expression in x and y.
    wells : point sources.
    anisotropic : coefficients are diagonal tensors ``(..., 2, ny, nx)``, a_x then a_y; else scalars ``(..., ny, nx)``.
    backend : "cg", preconditioned conjugate gradients; "lu", a sparse factorisation per sample on the CPU; "auto", CG
        up to a contrast (max a / min a) of 1e4, LU above on the CPU, and LU for those samples that CG does not solve.
        Above a contrast of 1e6 all work is done in float64, whatever the type of a.
    rtol : wanted ‖A u − b‖₂/‖b‖₂; 1e-6 in float32 and 1e-10 in float64 if not given. Rounding error is granted on top.
    max_iterations : of CG.

    Attributes
    ----------
    solves : linear solves so far, counted by sample: solutions, tangents and adjoints.
    iterations : CG iterations so far, counted by sample.

    Raises
    ------
    InputError : data that does not fit the grid, or an all-flux boundary that does not balance its sources. With a
        balanced all-flux boundary, u is the solution with mean 0.
    """

    def __init__(
        self, grid: Grid, boundary: Boundary | None = None, source: SourceLike = 0.0, wells: Iterable[Well] = (), *,
        anisotropic: bool = False, backend: Backend = "auto", rtol: float | None = None, max_iterations: int = 1000,
    ) -> None:  # fmt: skip
        if backend not in ("auto", "cg", "lu"):
            raise InputError(f"unknown solver backend {backend!r}; known are 'auto', 'cg' and 'lu'")
        if rtol is not None and not 0 < rtol < 1:
            raise InputError(f"rtol must be between 0 and 1, got {rtol}")
        if max_iterations < 1:
            raise InputError(f"max_iterations must be at least 1, got {max_iterations}")
        self.grid, self.boundary = grid, boundary if boundary is not None else Boundary()
        self.source, self.wells = source, tuple(wells)
        self.anisotropic, self.backend, self.rtol, self.max_iterations = anisotropic, backend, rtol, max_iterations
        self.solves = 0
        self.iterations = 0
        self._parts: dict[tuple[torch.dtype, torch.device], tuple[FiniteVolumes, FastPoisson, Walls]] = {}
        self._volumes(torch.empty(0, dtype=torch.float64))  # wrong data is refused here and not at the first solve

    def solve(
        self, a: Tensor, u0: Tensor | None = None, rtol: float | None = None, forcing: Tensor | None = None
    ) -> Tensor:
        """u ``(..., ny, nx)`` for the coefficient a; differentiable in a, in reverse and forward mode, to any order.

        ``u0``, a field near u, saves iterations. ``forcing (..., ny, nx)`` is added to the sources per unit area, and u
        is differentiable in it too. Raises InputError (a of another shape or type, not finite, not positive) and
        ConvergenceError.
        """
        self._check_shape(a)
        volumes = self._volumes(a)
        lead = a.shape[: a.dim() - self._coefficient_dim]
        a = a.reshape(-1, *a.shape[a.dim() - self._coefficient_dim :])
        b = volumes.right_hand_side(volumes.transmissibilities(a))
        if forcing is not None:
            b = b + forcing.to(b).reshape(-1, *self.grid.shape)
        start = None if u0 is None else u0.detach().to(volumes.f).expand(*lead, *self.grid.shape)
        start = None if start is None else start.reshape(-1, *self.grid.shape)
        u: Tensor = Inverse.apply(a, b, Solver(self._system, volumes, self._tolerance(a.dtype, rtol), start))
        return u.reshape(*lead, *self.grid.shape)

    def linearise(
        self, a: Tensor, u: Tensor | None = None, rtol: float | None = None, u0: Tensor | None = None,
        forcing: Tensor | None = None,
    ) -> Linearisation:  # fmt: skip
        """The solution map and its derivative at a.

        ``u`` is taken as the solution if given, else solved for, starting from ``u0`` if given, with ``forcing`` added
        to the sources if given. ``rtol`` holds for that solve and, unless they say otherwise, for the products. Raises
        as ``solve``.
        """
        self._check_shape(a)
        a = a.detach()
        flat = a.reshape(-1, *a.shape[a.dim() - self._coefficient_dim :])
        with torch.no_grad():
            system = self._system(flat)
            tolerance = self._tolerance(a.dtype, rtol)
            cells = (flat.shape[0], *self.grid.shape)
            if u is not None:
                state = u.detach().to(system.a).reshape(cells)
            else:
                start = None if u0 is None else u0.detach().to(system.a).reshape(cells)
                b = system.volumes.right_hand_side(system.t)
                b = b if forcing is None else b + forcing.detach().to(b).reshape(cells)
                state = system.inverse(b, tolerance, start)
            return Linearisation(a, system, self._parts_for(system.a)[2], state, tolerance)

    def residual(self, a: Tensor, u: Tensor) -> Tensor:
        """A(a) u − b ``(..., ny, nx)``: net outflow less sources, per unit area; differentiable in a and u."""
        self._check_shape(a)
        return self._volumes(a).residual(a, u)

    def relative_residual(self, a: Tensor, u: Tensor) -> Tensor:
        """‖A u − b‖₂/‖b‖₂ of each sample ``(...)``, in float64; the norm itself where b = 0."""
        self._check_shape(a)
        a, u = a.detach().double(), u.detach().double()
        volumes = self._volumes(a)
        b = torch.linalg.vector_norm(volumes.right_hand_side(volumes.transmissibilities(a)), dim=(-2, -1))
        return torch.linalg.vector_norm(volumes.residual(a, u), dim=(-2, -1)) / torch.where(b > 0, b, 1.0)

    def fluxes(self, a: Tensor, u: Tensor) -> Faces:
        """Flux densities −a∇u on faces: x ``(..., ny, nx + 1)``, y ``(..., ny + 1, nx)``; positive along the axes."""
        self._check_shape(a)
        return self._volumes(a).fluxes(a, u)

    def mass_balance(self, a: Tensor, u: Tensor) -> Tensor:
        """(Outflow through the walls − sources) / (sum of the magnitudes of both), of each sample ``(...)``."""
        q_x, q_y = self.fluxes(a, u)
        dx, dy = self.grid.dx, self.grid.dy
        walls = torch.cat((-q_x[..., 0] * dy, q_x[..., -1] * dy, -q_y[..., 0, :] * dx, q_y[..., -1, :] * dx), -1)
        sources = self._volumes(a).f * self.grid.cell_area
        size = walls.abs().sum(-1) + sources.abs().sum()
        return (walls.sum(-1) - sources.sum()) / torch.where(size > 0, size, 1.0)

    def with_walls(self, a: Tensor, u: Tensor) -> Tensor:
        """u framed by its values on the walls ``(..., ny + 2, nx + 2)``; differentiable in a and u."""
        return self.walls(a).pad(a, u)

    def walls(self, a: Tensor) -> Walls:
        """The rule that frames u, its derivative and its transpose, for the type and device of a."""
        self._check_shape(a)
        return self._parts_for(a)[2]

    @property
    def _coefficient_dim(self) -> int:
        return 3 if self.anisotropic else 2

    def _check_shape(self, a: Tensor) -> None:
        wanted = (2, *self.grid.shape) if self.anisotropic else self.grid.shape
        if tuple(a.shape[-len(wanted) :]) != wanted:
            kind = "(..., 2, ny, nx)" if self.anisotropic else "(..., ny, nx)"
            raise InputError(
                f"coefficient of shape {tuple(a.shape)} does not fit the grid: {kind} must end in {wanted}"
            )
        if a.dtype not in RTOL:
            raise InputError(f"coefficient must be float32 or float64, got {a.dtype}")

    def _parts_for(self, a: Tensor) -> tuple[FiniteVolumes, FastPoisson, Walls]:
        """The discretisation, transforms and walls for the type and device of a."""
        key = (a.dtype, a.device)
        if key not in self._parts:
            with torch.inference_mode(False):  # kept tensors must serve autograd too
                volumes = FiniteVolumes(
                    self.grid, self.boundary, self.source, self.wells, self.anisotropic, a.dtype, a.device
                )
                poisson = FastPoisson(self.grid, volumes.values, a.dtype, a.device)
                self._parts[key] = volumes, poisson, Walls(volumes)
        return self._parts[key]

    def _volumes(self, a: Tensor) -> FiniteVolumes:
        return self._parts_for(a)[0]

    def _system(self, a: Tensor) -> System:
        """The solver for ``a (B, [2,] ny, nx)``: its precision and method follow from the contrast."""
        ratio = contrast(a)
        a = a.double() if ratio > SINGLE_UP_TO else a.contiguous()
        backend = "lu" if self.backend == "auto" and ratio > CG_UP_TO and a.device.type == "cpu" else self.backend
        volumes, poisson, _ = self._parts_for(a)
        return System(volumes, poisson, a, backend, self.max_iterations, self._count)

    def _count(self, iterations: Tensor) -> None:
        self.solves += len(iterations)
        self.iterations += int(iterations.sum())

    def _tolerance(self, dtype: torch.dtype, rtol: float | None) -> float:
        return rtol or self.rtol or RTOL[dtype]


def solve(
    a: Tensor, grid: Grid, boundary: Boundary | None = None, source: SourceLike = 0.0, wells: Iterable[Well] = (),
    **options: Any,
) -> Tensor:  # fmt: skip
    """u of −∇·(a∇u) = f for one coefficient: ``Darcy(grid, boundary, source, wells, **options).solve(a)``."""
    return Darcy(grid, boundary, source, wells, **options).solve(a)
