"""Generating data sets: the same bytes whatever the chunks, the processes, and the moments at which it is killed."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pdediff.cases.generation import load_recipe
from pdediff.cli import main
from pdediff.datasets.coefficients import prolong, restrict
from pdediff.datasets.published import PublishedDarcy
from pdediff.datasets.store import Store, parts_folder
from pdediff.posterior.files import locked
from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.errors import ConvergenceError, InputError, Interrupted
from pdediff.solvers.grid import Grid
from pdediff.studies import field_sampler
from pdediff.studies.field_sampler import FieldSampler
from pdediff.studies.generate import generate

SMALL = ("grid.shape=[12, 12]", "samples=11", "chunk=3")


def _recipe(name="two-phase-64", *overrides):
    return load_recipe(name, (*SMALL, *overrides))[1]


def _digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The small two-phase store, made in one go in this process."""
    path = tmp_path_factory.mktemp("undisturbed") / "fields.h5"
    generate(_recipe(), path)
    return path


def test_a_store_says_what_it_holds(undisturbed):
    """Law, seed, equation, recipe and versions; only the store is left, and a finished one is not touched again."""
    assert _files(undisturbed.parent) == ["fields.h5"]
    with Store(undisturbed) as store:
        assert len(store) == 11
        assert store.grid == Grid((12, 12))
        assert json.loads(store.attributes["law"]) == {
            "law": "two-phase", "alpha": 2.0, "tau": 3.0, "low": 3.0, "high": 12.0, "units": "",
        }  # fmt: skip
        assert store.attributes["seed"] == 1
        assert store.attributes["equation"] == "-div(a grad u) = f"
        assert json.loads(store.attributes["recipe"]) == _recipe().resolved()
        assert set(json.loads(store.attributes["versions"])) == {"pdediff", "numpy", "scipy", "torch", "h5py"}
    before = undisturbed.stat().st_mtime_ns
    generate(_recipe(), undisturbed)
    assert undisturbed.stat().st_mtime_ns == before


def test_five_lines_of_h5py_read_it(undisturbed):
    """As the documents say: fields (sample, y, x) and what the file says of itself."""
    with h5py.File(undisturbed) as file:
        a, u = file["a"][:10], file["u"][:10]
        law = json.loads(file.attrs["law"])
        x, y = file["x"][...], file["y"][...]
    assert a.shape == u.shape == (10, 12, 12)
    assert set(np.unique(a)) == {law["low"], law["high"]}
    assert len(x) == len(y) == 12


def test_fields_are_those_of_their_law_and_solver(tmp_path):
    """u is the solver's, of the stored a: finite volumes, refined ones averaged, and the published operator. Sample i
    of a longer store with another chunk is the same."""
    generate(_recipe("log-normal-64", "precision=float64"), tmp_path / "l.h5")
    with Store(tmp_path / "l.h5") as store:
        a, u, mu = (torch.from_numpy(store[name][...]) for name in ("a", "u", "mu"))
        assert store.units == {"a": "m²/d", "u": "m", "mu": ""}
        grid = store.grid
    torch.testing.assert_close(a, torch.exp(3.4 + mu), rtol=1e-12, atol=0)
    darcy = Darcy(grid.refine(2), Boundary(Value(1.0), Value(0.0), Flux(0.0), Flux(0.0)))
    torch.testing.assert_close(u, restrict(darcy.solve(prolong(a, 2)), 2), rtol=0, atol=1e-9)

    generate(_recipe("two-phase-published", "precision=float64"), tmp_path / "p.h5")
    with Store(tmp_path / "p.h5") as store:
        a, u = (torch.from_numpy(store[name][...]) for name in ("a", "u"))
    torch.testing.assert_close(u, PublishedDarcy((12, 12)).solve(a), rtol=0, atol=1e-13)
    longer = FieldSampler(_recipe("two-phase-published", "samples=400", "chunk=50"))
    assert torch.equal(longer.draw(7)["u"], u[7])


def test_another_seed_and_other_samples_differ():
    """No two samples of a store, and no two stores of other seeds, share a field."""
    draws = [FieldSampler(_recipe("log-normal-64", f"seed={seed}")) for seed in (1, 2)]
    fields = torch.stack([sampler.draw(i)["a"] for sampler in draws for i in range(4)])
    assert len(fields.flatten(1).unique(dim=0)) == 8


@pytest.mark.parametrize("overrides", [("chunk=1",), ("chunk=4",), ("chunk=100",)])
def test_the_chunk_changes_nothing(undisturbed, tmp_path, overrides):
    """The same file, byte for byte."""
    generate(_recipe("two-phase-64", *overrides), tmp_path / "fields.h5")
    assert _digest(tmp_path / "fields.h5") == _digest(undisturbed)


def test_the_number_of_processes_changes_nothing(undisturbed, tmp_path):
    """Two workers make the same file, byte for byte, and the progress ends at its total."""
    seen = []
    generate(_recipe(), tmp_path / "fields.h5", 2, lambda done, total, what: seen.append((done, total)))
    assert _digest(tmp_path / "fields.h5") == _digest(undisturbed)
    assert seen == [(0, 11), *((k, 11) for k, _ in seen[1:-1]), (11, 11)]


@pytest.mark.parametrize("chunk", [3, 4])
def test_stopping_keeps_the_chunks_and_the_rest_follows(undisturbed, tmp_path, chunk):
    """After a stop two chunks are there, and a later start, with chunks of another size too, draws the rest only."""
    path, seen = tmp_path / "fields.h5", []
    with pytest.raises(Interrupted, match="after 6 of 11 samples; the same command goes on"):
        generate(_recipe(), path, 1, lambda done, total, what: seen.append(done), lambda: seen[-1] == 6)
    assert not path.exists()
    assert _files(parts_folder(path)) == ["recipe.json", "samples-00000000.h5", "samples-00000003.h5"]
    with pytest.raises(InputError, match="only parts of it: generate it again to finish it"):
        Store(path)
    seen.clear()
    generate(_recipe("two-phase-64", f"chunk={chunk}"), path, 1, lambda done, total, what: seen.append(done))
    assert seen[0] == 6
    assert _digest(path) == _digest(undisturbed)
    assert _files(tmp_path) == ["fields.h5"]


def test_a_damaged_part_is_drawn_anew(undisturbed, tmp_path):
    """A part that is cut short, as after a power failure, does not count."""
    path, seen = tmp_path / "fields.h5", []
    with pytest.raises(Interrupted):
        generate(_recipe(), path, 1, lambda done, total, what: seen.append(done), lambda: seen[-1] == 6)
    part = parts_folder(path) / "samples-00000003.h5"
    part.write_bytes(part.read_bytes()[:1000])
    generate(_recipe(), path)
    assert _digest(path) == _digest(undisturbed)


def test_another_recipe_is_refused_with_the_difference(undisturbed, tmp_path, capsys):
    """For a finished store and for one in the making: exit code 2, one line, nothing touched."""
    before = _digest(undisturbed)
    sets = [word for change in (*SMALL, "coefficient.tau=4") for word in ("--set", change)]
    assert main(["generate", "two-phase-64", "--out", str(undisturbed), *sets]) == 2
    error = capsys.readouterr().err
    assert "holds another data set (coefficient.tau: 3.0 -> 4.0)" in error
    assert error.count("\n") == 1
    assert _digest(undisturbed) == before
    path, seen = tmp_path / "fields.h5", []
    with pytest.raises(Interrupted):
        generate(_recipe(), path, 1, lambda done, total, what: seen.append(done), lambda: seen[-1] == 3)
    files = _files(tmp_path)
    with pytest.raises(InputError, match=r"parts of another data set \(seed: 1 -> 5\)"):
        generate(_recipe("two-phase-64", "seed=5"), path)
    assert _files(tmp_path) == files


def test_other_versions_do_not_continue_a_store(tmp_path):
    """Samples of two versions of a library are not mixed; the message says which one has changed."""
    path, seen = tmp_path / "fields.h5", []
    with pytest.raises(Interrupted):
        generate(_recipe(), path, 1, lambda done, total, what: seen.append(done), lambda: seen[-1] == 3)
    claim = parts_folder(path) / "recipe.json"
    content = json.loads(claim.read_text())
    content["versions"]["torch"] = "1.0"
    claim.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r'versions.torch: "1.0" ->'):
        generate(_recipe(), path)


@pytest.mark.parametrize("content", [b"thesis", b""])
def test_a_file_that_is_no_store_is_left_alone(tmp_path, content):
    """Exit code 2 and the file as it was."""
    (tmp_path / "fields.h5").write_bytes(content)
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        generate(_recipe(), tmp_path / "fields.h5")
    assert (tmp_path / "fields.h5").read_bytes() == content
    assert _files(tmp_path) == ["fields.h5"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks")
def test_a_second_process_is_refused(tmp_path, capsys):
    """While one process has the folder of parts, another one gets exit code 2."""
    path = tmp_path / "fields.h5"
    sets = [word for change in SMALL for word in ("--set", change)]
    with locked(parts_folder(path)):
        assert main(["generate", "two-phase-64", "--out", str(path), *sets, "--quiet"]) == 2
    assert "is in use by another pdediff process" in capsys.readouterr().err
    assert not path.exists()


def test_dry_run_and_errors_found_early_write_nothing(tmp_path, capsys, monkeypatch):
    """`--dry-run` says what would be made; a variogram that no torus holds is exit code 2. Neither leaves a file."""

    def refuse(variogram, grid):
        raise InputError("too long for a domain")

    monkeypatch.setattr(field_sampler, "embed", refuse)
    out = ["--out", str(tmp_path / "data" / "fields.h5")]
    assert main(["generate", "log-normal-64", *out, "--dry-run"]) == 0
    assert "would generate log-normal-64: 1000 samples of a, u, mu on 64 × 64 cells" in capsys.readouterr().out
    assert main(["generate", "log-normal-64", *out]) == 2
    assert "too long for a domain" in capsys.readouterr().err.splitlines()[-1]
    assert _files(tmp_path) == []


def test_a_sample_that_cannot_be_solved_is_named(monkeypatch):
    """Whatever the solver says of the coefficient, the message begins with the sample; it is no fault of the recipe."""
    sampler = FieldSampler(_recipe())

    def refuse(a):
        raise InputError("coefficient must be positive")

    monkeypatch.setattr(sampler, "_solve", refuse)
    with pytest.raises(ConvergenceError, match="sample 4: coefficient must be positive"):
        sampler.draw(4)


# A run that is killed at its n-th step on the disk: opening, creating, writing, renaming, removing, locking.
KILLER = """
import os, signal, sys, traceback
from pathlib import Path
import torch
torch.set_num_threads(1)
from pdediff.cases.generation import load_recipe
from pdediff.datasets import store
from pdediff.studies.generate import generate
STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "fcntl.flock")
recipe = load_recipe("two-phase-64", {overrides!r})[1]
def attempt(path, last):
    left = [last]
    def step(event="write", arguments=()):
        if event in STEPS or event == "write":
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    write = store._Disk.write
    store._Disk.write = lambda self, data: (step(), write(self, data[: len(data) // 2]), step(), self.seek(
        -(len(data) // 2), 1), write(self, data))[-1]  # killed between the halves of what is written, too
    sys.addaudithook(step)
    generate(recipe, path)
def fork(path, last):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            attempt(path, last)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
folder, expected, kills = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), 0
for last in range(1, 10**6, {stride}):
    path = folder / f"{{last}}" / "fields.h5"
    code = fork(path, last)
    if code != -signal.SIGKILL:
        break
    kills += 1
    if path.exists() and path.read_bytes() != expected:
        sys.exit(f"a wrong file was left by a kill at step {{last}}")
    if fork(path, 10**9) or path.read_bytes() != expected or len(list(path.parent.iterdir())) > 1:
        sys.exit(f"not resumed after a kill at step {{last}}: {{list(path.parent.rglob('*'))}}")
sys.exit(code) if code else print(kills)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_step_it_resumes_to_the_same_bytes(tmp_path, stride):
    """SIGKILL at the first, second, … step on the disk, between the halves of a write too: the file is either not there
    or right, and the next start completes it, byte for byte, and leaves nothing besides."""
    overrides = ("grid.shape=[4, 4]", "samples=5", "chunk=2", "fields=[mu]")
    generate(load_recipe("two-phase-64", overrides)[1], tmp_path / "expected.h5")
    script = KILLER.format(overrides=overrides, stride=stride)
    arguments = [sys.executable, "-c", script, tmp_path / "runs", tmp_path / "expected.h5"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100 / stride


def _start(path, processes=2):
    sets = [word for change in (*SMALL, "samples=100", "chunk=1") for word in ("--set", change)]
    command = ["generate", "two-phase-64", "--out", str(path), "--processes", str(processes), *sets]
    return subprocess.Popen(
        [sys.executable, "-m", "pdediff", *command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _wait_for_parts(process, path, count):
    while process.poll() is None and len(list(parts_folder(path).glob("samples-*.h5"))) < count:
        time.sleep(0.005)


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    """The bytes of a store of a hundred samples."""
    path = tmp_path_factory.mktemp("hundred") / "fields.h5"
    generate(_recipe("two-phase-64", "samples=100"), path)
    return _digest(path)


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_the_command_survives_kills(tmp_path, hundred, kills):
    """`pdediff generate --processes 2`, killed (SIGKILL) whenever one to three more chunks are there, ends with the
    bytes of an undisturbed run; the lock and the workers go with the process that is killed."""
    path = tmp_path / "fields.h5"
    rng = np.random.default_rng(5)
    for _ in range(kills):
        process = _start(path)
        there = len(list(parts_folder(path).glob("samples-*.h5")))
        _wait_for_parts(process, path, there + int(rng.integers(1, 4)))
        time.sleep(0.01 * float(rng.random()))
        process.kill()
        process.communicate()
        assert not path.exists()
        assert parts_folder(path).exists()
    generate(_recipe("two-phase-64", "samples=100"), path)
    assert _digest(path) == hundred
    assert _files(tmp_path) == ["fields.h5"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_interrupted_it_finishes_its_chunks_and_says_how_to_go_on(tmp_path, hundred):
    """SIGINT: exit code 130, no traceback, whole chunks only; the rest follows to the same bytes."""
    path = tmp_path / "fields.h5"
    process = _start(path, processes=1)
    _wait_for_parts(process, path, 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "the same command goes on from there" in err.splitlines()[-1]
    assert "Traceback" not in err
    files = _files(parts_folder(path))
    assert files[0] == "recipe.json"
    assert all(name.startswith("samples-") and name.endswith(".h5") for name in files[1:])
    generate(_recipe("two-phase-64", "samples=100"), path)
    assert _digest(path) == hundred
