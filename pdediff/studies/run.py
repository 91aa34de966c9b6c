"""One case into one folder: samples, posterior file, metrics, figures, manifest.

    DIR/manifest.json    resolved case, its hash, versions, device, timings; written first: the folder has an owner
    DIR/samples/         finished batches of an unfinished run
    DIR/posterior.nc, DIR/metrics.json, DIR/figures/*.png, DIR/report.html

Running the same case again goes on where it stopped, however it stopped, and only reads when nothing is missing. The
samples of finished batches stay until the manifest says that the run is complete. A report or figures that were deleted
are made again from the posterior. A folder that holds another case is refused, with the difference; so is one in which
another process is working.
"""

import json
import platform
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pdediff import __version__
from pdediff.cases.case import Case
from pdediff.cases.identity import brief, difference
from pdediff.cases.problem import Problem, build_problem
from pdediff.posterior.files import check_free, clear_parts, is_left_behind, locked, write_json
from pdediff.posterior.metrics import metrics
from pdediff.posterior.result import Posterior
from pdediff.posterior.store import load, save
from pdediff.report.figures import save_figures
from pdediff.report.page import write_report
from pdediff.solvers.errors import InputError
from pdediff.studies.memory import PeakMemory
from pdediff.studies.sample import Progress, Samples, Stop, draw_samples, torch_settings

MANIFEST_FORMAT = "pdediff run 1"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Parameters
    ----------
    folder: where everything lies.
    posterior: the samples.
    metrics: the content of metrics.json.

    """

    folder: Path
    posterior: Posterior
    metrics: dict[str, Any]


def run(
    case: Case,
    folder: Path,
    device: str = "cpu",
    force: bool = False,
    progress: Progress = lambda done, total, what: None,
    stop: Stop = lambda: False,
) -> Run:
    """Run a case into `folder`, or finish or read a run that is there.

    Raises InputError as `check` does; Interrupted when `stop` says yes between two batches, which are kept; and
    ConvergenceError.
    """
    if not check(case, folder, device, force) or not is_tidy(folder):
        with locked(folder), torch_settings():
            if not _finished(case, folder, force):  # asked again: another process may have come first
                _complete(case, folder, device, force, progress, stop)
            elif not is_shown(folder):
                _show(case, folder)
            shutil.rmtree(folder / "samples", ignore_errors=True)
    return Run(folder, load(folder / "posterior.nc"), _read_metrics(folder / "metrics.json"))


def check(case: Case, folder: Path, device: str = "cpu", force: bool = False) -> bool:
    """Whether `folder` holds this case's finished run already. Nothing is written.

    Raises InputError when the device is not there, and when the folder holds another case, something that is no run
    (`force` clears a run), or the work of another process.
    """
    check_device(device)
    finished = _finished(case, folder, force)
    check_free(folder)
    return finished


def is_shown(folder: Path) -> bool:
    """Whether a finished run or comparison has a report and figures."""
    return (folder / "report.html").is_file() and any((folder / "figures").glob("*.png"))


def is_tidy(folder: Path) -> bool:
    """Whether a finished run has its report and figures, and nothing that it no longer needs."""
    return is_shown(folder) and not (folder / "samples").exists()


def check_device(device: str) -> None:
    """Raise InputError for a device that PyTorch does not have here."""
    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if device not in available:
        raise InputError(f"--device {device}: not available on this machine; available: {', '.join(available)}")


def _complete(case: Case, folder: Path, device: str, force: bool, progress: Progress, stop: Stop) -> None:
    """Draw what samples are missing and write everything, the manifest last."""
    started, memory = time.perf_counter(), PeakMemory()
    problem = build_problem(case, device)  # before anything is written: it may find an error
    manifest = _claim(case, folder, force)
    samples = draw_samples(case, problem, folder / "samples", device, progress, stop)
    sampled = time.perf_counter()
    posterior = _posterior(case, problem, samples, memory)
    save(posterior, folder / "posterior.nc")
    summary = {"case": case.name, "variants": {"run": metrics(posterior)}}
    write_json(summary, folder / "metrics.json")
    figures = _draw(posterior, folder)
    manifest |= {
        "complete": True,
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()} {platform.system()}",
        "seconds": {
            "this_start": round(time.perf_counter() - started, 2),
            "sampling": round(float(samples.seconds.sum()), 2),
            "figures_and_files": round(time.perf_counter() - sampled, 2),
        },
    }
    _report(case, folder, posterior, summary, manifest, figures)
    write_json(manifest, folder / "manifest.json")


def _show(case: Case, folder: Path) -> None:
    """Make the figures and the report of a finished run again, from its files."""
    posterior, summary = load(folder / "posterior.nc"), _read_metrics(folder / "metrics.json")
    _report(case, folder, posterior, summary, _read_manifest(folder / "manifest.json"), _draw(posterior, folder))


def _draw(posterior: Posterior, folder: Path) -> list[Path]:
    clear_parts(folder / "figures")
    return save_figures(posterior, folder / "figures")


def _report(
    case: Case,
    folder: Path,
    posterior: Posterior,
    summary: dict[str, Any],
    manifest: dict[str, Any],
    figures: list[Path],
) -> None:
    pages = {"run": posterior}, summary, {"run": manifest}, {"run": figures}
    write_report(folder / "report.html", case.resolved(), *pages)


def _finished(case: Case, folder: Path, force: bool) -> bool:
    """Whether the folder holds this case's finished run. Raises InputError when it holds something else."""
    path = folder / "manifest.json"
    if path.is_file():
        manifest = _read_manifest(path)
        if force:
            return False
        if manifest["hash"] != case.hash:
            changes = brief(difference(manifest["case"], case.resolved())) or "its files' contents"
            raise InputError(
                f"{folder}: holds another case ({changes}); choose another --out, or --force to start anew"
            )
        return bool(manifest.get("complete")) and all((folder / n).is_file() for n in ("posterior.nc", "metrics.json"))
    if folder.exists() and not (folder.is_dir() and all(map(is_left_behind, folder.iterdir()))):
        raise InputError(f"{folder}: is not empty and holds no run of pdediff; choose another --out")
    return False


def _claim(case: Case, folder: Path, force: bool) -> dict[str, Any]:
    """Make the folder this case's, and return its manifest; with `force`, an earlier run in it is cleared away.

    The earlier manifest is replaced last: after a kill on the way the folder is still the earlier case's, incomplete.
    """
    if force:
        for name in ("posterior.nc", "metrics.json", "report.html"):
            (folder / name).unlink(missing_ok=True)
        for name in ("samples", "figures"):
            shutil.rmtree(folder / name, ignore_errors=True)
    manifest = {
        "format": MANIFEST_FORMAT,
        "name": case.name,
        "hash": case.hash,
        "case": case.resolved(),
        "complete": False,
        "versions": {"pdediff": __version__, "python": platform.python_version()}
        | {name: version(name) for name in ("torch", "numpy", "scipy")},
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    write_json(manifest, folder / "manifest.json")
    return manifest


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = _read_json(path)
    if (
        manifest.get("format") != MANIFEST_FORMAT
        or not isinstance(manifest.get("case"), dict)
        or not isinstance(manifest.get("hash"), str)
    ):
        raise InputError(f"{path}: not a manifest of a pdediff run; choose another --out")
    return manifest


def _read_metrics(path: Path) -> dict[str, Any]:
    table = _read_json(path)
    if not table:
        raise InputError(f"{path}: damaged; --force starts anew")
    return table


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none."""
    try:
        content = json.loads(path.read_text())
    except ValueError:  # neither JSON nor text
        content = None
    return content if isinstance(content, dict) else {}


def _posterior(case: Case, problem: Problem, samples: Samples, memory: PeakMemory) -> Posterior:
    observations = problem.observations
    units = {"a": case.prior.units, "u": case.observations.units}
    observations.predicted = _in_order(problem, samples)
    return Posterior(
        grid=problem.grid,
        fields=samples.fields,
        units={name: units.get(name, "") for name in samples.fields},
        observations=observations,
        truth=problem.truth,
        parameters=samples.parameters,
        true_parameters=problem.parameters,
        phases=problem.prior.phases,
        relative_residual=samples.relative_residual,
        cost={
            "seconds_per_sample": float(samples.seconds.mean()),
            "network_evaluations": float(samples.network_evaluations.mean()),
            "pde_solves": float(samples.pde_solves.mean()),
            "peak_memory_mb": memory.megabytes(),
        },
        attrs={
            "case": case.name,
            "case_hash": case.hash,
            "resolved_case": json.dumps(case.resolved()),
            "pdediff_version": __version__,
            "torch_version": version("torch"),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        },
    )


def _in_order(problem: Problem, samples: Samples) -> Any:
    """Predictions (n, m) in the order of the observations; the likelihood has them field by field."""
    predicted = samples.predicted.copy()
    predicted[:, problem.order] = samples.predicted
    return predicted
