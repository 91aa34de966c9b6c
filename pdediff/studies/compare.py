"""The variants of a case on the same data: what does physics buy, or another prior, or more accuracy?

    DIR/NAME/            a run for each variant (see `studies.run`)
    DIR/metrics.json     {"case": …, "variants": {NAME: metrics}}
    DIR/figures/comparison.png, DIR/report.html
    DIR/manifest.json    the case with its variants, its hash, which variants failed and why; written first

Truth, sensors and noise are those of the case. A variant that changes them is refused, since its numbers would differ
for two reasons. Comparing again goes on where it stopped, as a run does.
"""

import json
import shutil
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pdediff import __version__
from pdediff.cases.case import Case
from pdediff.cases.identity import brief, difference, digest
from pdediff.cases.load import load_variant
from pdediff.cases.problem import build_problem
from pdediff.cases.suggest import shown, suggestion
from pdediff.posterior.files import check_free, clear_parts, is_left_behind, locked, write_json
from pdediff.report.comparison import comparison_figure
from pdediff.report.figures import save_figure
from pdediff.report.page import write_report
from pdediff.solvers.errors import ConvergenceError, InputError, Interrupted
from pdediff.studies import run as runs
from pdediff.studies.sample import Progress, Stop, torch_settings

MANIFEST_FORMAT = "pdediff comparison 1"
FILES, FIGURES = ("manifest.json", "metrics.json", "report.html"), "figures"
DATA_SECTIONS = ("pde", "grid", "boundary", "source", "prior", "observations")
"""What data may depend on: the law of a synthetic truth is the prior's."""
STEPS = 1000  # of a variant's progress


@dataclass(frozen=True)
class Comparison:
    """A comparison: all of its variants, or those that were asked for and did not fail.

    Parameters
    ----------
    folder: where everything lies.
    metrics: the content of metrics.json.
    failed: why a variant has no samples, by its name.

    """

    folder: Path
    metrics: dict[str, Any]
    failed: dict[str, str]


def compare(
    case: Case,
    folder: Path,
    device: str = "cpu",
    force: bool = False,
    progress: Progress = lambda done, total, what: None,
    stop: Stop = lambda: False,
    only: Collection[str] = (),
) -> Comparison:
    """Run the variants of a case into `folder`, or finish or read a comparison that is there.

    With `only`, these variants are run, and with `force` begun anew; others are read where they are finished. A variant
    whose samples do not converge is listed as failed, and the others go on.

    Raises InputError as `load_variants`, `check_data` and `check` do, and Interrupted as `run` does.
    """
    variants = load_variants(case)
    wanted = chosen(case, only)
    if check(case, variants, folder, device, force, only):
        return _read(folder)
    check_data(case, variants)
    with locked(folder):
        manifest = read_manifest(folder, MANIFEST_FORMAT, case, variants, force, only)
        if force:
            clear(folder, [folder / name for name in _cleared(manifest, only)])
        claim(folder, MANIFEST_FORMAT, case, variants)
        finished = [name for name, variant in variants.items() if runs.check(variant, folder / name, device)]
        names = [name for name in variants if name in wanted or name in finished]
        results, failed = {}, {}
        for i, name in enumerate(names):

            def on_progress(done: int, total: int, what: str, i: int = i, name: str = name) -> None:
                progress(i * STEPS + STEPS * done // max(total, 1), len(names) * STEPS, f"{name}, {what}")

            try:
                results[name] = runs.run(variants[name], folder / name, device, progress=on_progress, stop=stop)
            except ConvergenceError as error:
                failed[name] = str(error)
            except Interrupted:
                where = f"variant {name}, {i + 1} of {len(names)}"
                raise Interrupted(f"{folder}: interrupted in {where}; the same command goes on from there") from None
        return _write(case, folder, results, failed, complete=len(results) == len(variants))


def load_variants(case: Case) -> dict[str, Case]:
    """The variants of a case, by name, each checked in full.

    Raises InputError when there are none, when one is not a valid case, or when its name is taken by a file of the
    comparison.
    """
    if not case.compare:
        raise InputError(f"{case.path}: has no variants to compare; add some, such as compare: {{a: {{}}, b: {{…}}}}")
    for name in case.compare:
        if name in (*FILES, FIGURES):
            raise case.origin.tree.error(("compare", name), f"compare.{name}: is the name of a file; choose another")
    return {name: load_variant(case, name) for name in case.compare}


def chosen(case: Case, only: Collection[str]) -> Collection[str]:
    """The names in `only`, or all of the case's variants if there are none. Raises InputError for an unknown one."""
    for name in only:
        if name not in case.compare:
            raise InputError(f"--only {name}: unknown variant {shown(name)}; {suggestion(name, case.compare)}")
    return only or list(case.compare)


def check_data(case: Case, variants: dict[str, Case]) -> None:
    """Raise InputError, with the variant and its keys, unless every variant has the truth and the data of the case."""
    own = {section: case.resolved().get(section) for section in DATA_SECTIONS}
    data: dict[str, np.ndarray] = {}
    for name, variant in variants.items():
        changes = difference(own, {section: variant.resolved().get(section) for section in DATA_SECTIONS})
        if not changes:
            continue
        data = data or _data(case)
        other = _data(variant)
        if data.keys() != other.keys() or not all(np.array_equal(data[key], other[key]) for key in data):
            section = changes[0].partition(":")[0].split(".")[0]
            listed = brief(changes)
            raise case.origin.tree.error(
                ("compare", name, section),
                f"compare.{name}: changes the data ({listed}); variants have the truth, sensors and noise of the case",
            )


def _data(case: Case) -> dict[str, np.ndarray]:
    """Observations and truth of a case, as arrays."""
    with torch_settings():
        problem = build_problem(case)
    columns = {key: getattr(problem.observations, key) for key in ("field", "x", "y", "value", "sigma")}
    return columns | {f"true {name}": values for name, values in problem.truth.items()}


def identity(case: Case, variants: dict[str, Case]) -> str:
    """Short hash of a comparison: equal for equal data and equal variants."""
    return digest({"base": case.hash, "variants": {name: variant.hash for name, variant in variants.items()}})


def check(
    case: Case,
    variants: dict[str, Case],
    folder: Path,
    device: str = "cpu",
    force: bool = False,
    only: Collection[str] = (),
) -> bool:
    """Whether `folder` holds this comparison, complete. Nothing is written.

    Raises InputError when the device is not there, and when the folder or a variant's folder holds another case,
    something else (`force` clears a comparison, or the variants in `only`), or the work of another process.
    """
    runs.check_device(device)
    manifest = read_manifest(folder, MANIFEST_FORMAT, case, variants, force, only)
    check_free(folder)
    cleared = _cleared(manifest, only) if force else ()
    for name in cleared:
        check_free(folder / name)
    kept = [name for name in variants if name not in cleared]
    finished = [runs.check(variants[name], folder / name, device) and runs.is_tidy(folder / name) for name in kept]
    whole = runs.is_shown(folder) and (folder / "metrics.json").is_file()
    return bool(manifest.get("complete")) and not force and all(finished) and whole


def _cleared(manifest: dict[str, Any], only: Collection[str]) -> Collection[str]:
    """Names of the variants that `force` begins anew: those in `only`, or all that the folder was made for."""
    return only or manifest.get("variants", ())


def read_manifest(
    folder: Path, kind: str, case: Case, variants: dict[str, Case], force: bool, only: Collection[str] = ()
) -> dict[str, Any]:
    """The manifest in a folder; empty where the folder is new or empty.

    Raises InputError when the folder holds something that is not of this kind, or, without `force`, another case; with
    `force` and `only` too, since of another case no variant can stay.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        if folder.exists() and not (folder.is_dir() and all(map(is_left_behind, folder.iterdir()))):
            raise InputError(f"{folder}: is not empty and holds no comparison of pdediff; choose another --out")
        return {}
    try:
        manifest = json.loads(path.read_text())
    except ValueError:  # neither JSON nor text
        manifest = None
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != kind
        or not isinstance(manifest.get("case"), dict)
        or not isinstance(manifest.get("variants"), dict)
        or not all(Path(name).name == name != ".." for name in manifest["variants"])  # they become paths
    ):
        raise InputError(f"{path}: not the manifest of a {kind.removesuffix(' 1')}; choose another --out")
    if manifest.get("hash") != identity(case, variants) and not (force and not only):
        changes = brief(difference(manifest["case"], case.resolved())) or "its files' contents"
        way = "--force without --only" if force else "--force"
        raise InputError(f"{folder}: holds another case ({changes}); choose another --out, or {way} to start anew")
    return manifest


def clear(folder: Path, parts: Iterable[Path]) -> None:
    """Remove a comparison's results and these folders in it; its manifest stays, so that it is known whose it is."""
    for part in parts:
        if part.is_symlink():
            part.unlink()
        elif part.is_dir():
            _remove(part)
    shutil.rmtree(folder / FIGURES, ignore_errors=True)
    for name in ("report.html", "metrics.json"):
        (folder / name).unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    """Remove a folder, its manifest last, and so all below it: what a kill leaves of a run is an unfinished run."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "manifest.json"):
        if path.is_dir() and not path.is_symlink():
            _remove(path)
        else:
            path.unlink()
    folder.rmdir()


def claim(folder: Path, kind: str, case: Case, variants: dict[str, Case]) -> None:
    """Make the folder this comparison's."""
    manifest = {
        "format": kind,
        "name": case.name,
        "hash": identity(case, variants),
        "case": case.resolved(),
        "variants": {name: variant.hash for name, variant in variants.items()},
        "failed": {},
        "complete": False,
        "versions": {"pdediff": __version__},
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    write_json(manifest, folder / "manifest.json")


def _write(
    case: Case, folder: Path, results: dict[str, runs.Run], failed: dict[str, str], complete: bool
) -> Comparison:
    """Write what the variants have in common; the manifest last."""
    posteriors = {name: result.posterior for name, result in results.items()}
    variants = {name: result.metrics["variants"]["run"] for name, result in results.items()}
    metrics = {"case": case.name, "variants": variants}
    write_json(metrics, folder / "metrics.json")
    if results:
        (folder / FIGURES).mkdir(exist_ok=True)
        clear_parts(folder / FIGURES)
        joint = save_figure(comparison_figure(posteriors), folder / FIGURES / "comparison.png")
        figures = {"": [joint], **{name: sorted((folder / name / FIGURES).glob("fields.png")) for name in results}}
        manifests = {name: json.loads((folder / name / "manifest.json").read_text()) for name in results}
        shown = metrics | {"failed": failed}
        write_report(folder / "report.html", case.resolved(), posteriors, shown, manifests, figures)
    finish(folder, failed, complete)
    return Comparison(folder, metrics, failed)


def finish(folder: Path, failed: dict[str, str], complete: bool) -> None:
    """Say in a comparison's manifest how it ended."""
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(manifest | {"failed": failed, "complete": complete}, folder / "manifest.json")


def _read(folder: Path) -> Comparison:
    return Comparison(folder, json.loads((folder / "metrics.json").read_text()), {})
