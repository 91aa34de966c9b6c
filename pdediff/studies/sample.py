"""Posterior samples of a problem, in batches that are kept as soon as they are done.

Sample i of a run draws its noise from its own generator, seeded by (seed, i), whatever batch it is in. Batches are cut
at multiples of their size, so a run that goes on later computes the same batches, and on the same device it ends with
the same samples to the last bit. With another batch size they agree to the accuracy of the inner solves.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from pdediff import __version__
from pdediff.cases.case import Case
from pdediff.cases.method import build_method
from pdediff.cases.outcome import Method, Outcome
from pdediff.cases.problem import Problem
from pdediff.noise import Generators
from pdediff.posterior.files import clear_parts, replacing
from pdediff.solvers.errors import ConvergenceError, InputError, Interrupted

FINAL_RTOL = 1e-11  # of the float64 solve that gives every sample its u, where physics is exact

Progress = Callable[[int, int, str], None]  # done, total, what
Stop = Callable[[], bool]


@dataclass
class Samples:
    """n samples and what they cost.

    Parameters
    ----------
    fields: name to fields (n, ny, nx), float64.
    parameters: name to values (n,) of what was inferred along.
    predicted: noise-free data (n, m).
    relative_residual: ‖A u − b‖₂/‖b‖₂ (n,), NaN where there is no equation.
    seconds, network_evaluations, pde_solves: of each sample (n,).

    """

    fields: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    predicted: np.ndarray
    relative_residual: np.ndarray
    seconds: np.ndarray
    network_evaluations: np.ndarray
    pde_solves: np.ndarray


def draw_samples(case: Case, problem: Problem, folder: Path, device: str, progress: Progress, stop: Stop) -> Samples:
    """All samples of a case; finished batches are found in and kept in `folder`, which no other process may use.

    `stop` is asked between batches. Raises Interrupted when it says yes; ConvergenceError when a sample goes astray.
    """
    n, batch, method = case.sampling.samples, case.sampling.batch, build_method(case, problem, device)
    mark = {"case": case.hash, "pdediff": __version__}
    folder.mkdir(exist_ok=True)
    clear_parts(folder)
    done = _kept(folder, mark)

    def go_on() -> None:
        if stop():
            raise Interrupted(
                f"{folder.parent}: interrupted after {len(done)} of {n} samples; the same command goes on from there"
            )

    for start in range(0, n, batch):
        indices = [i for i in range(start, min(start + batch, n)) if i not in done]
        if not indices:
            continue
        go_on()

        def on_level(level: int, count: int, indices: list[int] = indices, before: int = len(done)) -> None:
            what = f"samples {indices[0] + 1}–{indices[-1] + 1} of {n}"
            progress(before * count + level * len(indices), n * count, what)

        arrays = _draw_batch(method, Generators(case.sampling.seed, indices), on_level) | {"index": np.array(indices)}
        with replacing(folder / f"batch-{indices[0]:06d}.safetensors") as part:
            part.write_bytes(save(arrays, mark))
        done |= _rows(arrays)
    go_on()
    arrays = {name: np.stack([done[i][name] for i in range(n)]) for name in done[0] if name != "index"}
    columns: dict[str, Any] = {"fields": {}, "parameters": {}}
    for name, values in arrays.items():
        kind, _, what = name.partition("/")
        columns |= {kind: columns[kind] | {what: values}} if what else {kind: values}
    return Samples(**columns)


def _kept(folder: Path, mark: dict[str, str]) -> dict[int, dict[str, np.ndarray]]:
    """The samples in finished batches; files that are cut short or have another mark go, to be drawn anew."""
    done: dict[int, dict[str, np.ndarray]] = {}
    for path in folder.glob("batch-*.safetensors"):
        try:
            with safe_open(path, "numpy") as file:
                whole = file.metadata() == mark
                arrays = {name: file.get_tensor(name) for name in file.keys()} if whole else {}  # noqa: SIM118
        except SafetensorError:
            whole = False
        if whole:
            done |= _rows(arrays)
        else:
            path.unlink()
    return done


def _rows(arrays: dict[str, np.ndarray]) -> dict[int, dict[str, np.ndarray]]:
    """A batch, sample by sample."""
    return {int(i): {name: values[k] for name, values in arrays.items()} for k, i in enumerate(arrays["index"])}


def _draw_batch(method: Method, generators: Generators, on_level: Callable[[int, int], None]) -> dict[str, np.ndarray]:
    """A sample for each generator: the arrays of `Samples`, those of one kind as KIND/NAME."""
    started, solves = time.perf_counter(), method.solves
    with torch.no_grad():  # inference mode would forbid gradients through the network to those who want them
        try:
            outcome = _outcome(method.outcome(method(generators, on_level)))
        except InputError as error:  # the input was right; a sample has left what the solver can take
            raise ConvergenceError(f"sampling went astray: {error}") from error
        arrays = {name: value.cpu().numpy() for name, value in outcome.items()}
    count = len(generators)
    return arrays | {
        "seconds": np.full(count, (time.perf_counter() - started) / count),
        "network_evaluations": np.full(count, method.evaluations),
        "pde_solves": np.full(count, (method.solves - solves) / count),
    }


def _outcome(outcome: Outcome) -> dict[str, Tensor]:
    """What samples are in the fields' units, in float64: the columns of `Samples`, those of one kind as KIND/NAME."""
    physics, observed = outcome.problem.physics, outcome.problem.observed
    fields = physics.fields(outcome.x_0.double(), FINAL_RTOL)
    finite = torch.stack([values.isfinite().all(-1).all(-1) for values in fields.values()]).all(dim=0)
    lost = ~(finite & (fields["a"] > 0).all(-1).all(-1)) if outcome.problem.prior.positive else ~finite
    if bool(lost.any()):
        raise ConvergenceError(
            f"{int(lost.sum())} of {len(lost)} samples have left what can be computed; a method that follows a "
            "gradient (dps and its kin) may need a smaller zeta or a higher accuracy"
        )
    residual = physics.relative_residual(fields)
    return (
        {f"fields/{name}": values for name, values in (fields | outcome.fields).items()}
        | {f"parameters/{name}": values for name, values in outcome.parameters.items()}
        | {
            "predicted": observed.read(physics.frame(**fields)) if outcome.predicted is None else outcome.predicted,
            "relative_residual": torch.full_like(fields["a"][:, 0, 0], torch.nan) if residual is None else residual,
        }
    )


@contextmanager
def torch_settings() -> Iterator[None]:
    """Denormal numbers are flushed to zero while sampling: they cost time and carry nothing."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
