"""Threads of the fused engine: tasks that hold no interpreter lock, and each thread's work space."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ntklens.kernels.allocation import aligned
from ntklens.progress import Progress

Task = tuple[int, Callable[[], None]]
"""A number of pairs, and the function that computes them."""

_SILENT = Progress()

_of_thread = threading.local()
"""What belongs to one thread: its work spaces, and of a call how many threads it may start, and these threads."""
_lock = threading.Lock()
_torch_threads: list[int] = []
"""Torch's number of threads before each call that is under way."""


def work_space(name: str, n: int, dtype: Any) -> NDArray[Any]:
    """Return an array of this thread's own, which its next task uses again; its contents are arbitrary."""
    spaces: dict[tuple[str, Any], NDArray[Any]] = _of_thread.__dict__.setdefault("spaces", {})
    key = (name, np.dtype(dtype))
    if key not in spaces or len(spaces[key]) < n:
        spaces[key] = aligned(n, dtype)
    return spaces[key][:n]


@contextmanager
def own_threads() -> Iterator[None]:
    """Give `in_threads` as many threads as torch has, and torch's own operations one.

    OpenMP's threads wait for one another by spinning, so two processes side by side would spend their time on that.
    Torch's number belongs to the whole process: of overlapping calls, each restores what the first has found, even while
    others are at work, whose threads keep their one. Within such a call of the same thread there is nothing left to do.
    """
    if hasattr(_of_thread, "pool"):
        yield
        return
    with _lock:
        before = _torch_threads[-1] if _torch_threads else torch.get_num_threads()
        _torch_threads.append(before)
    try:
        torch.set_num_threads(1)
        # A new thread has no number of its own until it asks or is told: its first product would start OpenMP's threads.
        with ThreadPoolExecutor(before, initializer=partial(torch.set_num_threads, 1)) as pool:
            _of_thread.count, _of_thread.pool = before, pool
            yield
    finally:
        _of_thread.__dict__.pop("pool", None)
        _of_thread.__dict__.pop("count", None)
        torch.set_num_threads(before)
        with _lock:
            _torch_threads.pop()


def threads() -> int:
    """Return how many threads `in_threads` starts."""
    count: int = getattr(_of_thread, "count", 1)
    return count


def in_threads(tasks: Sequence[Task], progress: Progress = _SILENT) -> None:
    """Run the tasks in threads, reporting the share of pairs that are done."""
    total = sum(size for size, _ in tasks)
    done = 0
    grad_enabled = torch.is_grad_enabled()

    def perform(work: Callable[[], None]) -> None:
        with torch.set_grad_enabled(grad_enabled):  # torch starts every thread with gradients on
            work()

    if threads() == 1:
        for size, work in tasks:
            work()
            done += size
            progress(done / total)
        return
    futures: list[Future[None]] = []
    try:
        futures.extend(_of_thread.pool.submit(perform, work) for _, work in tasks)
        for (size, _), future in zip(tasks, futures, strict=True):
            future.result()
            done += size
            progress(done / total)
    except BaseException:
        # An interrupt waits for the tasks that are under way, not for those that are queued.
        for future in futures:
            future.cancel()
        wait(futures)
        raise
