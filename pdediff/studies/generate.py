"""A recipe into a store of fields, in several processes, through any interruption.

    FILE.h5                          the store, once it is finished
    FILE.h5.parts/recipe.json        what is being made, and by which versions
    FILE.h5.parts/samples-FIRST.h5   finished chunks

Each sample is drawn from its own seed and computed alone, by one thread, so that it is the same to the last bit
whatever chunk and process it falls to. A kill loses the chunks in work; the same recipe goes on from the others.
Another recipe, or other versions of the libraries half-way, are refused with the difference.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pdediff import __version__
from pdediff.cases.generation import DatasetRecipe
from pdediff.cases.identity import brief, difference
from pdediff.datasets.store import Layout, Store, gather, part_index, parts_folder, write
from pdediff.posterior.files import locked, replacing, write_json
from pdediff.solvers.errors import InputError, Interrupted
from pdediff.studies.field_sampler import FieldSampler
from pdediff.studies.workers import spread

Progress = Callable[[int, int, str], None]  # done, total, what


def generate(
    recipe: DatasetRecipe,
    path: Path,
    processes: int = 1,
    progress: Progress = lambda done, total, what: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Make the store at `path`, or go on making it; a finished one is left as it is.

    `stop` is asked between chunks; when it says yes, those in work are finished and kept.

    Raises InputError (something else is at `path`, or another process works on it), ConvergenceError, OSError, and
    Interrupted after `stop`.
    """
    parts = parts_folder(path)
    if not is_finished(recipe, path):
        FieldSampler(recipe)  # before anything is written: it may find an error
    elif not parts.exists():
        return
    with locked(parts):
        if not is_finished(recipe, path):
            _claim(recipe, parts)
            _draw_missing(recipe, path, processes, progress, stop)
            with replacing(parts / path.name) as whole:
                gather(whole, layout(recipe), sorted(parts.glob("samples-*.h5")))
            os.replace(parts / path.name, path)
        for left in (*parts.glob("samples-*.h5"), parts / "recipe.json"):
            left.unlink(missing_ok=True)
    with suppress(OSError):
        parts.rmdir()


def is_finished(recipe: DatasetRecipe, path: Path) -> bool:
    """Whether the recipe's store is at `path` already. Raises InputError if something else is."""
    if not path.exists():
        return False
    with Store(path) as store:
        try:
            made = json.loads(store.attributes["recipe"])
        except (KeyError, ValueError):
            raise InputError(f"{path}: a data set that no recipe made; choose another --out") from None
    _refuse_difference(f"{path}: holds another data set", made, recipe.resolved())
    return True


def count_done(recipe: DatasetRecipe, path: Path) -> int:
    """How many of the recipe's samples are in the store or in its parts. Raises InputError as `generate` does."""
    if is_finished(recipe, path):
        return recipe.samples
    parts = parts_folder(path)
    _check_claim(recipe, parts)
    return sum(map(len, _kept(recipe, parts).values()))


def layout(recipe: DatasetRecipe) -> Layout:
    """What the recipe's store holds, and what it says of itself."""
    units = {"a": recipe.coefficient.units, "u": recipe.units, "mu": ""}
    law = recipe.coefficient.model_dump(mode="json", exclude_none=True)
    return Layout(
        recipe.grid.build(),
        {name: units[name] for name in recipe.fields},
        recipe.samples,
        recipe.precision,
        {
            "equation": "-div(a grad u) = f",
            "law": json.dumps(law, ensure_ascii=False),
            "seed": recipe.seed,
            "recipe": json.dumps(recipe.resolved(), ensure_ascii=False),
            "versions": json.dumps(_versions()),
        },
    )


class ChunkWriter:
    """Draws chunks of a recipe's samples and writes each as a part, in one thread."""

    def __init__(self, recipe: DatasetRecipe, parts: Path) -> None:
        self.sampler, self.layout, self.parts = FieldSampler(recipe), layout(recipe), parts

    def __call__(self, index: range) -> int:
        """Write the samples of `index`; their number."""
        with _one_thread(), torch.inference_mode():
            samples = [self.sampler.draw(i) for i in index]
        fields = {name: torch.stack([sample[name] for sample in samples]).numpy() for name in self.layout.units}
        with replacing(self.parts / f"samples-{index.start:08d}.h5") as part:
            write(part, self.layout, index, fields)
        return len(index)


def _draw_missing(
    recipe: DatasetRecipe, path: Path, processes: int, progress: Progress, stop: Callable[[], bool]
) -> None:
    """Draw what no part holds. Raises Interrupted if `stop` left some."""
    parts = parts_folder(path)
    kept = _kept(recipe, parts)
    for damaged in set(parts.glob("samples-*.h5")) - set(kept):
        damaged.unlink()
    done = {i for index in kept.values() for i in index}
    count, n = len(done), recipe.samples
    progress(count, n, f"{count} of {n} samples")
    for new in spread(partial(ChunkWriter, recipe, parts), _missing(recipe, done), processes, stop):
        count += new
        progress(count, n, f"{count} of {n} samples")
    if count < n:
        raise Interrupted(f"{path}: interrupted after {count} of {n} samples; the same command goes on from there")


def _missing(recipe: DatasetRecipe, done: set[int]) -> list[range]:
    """The samples that are not done, in runs that end at multiples of the chunk."""
    runs: list[range] = []
    for i in range(recipe.samples):
        if i in done:
            continue
        if runs and runs[-1].stop == i and i % recipe.chunk:
            runs[-1] = range(runs[-1].start, i + 1)
        else:
            runs.append(range(i, i + 1))
    return runs


def _kept(recipe: DatasetRecipe, parts: Path) -> dict[Path, range]:
    """The whole ones among the parts: file and samples."""
    wanted = layout(recipe)
    found = {path: part_index(path, wanted) for path in parts.glob("samples-*.h5")}
    return {path: index for path, index in found.items() if index is not None}


def _claim(recipe: DatasetRecipe, parts: Path) -> None:
    """Make the folder of parts, which the caller has locked, this recipe's."""
    _check_claim(recipe, parts)
    write_json({"recipe": recipe.resolved(), "versions": _versions()}, parts / "recipe.json")


def _check_claim(recipe: DatasetRecipe, parts: Path) -> None:
    """Raise InputError if the parts are another recipe's, or other versions'."""
    path = parts / "recipe.json"
    if not path.exists():
        return
    try:
        made = json.loads(path.read_text())
        old = {**made["recipe"], "versions": made["versions"]}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: not readable; choose another --out, or delete {parts}") from None
    new = {**recipe.resolved(), "versions": _versions()}
    _refuse_difference(f"{parts}: holds parts of another data set", old, new)


def _refuse_difference(what: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    changes = brief(difference(old, new))
    if changes:
        raise InputError(f"{what} ({changes}); choose another --out, or delete it")


def _versions() -> dict[str, str]:
    return {"pdediff": __version__} | {name: version(name) for name in ("numpy", "scipy", "torch", "h5py")}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
