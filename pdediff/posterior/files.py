"""Files that appear whole or not at all (`solvers.files`), and folders in which one process works at a time.

A folder is taken by locking the file `.lock` in it; the system lets go of the lock when the process ends, however it
ends. So all that a killed process leaves behind are parts of files and a lock file that nobody holds. They count for
nothing, and the next process that takes the folder clears them away.
"""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pdediff.solvers.errors import InputError
from pdediff.solvers.files import PARTS, about, replacing, write_json

__all__ = ["LOCK", "PARTS", "check_free", "clear_parts", "is_left_behind", "locked", "replacing", "write_json"]

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes of pdediff out of `folder` while the block runs.

    The folder is made if need be, and parts that a killed process left in it are removed. Afterwards nothing of the
    lock is left, nor any folder that was made here and is empty.

    Raises InputError when another process has the folder, and OSError when it cannot be made or written. On Windows,
    and on file systems without locks, nobody is kept out.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            clear_parts(folder)
            yield
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()


def check_free(folder: Path) -> None:
    """Raise InputError when another process has `folder`. Nothing is written; what a killed process left stays."""
    if sys.platform == "win32":
        return
    try:
        file = (folder / LOCK).open("rb")
    except OSError:  # there is none, or it is for other eyes: whoever wants the folder will find out
        return
    with file:  # closing it lets go of the lock
        _flock(file, folder, shared=True)


def clear_parts(folder: Path) -> None:
    """Remove the parts of files that killed processes left in `folder`, which the caller has locked."""
    for part in folder.glob(PARTS):
        part.unlink(missing_ok=True)


def is_left_behind(path: Path) -> bool:
    """Whether a file is a lock or a part, and so nothing that anybody keeps."""
    return path.name == LOCK or path.match(PARTS)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    path = folder / LOCK
    while True:
        with path.open("ab+", buffering=0) as file:
            _flock(file, folder, shared=False)
            if not _is_at(file, path):
                continue  # its holder removed it after we had opened it: it locks nothing any more
            try:
                try:
                    file.truncate(0)
                    file.write(f"pid {os.getpid()} on {platform.node()}".encode())
                except OSError as error:
                    raise about(path, error) from error
                yield
            finally:
                with suppress(OSError):
                    path.unlink()  # only ever by its holder: whoever locks the file at this path is alone
            return


def _flock(file: BinaryIO, folder: Path, shared: bool) -> None:
    """Lock an open file, alone or with others who only look; or raise InputError that names its holder."""
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read(200).decode(errors="replace").strip()
        who = f" ({holder})" if holder else ""
        raise InputError(
            f"{folder}: is in use by another pdediff process{who}; wait for it, or choose another --out"
        ) from None
    except OSError:  # a file system without locks, as on some clusters
        pass


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
