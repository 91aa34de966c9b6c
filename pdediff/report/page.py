"""The report: one HTML file that needs nothing else, for a run, a comparison, or a comparison on many problems.

What was asked, the numbers with a sentence each, the figures, the observations, and where it all comes from. Figures
are inside the file; there is no script, and nothing is fetched. Everything that a user wrote is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from ruamel.yaml import YAML

from pdediff.posterior.files import replacing
from pdediff.posterior.result import Posterior
from pdediff.report.readings import readings
from pdediff.report.style import FIELD_NAMES
from pdediff.report.tables import Rows, differences_rows, number
from pdediff.report.words import in_words, inline

ROWS = 12
"""Observations that the table shows."""

CAPTIONS = {
    "fields": "Truth (where it is known), posterior mean, standard deviation and samples of a and u. Where the "
    + "standard deviation is large, data and prior leave room.",
    "observations": "Predicted against observed values, and the misfits in units of the noise σ; honest ones follow "
    + "the bell curve.",
    "residuals": "Where the misfits are, and the error of the posterior mean. A cluster of one colour means that the "
    + "model, the noise level or the prior does not hold there.",
    "reliability": "Probability of the high phase against the frequency with which it is true; honest ones lie on the "
    + "diagonal.",
    "coverage": "How often posterior intervals hold the truth, against their level; honest ones lie on the diagonal.",
    "comparison": "The variants on the same data, a row each. A column has one colour scale, so that one colour means "
    + "one value from top to bottom.",
    "paired": "The variants on many problems. A thin line is one problem; dots are means, bars their standard errors; "
    + "dashed lines are what honest variants have.",
}
"""What a figure shows, by the name of its file."""


def write_report(
    path: str | Path,
    case: Mapping[str, Any],
    posteriors: Mapping[str, Posterior],
    metrics: Mapping[str, Any],
    manifests: Mapping[str, Mapping[str, Any]],
    figures: Mapping[str, Sequence[Path]],
) -> None:
    """Write the report to path, whole or not at all.

    `case` is resolved (see `Case.resolved`), `metrics` the content of metrics.json, to which "failed" may be added: why
    a variant has no samples. `posteriors`, `manifests` (of the
    runs) and `figures` (PNG files) have the variants' names as keys; figures of all variants together have "". What is
    absent is left out: a comparison on many problems has no posteriors.

    Raises:
        OSError: a figure cannot be read or the report cannot be written; an earlier one is untouched.
    """
    page = _environment().get_template("page.html.jinja")
    is_run = list(metrics["variants"]) == ["run"]
    differences = differences_rows(metrics) if metrics.get("differences") else []
    text = page.render(
        name=metrics["case"],
        subtitle=_subtitle(posteriors, metrics, is_run),
        asked=in_words(case),
        variants={} if is_run else {name: inline(change) for name, change in case.get("compare", {}).items()},
        failed=metrics.get("failed", {}),
        names=list(metrics["variants"]),
        is_run=is_run,
        readings=readings(metrics),
        differences=differences,
        figures=[_figure(name, file, is_run) for name, files in figures.items() for file in files],
        groups=[] if differences else _groups(metrics),
        observations=_observations(posteriors),
        number_of_observations=max((len(posterior.observations) for posterior in posteriors.values()), default=0),
        provenance=_provenance(manifests),
        yaml=_yaml(case),
    )
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("pdediff.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _subtitle(posteriors: Mapping[str, Posterior], metrics: Mapping[str, Any], is_run: bool) -> str:
    if "problems" in metrics:
        return f"{len(metrics['variants'])} variants compared on {len(metrics['problems'])} problems, in pairs"
    posterior = next(iter(posteriors.values()))
    fields = " and ".join(FIELD_NAMES.get(name, name) for name in posterior.fields)
    data = f"{len(posterior.observations)} measurements"
    if is_run:
        return f"{posterior.n} posterior samples of {fields}, given {data}"
    return f"{len(posteriors)} variants compared on the same {data}: {fields}"


def _figure(name: str, file: Path, is_run: bool) -> dict[str, str]:
    """A figure for the page: heading, caption, and the picture as a data URI."""
    heading = "" if is_run or not name else name
    caption = CAPTIONS.get(file.stem, file.stem)
    picture = base64.b64encode(file.read_bytes()).decode("ascii")
    alt = f"{heading}: {caption}" if heading else caption
    return {"heading": heading, "caption": caption, "alt": alt, "source": f"data:image/png;base64,{picture}"}


def _groups(metrics: Mapping[str, Any]) -> Rows:
    """χ² of every group of sensors: a heading, then a row a group; empty without data."""
    variants = metrics["variants"]
    found = {name: entry["observations"]["groups"] or {} for name, entry in variants.items()}
    groups = list(dict.fromkeys(group for table in found.values() for group in table))

    def cell(table: Mapping[str, Any], group: str) -> str:
        value = table.get(group, {}).get("chi2")
        return "–" if value is None else number(value)

    rows = [[group, *(cell(table, group) for table in found.values())] for group in groups]
    return [["group", *_columns(list(variants), "χ²")], *rows] if rows else []


def _observations(posteriors: Mapping[str, Posterior]) -> Rows:
    """The first observations: a heading, then a row a datum, with each variant's misfit in units of its noise."""
    if not posteriors or not len(next(iter(posteriors.values())).observations):
        return []
    some = next(iter(posteriors.values()))
    data, unit = some.observations, some.grid.unit
    of_unit = f" [{unit}]" if unit else ""
    heading = ["group", "field", f"x{of_unit}", f"y{of_unit}", "observed", "σ"]
    columns: list[Sequence[str]] = [data.group[:ROWS].tolist(), data.field[:ROWS].tolist()]
    columns += [[f"{value:.6g}" for value in column[:ROWS]] for column in (data.x, data.y)]
    units = [some.units.get(str(name), "") for name in data.field[:ROWS]]
    values = zip(data.value, data.sigma, units, strict=False)
    observed, sigma = zip(*((f"{v:.5g} {u}".strip(), f"{s:.3g}") for v, s, u in values), strict=True)
    columns += [observed, sigma]
    predicted = {name: p for name, p in posteriors.items() if p.observations.predicted is not None}
    for posterior in predicted.values():
        misfit = posterior.observations.standardised_misfit().mean(axis=0)[:ROWS]
        columns.append([f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") for value in misfit])
    heading += _columns(list(predicted), "misfit / σ")
    return [heading, *map(list, zip(*columns, strict=True))]


def _columns(names: Sequence[str], what: str) -> list[str]:
    """Headings of a number of each variant; a run's own needs no name."""
    return [what] if list(names) == ["run"] else [f"{what}, {name}" for name in names]


def _provenance(manifests: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Hash, start, machine, versions and times: a heading, then a row a fact, a column a run."""
    if not manifests:
        return []

    def row(words: str, *keys: str) -> list[str]:
        cells = []
        for manifest in manifests.values():
            value: Any = manifest
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            cells.append("–" if value is None else inline(value))
        return [words, *cells]

    rows = [
        row("hash of the case", "hash"),
        row("started", "started"),
        row("device", "device"),
        row("machine", "machine"),
        row("threads", "threads"),
        row("seconds of sampling", "seconds", "sampling"),
        row("versions", "versions"),
    ]
    heading = ["", *("" if name == "run" else name for name in manifests)]
    return [heading, *rows]


def _yaml(case: Mapping[str, Any]) -> str:
    """The resolved case as YAML."""
    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style, yaml.width = None, 96
    yaml.dump(_plain(case), text)
    return text.getvalue()


def _plain(value: Any) -> Any:
    """Plain data for YAML: NumPy numbers and tuples as Python's own."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
