"""Files are whole or absent; a folder has one process at a time, and nothing is left of it."""

import errno
import os
import platform
from pathlib import Path

import pytest

from pdediff.posterior import files
from pdediff.posterior.files import LOCK, check_free, is_left_behind, locked, replacing, write_json
from pdediff.solvers.errors import InputError


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Until the block ends the old content stays; then the new one is there, and no temporary file."""
    path = tmp_path / "a.json"
    write_json({"a": 1}, path)
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == '{\n "a": 1\n}\n'
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The error names the file that the user knows; the old content and nothing else is left."""
    path = tmp_path / "a.json"
    path.write_text("old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_json([1], path)
    assert caught.value.filename == str(path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A folder that is not there, and one below a file: OSError with the final name, not the temporary one."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "nowhere/a.json", tmp_path / "file/a.json"):
        with pytest.raises(OSError, match=r"a\.json") as caught:
            write_json([1], path)
        assert caught.value.filename == str(path)


def test_another_files_error_keeps_its_name(tmp_path: Path) -> None:
    """What cannot be read while a file is written is not blamed on the file that is written."""
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "a"):
        (tmp_path / "source").read_text()
    assert caught.value.filename == str(tmp_path / "source")


def test_a_locked_folder_is_refused(tmp_path: Path) -> None:
    """A second taker gets one line that says who has it; afterwards it is free, and the lock file is gone."""
    with locked(tmp_path):
        for take in (lambda: locked(tmp_path).__enter__(), lambda: check_free(tmp_path)):
            with pytest.raises(InputError) as caught:
                take()
            who = f"(pid {os.getpid()} on {platform.node()})"
            assert str(caught.value).startswith(f"{tmp_path}: is in use by another pdediff process {who}; wait for it")
        assert names(tmp_path) == [LOCK]
    assert names(tmp_path) == []
    with locked(tmp_path):
        pass


def test_folders_that_were_made_for_nothing_go(tmp_path: Path) -> None:
    """When the block writes nothing, or fails, no folder stays; a folder that has got a file stays with it."""
    with pytest.raises(InputError, match="wrong"), locked(tmp_path / "runs/new"):
        raise InputError("wrong")
    assert names(tmp_path) == []
    with locked(tmp_path / "runs/new"):
        (tmp_path / "runs/new/a").touch()
    assert names(tmp_path / "runs/new") == ["a"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    """Its lock file holds nobody off; its parts are removed; other files, hidden ones too, are not."""
    for name in (LOCK, ".posterior.nc.77.part", "posterior.nc", ".hidden", "a.part"):
        (tmp_path / name).write_text("pid 77 on elsewhere")
    assert {path.name for path in tmp_path.iterdir() if is_left_behind(path)} == {LOCK, ".posterior.nc.77.part"}
    check_free(tmp_path)
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"pid {os.getpid()} on {platform.node()}"
    assert names(tmp_path) == [".hidden", "a.part", "posterior.nc"]


def test_looking_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock file of a killed process is only read, as in a read-only folder, and free again after a look."""
    lock = tmp_path / LOCK
    lock.write_text("pid 77 on elsewhere")
    before = lock.stat().st_mtime_ns, tmp_path.stat().st_mtime_ns

    def for_reading(path: Path, mode: str = "r", **_: object) -> object:
        assert mode == "rb"
        return open(path, mode)

    monkeypatch.setattr(Path, "open", for_reading)
    check_free(tmp_path)
    monkeypatch.undo()
    assert (lock.stat().st_mtime_ns, tmp_path.stat().st_mtime_ns) == before
    assert lock.read_text() == "pid 77 on elsewhere"
    with lock.open("rb") as file:
        files._flock(file, tmp_path, shared=True)
        check_free(tmp_path)  # two may look at once
    with locked(tmp_path):
        pass


def test_a_lock_on_a_removed_file_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, the earlier holder may have removed the file: then the one at the path is locked."""
    flock, calls = files._flock, []

    def late(file: object, folder: Path, shared: bool) -> None:
        if not calls:
            (folder / LOCK).unlink()
        calls.append(file)
        flock(file, folder, shared)

    monkeypatch.setattr(files, "_flock", late)
    with locked(tmp_path):
        monkeypatch.undo()
        with pytest.raises(InputError, match="in use"):
            check_free(tmp_path)
    assert len(calls) == 2


def test_a_lock_that_cannot_be_made_names_its_file(tmp_path: Path) -> None:
    """Below a regular file no folder can be: OSError that names the place, as on a read-only disk."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught, locked(tmp_path / "file/run"):
        pass
    assert caught.value.filename == str(tmp_path / "file/run")
