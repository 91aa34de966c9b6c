"""Writing files so that they appear whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well and removed when it does not."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(data: Any, path: Path) -> None:
    """Write data as JSON, by rename. NaN is refused: a missing number is null."""
    with replacing(path) as part:
        part.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n")
