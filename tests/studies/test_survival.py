"""Killed, interrupted, out of disk, two at a time: the next start ends with the posterior of an undisturbed run.

Commands run in processes of their own, forked from a server that has imported PyTorch, so that one starts in a tenth of
a second. The case is a closed-form prior on 16 × 16 cells, six samples in batches of two, with four noise levels and
one empty figure: what survives does not depend on how good it is.
"""

import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.numpy import load_file

from pdediff.cases.load import load_case
from pdediff.cli.app import run as command_line
from pdediff.guidance.renoise import ACCURACY, Annealing
from pdediff.posterior.files import locked
from pdediff.posterior.store import load
from pdediff.report import figures
from pdediff.solvers.errors import Interrupted
from pdediff.studies import sample
from pdediff.studies.run import run
from pdediff.training.loop import Training

CASES = Path(__file__).parents[2] / "cases"
CSV = str(CASES / "darcy-csv.yaml")
SMALL = (
    "grid.shape=[16, 16]",
    "sampling.samples=6",
    "sampling.batch=2",
    "guidance.accuracy=fast",
    "observations.file=null",
    "observations.truth={seed: 3, refine: 1}",
    "observations.sensors={count: 6, seed: 1}",
    "observations.noise={sigma: 0.03}",
)
RECIPE = """
law: {name: two-phase, shape: [8, 8]}
network: {patch: 2, widths: [8, 16], blocks: 1}
training: {steps: 6, batch: 4, warmup: 2, decay: 0.5, seed: 5, precision: float32}
"""
FINISHED = ["figures", "manifest.json", "metrics.json", "posterior.nc", "report.html"]

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="computing times are read from /proc")
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["pdediff.studies.repeat", "pdediff.training.train", "pdediff.cli.app"])


def simplify() -> None:
    """Four noise levels, one figure, a checkpoint after every training step."""
    ACCURACY["fast"] = Annealing(levels=4)
    figures.figures = lambda posterior: iter([("fields", Figure())])
    Training.run.__defaults__ = (None, lambda: False, 0.0)


def kill_at_rename(number: int) -> None:
    """The process is killed when it is about to rename its `number`-th complete file."""
    rename, calls = os.replace, []

    def replace(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*arguments)

    os.replace = replace


def kill_at_removal() -> None:
    """The process is killed when it is about to remove a folder."""
    shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)


def limit_files(size: int) -> None:
    """No file can grow beyond `size` bytes: the write fails half way, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def refuse_pictures() -> None:
    """The disk is full when a picture has been drawn."""
    rename = os.replace

    def replace(part: Path, path: Path) -> None:
        if path.suffix == ".png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(part, path)

    os.replace = replace


def forbid_drawing() -> None:
    """Drawing a sample is an error."""
    sample._draw_batch = None


def _process(arguments, errors, preparations):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    torch.set_num_threads(1)
    for prepare in preparations:
        prepare()
    sys.exit(command_line(arguments))


class Command:
    """A command in a process of its own, once `prepare` has been called there; made simple by default."""

    def __init__(self, tmp_path, *arguments, prepare=(), simple=True):
        self.errors = tmp_path / "stderr.txt"
        prepare = (simplify, *prepare) if simple else prepare
        self.process = processes.Process(target=_process, args=([*map(str, arguments)], str(self.errors), prepare))
        self.process.start()

    def until(self, seconds):
        """Wait until the process has computed for so long, or has ended; for how long it was last seen to."""
        seen = 0.0
        while self.process.is_alive() and seen < seconds:
            with suppress(FileNotFoundError):
                times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
                seen = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
            time.sleep(0.005)
        return seen

    def kill(self):
        self.process.kill()
        return self.end()[0]

    def end(self):
        """Exit code (−9 if killed), and what it wrote to standard error."""
        self.process.join(120)
        return self.process.exitcode, self.errors.read_text() if self.errors.exists() else ""


def kill_at_random(start, out, expected, kills, seed):
    """Kill `start()` at random moments of its computing time; whenever it comes to its end, judge it and start anew."""
    rng, killed = np.random.default_rng(seed), 0
    command = start()
    seconds = command.until(np.inf)
    while True:
        if command.end()[0] == 0:
            assert_same_posterior(out, expected)
            if killed >= kills:
                break
            shutil.rmtree(out)
        command = start()
        command.until(rng.uniform(0, seconds) if killed < kills else np.inf)
        killed += killed < kills and command.kill() == -signal.SIGKILL


def run_command(out, *more, sets=SMALL):
    return ["run", CSV, "--out", out, "--quiet", *[word for change in sets for word in ("--set", change)], *more]


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def batches(folder):
    return sorted((folder / "samples").glob("batch-*.safetensors"))


def assert_same_posterior(folder, expected):
    """Every array, bit for bit; a tidy folder; the same metrics but for their cost."""
    assert names(folder) == FINISHED
    one, two = load(folder / "posterior.nc"), load(expected / "posterior.nc")
    for name in ("a", "u"):
        assert np.array_equal(one.fields[name], two.fields[name])
        assert np.array_equal(one.truth[name], two.truth[name])
    assert np.array_equal(one.observations.predicted, two.observations.predicted)
    assert np.array_equal(one.relative_residual, two.relative_residual)
    entries = [json.loads((f / "metrics.json").read_text())["variants"]["run"] for f in (folder, expected)]
    for entry in entries:
        del entry["cost"]
    assert entries[0] == entries[1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert Command(folder, *run_command(folder / "out")).end() == (0, "")
    return folder / "out"


@needs_proc
def test_killed_at_random_moments(tmp_path, undisturbed):
    """Three kills, anywhere between start and end: the posterior is the undisturbed one."""
    out = tmp_path / "out"
    kill_at_random(lambda: Command(tmp_path, *run_command(out)), out, undisturbed, kills=3, seed=0)
    assert_same_posterior(out, undisturbed)


def test_killed_before_each_rename(tmp_path, undisturbed):
    """Start k is killed at its k-th rename, so a kill falls between any two files: manifest, batches, results."""
    out = tmp_path / "out"
    number, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        number += 1
        code, errors = Command(tmp_path, *run_command(out), prepare=(partial(kill_at_rename, number),)).end()
    assert (code, errors) == (0, "")
    assert number > 5
    assert_same_posterior(out, undisturbed)


def test_killed_while_tidying(tmp_path, undisturbed):
    """Complete but for the removal of its batches: the next start removes them, and draws nothing."""
    out = tmp_path / "out"
    assert Command(tmp_path, *run_command(out), prepare=(kill_at_removal,)).end()[0] == -signal.SIGKILL
    assert len(batches(out)) == 3
    assert Command(tmp_path, *run_command(out), prepare=(forbid_drawing,)).end() == (0, "")
    assert_same_posterior(out, undisturbed)


def test_killed_while_forcing(tmp_path, undisturbed):
    """Killed while it clears another case's run away: the folder is still that case's, and that case can go on."""
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    other = (*SMALL, "sampling.seed=9")
    forced = run_command(out, "--force", sets=other)
    assert Command(tmp_path, *forced, prepare=(kill_at_removal,)).end()[0] == -signal.SIGKILL
    assert not (out / "posterior.nc").exists()
    code, errors = Command(tmp_path, *run_command(out, sets=other)).end()
    assert code == 2
    assert "sampling.seed: 3 -> 9" in errors
    assert Command(tmp_path, *run_command(out)).end() == (0, "")
    assert_same_posterior(out, undisturbed)


def test_ctrl_c_keeps_the_batch_in_work(tmp_path, undisturbed):
    """SIGINT in the second batch: it is finished and saved, two lines say so, exit code 130; the next start goes on."""
    out = tmp_path / "out"
    command = Command(tmp_path, *run_command(out))
    wait_for(lambda: batches(out))
    os.kill(command.process.pid, signal.SIGINT)
    code, errors = command.end()
    assert code == 130
    kept = 2 * len(batches(out))
    assert kept in (4, 6)
    assert errors.splitlines() == [
        "interrupted: finishing the samples in work; press Ctrl-C again to stop at once",
        f"pdediff: {out}: interrupted after {kept} of 6 samples; the same command goes on from there",
    ]
    assert Command(tmp_path, *run_command(out)).end() == (0, "")
    assert_same_posterior(out, undisturbed)


def test_a_second_process_is_refused(tmp_path, undisturbed, capsys):
    """While one process works, another on its folder gets exit code 2 and one line; so does a dry run. Then not."""
    out = tmp_path / "out"
    first = Command(tmp_path, *run_command(out))
    wait_for(lambda: (out / "manifest.json").exists())
    os.kill(first.process.pid, signal.SIGSTOP)
    try:
        for more in ((), ("--dry-run",), ("--force",)):
            assert command_line([*map(str, run_command(out, *more))]) == 2
            errors = capsys.readouterr().err
            assert errors.startswith(f"{out}: is in use by another pdediff process (pid {first.process.pid} on ")
            assert errors.count("\n") == 1
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    assert first.end() == (0, "")
    assert_same_posterior(out, undisturbed)


@pytest.mark.parametrize(("size", "name"), [(1_000, "manifest.json"), (5_000, "samples/batch-000000.safetensors"),
                                            (20_000, "posterior.nc")])  # fmt: skip
def test_a_full_disk(tmp_path, undisturbed, size, name):
    """Whatever file does not fit: exit code 1, one line that names it, no half a file. With room, the run goes on."""
    out = tmp_path / "out"
    code, errors = Command(tmp_path, *run_command(out), prepare=(partial(limit_files, size),)).end()
    assert (code, errors) == (1, f"pdediff: {out / name}: File too large\n")
    assert not (out / name).exists()
    more = (forbid_drawing,) if name == "posterior.nc" else ()  # every sample was kept
    assert Command(tmp_path, *run_command(out), prepare=more).end() == (0, "")
    assert_same_posterior(out, undisturbed)


def test_a_disk_that_is_full_for_the_figures(tmp_path, undisturbed):
    """The posterior and the samples stay; the next start draws figures only."""
    out = tmp_path / "out"
    code, errors = Command(tmp_path, *run_command(out), prepare=(refuse_pictures,)).end()
    assert (code, errors) == (1, f"pdediff: {out / 'figures/fields.png'}: No space left on device\n")
    assert load(out / "posterior.nc").n == 6
    assert Command(tmp_path, *run_command(out), prepare=(forbid_drawing,)).end() == (0, "")
    assert_same_posterior(out, undisturbed)


def test_a_place_that_cannot_be_written(tmp_path):
    """Below a regular file: exit code 1, one line that names the folder."""
    (tmp_path / "file").touch()
    code, errors = Command(tmp_path, *run_command(tmp_path / "file/out")).end()
    assert (code, errors) == (1, f"pdediff: {tmp_path / 'file/out'}: Not a directory\n")


@pytest.fixture
def simple(monkeypatch):
    monkeypatch.setitem(ACCURACY, "fast", Annealing(levels=4))
    monkeypatch.setattr(figures, "figures", lambda posterior: iter([("fields", Figure())]))


def stopped_after(count, folder, sets=SMALL):
    """A run of the small case that was asked to stop after `count` batches."""
    with pytest.raises(Interrupted, match="goes on from there"):
        run(load_case(CSV, sets), folder, stop=lambda: len(batches(folder)) >= count)
    assert len(batches(folder)) == count


@pytest.mark.parametrize("lost", ["report.html", "figures"])
def test_a_report_or_figures_that_were_deleted(tmp_path, simple, monkeypatch, lost):
    """They are made again, byte for byte, from the posterior; no sample is drawn and no other file is touched."""
    case = load_case(CSV, SMALL)
    run(case, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = (tmp_path / "posterior.nc").stat().st_mtime_ns
    shutil.rmtree(tmp_path / lost) if lost == "figures" else (tmp_path / lost).unlink()
    monkeypatch.setattr(sample, "_draw_batch", None)
    run(case, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert (tmp_path / "posterior.nc").stat().st_mtime_ns == kept


def test_damaged_and_foreign_batches_are_drawn_anew(tmp_path, simple):
    """One file cut short, one empty, one of another case: the result is bit for bit that without the accident."""
    run(load_case(CSV, SMALL), tmp_path / "expected")
    out = tmp_path / "out"
    stopped_after(3, tmp_path / "other", (*SMALL, "sampling.seed=9"))
    stopped_after(3, out)
    first, second, third = batches(out)
    first.write_bytes(first.read_bytes()[:-100])
    second.write_bytes(b"")
    shutil.copy(batches(tmp_path / "other")[2], third)
    run(load_case(CSV, SMALL), out)
    assert_same_posterior(out, tmp_path / "expected")


def test_going_on_with_another_batch_size(tmp_path, simple):
    """The batch is not part of the case: samples that were kept stay, others agree to the inner solves' accuracy."""
    run(load_case(CSV, SMALL), tmp_path / "expected")
    stopped_after(1, tmp_path / "out")
    kept = load_file(batches(tmp_path / "out")[0])
    u = run(load_case(CSV, (*SMALL, "sampling.batch=3")), tmp_path / "out").posterior.fields["u"]
    expected = load(tmp_path / "expected/posterior.nc").fields["u"]
    assert kept["index"].tolist() == [0, 1]
    assert np.array_equal(u[:2], expected[:2])
    assert np.abs(u - expected).max() < 1e-3 * np.abs(expected).max()


def test_a_wrong_input_leaves_no_folder(tmp_path):
    """Found while the problem is built, after the folder was locked: no lock, no folder, no parent of it."""
    sets = (*SMALL, "prior.variogram.range=1e5")
    code, errors = Command(tmp_path, *run_command(tmp_path / "runs/new", sets=sets)).end()
    assert code == 2
    assert "too long for a domain" in errors
    assert names(tmp_path) == ["stderr.txt"]


def test_repeat_survives(tmp_path):
    """Interrupted, then killed, a repetition ends with the averages of an undisturbed one; its folder is its own."""
    sets = [word for change in (*SMALL, "sampling.samples=4") for word in ("--set", change)]

    def repeat(out):
        return Command(tmp_path, "repeat", CSV, "--problems", "2", "--out", out, *sets, "--json")

    expected, out = tmp_path / "expected", tmp_path / "out"
    assert repeat(expected).end() == (0, "")
    command = repeat(out)
    wait_for(lambda: batches(out / "problem-1"))
    os.kill(command.process.pid, signal.SIGINT)
    assert command.end()[0] == 130
    command = repeat(out)
    wait_for(lambda: (out / "problem-2/manifest.json").exists())
    command.kill()
    assert repeat(out).end() == (0, "")
    one, two = (json.loads((folder / "metrics.json").read_text()) for folder in (expected, out))
    for summary in (one, two):
        del summary["mean"]["cost"]
    assert one == two
    for problem in ("problem-1", "problem-2"):
        assert_same_posterior(out / problem, expected / problem)
    assert names(out) == names(expected) == ["metrics.json", "problem-1", "problem-2"]
    assert Command(tmp_path, "repeat", CSV, "--out", out / "problem-1", *sets).end()[0] == 2
    with locked(out):
        assert "is in use" in repeat(out).end()[1]


def test_training_survives(tmp_path):
    """Killed at one rename or another, refused while another trains: the weights are those of an undisturbed one."""
    (tmp_path / "tiny.yaml").write_text(RECIPE)

    def train(out, *prepare):
        return Command(tmp_path, "train", tmp_path / "tiny.yaml", "--out", out, "--quiet", prepare=prepare)

    expected, out = tmp_path / "expected", tmp_path / "out"
    assert train(expected).end() == (0, "")
    for number in (2, 3, 5):
        assert train(out, partial(kill_at_rename, number)).end()[0] == -signal.SIGKILL
    with locked(out / "tiny-checkpoint"):
        code, errors = train(out).end()
        assert code == 2
        assert "tiny-checkpoint: is in use by another pdediff process" in errors
    assert train(out).end() == (0, "")
    assert (out / "tiny.safetensors").read_bytes() == (expected / "tiny.safetensors").read_bytes()
    logs = [(folder / "tiny-checkpoint/loss.csv").read_text() for folder in (out, expected)]
    assert logs[0] == logs[1]
    assert names(out / "tiny-checkpoint") == ["loss.csv", "state-6.safetensors", "state.json"]


@needs_proc
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_kills_of_the_flagship(tmp_path):
    """The sparse case, fast, 8 samples in batches of 2, with all figures, killed at ten random moments: bit for bit."""
    sets = ("guidance.accuracy=fast", "sampling.samples=8", "sampling.batch=2")

    def start(out):
        arguments = ["run", CASES / "darcy-sparse.yaml", "--quiet", "--out", out]
        return Command(tmp_path, *arguments, *[w for s in sets for w in ("--set", s)], simple=False)

    expected, out = tmp_path / "expected", tmp_path / "out"
    command = start(expected)
    command.process.join()
    assert command.end() == (0, "")
    kill_at_random(lambda: start(out), out, expected, kills=10, seed=1)
