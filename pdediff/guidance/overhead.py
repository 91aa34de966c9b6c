"""What guidance costs beside the network and the operator: one guided step with an empty network, on the CPU.

The denoiser is that of unit white noise, alpha_t x_t/(alpha_t² + sigma_t²), which costs next to nothing; the data are
the values at some of the points. Each posterior denoiser is timed whole, and inside of it the operator by itself: each
product with H and with Hᵀ, the ones that automatic differentiation calls included.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pdediff.denoisers.base import ErrorLaw, batch_times, white_error_law
from pdediff.guidance.base import PosteriorDenoiser
from pdediff.guidance.diffpir import DiffPIR
from pdediff.guidance.dps import DPS
from pdediff.guidance.loss import LossGuidance
from pdediff.guidance.moments import MomentMatching
from pdediff.guidance.monte_carlo import MonteCarlo
from pdediff.guidance.pigdm import PiGDM
from pdediff.noise import Generators
from pdediff.schedules import FunctionalSchedule, Schedule, noise_to_signal
from pdediff.spaces import FunctionSpace

TIME = torch.tensor(1.0, dtype=torch.float64)  # of the step, as samplers give it
SIGMA = 0.1


def guidance_overhead(
    n: int = 64, data: int = 122, batches: Sequence[int] = (1, 8), repeats: int = 100
) -> list[dict[str, Any]]:
    """Time one guided step of each posterior denoiser on n × n points with an empty network.

    Returns a row for each method and batch size: ``method``, ``n``, ``data``, ``batch``; the best of ``repeats`` in
    milliseconds a step of the batch: ``step_ms``, the whole; ``operator_ms``, the operator's part; ``overhead_ms``, the
    rest of it; and ``products``, how often the operator was called.
    """
    generator = torch.Generator().manual_seed(0)
    denoiser, points = EmptyNetwork(FunctionSpace(("x",), (n, n))), torch.randperm(n * n, generator=generator)[:data]
    rows = []
    for batch in batches:
        x_t, watch = torch.randn(batch, n * n, generator=generator), Stopwatch()
        for name, method in _methods(denoiser, PointValues(points, n * n, watch), batch).items():
            rows.append({"method": name, "n": n, "data": data, "batch": batch} | _time(method, watch, x_t, repeats))
    return rows


def _methods(denoiser: "EmptyNetwork", likelihood: "PointValues", batch: int) -> dict[str, PosteriorDenoiser]:
    return {
        "dps": DPS(denoiser, likelihood),
        "dps, normalised": DPS(denoiser, likelihood, step="normalised", zeta=0.1),
        "loss": LossGuidance(denoiser, lambda x: -likelihood.log_prob(x)),
        "pigdm": PiGDM(denoiser, likelihood),
        "moments": MomentMatching(denoiser, likelihood),
        "diffpir": DiffPIR(denoiser, likelihood),
        "monte-carlo, one draw": MonteCarlo(denoiser, likelihood, Generators(0, range(batch)), draws=1),
    }


def _time(method: PosteriorDenoiser, watch: "Stopwatch", x_t: Tensor, repeats: int) -> dict[str, float]:
    whole, inside = [], []
    for _ in range(repeats):
        watch.seconds, watch.calls = 0.0, 0
        start = time.perf_counter()
        method(x_t, TIME)
        whole.append(1e3 * (time.perf_counter() - start))
        inside.append(1e3 * watch.seconds)
    overhead = min(a - b for a, b in zip(whole, inside, strict=True))
    return {"step_ms": min(whole), "operator_ms": min(inside), "overhead_ms": overhead, "products": watch.calls}


@dataclass(frozen=True)
class EmptyNetwork:
    """E[x_0 | x_t] for white x_0 of unit variance.

    Parameters
    ----------
    space: of x_0.
    schedule: in which t is given.

    """

    space: FunctionSpace
    schedule: Schedule = field(default_factory=FunctionalSchedule)
    bounds: tuple[Tensor, Tensor] = (torch.tensor(-5.0), torch.tensor(5.0))
    noise_range: tuple[float, float] = (0.1, 10.0)

    def __call__(
        self, x_t: Tensor, t: Tensor | float, query: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """alpha_t x_t/(alpha_t² + sigma_t²): (B, D) -> (B, D)."""
        alpha_t, sigma_t = self.schedule(batch_times(t, x_t))
        return (alpha_t / (alpha_t**2 + sigma_t**2))[:, None] * x_t

    def error_law(self, x_0: Tensor, t: float) -> ErrorLaw:
        """r_t² I."""
        return white_error_law(noise_to_signal(self.schedule, t), 1.0, x_0.shape[1])


@dataclass
class Stopwatch:
    """Time that the operator takes, and how often it is called."""

    seconds: float = 0.0
    calls: int = 0


@dataclass(frozen=True)
class PointValues:
    """y = x_0 at some points + noise of deviation `SIGMA`, y = 0.

    Parameters
    ----------
    points: indices (m,).
    dimension: D.
    watch: is told of every product.

    """

    points: Tensor
    dimension: int
    watch: Stopwatch
    linear: bool = True

    @property
    def size(self) -> int:
        """m."""
        return len(self.points)

    def log_prob(self, x_0: Tensor) -> Tensor:
        """(B, D) -> (B,), differentiable."""
        residual: Tensor = _Forward.apply(x_0, self)
        return -0.5 * residual.square().sum(dim=-1)

    def linearise(self, zeta: Tensor, tolerance: float, near: Any = None) -> "LinearisedPoints":
        """The misfit H zeta."""
        return LinearisedPoints(self, self.tangent(zeta))

    def tangent(self, x: Tensor) -> Tensor:
        """H x: (B, D) -> (B, m)."""
        start = time.perf_counter()
        data = x[:, self.points] / SIGMA
        return self._stop(start, data)

    def adjoint(self, data: Tensor) -> Tensor:
        """Hᵀ data: (B, m) -> (B, D)."""
        start = time.perf_counter()
        x = data.new_zeros(len(data), self.dimension)
        x[:, self.points] = data / SIGMA
        return self._stop(start, x)

    def _stop(self, start: float, result: Tensor) -> Tensor:
        self.watch.seconds += time.perf_counter() - start
        self.watch.calls += 1
        return result


@dataclass(frozen=True)
class LinearisedPoints:
    """The misfit and its derivative, the operator itself."""

    likelihood: PointValues
    residual: Tensor

    def tangent(self, dzeta: Tensor) -> Tensor:
        """H dzeta."""
        return self.likelihood.tangent(dzeta)

    def adjoint(self, data: Tensor) -> Tensor:
        """Hᵀ data."""
        return self.likelihood.adjoint(data)


class _Forward(torch.autograd.Function):
    """H x, with Hᵀ for its backward pass: so that the stopwatch sees both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, likelihood: PointValues) -> Tensor:
        ctx.likelihood = likelihood
        return likelihood.tangent(x)

    @staticmethod
    def backward(ctx: Any, data: Tensor) -> tuple[Tensor, None]:
        return ctx.likelihood.adjoint(data), None
