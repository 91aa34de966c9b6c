"""The command line as a process sees it: exit codes, one line of error, and nothing heavy imported."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pdediff.cli import app, main
from pdediff.solvers.errors import ConvergenceError, InputError, Interrupted

CASES = Path(__file__).parents[2] / "cases"
LOG_NORMAL = str(CASES / "darcy-log-normal.yaml")


def test_validate_says_ok(capsys: pytest.CaptureFixture[str]) -> None:
    """One line: what would run."""
    assert main(["validate", LOG_NORMAL, "--set", "sampling.samples=7", "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(
        "ok: darcy-log-normal: darcy on 40 × 80 cells, 44 observations (44 of u) of a synthetic truth"
    )
    assert "7 samples" in out
    assert out.count("\n") == 1
    assert err == ""


def test_validate_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The resolved case for scripts."""
    assert main(["validate", str(CASES / "darcy-csv.yaml"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["case"] == "darcy-csv"
    assert printed["resolved"]["grid"]["shape"] == [48, 64]
    assert printed["resolved"]["observations"]["file"]["name"] == "heads.csv"


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """Valid JSON with the top-level keys."""
    assert main(["schema"]) == 0
    assert "observations" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validate", "nowhere.yaml"], "nowhere.yaml: no such case file"),
        (["validate", LOG_NORMAL, "--set", "grid.shape=3"], "--set grid.shape=3: grid.shape: must be a list, got 3"),
        (["validate", LOG_NORMAL, "--seed", "x"], "pdediff: Invalid value for '--seed'"),
        (["validate", LOG_NORMAL, "--sed", "1"], "pdediff: No such option"),
        (["validate"], "pdediff: Missing argument"),
        (["valdate", LOG_NORMAL], "pdediff: No such command 'valdate'"),
    ],
)
def test_wrong_input_is_exit_code_2_and_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Nothing on standard output, no traceback."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("case.yaml:3: two\nlines"), 2, "case.yaml:3: two lines\n"),
        (ConvergenceError("no convergence after 200 iterations"), 1, "pdediff: no convergence after 200 iterations\n"),
        (OSError(28, "No space left on device", "runs/x"), 1, "pdediff: runs/x: No space left on device\n"),
        (Interrupted("x: interrupted after 4 of 8 samples"), 130, "pdediff: x: interrupted after 4 of 8 samples\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_command_raises(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    """Each kind of error has its exit code, and is one line."""

    def fail() -> None:
        raise error

    monkeypatch.setitem(app.COMMANDS, "schema", fail)
    assert main(["schema"]) == code
    assert capsys.readouterr().err.strip("\n") == message.strip("\n")


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`pdediff` alone helps; a misspelt command names its neighbour where typer can."""
    assert main([]) == 0
    assert "validate" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pdediff ")


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], ["torch", "pydantic", "scipy", "numpy", "ruamel.yaml", "rich", "pdediff.cases"]),
        (["validate", LOG_NORMAL], ["torch", "scipy"]),
        (["schema"], ["torch", "scipy"]),
    ],
    ids=["help", "validate", "schema"],
)
def test_nothing_heavy_is_imported(arguments: list[str], absent: list[str]) -> None:
    """In a fresh interpreter, after the command has run."""
    script = (
        "import sys; from pdediff.cli import main; code = main(sys.argv[1:]); "
        f"loaded = [name for name in {absent!r} if name in sys.modules]; print(loaded, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


def test_help_is_immediate() -> None:
    """`python -m pdediff --help` within 0.4 s (the best of five, so that a busy machine does not decide)."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pdediff", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.4


def test_a_reader_that_leaves_is_no_traceback() -> None:
    """`pdediff schema | head -1`."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "pdediff", "schema"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""
