"""Threads of the engine's own, and torch's while they are at work."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
import torch

from ntklens.kernels.allocation import large
from ntklens.kernels.engines.fused.threads import in_threads, own_threads, threads


def openmp_threads() -> set[int]:
    """How many threads torch's products would use in this thread, which torch itself may not know."""
    folder = str(Path(torch.__file__).parent)
    libraries = [each for each in threadpoolctl.threadpool_info() if each["filepath"].startswith(folder)]
    return {each["num_threads"] for each in libraries if each["user_api"] == "openmp"}


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_task_has_one_thread_of_torch():
    """A product is a thread's first operation: it must not start threads of OpenMP beside it."""
    names, counts = set(), []

    def task():
        names.add(threading.current_thread().name)
        counts.append((openmp_threads(), torch.get_num_threads()))

    with own_threads():
        assert threads() == 2
        in_threads([(1, task)] * 6)
    assert counts == [({1}, 1)] * 6
    assert threading.current_thread().name not in names
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("first_ends_first", [True, False])
@pytest.mark.usefixtures("two_threads")
def test_overlapping_calls_leave_torch_its_threads_and_each_other_their_one(first_ends_first):
    entered, leave, counts = threading.Event(), threading.Event(), []

    def long_call():
        with own_threads():
            entered.set()
            leave.wait(30)

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(long_call)
        assert entered.wait(30)
        with own_threads():
            assert threads() == 2
            assert torch.get_num_threads() == 1
            if first_ends_first:
                leave.set()
                result.result()
            # Its threads start now, when torch may have its own again.
            in_threads([(1, lambda: counts.append(openmp_threads()))] * 6)
        leave.set()
        result.result()
    assert counts == [{1}] * 6
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_error_of_a_task_ends_the_others_and_is_raised():
    done = []

    def fail():
        raise ValueError("a task fails")

    with own_threads():
        with pytest.raises(ValueError, match="a task fails"):
            in_threads([(1, fail)] + [(1, lambda: done.append(threading.Event().wait(0.01)))] * 100)
        assert len(done) < 100
        in_threads([(1, lambda: done.append("after it"))])
    assert done[-1] == "after it"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_matrix_has_the_shape_and_the_dtype(dtype):
    matrix = large(3, 5, dtype)
    assert matrix.shape == (3, 5)
    assert matrix.dtype == dtype
    assert matrix.numpy().dtype == np.dtype(str(dtype).removeprefix("torch."))
    assert matrix.data_ptr() % 64 == 0
