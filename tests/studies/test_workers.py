"""Work in several processes: results, errors, and workers that end with what started them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pdediff.studies.workers import spread

# In a fresh interpreter: `spread` starts workers that import the work by name, and these have the parent's main module.
SCRIPT = """
import os, signal, sys, time
from pdediff.studies.workers import spread
def square(x): return x * x
def fail(x): raise ValueError(f"no {x}")
def die(x): os.kill(os.getpid(), signal.SIGKILL)
def sleep(x): print(os.getpid(), flush=True); time.sleep(60)
def make_square(): return square
def make_fail(): return fail
def make_die(): return die
def make_sleep(): return sleep
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in a shell's background inherit that it is ignored
    BODY
"""


def _run(tmp_path, body, **options):
    (tmp_path / "work.py").write_text(SCRIPT.replace("BODY", body.replace("\n", "\n    ")))
    return subprocess.Popen(
        [sys.executable, tmp_path / "work.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def _square():
    return lambda x: x * x


def test_in_this_process():
    """One process does the tasks in order, until it is told to stop."""
    assert list(spread(_square, range(5), 1)) == [0, 1, 4, 9, 16]
    done = []
    for result in spread(_square, range(5), 1, lambda: len(done) == 2):
        done.append(result)
    assert done == [0, 1]
    assert list(spread(_square, [], 3)) == []


def test_in_several_processes(tmp_path):
    """All results arrive, in some order; after a stop nothing new is begun; an error of the work is raised; a killed
    worker is one error and no hang."""
    body = """print(sorted(spread(make_square, range(20), 3)))
done = []
for result in spread(make_square, range(20), 2, lambda: len(done) >= 4): done.append(result)
print(4 <= len(done) <= 6)
for make in (make_fail, make_die):
    try:
        list(spread(make, range(4), 2))
    except (ValueError, OSError) as error:
        print(type(error).__name__, str(error)[:30])"""
    out, err = _run(tmp_path, body).communicate(timeout=120)
    expected = [str([k * k for k in range(20)]), "True"]
    assert out.splitlines()[:2] == expected, err
    assert out.splitlines()[2].startswith("ValueError no ")
    assert out.splitlines()[3] == "OSError a worker process was killed, p"


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, how):
    """Killed, or interrupted at the keyboard (SIGINT to the whole group, which workers do not see): no worker is left,
    busy though they are, and none writes a traceback."""
    parent = _run(tmp_path, "list(spread(make_sleep, range(2), 2))", start_new_session=True)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    if how == signal.SIGINT:
        os.killpg(parent.pid, how)
    else:
        parent.kill()
    _, err = parent.communicate(timeout=60)
    assert err.count("Traceback") == (1 if how == signal.SIGINT else 0), err  # the parent's own KeyboardInterrupt
    deadline = time.monotonic() + 20
    while any(_alive(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a zombie that nobody has waited for is not alive
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return sys.platform != "linux"
