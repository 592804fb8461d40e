"""Threads of the fused engine: tasks that hold no interpreter lock, and each thread's work space."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ntklens.progress import Progress

Task = tuple[int, Callable[[], None]]
"""A number of pairs, and the function that computes them."""

_SILENT = Progress()

_of_thread = threading.local()
"""What belongs to one thread: its work spaces, and how many threads its call may start."""
_lock = threading.Lock()
_torch_threads: list[int] = []
"""Torch's number of threads before each call that is under way."""


def aligned(n: int, dtype: Any) -> NDArray[Any]:
    """Return an array that starts on a cache line, as vectors of 64 bytes need."""
    item = np.dtype(dtype).itemsize
    raw: NDArray[Any] = np.empty(n + 64 // item, dtype)
    skip = (-raw.ctypes.data % 64) // item
    return raw[skip : skip + n]


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
    Torch's number belongs to the whole process: of overlapping calls, each restores what the first has found. Within such
    a call of the same thread there is nothing left to do.
    """
    if hasattr(_of_thread, "count"):
        yield
        return
    with _lock:
        before = _torch_threads[-1] if _torch_threads else torch.get_num_threads()
        _torch_threads.append(before)
    _of_thread.count = before
    torch.set_num_threads(1)  # new threads take this number over
    try:
        yield
    finally:
        torch.set_num_threads(before)
        del _of_thread.count
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

    def perform(task: Task) -> None:
        with torch.set_grad_enabled(grad_enabled):  # torch starts every thread with gradients on
            task[1]()

    with ThreadPoolExecutor(min(threads(), len(tasks)) or 1) as pool:
        results = pool.map(perform, tasks) if threads() > 1 else map(perform, tasks)
        try:
            for (size, _), _result in zip(tasks, results, strict=True):
                done += size
                progress(done / total)
        except BaseException:
            # An interrupt waits for the tasks that are under way, not for those that are queued.
            pool.shutdown(cancel_futures=True)
            raise
