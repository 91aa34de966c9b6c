"""One case into one folder: samples, posterior file, metrics, figures, manifest.

    DIR/manifest.json    resolved case, its hash, versions, device, timings; written first: the folder has an owner
    DIR/samples/         finished batches of an unfinished run
    DIR/posterior.nc, DIR/metrics.json, DIR/figures/*.png

Running the same case again goes on where it stopped, and only reads when nothing is missing. A folder that holds
another case is refused, with the difference.
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
from pdediff.cases.identity import difference
from pdediff.cases.problem import Problem, build_problem
from pdediff.posterior.files import write_json
from pdediff.posterior.metrics import metrics
from pdediff.posterior.result import Posterior
from pdediff.posterior.store import load, save
from pdediff.report.figures import save_figures
from pdediff.solvers.errors import InputError
from pdediff.studies.sample import Progress, Samples, draw_samples, peak_memory_mb, torch_settings

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
) -> Run:
    """Run a case into `folder`, or finish or read a run that is there.

    Raises InputError when the folder holds another case or something that is no run (`force` clears a run), and when
    the device is not there.
    """
    check_device(device)
    if _finished(case, folder, force):
        return Run(folder, load(folder / "posterior.nc"), json.loads((folder / "metrics.json").read_text()))
    started = time.perf_counter()
    with torch_settings():
        problem = build_problem(case, device)  # before anything is written: it may find an error
        _claim(case, folder, force)
        samples = draw_samples(case, problem, folder / "samples", device, progress)
    sampled = time.perf_counter()
    posterior = _posterior(case, problem, samples)
    save(posterior, folder / "posterior.nc")
    summary = {"case": case.name, "variants": {"run": metrics(posterior)}}
    write_json(summary, folder / "metrics.json")
    save_figures(posterior, folder / "figures")
    manifest = json.loads((folder / "manifest.json").read_text())
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
    write_json(manifest, folder / "manifest.json")
    shutil.rmtree(folder / "samples", ignore_errors=True)
    return Run(folder, posterior, summary)


def check_device(device: str) -> None:
    """Raise InputError for a device that PyTorch does not have here."""
    if device != "cpu" and not (device.split(":")[0] == "cuda" and torch.cuda.is_available()):
        raise InputError(f"--device {device}: not available on this machine; available: cpu")


def _finished(case: Case, folder: Path, force: bool) -> bool:
    """Whether the folder holds this case's finished run. Raises InputError when it holds something else."""
    path = folder / "manifest.json"
    if path.is_file():
        manifest = _read_manifest(path)
        if force:
            return False
        if manifest["hash"] != case.hash:
            changes = "; ".join(difference(manifest["case"], case.resolved())) or "its files' contents"
            raise InputError(
                f"{folder}: holds another case ({changes}); choose another --out, or --force to start anew"
            )
        return bool(manifest.get("complete")) and all((folder / n).is_file() for n in ("posterior.nc", "metrics.json"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is not empty and holds no run of pdediff; choose another --out")
    return False


def _claim(case: Case, folder: Path, force: bool) -> None:
    """Make the folder this case's; with `force`, an earlier run in it is cleared away."""
    path = folder / "manifest.json"
    if force:
        for name in ("samples", "figures"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in ("posterior.nc", "metrics.json", "manifest.json"):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
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
    write_json(manifest, path)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text())
    except ValueError:  # neither JSON nor text
        manifest = None
    ours = isinstance(manifest, dict) and manifest.get("format") == MANIFEST_FORMAT
    if not ours or not isinstance(manifest.get("case"), dict) or not isinstance(manifest.get("hash"), str):
        raise InputError(f"{path}: not a manifest of a pdediff run; choose another --out")
    return dict(manifest)


def _posterior(case: Case, problem: Problem, samples: Samples) -> Posterior:
    observations = problem.observations
    observations.predicted = _in_order(problem, samples)
    return Posterior(
        grid=problem.grid,
        fields={"a": samples.a, "u": samples.u},
        units={"a": case.prior.units, "u": case.observations.units},
        observations=observations,
        truth=problem.truth,
        phases=problem.prior.phases,
        relative_residual=samples.relative_residual,
        cost={
            "seconds_per_sample": float(samples.seconds.mean()),
            "network_evaluations": float(samples.network_evaluations.mean()),
            "pde_solves": float(samples.pde_solves.mean()),
            "peak_memory_mb": peak_memory_mb(),
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
