"""Spoilt cases, tables, weights and options: each is refused in one line that names the place, or is a valid case."""

import contextlib
import io
import json
import math
import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from mutations import CASE, CASES, Mutation, mutations
from mutations.keys import key_mutations

from pdediff.cases.generation import load_recipe
from pdediff.cases.messages import validate
from pdediff.cases.reader import read_yaml
from pdediff.cli.app import run
from pdediff.solvers.errors import InputError
from pdediff.training.control import ControlPlan, is_control
from pdediff.training.recipe import Recipe

JARGON = ("Traceback", "Errno", "Input should", "<class", "object at 0x", "NoneType", "pydantic", "[type=")
LONGEST = 300  # characters of a message after its place: what a user reads to the end
QUICK = ("grid.shape=[16, 16]", "physics=solver", "guidance.accuracy=fast", "sampling.samples=1", "sampling.batch=1")
LAW = "prior={law: log-normal, variogram: {range: 0.3}}"


def call(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command line; a traceback is exit code -1."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(arguments)
    except Exception as error:
        return -1, out.getvalue(), f"Traceback: {error!r}"
    return code, out.getvalue(), err.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def complaint(mutation: Mutation, folder: Path, err: str) -> str | None:
    """What is wrong with a message, if anything: it must be one line that names a place which exists."""
    if err.count("\n") != 1 or not err.rstrip("\n").isprintable():
        return "not one printable line"
    place = re.match(rf"{re.escape(str(folder))}/(?P<file>[\w.]+):(?P<line>\d+): (?P<text>.+)", err)
    if place is not None:
        lines = len(re.split(rb"\r\n|\r|\n", mutation.files[place["file"]]))
        if not 1 <= int(place["line"]) <= lines:
            return f"names a line that {place['file']} does not have"
        if mutation.line is not None and (place["file"], int(place["line"])) != (CASE, mutation.line):
            return f"line {mutation.line} is to blame"
    elif (
        not (mutation.options and err.startswith("--set ")) and "larger than" not in err
    ):  # what is too large is not read
        return "names no file and line, and no option"
    text = (place["text"] if place is not None else err).replace(str(folder), "")
    if len(text) > LONGEST or any(word in text for word in JARGON):
        return "is not a sentence for a user"
    return None


def judge(mutation: Mutation, folder: Path) -> tuple[bool, str, str | None]:
    """Whether a mutation is a valid case, the message if not, and what is wrong with the library's answer."""
    folder.mkdir()
    for name, content in mutation.files.items():
        (folder / name).write_bytes(content)
    before = contents(folder)
    case, place = str(folder / CASE), str(folder / "out")
    start = time.perf_counter()
    code, out, err = call("validate", case, *mutation.options)
    if time.perf_counter() - start > 20:  # a machine with other work is slow, but not that slow
        return code == 0, err, "takes too long"
    command = ("run", case, "--out", place, *mutation.options)
    again = call(*command) if code == 2 else call(*command, "--dry-run")
    wrong = None
    if contents(folder) != before or (folder / "out").exists():
        wrong = "something was written"
    elif again[0] != code or (code == 2 and again[1:] != ("", err)):
        wrong = f"`run` says something else: {again}"
    elif code == 2:
        wrong = "writes to the output" if out else complaint(mutation, folder, err)
    elif code != 0 or err or out.count("\n") != 1:
        wrong = f"exit code {code}"
    return code == 0, err, wrong


def run_quickly(mutation: Mutation, folder: Path) -> str | None:
    """Run a valid mutation on a small grid; what is wrong with the answer, if anything."""
    large = any(word in mutation.files[CASE] for word in (b"two-phase", b"weights:", b"law: gaussian"))
    settings = (*QUICK, LAW) if large else QUICK
    options = [word for setting in settings for word in ("--set", setting)]
    place = folder / "out"
    code, _, err = call("run", str(folder / CASE), *mutation.options, *options, "--out", str(place), "--quiet")
    if code == 2:
        return complaint(mutation, folder, err) if not place.exists() else "something was written"
    if code == 1:  # a valid case of absurd numbers may have no answer in floating point
        return None if err.count("\n") == 1 and "converge" in err else f"exit code 1: {err}"
    if code != 0:
        return f"exit code {code}: {err}"
    entry = json.loads((place / "metrics.json").read_text())["variants"]["run"]
    if not math.isfinite(entry["observations"]["chi2"]) or not entry["pde"]["relative_residual"] < 1e-6:
        return f"is no answer: {entry}"
    return None


RECIPES = [
    *((path, "train") for path in sorted((CASES.parent / "pdediff" / "priors").glob("*.yaml"))),
    *((path, "generate") for path in sorted((CASES.parent / "datasets").glob("*.yaml"))),
]


def refusal(path: Path, command: str) -> str:
    """The message for a recipe that cannot be used; empty for one that can."""
    try:
        if command == "train":
            tree = read_yaml(path, "recipe")
            validate(tree, ControlPlan if is_control(tree.value) else Recipe)
        else:
            load_recipe(str(path))
    except InputError as error:
        return f"{error}\n"
    return ""


@pytest.mark.parametrize(("path", "command"), RECIPES, ids=[path.stem for path, _ in RECIPES])
def test_recipes_are_read_with_the_same_care(path: Path, command: str, tmp_path: Path) -> None:
    """What `train` and `generate` refuse of 30 spoilt recipes, they refuse as `run` does, with nothing written."""
    rng = random.Random(path.stem)
    changes = list(key_mutations(path.read_text(encoding="utf-8"), rng))
    recipe = tmp_path / CASE
    refused = 0
    for kind, name, text, line in rng.sample(changes, 30):
        mutation = Mutation(kind, name, {CASE: text.encode()}, line)
        recipe.write_bytes(mutation.files[CASE])
        message = refusal(recipe, command)
        if message:
            wrong = complaint(mutation, tmp_path, message)
            assert wrong is None, f"{kind}, {name}: {wrong}: {message}"
            assert call(command, str(recipe), "--out", str(tmp_path / "out")) == (2, "", message)
            refused += 1
    assert refused > 15
    assert list(tmp_path.iterdir()) == [recipe]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("count", "runs"), [(60, 2), pytest.param(300, 20, marks=pytest.mark.slow)], ids=["60", "300"])
def test_every_mutation_is_refused_in_one_line_or_valid(count: int, runs: int, tmp_path: Path) -> None:
    """Exit code 2, one line with file and line (or the option), nothing written; or a case that runs."""
    verdicts: Counter[str] = Counter()
    failures = []
    for k, mutation in enumerate(mutations(count)):
        valid, message, wrong = judge(mutation, tmp_path / str(k))
        verdicts["valid" if valid else "refused"] += 1
        if wrong is None and valid and mutation.kind != "wrong value" and verdicts["run"] < runs:
            verdicts["run"] += 1
            wrong = run_quickly(mutation, tmp_path / str(k))
        if wrong is not None:
            failures.append(f"{mutation.kind}, {mutation.name}: {wrong}: {message}")
    print(f"{count} mutations: {verdicts}")
    assert not failures, "\n".join(failures)
    assert verdicts["refused"] > count / 2
    assert verdicts["valid"] > count / 20
    assert verdicts["run"] == runs
