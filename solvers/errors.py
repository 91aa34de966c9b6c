"""The errors of pdediff. They live on the lowest floor so that every package may raise them."""


class InputError(ValueError):
    """What the user gave is wrong. The message is one line: what, where, and the nearest valid thing. Exit code 2."""


class ConvergenceError(RuntimeError):
    """An iteration did not reach its tolerance. Nothing is returned in its place."""


class Interrupted(Exception):
    """Work was stopped on request, at a point from which the next start goes on. Exit code 130."""
