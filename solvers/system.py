"""A(a) for a batch of fixed coefficients: everything that repeated solves with it share.

The preconditioner is S L S: the constant-coefficient Laplacian L, inverted by fast transforms, between two diagonal
scalings. What S should be depends on the coefficient:

- a that varies smoothly is captured by its own size, S² ≈ diag A / diag L (Concus & Golub 1973): iterations no longer
  depend on contrast;
- a that jumps between phases is not: S would put the jumps into L's argument. S = 1 is best, since the spectrum of L⁻¹A
  then clusters at the phases' values.

Between them S² = (diag A / diag L)^θ. Measured on two-phase, log-normal and mixed fields, smooth to white, the best θ
grows from 0 to 0.6 with the median of |δ log a| over faces, in units of its root mean square: 0 if a is constant but
for jumps, 0.67 if log a is Gaussian.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pdediff.solvers.cg import conjugate_gradients
from pdediff.solvers.errors import ConvergenceError, InputError
from pdediff.solvers.finite_volumes import Faces, FiniteVolumes
from pdediff.solvers.lu import SparseLU
from pdediff.solvers.transforms import FastPoisson

Backend = Literal["auto", "cg", "lu"]

REFINEMENTS = 4  # restarts from the true residual
FLOOR = 4.0  # multiples of the rounding error of A u that a residual may have


class System:
    """Solver for A(a) u = b with ``a (B, [2,] ny, nx)`` fixed. Not differentiable.

    Parameters
    ----------
    volumes, poisson : the discretisation and the fast transforms, of a's type and device.
    a : coefficient, finite and positive.
    backend : "cg"; "lu"; or "auto", which is CG with LU for the samples that CG does not bring to tolerance.
    max_iterations : of CG.
    count : is told the iterations ``(B,)`` of every solve.

    Attributes
    ----------
    t : transmissibilities.
    iterations : ``(B,)``, CG iterations of the last ``inverse``; 0 under LU.
    """

    def __init__(
        self, volumes: FiniteVolumes, poisson: FastPoisson, a: Tensor, backend: Backend, max_iterations: int,
        count: Callable[[Tensor], object] = lambda iterations: None,
    ) -> None:  # fmt: skip
        self.volumes, self.poisson = volumes, poisson
        self.backend, self.max_iterations = backend, max_iterations
        self.a, self._count = a, count
        self.t = volumes.transmissibilities(a)
        self.iterations = torch.zeros(a.shape[0], dtype=torch.int64, device=a.device)
        self.diagonal = _diagonal(self.t)
        self._lu: SparseLU | None = None
        if backend != "lu":
            self._scale()

    def _scale(self) -> None:
        """Choose S; lay out T so that a cell's neighbours are the next one and the one a row on in flat memory."""
        a_x, a_y = self.volumes.components(self.a)
        log_a = 0.5 * (a_x.log() + a_y.log()) if self.volumes.anisotropic else a_x.log()
        theta = scaling_exponent(log_a)
        k_x: Tensor | float = 1.0
        k_y: Tensor | float = 1.0
        if self.volumes.anisotropic:
            k_x, k_y = (c.log().mean((-2, -1), keepdim=True).exp() for c in (a_x, a_y))
        unit = self.volumes.unit_transmissibilities
        constant = _diagonal(Faces(k_x * unit.x, k_y * unit.y))
        self._inverse_eigenvalues = self.poisson.inverse_eigenvalues(k_x, k_y)
        self._s_inverse = (constant / self.diagonal) ** (theta / 2) if theta.any() else None
        self._t_x, self._t_y = torch.zeros_like(log_a), torch.zeros_like(log_a)  # 0: next cell in another row or sample
        self._t_x[..., :-1], self._t_y[:, :-1] = self.t.x[..., 1:-1], self.t.y[:, 1:-1]
        self._t_walls = torch.zeros_like(log_a)
        self._t_walls[..., 0] += self.t.x[..., 0]
        self._t_walls[..., -1] += self.t.x[..., -1]
        self._t_walls[:, 0] += self.t.y[:, 0]
        self._t_walls[:, -1] += self.t.y[:, -1]
        self._work = tuple(torch.empty_like(log_a) for _ in range(2))

    def _apply(self, p: Tensor, out: Tensor) -> None:
        """out = A p by differences: with a rounded diagonal in their place, u would be off by eps × condition."""
        torch.mul(self._t_walls, p, out=out)
        p, out, flow = p.view(-1), out.view(-1), self._work[0].view(-1)
        for t, step in ((self._t_x, 1), (self._t_y, self.volumes.grid.nx)):
            torch.sub(p[step:], p[:-step], out=flow[:-step])
            flow.mul_(t.view(-1))
            out[step:] += flow[:-step]
            out[:-step] -= flow[:-step]

    def _precondition(self, r: Tensor) -> Tensor:
        """(S L S)⁻¹ r, good until the next product with A or M⁻¹: they share their memory."""
        if self._s_inverse is None:
            return self.poisson.solve(r, self._inverse_eigenvalues, self._work)
        z = self.poisson.solve(r * self._s_inverse, self._inverse_eigenvalues, self._work)
        return z.mul_(self._s_inverse)

    def inverse(self, b: Tensor, rtol: float, start: Tensor | None = None) -> Tensor:
        """u with ‖A u − b‖₂ ≤ rtol ‖b‖₂ for each sample of ``b (B, ny, nx)``, or to rounding error if that is larger.

        ``start (B, ny, nx)`` is where CG starts. The result has b's type, whichever the system works in. A zero b gives
        a zero u. If every wall fixes the flux, b is taken without its mean and u has mean 0.

        Raises ConvergenceError.
        """
        dtype = b.dtype
        b = b.to(self.a.dtype)
        if self.volumes.singular:
            b = b - b.mean((-2, -1), keepdim=True)
        size = b.abs().amax((-2, -1), keepdim=True)  # right-hand sides of any magnitude, in single precision too
        size = torch.where(size > 0, size, torch.ones_like(size))
        b = b / size
        rtol = max(rtol, 4 * torch.finfo(b.dtype).eps)
        norm = _norm(b)
        if self.backend == "lu":
            u, converged, achieved = self._inverse_lu(b, norm, rtol)
        else:
            u, converged, achieved = self._inverse_cg(b, norm, rtol, None if start is None else start.to(b) / size)
        if not converged.all():
            if self.backend == "auto":
                failed = (~converged).nonzero().flatten()
                u[failed], converged[failed], achieved[failed] = self._inverse_lu(b, norm, rtol, failed)
            if not converged.all():
                self._fail(converged, achieved, rtol)
        self._count(self.iterations)
        u = torch.where(norm.view(-1, 1, 1) > 0, u, torch.zeros_like(u))
        if self.volumes.singular:
            u = u - u.mean((-2, -1), keepdim=True)
        return (u * size).to(dtype)

    def _inverse_cg(self, b: Tensor, norm: Tensor, rtol: float, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """CG, restarted from the true residual until that one is small: in finite precision the recurred one lies."""
        if start is None:
            u, r = torch.zeros_like(b), b
        else:
            u = start.clone()
            r = b - self.volumes.apply(self.t, u)
        self.iterations.zero_()
        for _ in range(REFINEMENTS):
            du, iterations = conjugate_gradients(
                self._apply, self._precondition, r.clone(), rtol * norm, self.max_iterations, self.volumes.singular
            )
            self.iterations += iterations
            u += du
            r = b - self.volumes.apply(self.t, u)
            converged, achieved = self._judge(u, r, norm, rtol, self.diagonal)
            if converged.all() or bool((iterations >= self.max_iterations).any()):
                break
        return u, converged, achieved

    def _inverse_lu(
        self, b: Tensor, norm: Tensor, rtol: float, samples: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """LU with one step of iterative refinement; of all samples, or of those with the given numbers."""
        if self._lu is None:
            self._lu = SparseLU(self.t, self.volumes.singular)
        every = slice(None) if samples is None else samples
        t, b, norm = Faces(self.t.x[every], self.t.y[every]), b[every], norm[every]
        u = self._lu.solve(b, samples)
        u = u + self._lu.solve(b - self.volumes.apply(t, u), samples)
        return u, *self._judge(u, b - self.volumes.apply(t, u), norm, rtol, self.diagonal[every])

    def _judge(self, u: Tensor, r: Tensor, norm: Tensor, rtol: float, diagonal: Tensor) -> tuple[Tensor, Tensor]:
        """Which samples are solved, and their relative residuals.

        No u stored in this precision can have a residual below the rounding error of A u, so that much is granted.
        """
        achieved = _norm(r)
        rounding = torch.finfo(u.dtype).eps * _norm(diagonal * u)
        return achieved <= 1.01 * rtol * norm + FLOOR * rounding, achieved / norm

    def _fail(self, converged: Tensor, achieved: Tensor, rtol: float) -> None:
        worst = int(torch.where(converged, -torch.ones_like(achieved), achieved.nan_to_num(torch.inf)).argmax())
        low, high = self.a[worst].aminmax()
        how = "sparse LU" if self.backend != "cg" else f"{int(self.iterations[worst])} CG iterations"
        advice = "; use backend='auto' or 'lu'" if self.backend == "cg" else ""
        raise ConvergenceError(
            f"Darcy solve did not converge for {int((~converged).sum())} of {len(converged)} samples: sample {worst} "
            f"has the relative residual {float(achieved[worst]):.2e} after {how}, wanted {rtol:.1e}; "
            f"the contrast of its a is {float(high / low):.2e}{advice}"
        )


def contrast(a: Tensor) -> float:
    """The largest of the samples' max a / min a, for ``a (B, [2,] ny, nx)``.

    Raises InputError, with the count and the first index, unless every number is finite and positive.
    """
    low, high = a.flatten(1).amin(1), a.flatten(1).amax(1)
    if low.min() > 0 and high.max() < torch.inf:  # False for not-a-number too
        return float((high / low).max())
    wrong = ~((a > 0) & a.isfinite())
    first = wrong.nonzero()[0].tolist()
    raise InputError(
        f"coefficient a must be positive and finite: {int(wrong.sum())} of {a.numel()} numbers are not, "
        f"the first at index {first} is {float(a[tuple(first)]):g}"
    )


def scaling_exponent(log_a: Tensor) -> Tensor:
    """θ ``(B, 1, 1)`` for ``log_a (B, ny, nx)``; see the module's text."""
    every_fourth = slice(None, None, 4)  # enough for a median, which is a slow thing to take
    jumps_x, jumps_y = log_a[:, every_fourth].diff(dim=-1), log_a[..., every_fourth].diff(dim=-2)
    jumps = torch.cat((jumps_x.flatten(1), jumps_y.flatten(1)), 1).abs()
    rms = jumps.square().mean(1).sqrt()
    theta = 0.9 * jumps.median(1).values / rms.clamp_min(torch.finfo(rms.dtype).tiny)
    return theta.clamp_max(0.6).view(-1, 1, 1)


def _diagonal(t: Faces) -> Tensor:
    return t.x[..., :-1] + t.x[..., 1:] + t.y[..., :-1, :] + t.y[..., 1:, :]


def _norm(v: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v.flatten(1), dim=1)
