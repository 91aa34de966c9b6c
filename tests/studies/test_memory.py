"""Peak memory is that of the work that is measured, or not given."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pdediff.studies.memory import PeakMemory

MB = 2**20


def use(megabytes: int) -> None:
    np.ones(megabytes * MB // 8)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the count can be started anew on Linux only")
def test_earlier_work_does_not_count() -> None:
    """After 200 MB have been used and given back, work on 20 MB needs at least 100 MB less than the work before."""
    large = PeakMemory()
    use(200)
    before = large.megabytes()
    small = PeakMemory()
    use(20)
    now = small.megabytes()
    assert before is not None
    assert now is not None
    assert before >= 200
    assert now < before - 100


@pytest.mark.skipif(sys.platform == "win32", reason="no count on Windows")
def test_where_the_count_cannot_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that needs more than all before it has a peak; work that needs less has none, and not somebody else's."""

    def refuse(*_: object) -> None:
        raise PermissionError

    use(200)
    monkeypatch.setattr(Path, "write_text", refuse)
    memory = PeakMemory()
    use(20)
    assert memory.megabytes() is None
    kept = np.ones(250 * MB // 8)
    peak = memory.megabytes()
    assert peak is not None
    assert peak > kept.nbytes / MB
