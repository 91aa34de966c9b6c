"""Progress of long work: a bar on a terminal, a line for each tenth elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(title: str, quiet: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """Give `progress(done, total, what)`; writes to standard error, so that output stays clean."""
    if quiet:
        yield lambda done, total, what: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=None)

            def update(done: int, total: int, what: str) -> None:
                bar.update(task, completed=done, total=total, description=f"{title}: {what}")

            yield update
    else:
        yield _Lines(title)


class _Lines:
    """Prints when another tenth is done."""

    def __init__(self, title: str) -> None:
        self.title, self.tenth, self.started = title, -1, time.monotonic()

    def __call__(self, done: int, total: int, what: str) -> None:
        """Report `done` of `total`."""
        tenth = 10 * done // max(1, total)
        if tenth > self.tenth:
            self.tenth = tenth
            elapsed = time.monotonic() - self.started
            print(f"{self.title}: {10 * tenth} % ({what}, {elapsed:.0f} s)", file=sys.stderr, flush=True)
