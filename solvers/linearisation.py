"""The derivative of the solution map a ↦ u at one coefficient, and its transpose: the engine of Gauss–Newton.

With R(a, u) = A(a) u − b(a) = 0, and A symmetric,

    du = −A⁻¹ (∂R/∂a) da,          a_bar = −(∂R/∂a)ᵀ A⁻¹ u_bar,

so each product is one solve with the operator, whose scaling and factors are shared by all of them. A change df of the
sources per unit area adds A⁻¹ df to du, and its gradient is the adjoint state A⁻¹ u_bar itself.
"""

from torch import Tensor

from pdediff.solvers.system import System
from pdediff.solvers.walls import Walls


class Linearisation:
    """Products with du/da and its transpose at ``(a, u)``; nothing here is recorded for automatic differentiation.

    Attributes
    ----------
    a : ``(..., ny, nx)``, or ``(..., 2, ny, nx)`` if anisotropic.
    u : the solution ``(..., ny, nx)``.
    u_walls : u with its values on the walls, ``(..., ny + 2, nx + 2)``.

    Every method takes a relative tolerance ``rtol`` (that of construction if None) and a ``start`` near the solution of
    its solve, both optional, and raises ConvergenceError.
    """

    def __init__(self, a: Tensor, system: System, walls: Walls, u: Tensor, rtol: float) -> None:
        self.a = a
        self._system, self._walls, self._u, self._rtol = system, walls, u, rtol
        self._lead = a.shape[: a.dim() - system.a.dim() + 1]
        self._faces = system.volumes.derivative_faces(system.t, u, homogeneous=False)

    @property
    def u(self) -> Tensor:
        """The solution."""
        return self._shaped(self._u)

    @property
    def u_walls(self) -> Tensor:
        """The solution with its values on the walls."""
        return self._shaped(self._walls.pad(self._system.a, self._u))

    def tangent(
        self, da: Tensor, rtol: float | None = None, start: Tensor | None = None, df: Tensor | None = None
    ) -> Tensor:
        """du ``(..., ny, nx)`` = (du/da) da + A⁻¹ df, for ``da`` shaped like a and ``df (..., ny, nx)``."""
        return self._shaped(self._tangent(self._flat(da, self._system.a), rtol, start, df))

    def tangent_walls(
        self, da: Tensor, rtol: float | None = None, start: Tensor | None = None, df: Tensor | None = None
    ) -> Tensor:
        """Change of ``u_walls (..., ny + 2, nx + 2)`` under da and df."""
        da = self._flat(da, self._system.a)
        return self._shaped(self._walls.tangent(self._system.a, da, self._tangent(da, rtol, start, df)))

    def adjoint_state(self, u_bar: Tensor, rtol: float | None = None, start: Tensor | None = None) -> Tensor:
        """λ = A⁻¹ u_bar ``(..., ny, nx)``: also the gradient with respect to the source per unit area."""
        return self._shaped(self._inverse(self._flat(u_bar, self._u), rtol, start))

    def gradient(self, adjoint_state: Tensor) -> Tensor:
        """a_bar, shaped like a, from an adjoint state λ: −(∂R/∂a)ᵀ λ. No solve."""
        state = self._flat(adjoint_state, self._u)
        return self._like_a(-self._system.volumes.cotangent(self._system.a, self._faces, state))

    def adjoint(self, u_bar: Tensor, rtol: float | None = None, start: Tensor | None = None) -> Tensor:
        """a_bar, shaped like a, = (du/da)ᵀ u_bar for ``u_bar (..., ny, nx)``."""
        return self.gradient(self.adjoint_state(u_bar, rtol, start))

    def adjoint_walls(self, u_walls_bar: Tensor, rtol: float | None = None, start: Tensor | None = None) -> Tensor:
        """a_bar, shaped like a, of a function of ``u_walls`` with gradient ``u_walls_bar (..., ny + 2, nx + 2)``."""
        return self.gradients_walls(u_walls_bar, rtol, start)[0]

    def gradients_walls(
        self, u_walls_bar: Tensor, rtol: float | None = None, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(a_bar, f_bar) of a function of ``u_walls``: f_bar ``(..., ny, nx)``, for sources, is the adjoint state."""
        v = u_walls_bar.detach().to(self._u).reshape(-1, *u_walls_bar.shape[-2:])
        a_bar, u_bar = self._walls.cotangent(self._system.a, v)
        state = self.adjoint_state(self._shaped(u_bar), rtol, start)
        return self._like_a(a_bar) + self.gradient(state), state

    def _tangent(self, da: Tensor, rtol: float | None, start: Tensor | None, df: Tensor | None) -> Tensor:
        rhs = -self._system.volumes.tangent(self._system.a, self._faces, da)
        return self._inverse(rhs if df is None else rhs + self._flat(df, self._u), rtol, start)

    def _inverse(self, b: Tensor, rtol: float | None, start: Tensor | None) -> Tensor:
        start = None if start is None else self._flat(start, self._u)
        return self._system.inverse(b, self._rtol if rtol is None else rtol, start)

    def _flat(self, v: Tensor, like: Tensor) -> Tensor:
        return v.detach().to(like).reshape(like.shape)

    def _shaped(self, v: Tensor) -> Tensor:
        return v.to(self.a.dtype).view(*self._lead, *v.shape[-2:])

    def _like_a(self, v: Tensor) -> Tensor:
        return v.to(self.a.dtype).view(self.a.shape)
