"""From the `prior:` of a case to a denoiser, its parametrisation, and the law that truths are drawn from."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pdediff import parametrisations
from pdediff.cases.case import Case
from pdediff.cases.prior import LogNormalPrior, ProductPrior, SolutionPrior
from pdediff.datasets.coefficients import CoefficientLaw, LogNormalLaw, TwoPhaseLaw
from pdediff.datasets.embedding import embed
from pdediff.datasets.random_fields import benchmark_field
from pdediff.denoisers import weights
from pdediff.denoisers.base import Denoiser
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.product import ProductDenoiser
from pdediff.parametrisations import Parametrisation
from pdediff.solvers.errors import InputError
from pdediff.solvers.expressions import Expression
from pdediff.solvers.grid import Grid
from pdediff.spaces import FunctionSpace


@dataclass(frozen=True)
class PriorModel:
    """A prior, ready for sampling.

    Parameters
    ----------
    denoiser: E[x_0 | x_t].
    parametrisation: from x_a to the coefficient a.
    solution: from x_u to the solution u, in a joint prior; else None.
    law: draws coefficients on the case's grid.
    phases: the two values of a two-phase coefficient, else None.

    """

    denoiser: Denoiser
    parametrisation: Parametrisation
    solution: Parametrisation | None
    law: CoefficientLaw
    phases: tuple[float, float] | None


def build_prior(case: Case, grid: Grid, device: str | torch.device = "cpu") -> PriorModel:
    """The prior of a case. Raises InputError for damaged weights; that they fit the grid was checked on loading."""
    if isinstance(case.prior, LogNormalPrior):
        return _log_normal(case.prior, grid)
    if isinstance(case.prior, ProductPrior):
        return _product(case.prior, grid)
    assert case.prior_card is not None  # found when the case was loaded
    denoiser, card = weights.load(case.prior_card, device)
    return _two_phase(denoiser, card)


def _two_phase(denoiser: Denoiser, card: dict[str, Any]) -> PriorModel:
    try:
        law = card["law"]
        low, high = law["low"], law["high"]
        field = benchmark_field(tuple(law["shape"]), law["alpha"], law["tau"])
        scaling = card["parametrisation"]["u"] if "u" in card["fields"] else None
        solution = None if scaling is None else parametrisations.Affine(*scaling)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"card of prior {card.get('name')!r}: its law is not that of a two-phase medium") from None
    return PriorModel(
        denoiser, parametrisations.TwoPhase(low, high), solution, TwoPhaseLaw(field, low, high), phases=(low, high)
    )


def _log_normal(prior: LogNormalPrior, grid: Grid) -> PriorModel:
    """Closed form: the Gaussian field of log a lives on a torus that holds the grid in its corner."""
    field = embed(prior.variogram.build(), grid)
    space = FunctionSpace(("a",), field.torus.shape, grid.cell_area)
    return PriorModel(
        GaussianDenoiser(field.torus, space),
        parametrisations.LogNormal(prior.mean, grid.shape, field.torus.shape),
        None,
        LogNormalLaw(field, prior.mean),
        phases=None,
    )


def _product(prior: ProductPrior, grid: Grid) -> PriorModel:
    """Independent laws in closed form; that of u, too, is part of one on a torus."""
    a = _log_normal(prior.a, grid)
    denoiser, solution = _solution(prior.u, grid)
    return replace(a, denoiser=ProductDenoiser((a.denoiser, denoiser)), solution=solution)


def _solution(prior: SolutionPrior, grid: Grid) -> tuple[GaussianDenoiser, parametrisations.Shifted]:
    torus = embed(prior.variogram.build(), grid).torus
    denoiser = GaussianDenoiser(torus, FunctionSpace(("u",), torus.shape, grid.cell_area))
    mean = np.broadcast_to(Expression(str(prior.mean))(*grid.mesh()), grid.shape)
    return denoiser, parametrisations.Shifted(torch.tensor(mean), torus.shape)
