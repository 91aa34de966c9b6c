"""The command line. `main` is imported in milliseconds; a command imports what it needs when it runs."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``pdediff`` with ``arguments`` (those of the process by default) and return its exit code.

    0: done; 2: the input is wrong, one line on standard error says what and where; 130: interrupted; 1: anything else.
    """
    from pdediff.cli.app import run

    return run(arguments)
