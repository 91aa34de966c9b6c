"""Commands about case files: ``validate`` and ``schema``."""

import json
from typing import TYPE_CHECKING

import typer

from pdediff.cli.options import CaseFile, Json, Seed, Set

if TYPE_CHECKING:
    from pdediff.cases.case import Case


def validate(case: CaseFile, set_: Set = None, seed: Seed = None, as_json: Json = False) -> None:
    """Check a case and the files it names, without running it."""
    from pdediff.cases.load import load_case

    loaded = load_case(case, set_ or (), seed)
    if as_json:
        typer.echo(json.dumps({"case": loaded.name, "hash": loaded.hash, "resolved": loaded.resolved()}, indent=2))
    else:
        typer.echo(f"ok: {summary(loaded)}")


def schema() -> None:
    """Print the JSON Schema of case files, for editors."""
    from pdediff.cases.schema import case_schema

    typer.echo(json.dumps(case_schema(), indent=2, ensure_ascii=False))


def summary(case: "Case") -> str:
    """A case in one line."""
    ny, nx = case.grid.shape
    data = case.measurements or case.place_sensors()
    fields = ", ".join(
        f"{(data.field == name).sum()} of {name}" for name in sorted(set(data.field.tolist()), reverse=True)
    )
    maps = [
        f"{group.field} through {' and '.join(part.kind for part in group.operator)}"
        for group in case.observations.sensors or ()
        if group.operator is not None
    ]
    points = [f"{len(data)} observations ({fields})"] if len(data) else []
    source = f"from {case.observations.file}" if case.measurements else "of a synthetic truth"
    problem = "no equation" if case.pde == "none" else case.pde
    physics = "" if case.pde == "none" else f"physics {case.physics.title}, "
    method = "" if case.guidance.method == "proximal" else f"method {case.guidance.method}, "
    return (
        f"{case.name}: {problem} on {ny} × {nx} cells, {', '.join([*points, *maps])} {source}, "
        f"{case.prior.title} prior, {physics}{method}{case.sampling.samples} samples, hash {case.hash}"
    )
