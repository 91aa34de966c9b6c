"""A small posterior of every kind, for the tests of figures and reports."""

import numpy as np

from pdediff.posterior.result import Observations, Posterior
from pdediff.solvers.grid import Grid


def posterior(
    n: int = 20, m: int = 9, known: bool = True, two_phase: bool = True, y: tuple[float, float] = (0.0, 1.0)
) -> Posterior:
    """A posterior of n samples; the truth of a log-normal coefficient varies by a factor of e^6."""
    rng = np.random.default_rng(0)
    grid = Grid((12, 16), y=y)
    x, _ = grid.mesh()
    a = np.where(x > 0.5, 12.0, 3.0) if two_phase else np.exp(6 * (x - 0.5))
    samples = {
        "a": a * np.exp(0.2 * rng.standard_normal((n, 12, 16))),
        "u": 0.01 * x + 1e-4 * rng.standard_normal((n, 12, 16)),
    }
    at = rng.random(m)
    observations = Observations(
        field=["u"] * m,
        x=at,
        y=y[0] + (y[1] - y[0]) * rng.random(m),
        value=0.01 * at,
        sigma=[1e-4] * m,
        group=(["heads", "old heads"] * m)[:m],
        predicted=0.01 * at + 1e-4 * rng.standard_normal((n, m)),
    )
    return Posterior(
        grid=grid,
        fields=samples,
        units={"a": "m/d", "u": "m"},
        observations=observations,
        truth={"a": a, "u": 0.01 * x} if known else {},
        phases=(3.0, 12.0) if two_phase else None,
        relative_residual=np.full(n, 1e-11),
    )
