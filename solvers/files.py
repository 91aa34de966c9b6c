"""Files that appear whole or not at all: written under a temporary name beside their own, and renamed when complete.

The temporary name is `.NAME.PID.part`. A killed process leaves at most such parts, which count for nothing.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTS = ".*.part"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well and removed when it does not.

    What was written is on the disk before the name is, so that a power cut leaves the old file or the new one. Raises
    OSError with the name `path` when the file cannot be written; an earlier file of that name is then untouched.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.filename is not None and Path(error.filename) != part:
            raise
        raise about(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink()


def write_json(data: Any, path: Path) -> None:
    """Write data as JSON, by rename. NaN is refused: a missing number is null."""
    with replacing(path) as part:
        part.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n")


def about(path: Path, error: OSError) -> OSError:
    """The same error, with the name of the file that the user knows."""
    return OSError(error.errno, error.strerror or " ".join(str(error).split()), str(path))
