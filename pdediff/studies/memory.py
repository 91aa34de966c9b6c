"""How much memory a piece of work took."""

import sys
from pathlib import Path


class PeakMemory:
    """Largest resident memory of this process since this object was made.

    Linux can start the count anew. Elsewhere the count is the process's, from its start: it speaks of this work only if
    this work raised it.
    """

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # see proc_pid_clear_refs(5)
            self._earlier = 0.0
        except OSError:
            self._earlier = _peak()

    def megabytes(self) -> float | None:
        """The peak in MB; None where earlier work in this process needed more, and on Windows."""
        peak = _peak()
        return peak if peak > self._earlier else None


def _peak() -> float:
    """Largest resident memory of this process so far, in MB; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
