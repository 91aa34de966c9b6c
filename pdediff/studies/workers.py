"""The same work on many tasks, in this process or in several.

Workers are fresh interpreters (spawn), so that nothing of this process is shared by accident. Ctrl-C is a matter
between the user and this process: workers do not see it. A worker ends with this process, however that ends, so that
nobody writes a file after the lock on it is gone.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_work: Callable[[Any], Any]  # of a worker


def spread(
    make: Callable[[], Callable[[Task], Result]],
    tasks: Sequence[Task],
    processes: int,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
    """Results of `make()(task)` as they come, in any order.

    Parameters
    ----------
    make : makes what does the work, once in each process; picklable.
    tasks : what to do; picklable, as are the results.
    processes : how many; 1 is this one.
    stop : asked before a task is begun; when it says yes, those in work are finished, and that is all.

    Raises
    ------
    OSError : a worker was killed, as by a system out of memory. Besides, whatever the work raises.
    """
    left = deque(tasks)
    processes = min(processes, len(tasks))
    if processes <= 1:
        work = make()
        while left and not stop():
            yield work(left.popleft())
        return
    with _pool(processes, make) as pool:
        pending: set[Future[Result]] = set()
        while True:
            while left and len(pending) < processes and not stop():
                with _shielded():
                    pending.add(pool.submit(_run, left.popleft()))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


@contextmanager
def _pool(processes: int, make: Callable[[], Callable[[Task], Result]]) -> Iterator[ProcessPoolExecutor]:
    """Workers, which an error leaves no time to finish what they do."""
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start, (make,))
    try:
        yield pool
        pool.shutdown()
    except BaseException as error:
        for child in multiprocessing.active_children():
            if child not in others:
                child.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise OSError("a worker process was killed, perhaps for want of memory; try fewer --processes") from None
        raise


@contextmanager
def _shielded() -> Iterator[None]:
    """Hold SIGINT back. A worker started meanwhile never gets it: it inherits the mask."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(make: Callable[[], Callable[[Any], Any]]) -> None:
    """Prepare a worker."""
    global _work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = make()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _run(task: Any) -> Any:
    return _work(task)
