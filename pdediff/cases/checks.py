"""What the sections of a case must satisfy together, and the files it names.

Everything that can be known without solving is checked here, on the very grid and arrays that the run will use, so
that a run does not fail minutes in. Each check says which key is to blame.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pdediff.cases.case import Case, Origin
from pdediff.cases.compatibility import check_compatibility
from pdediff.cases.files import locate, read_card, sha256, shipped_card
from pdediff.cases.joint import check_joint, fields_of
from pdediff.cases.observations_file import domain_text, read_observations
from pdediff.cases.prior import ShippedPrior, WeightsPrior
from pdediff.cases.reader import Node, Path_
from pdediff.cases.sensors import place
from pdediff.solvers.boundary import SIDES, Boundary
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

FINEST = 8192  # cells a side of the truth's grid


def check(case: Case, tree: Node, path: Path, lenient: bool = False) -> Origin:
    """The origin of a valid case; a located InputError for any other. ``lenient``: whatever the prior's files."""
    grid = case.grid.build()
    refine = case.observations.truth.refine if case.observations.truth else 1
    if refine * max(grid.shape) > FINEST:
        fits = FINEST // max(grid.shape)
        raise tree.error(
            ("observations", "truth", "refine"),
            f"observations.truth.refine: {refine} × {max(grid.shape)} cells is more than {FINEST}; at most {fits} fits",
        )
    for factor in {1, refine} if case.pde != "none" else ():
        _check_equation(case, tree, grid.refine(factor), factor)
    card = None if lenient else _prior_card(case, tree, path.parent)
    hashes: dict[str, str] = {}
    if card is not None:
        key = "prior.name" if isinstance(case.prior, ShippedPrior) else "prior.weights"
        hashes[key] = sha256(card)
    content = None if card is None else read_card(card)
    if not lenient:
        check_joint(case, tree, grid, content)
    _check_sensors(case, tree, grid)
    measurements = None
    if case.observations.file is not None:
        with _located(tree, ("observations", "file"), name="observations.file"):
            file = locate(case.observations.file, path.parent, tree.find(("observations", "file"))[0])
        with _located(tree, ("observations", "file"), unless=file):
            measurements = read_observations(file, grid, case.observations.noise)
        if case.observations.noise is not None and measurements.own_sigma.all():
            raise tree.error(("observations", "noise"), f"observations.noise has no effect: {file} gives every sigma")
        hashes["observations.file"] = sha256(file)
    check_compatibility(case, tree, grid, measurements, fields_of(case, content))
    return Origin(path, tree, measurements, card, hashes)


@contextmanager
def _located(tree: Node, path: Path_, name: str = "", unless: Path | None = None) -> Iterator[None]:
    """Give an InputError of a lower floor the line of ``path``; errors that name a line of the file ``unless`` pass."""
    try:
        yield
    except InputError as error:
        if unless is not None and re.match(rf"{re.escape(str(unless))}:\d", str(error)):
            raise
        raise tree.error(path, f"{name}: {error}" if name else str(error)) from None


def _check_equation(case: Case, tree: Node, grid: Grid, refine: int) -> None:
    """Boundary and source are finite on ``grid``, wells are inside, and a steady state exists."""
    boundary = case.boundary.build(refine)
    for side in SIDES:
        with _located(tree, ("boundary", side)):
            Boundary(**{side: getattr(boundary, side)}).evaluate(grid)
    for k, well in enumerate(case.source.wells):
        if not grid.contains((well.x, well.y)):
            outside = "x" if not grid.x[0] <= well.x <= grid.x[1] else "y"
            raise tree.error(
                ("source", "wells", k, outside),
                f"source.wells[{k}]: ({well.x:g}, {well.y:g}) is outside the domain {domain_text(grid)}",
            )
    if boundary.all_flux or isinstance(case.source.value, str):  # else nothing can fail: spare a large grid's arrays
        with _located(tree, ("source", "value"), name="source.value"):
            source = case.source.build(grid)
        with _located(tree, ("boundary",), name="boundary"):
            boundary.check_compatible(grid, source)


def _prior_card(case: Case, tree: Node, folder: Path) -> Path | None:
    """The card of a trained prior, which must have been trained on the shape of the case's grid."""
    prior = case.prior
    if not isinstance(prior, ShippedPrior | WeightsPrior):
        return None
    with _located(tree, ("prior",)):
        if isinstance(prior, ShippedPrior):
            path = shipped_card(prior.name)
        else:
            path = locate(prior.weights, folder, tree.find(("prior", "weights"))[0])
    with _located(tree, ("prior", "weights")):
        card = read_card(path)
    if prior.windows is not None:
        _check_windows(case, tree, prior.windows.overlap, tuple(card["shape"]))
    elif tuple(card["shape"]) != case.grid.shape:
        raise tree.error(
            ("grid", "shape"),
            f"grid.shape: {list(case.grid.shape)} does not fit prior {path.stem!r}; it was trained on {card['shape']}",
        )
    return path.with_suffix(".json")


def _check_windows(case: Case, tree: Node, overlap: int, shape: tuple[int, ...]) -> None:
    """Windows of a trained prior's shape cover the grid."""
    if any(n < w for n, w in zip(case.grid.shape, shape, strict=True)):
        raise tree.error(
            ("grid", "shape"), f"grid.shape: {list(case.grid.shape)} is smaller than a window, {list(shape)}"
        )
    if overlap >= min(shape):
        raise tree.error(
            ("prior", "windows", "overlap"),
            f"prior.windows.overlap: must be less than a window's side, {min(shape)}; got {overlap}",
        )


def _check_sensors(case: Case, tree: Node, grid: Grid) -> None:
    """Every sensor of every group can be placed, and is inside."""
    for k, group in enumerate(case.observations.sensors or ()):
        where = ("observations", "sensors", k)
        name = tree.find(where)[1]
        with _located(tree, (*where, "count"), name=f"{name}.count"):
            points = place(group, grid)
        outside = ~grid.contains(points)
        if outside.any():
            i = int(np.argmax(outside))
            x, y = points[i]
            raise tree.error(
                (*where, "points", i), f"{name}.points[{i}]: ({x:g}, {y:g}) is outside the domain {domain_text(grid)}"
            )
