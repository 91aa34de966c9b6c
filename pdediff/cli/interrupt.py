"""Ctrl-C: what is in work is finished and saved; the second time, it stops at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

STDERR = 2


@contextmanager
def interruptible(what: str) -> Iterator[Callable[[], bool]]:
    """Give `stop()`, which is true once SIGINT has come; the next SIGINT raises KeyboardInterrupt.

    Engines ask `stop()` where they can go on later, and then raise Interrupted. `what` they finish before that, such as
    "the samples in work", is part of the line that tells the user to be patient.
    """
    asked = False

    def on_signal(*_: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with suppress(
            OSError
        ):  # not print: the signal may have come in the middle of one, which cannot be entered twice
            os.write(STDERR, f"interrupted: finishing {what}; press Ctrl-C again to stop at once\n".encode())

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
