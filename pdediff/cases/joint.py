"""When a prior of a and u fits a case: what physics asks of it, and the equation that it was trained with."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pdediff.cases.case import Case
from pdediff.cases.prior import GaussianPrior, LogNormalPrior, MixturePrior, ProductPrior
from pdediff.cases.reader import Node
from pdediff.likelihoods.scatter import scatter
from pdediff.solvers.boundary import SIDES
from pdediff.solvers.errors import InputError
from pdediff.solvers.expressions import Expression
from pdediff.solvers.grid import Grid
from pdediff.solvers.source import source_field


def check_joint(case: Case, tree: Node, grid: Grid, card: dict[str, Any] | None) -> None:
    """Raise a located InputError unless prior, physics and equation go together; `card` is that of a trained prior."""
    if case.pde == "none":
        return
    fields = fields_of(case, card)
    if case.physics.kind != "solver" and "u" not in fields:
        raise tree.error(
            ("physics",),
            f"physics: {case.physics.kind} needs a joint prior of a and u, such as two-phase-64-joint; prior "
            f"{case.prior.title!r} is of a alone",
        )
    if case.guidance.covariance == "jacobian" and case.physics.kind != "none":
        raise tree.error(
            ("guidance", "covariance"),
            "guidance.covariance: the Jacobian is of a and u as the prior has them, without physics; physics is "
            f"{case.physics.title}",
        )
    if case.physics.form == "strong" and card is not None:
        raise tree.error(
            ("physics", "form"),
            f"physics.form: the strong form needs a smooth coefficient, and prior {case.prior.title!r} has two phases; "
            "use finite-volume",
        )
    if case.physics.form == "strong" and case.source.wells:
        raise tree.error(("source", "wells"), "source.wells: the strong form has no value at a well; use finite-volume")
    if case.physics.relative is not None and not source_field(grid, case.source.value).any():
        raise tree.error(
            ("physics", "relative"),
            "physics.relative: there is no source, wells apart, to be relative to; give physics.sigma",
        )
    if case.physics.form == "strong":
        try:
            scatter(grid, 1, 0)
        except InputError as error:
            raise tree.error(("grid", "shape"), f"grid.shape: {error}; use finite-volume") from None
    if isinstance(case.prior, ProductPrior):
        try:
            Expression(str(case.prior.u.mean))(*grid.mesh())
        except InputError as error:
            raise tree.error(("prior", "u", "mean"), f"prior.u.mean: {error}") from None
    if card is not None and "u" in fields:
        _check_equation(case, tree, grid, card)


def fields_of(case: Case, card: dict[str, Any] | None) -> Sequence[str]:
    """The fields of a case's prior; `card` is that of a trained one."""
    if isinstance(case.prior, LogNormalPrior | GaussianPrior | MixturePrior):
        return ("a",)
    if isinstance(case.prior, ProductPrior):
        return ("a", "u")
    fields = card.get("fields") if card is not None else None
    return fields if isinstance(fields, list) else ()


def _check_equation(case: Case, tree: Node, grid: Grid, card: dict[str, Any]) -> None:
    """The solutions that a joint prior has learnt are of one source, one boundary and one domain."""
    title = case.prior.title
    try:
        value, source = (float(card["solution"][key]) for key in ("boundary", "source"))
    except (KeyError, TypeError, ValueError):
        raise tree.error(
            ("prior",), f"prior: the card of {title!r} does not say which equation its solutions solve"
        ) from None
    trained = f"prior {title!r} was trained with"
    other = "; use a prior of a alone with physics: solver, or train your own (pdediff train)"
    for low, high, axis in ((*grid.x, "x"), (*grid.y, "y")):
        if not np.isclose(high - low, 1):
            raise tree.error(
                ("grid", "domain", axis),
                f"grid.domain.{axis}: {trained} solutions on a unit square, not {[low, high]}{other}",
            )
    boundary = case.boundary.build(1)
    for side, values in boundary.evaluate(grid).items():
        if side in SIDES and not (boundary.is_value(side) and np.allclose(values, value)):
            raise tree.error(("boundary", side), f"boundary.{side}: {trained} u = {value:g} on every side{other}")
    if case.source.wells:
        raise tree.error(("source", "wells"), f"source.wells: {trained} no wells{other}")
    if not np.allclose(case.source.build(grid), source):
        raise tree.error(("source",), f"source: {trained} a source of {source:g} everywhere{other}")
