"""Ctrl-C once, and twice."""

import os
import signal

import pytest

from pdediff.cli.interrupt import interruptible


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_once_asks_twice_stops(capfd: pytest.CaptureFixture[str]) -> None:
    """The first sets `stop` and says so in one line; the second raises KeyboardInterrupt; then all is as before."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible("the batch in work") as stop:  # noqa: PT012
        assert not stop()
        press()
        assert stop()
        line = "interrupted: finishing the batch in work; press Ctrl-C again to stop at once\n"
        assert capfd.readouterr().err == line
        press()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_next_work_starts_unasked() -> None:
    """`stop` belongs to its block."""
    with interruptible("one") as stop:
        press()
        assert stop()
    with interruptible("another") as stop:
        assert not stop()
