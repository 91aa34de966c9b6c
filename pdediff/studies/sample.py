"""Posterior samples of a problem, in batches that are kept as soon as they are done.

Sample i of a run draws its noise from its own generator, seeded by (seed, i), so that it does not matter which batch it
is in and an interrupted run goes on where it stopped.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from pdediff.cases.case import Case
from pdediff.cases.problem import Problem
from pdediff.guidance.renoise import ACCURACY, renoise
from pdediff.noise import Generators
from pdediff.posterior.files import replacing
from pdediff.solvers.errors import ConvergenceError, InputError

FINAL_RTOL = 1e-11  # of the float64 solve that gives every sample its u

Progress = Callable[[int, int, str], None]  # done, total, what


@dataclass
class Samples:
    """n samples and what they cost.

    Parameters
    ----------
    a, u: fields (n, ny, nx), float64; u solves the PDE for a.
    predicted: noise-free data (n, m).
    relative_residual: ‖A u − b‖₂/‖b‖₂ (n,).
    seconds, network_evaluations, pde_solves: of each sample (n,).

    """

    a: np.ndarray
    u: np.ndarray
    predicted: np.ndarray
    relative_residual: np.ndarray
    seconds: np.ndarray
    network_evaluations: np.ndarray
    pde_solves: np.ndarray


def draw_samples(case: Case, problem: Problem, folder: Path, device: str, progress: Progress) -> Samples:
    """All samples of a case; finished batches are found in and kept in `folder`."""
    n, batch = case.sampling.samples, case.sampling.batch
    folder.mkdir(parents=True, exist_ok=True)
    done = {int(i): path for path in sorted(folder.glob("batch-*.safetensors")) for i in load_file(path)["index"]}
    missing = [i for i in range(n) if i not in done]
    levels = ACCURACY[case.guidance.accuracy].levels
    for start in range(0, len(missing), batch):
        indices = missing[start : start + batch]

        def on_level(level: int, count: int, indices: list[int] = indices, start: int = start) -> None:
            finished = n - len(missing) + start
            progress(
                finished * levels + level * len(indices), n * levels, f"samples {finished}–{finished + len(indices)}"
            )

        with replacing(folder / f"batch-{indices[0]:06d}.safetensors") as part:
            save_file(_draw_batch(case, problem, indices, device, on_level), part)
    rows: dict[str, list[np.ndarray]] = {}
    order: list[np.ndarray] = []
    for path in sorted(folder.glob("batch-*.safetensors")):
        arrays = load_file(path)
        order.append(arrays.pop("index"))
        for name, values in arrays.items():
            rows.setdefault(name, []).append(values)
    rank = np.argsort(np.concatenate(order))
    return Samples(**{name: np.concatenate(parts)[rank] for name, parts in rows.items()})


def _draw_batch(
    case: Case, problem: Problem, indices: list[int], device: str, on_level: Callable[[int, int], None]
) -> dict[str, np.ndarray]:
    started, solves = time.perf_counter(), problem.physics.darcy.solves
    annealing = ACCURACY[case.guidance.accuracy]
    generators = Generators(case.sampling.seed, indices)
    with torch.inference_mode():
        try:
            z = renoise(problem.prior.denoiser, problem.likelihood, generators, annealing, on_level, device)
        except InputError as error:  # the input was right; a sample has left what the solver can take
            raise ConvergenceError(f"sampling went astray: {error}") from error
        a = problem.physics.coefficient(z.double())
        darcy = problem.physics.darcy
        u = darcy.solve(a, rtol=FINAL_RTOL)
        observables = problem.physics.frame(a, u)
        predicted = problem.likelihood.read(observables)
        residual = darcy.relative_residual(a, u)
    count = len(indices)
    arrays = {"a": a, "u": u, "predicted": predicted, "relative_residual": residual}
    return {name: value.cpu().numpy() for name, value in arrays.items()} | {
        "index": np.array(indices),
        "seconds": np.full(count, (time.perf_counter() - started) / count),
        "network_evaluations": np.full(count, annealing.levels),
        "pde_solves": np.full(count, (darcy.solves - solves) / count),
    }


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far, in MB; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


@contextmanager
def torch_settings() -> Iterator[None]:
    """Denormal numbers are flushed to zero while sampling: they cost time and carry nothing."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
