"""Which methods, priors, physics, noise and operators go together; what does not is one located error.

Closed forms, networks, linear and nonlinear data are not all the same to every method. What a method needs is said
here, once, before anything is built.
"""

from collections.abc import Collection

import numpy as np

from pdediff.cases.case import Case
from pdediff.cases.files import branch_of
from pdediff.cases.guidance import LINEAR, NEEDS_LEAST_SQUARES
from pdediff.cases.measurements import Measurements
from pdediff.cases.operators import AverageSection, BlurSection, MaskSection, TomographySection
from pdediff.cases.prior import GaussianPrior, MixturePrior, ShippedPrior, WeightsPrior
from pdediff.cases.reader import Node
from pdediff.solvers.errors import InputError
from pdediff.solvers.expressions import Expression
from pdediff.solvers.grid import Grid

DENSE = 2304  # cells of a prior that is decomposed into eigenvectors: 48 × 48 take seconds
SIDES = ("left", "right", "bottom", "top")
JOINT = ("proximal", "dps", "monte-carlo", "prior")
"""Methods for physics whose unknowns are not x_0 itself, or that need only log p(y | x_0)."""


def check_compatibility(
    case: Case, tree: Node, grid: Grid, measurements: Measurements | None, fields: Collection[str]
) -> None:
    """Raise a located InputError unless the sections of a case go together.

    `measurements` are the rows of its data file, `fields` those of its prior: a, or a and u.
    """
    _check_equation(case, tree, measurements, fields)
    _check_prior(case, tree, grid)
    _check_operators(case, tree, grid)
    _check_method(case, tree, "u" in fields)
    _check_start(case, tree, grid, "u" in fields)
    _check_infer(case, tree, grid)


def is_linear(case: Case) -> bool:
    """Whether the data are a linear function of x_0."""
    return case.pde == "none" and isinstance(case.prior, GaussianPrior | MixturePrior)


def _check_equation(case: Case, tree: Node, measurements: Measurements | None, fields: Collection[str]) -> None:
    if case.pde == "none":
        if case.physics.kind != "none":
            raise tree.error(
                ("physics",), f"physics: {case.physics.kind} has no meaning without an equation; pde is none"
            )
        if "u" in fields:
            raise tree.error(("prior",), "prior: without an equation there is only a; give its law alone")
        if measurements is not None and (measurements.field != "a").any():
            raise tree.error(
                ("observations", "file"), "observations.file: without an equation there is only a to measure"
            )
        for k, group in enumerate(case.observations.sensors or ()):
            if group.field != "a":
                where = ("observations", "sensors", k, "field") if len(case.observations.sensors or ()) > 1 else None
                raise tree.error(
                    where or ("observations", "sensors"),
                    "observations.sensors: without an equation there is only a to measure; give field: a",
                )
    elif isinstance(case.prior, GaussianPrior | MixturePrior):
        raise tree.error(
            ("prior", "law"),
            f"prior.law: {case.prior.law} fields may be negative, and the equation needs a > 0; use log-normal, or "
            "pde: none",
        )


def _check_prior(case: Case, tree: Node, grid: Grid) -> None:
    prior = case.prior
    windows = prior.windows if isinstance(prior, GaussianPrior | ShippedPrior | WeightsPrior) else None
    if windows is not None and windows.shape is not None:
        if not isinstance(prior, GaussianPrior):
            raise tree.error(
                ("prior", "windows", "shape"), "prior.windows.shape: a trained prior's windows have its own"
            )
        _check_dense(tree, ("prior", "windows", "shape"), windows.shape)
        if any(w > n for w, n in zip(windows.shape, grid.shape, strict=True)):
            raise tree.error(
                ("prior", "windows", "shape"),
                f"prior.windows.shape: {list(windows.shape)} is larger than the grid, {list(grid.shape)}",
            )
        if windows.overlap >= min(windows.shape):
            raise tree.error(
                ("prior", "windows", "overlap"),
                f"prior.windows.overlap: {windows.overlap} must be less than a window's side, {min(windows.shape)}",
            )
    if isinstance(prior, MixturePrior):
        _check_dense(tree, ("grid", "shape"), grid.shape)


def _check_dense(tree: Node, where: tuple[str | int, ...], shape: tuple[int, int]) -> None:
    if shape[0] * shape[1] > DENSE:
        raise tree.error(
            where,
            f"{'.'.join(map(str, where))}: {list(shape)} is more than the {DENSE} cells that are done by eigenvectors",
        )


def _check_operators(case: Case, tree: Node, grid: Grid) -> None:
    for k, group in enumerate(case.observations.sensors or ()):
        shape: tuple[int, int] | None = grid.shape
        for j, section in enumerate(group.operator or ()):
            path = ("observations", "sensors", k, "operator", j)
            name = tree.find(path)[1]
            if shape is None:
                raise tree.error(path, f"{name}: follows an operator whose data are no longer a map of cells")
            if isinstance(section, BlurSection):
                widest = max(grid.x[1] - grid.x[0], grid.y[1] - grid.y[0])
                if section.width > widest:
                    raise tree.error(
                        (*path, "width"), f"{name}.width: {section.width:g} is wider than the domain, {widest:g}"
                    )
            elif isinstance(section, AverageSection):
                if any(n % section.factor or n < 2 * section.factor for n in shape):
                    fits = [f for f in range(2, min(shape) // 2 + 1) if not any(n % f for n in shape)]
                    near = min(fits, key=lambda f: abs(f - section.factor)) if fits else None
                    hint = f"; {near} does" if near is not None else ""
                    raise tree.error(
                        (*path, "factor"),
                        f"{name}.factor: {section.factor} does not divide {list(shape)} cells into blocks{hint}",
                    )
                shape = (shape[0] // section.factor, shape[1] // section.factor)
            elif isinstance(section, MaskSection):
                _check_mask(section, tree, path, name, Grid(shape, grid.x, grid.y, grid.unit))
                shape = None
            else:
                assert isinstance(section, TomographySection)
                shape = None


def _check_mask(section: MaskSection, tree: Node, path: tuple[str | int, ...], name: str, grid: Grid) -> None:
    for key, (low, high) in (("x", section.x), ("y", section.y)):
        if not low < high:
            raise tree.error((*path, key), f"{name}.{key}: must increase, got [{low:g}, {high:g}]")
    x, y = grid.mesh()
    inside = (section.x[0] <= x) & (x <= section.x[1]) & (section.y[0] <= y) & (y <= section.y[1])
    if not inside.any():
        raise tree.error(path, f"{name}: there is no cell centre in the box")
    seen = inside if section.seen == "inside" else ~inside
    if not seen.any():
        raise tree.error(
            path, f"{name}: no cell is seen; the box is {'empty' if section.seen == 'inside' else 'everything'}"
        )


def _check_method(case: Case, tree: Node, is_joint: bool) -> None:
    method, where = case.guidance.method, ("guidance", "method")
    noise = case.observations.noise
    if method in LINEAR and not is_linear(case):
        raise tree.error(
            where,
            f"guidance.method: {method} needs data that are linear in x_0 (pde: none, prior gaussian or mixture); "
            "for nonlinear ones use proximal, moments, dps, daps or smc",
        )
    if noise is not None and noise.law == "poisson":
        if method in (*NEEDS_LEAST_SQUARES, "loss", "diffusion-em", "blind-dps"):
            raise tree.error(
                where, f"guidance.method: {method} needs Gaussian noise; with poisson use dps, monte-carlo or smc"
            )
        if isinstance(case.prior, GaussianPrior | MixturePrior):
            raise tree.error(
                ("observations", "noise", "law"), "observations.noise.law: poisson counts need a prior of positive a"
            )
    joint = is_joint and (case.physics.form == "finite-volume" or case.physics.kind == "solver")
    if joint and method not in JOINT:
        raise tree.error(
            where,
            f"guidance.method: {method} works on all of x_0, and here u follows from a; use {' or '.join(JOINT[:2])}, "
            "or a prior of a alone with physics: solver",
        )
    if method == "control":
        _check_control(case, tree)


def _check_control(case: Case, tree: Node) -> None:
    where = ("guidance", "method")
    groups = case.observations.sensors or ()
    if not isinstance(case.prior, ShippedPrior) or case.pde != "none":
        raise tree.error(
            where, "guidance.method: control needs a shipped prior with a conditional branch, and pde: none"
        )
    try:
        branch_of(case.prior.name)
    except InputError as error:
        raise tree.error(where, f"guidance.method: {error}") from None
    if case.prior.windows is not None:
        raise tree.error(("prior", "windows"), "prior.windows: a conditional branch sees its whole field, not windows")
    if case.observations.noise is not None and case.observations.noise.law == "poisson":
        raise tree.error(("observations", "noise"), "observations.noise: control was trained with Gaussian noise")
    if any(group.operator is not None or group.gain != 1 for group in groups):
        raise tree.error(("observations", "sensors"), "observations.sensors: control sees values of a at points only")


def _check_start(case: Case, tree: Node, grid: Grid, is_joint: bool) -> None:
    start = case.guidance.start
    if start is None:
        return
    if is_joint:
        raise tree.error(("guidance", "start"), "guidance.start: says nothing of u; use a prior of a alone")
    try:
        a = np.broadcast_to(Expression(str(start.a))(*grid.mesh()), grid.shape)
    except InputError as error:
        raise tree.error(("guidance", "start", "a"), f"guidance.start.a: {error}") from None
    if not isinstance(case.prior, GaussianPrior | MixturePrior) and not (a > 0).all():
        raise tree.error(("guidance", "start", "a"), "guidance.start.a: must be positive everywhere, as a is")


def _check_infer(case: Case, tree: Node, grid: Grid) -> None:
    method, infer = case.guidance.method, case.infer
    if method in ("blind-dps", "diffusion-em") and not infer:
        raise tree.error(
            ("guidance", "method"),
            f"guidance.method: {method} infers something along; say what, as infer: {{width: …}}",
        )
    if infer is None:
        return
    if method not in ("blind-dps", "diffusion-em"):
        raise tree.error(("infer",), f"infer: only methods blind-dps and diffusion-em infer parameters, not {method}")
    blurs = [
        section.width
        for group in case.observations.sensors or ()
        for section in group.operator or ()
        if isinstance(section, BlurSection)
    ]
    for name, section in infer.items():
        where = ("infer", name)
        if name == "width" and len(blurs) != 1:
            raise tree.error(where, f"infer.width: needs one blur among the operators, and there are {len(blurs)}")
        if name == "gain" and len(case.observations.sensors or ()) != 1:
            raise tree.error(where, "infer.gain: needs exactly one group of sensors, whose gain it is")
        widest = max(grid.x[1] - grid.x[0], grid.y[1] - grid.y[0])
        if name == "width" and section.max > widest:
            raise tree.error((*where, "max"), f"infer.width.max: {section.max:g} is wider than the domain, {widest:g}")
        if name in ("width", "gain") and not section.min > 0:
            raise tree.error((*where, "min"), f"infer.{name}.min: must be positive, got {section.min:g}")
        if name in SIDES and (case.pde == "none" or getattr(case.boundary, name).value is None):
            raise tree.error(where, f"infer.{name}: needs an equation with a value of u on that side")
        if name in SIDES and not isinstance(getattr(case.boundary, name).value, float):
            raise tree.error(where, f"infer.{name}: the value on that side must be one number")
    if method == "blind-dps" and (set(infer) != {"width"} or case.pde != "none" or not _is_one_blur(case)):
        raise tree.error(
            ("guidance", "method"),
            "guidance.method: blind-dps infers the kernel of one blur that is all that is observed; use diffusion-em",
        )
    if method == "blind-dps":
        if not isinstance(case.prior, GaussianPrior) or case.prior.windows is not None:
            raise tree.error(("prior",), "prior: blind-dps needs a gaussian law, without windows")
        if not np.isclose(grid.dx, grid.dy):
            raise tree.error(
                ("grid", "shape"), f"grid.shape: blind-dps needs square cells, not {grid.dx:g} × {grid.dy:g}"
            )
        _check_dense(tree, ("grid", "shape"), case.grid.shape)


def _is_one_blur(case: Case) -> bool:
    groups = case.observations.sensors or ()
    return len(groups) == 1 and groups[0].operator is not None and len(groups[0].operator) == 1 and groups[0].gain == 1
