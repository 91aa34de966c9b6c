"""From the `prior:` of a case to a denoiser, its parametrisation, and the law that truths are drawn from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pdediff import parametrisations
from pdediff.cases.case import Case
from pdediff.cases.prior import (
    GaussianPrior,
    LogNormalPrior,
    MixturePrior,
    ProductPrior,
    ShippedPrior,
    SolutionPrior,
    VariogramSection,
    WeightsPrior,
)
from pdediff.datasets.coefficients import CoefficientLaw, GaussianLaw, LogNormalLaw, MixtureLaw, TwoPhaseLaw
from pdediff.datasets.dense_field import DenseField, dense_variogram
from pdediff.datasets.embedding import embed
from pdediff.datasets.random_fields import benchmark_field
from pdediff.denoisers import weights
from pdediff.denoisers.base import Denoiser
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.grid_operator import GridOperatorDenoiser
from pdediff.denoisers.mixture import GaussianMixtureDenoiser
from pdediff.denoisers.product import ProductDenoiser
from pdediff.denoisers.windowed import WindowedDenoiser
from pdediff.guidance.classifier import ClassifierGuidance
from pdediff.guidance.classifier_free import ClassifierFree
from pdediff.parametrisations import Parametrisation
from pdediff.schedules import CosineSchedule, FunctionalSchedule, Schedule, VESchedule, VPSchedule
from pdediff.solvers.errors import InputError
from pdediff.solvers.expressions import Expression
from pdediff.solvers.grid import Grid
from pdediff.spaces import FunctionSpace

SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "functional": FunctionalSchedule,
    "vp": VPSchedule,
    "cosine": CosineSchedule,
    "ve": VESchedule,
}


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
    law: CoefficientLaw | MixtureLaw
    phases: tuple[float, float] | None

    @property
    def positive(self) -> bool:
        """Whether a is positive whatever x is."""
        return not isinstance(self.parametrisation, parametrisations.Shifted)


def build_prior(case: Case, grid: Grid, device: str | torch.device = "cpu") -> PriorModel:
    """The prior of a case. Raises InputError for damaged weights; that they fit the grid was checked on loading."""
    prior, schedule = case.prior, SCHEDULES[case.guidance.schedule or "functional"]()
    if isinstance(prior, LogNormalPrior):
        return _log_normal(prior, grid, schedule)
    if isinstance(prior, GaussianPrior):
        return _gaussian(prior, grid, schedule)
    if isinstance(prior, MixturePrior):
        return _mixture(prior, grid, schedule)
    if isinstance(prior, ProductPrior):
        return _product(prior, grid, schedule)
    assert isinstance(prior, ShippedPrior | WeightsPrior)
    assert case.prior_card is not None  # found when the case was loaded
    denoiser, card = weights.load(case.prior_card, device)
    denoiser.schedule = schedule
    return _two_phase(denoiser, card, prior, grid)


def _two_phase(
    denoiser: GridOperatorDenoiser, card: dict[str, Any], prior: ShippedPrior | WeightsPrior, grid: Grid
) -> PriorModel:
    """A trained prior; the field behind the phases has the cells of its training on a larger grid, too."""
    try:
        law = card["law"]
        low, high = law["low"], law["high"]
        trained = tuple(law["shape"])
        ly, lx = (n / m for n, m in zip(grid.shape, trained, strict=True))
        field = benchmark_field(grid.shape, law["alpha"], law["tau"], (ly, lx))
        scaling = card["parametrisation"]["u"] if "u" in card["fields"] else None
        solution = None if scaling is None else parametrisations.Affine(*scaling)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"card of prior {card.get('name')!r}: its law is not that of a two-phase medium") from None
    whole = denoiser if prior.windows is None else WindowedDenoiser(denoiser, grid.shape, prior.windows.overlap)
    return PriorModel(
        whole, parametrisations.TwoPhase(low, high), solution, TwoPhaseLaw(field, low, high), phases=(low, high)
    )


def _log_normal(prior: LogNormalPrior, grid: Grid, schedule: Schedule) -> PriorModel:
    """Closed form: the Gaussian field of log a lives on a torus that holds the grid in its corner."""
    field = embed(prior.variogram.build(), grid)
    space = FunctionSpace(("a",), field.torus.shape, grid.cell_area)
    return PriorModel(
        GaussianDenoiser(field.torus, space, schedule=schedule),
        parametrisations.LogNormal(prior.mean, grid.shape, field.torus.shape),
        None,
        LogNormalLaw(field, prior.mean),
        phases=None,
    )


def _gaussian(prior: GaussianPrior, grid: Grid, schedule: Schedule) -> PriorModel:
    """Closed form for a itself, on a torus that holds the grid; with windows, on the cells of the grid."""
    field = embed(prior.variogram.build(), grid)
    law, mean = GaussianLaw(field, prior.mean), torch.full(grid.shape, prior.mean, dtype=torch.float64)
    if prior.windows is None:
        space = FunctionSpace(("a",), field.torus.shape, grid.cell_area)
        denoiser: Denoiser = GaussianDenoiser(field.torus, space, schedule=schedule)
        return PriorModel(denoiser, parametrisations.Shifted(mean, field.torus.shape), None, law, phases=None)
    assert prior.windows.shape is not None  # checked when the case was loaded
    window = dense_field(prior.variogram, grid, prior.windows.shape)
    small = GaussianDenoiser(window, FunctionSpace(("a",), window.shape, grid.cell_area), schedule=schedule)
    denoiser = WindowedDenoiser(small, grid.shape, prior.windows.overlap)
    return PriorModel(denoiser, parametrisations.Shifted(mean, grid.shape), None, law, phases=None)


def _mixture(prior: MixturePrior, grid: Grid, schedule: Schedule) -> PriorModel:
    """Several Gaussian laws on the cells of the grid."""
    space, names = FunctionSpace(("a",), grid.shape, grid.cell_area), list(prior.components)
    components = prior.components.values()
    weights = tuple(component.weight for component in components)
    fields = [dense_field(c.variogram, grid, grid.shape) for c in components]
    laws = tuple(GaussianLaw(field, c.mean) for field, c in zip(fields, components, strict=True))
    mixture = GaussianMixtureDenoiser(
        tuple(
            GaussianDenoiser(field, space, mean=c.mean, schedule=schedule)
            for field, c in zip(fields, components, strict=True)
        ),
        torch.tensor(weights, dtype=torch.float64),
    )
    law: CoefficientLaw | MixtureLaw = MixtureLaw(laws, weights)
    denoiser: Denoiser = mixture
    if prior.known is not None:
        k = names.index(prior.known.component)
        law = laws[k]
        if prior.known.by == "classifier":
            denoiser = ClassifierGuidance(mixture, mixture.log_joint, k, prior.known.scale, mixture.components[k])
        else:
            denoiser = ClassifierFree(mixture, torch.tensor([k]), prior.known.scale, mixture.components[k])
    shift = parametrisations.Shifted(torch.zeros(grid.shape, dtype=torch.float64), grid.shape)
    return PriorModel(denoiser, shift, None, law, phases=None)


def dense_field(variogram: VariogramSection, grid: Grid, shape: tuple[int, int]) -> DenseField:
    """A variogram on a few cells of the grid, by eigenvectors."""
    (ny, nx), (x, y) = shape, (grid.x[0], grid.y[0])
    return dense_variogram(variogram.build(), Grid(shape, (x, x + nx * grid.dx), (y, y + ny * grid.dy), grid.unit))


def _product(prior: ProductPrior, grid: Grid, schedule: Schedule) -> PriorModel:
    """Independent laws in closed form; that of u, too, is part of one on a torus."""
    a = _log_normal(prior.a, grid, schedule)
    denoiser, solution = _solution(prior.u, grid, schedule)
    return replace(a, denoiser=ProductDenoiser((a.denoiser, denoiser)), solution=solution)


def _solution(
    prior: SolutionPrior, grid: Grid, schedule: Schedule
) -> tuple[GaussianDenoiser, parametrisations.Shifted]:
    torus = embed(prior.variogram.build(), grid).torus
    denoiser = GaussianDenoiser(torus, FunctionSpace(("u",), torus.shape, grid.cell_area), schedule=schedule)
    mean = np.broadcast_to(Expression(str(prior.mean))(*grid.mesh()), grid.shape)
    return denoiser, parametrisations.Shifted(torch.tensor(mean), torus.shape)
