"""A matrix on a cluster of real processes: the same as a dense one, also when they are killed."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch

from ntklens.errors import InputError, NumericalFailure
from ntklens.linalg import Factorisation
from ntklens.linalg.tiles import Layout
from ntklens.linalg.tiles.cluster import ClusterHome
from ntklens.linalg.tiles.cluster.tasks import add
from tile_entries import LAYOUT, Gaussian, targets

distributed = pytest.importorskip("distributed")
N = LAYOUT.n


@pytest.fixture(scope="module")
def home():
    with ClusterHome(workers=2) as cluster:
        yield cluster


def workers_of(home: ClusterHome) -> list[int]:
    return list(home.connect().run(os.getpid).values())


@pytest.mark.parametrize("side", [32, 203])
def test_products_are_those_of_the_dense_matrix(home, side):
    matrix = home.matrix(Layout(N, side), Gaussian(N), "a")
    y = targets(N, 3)
    torch.testing.assert_close(matrix.multiply(y), Gaussian(N).dense() @ y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_solutions_are_those_of_the_dense_matrix(home, rho):
    y, dense = targets(N, 3), Gaussian(N).dense()
    found = home.matrix(Layout(N, 64), Gaussian(N), "a").solve(rho, y)
    torch.testing.assert_close(found.coefficients, Factorisation(dense).solve(rho, y), rtol=1e-9, atol=1e-9)
    assert found.residual <= 1e-12


def test_the_whole_matrix_and_a_second_ridge(home):
    """The second solution takes over the preconditioner of the first."""
    matrix, y = home.matrix(LAYOUT, Gaussian(N), "a"), targets(N)
    assert torch.equal(matrix.dense(), Gaussian(N).dense())
    for rho in (1.0, 0.1):
        expected = Factorisation(Gaussian(N).dense()).solve(rho, y)
        torch.testing.assert_close(matrix.solve(rho, y).coefficients, expected, rtol=1e-9, atol=1e-9)
    matrix.release()
    assert torch.equal(matrix.dense(), Gaussian(N).dense())


def test_leading_eigenpairs_are_those_of_the_dense_matrix(home):
    found = home.matrix(LAYOUT, Gaussian(N), "a").leading(6)
    exact = Factorisation(Gaussian(N).dense()).spectrum
    torch.testing.assert_close(found.eigenvalues, exact.eigenvalues[:6], rtol=1e-10, atol=0)


def test_progress_and_the_number_of_workers(home):
    shares, y = [], targets(N)
    matrix = home.matrix(LAYOUT, Gaussian(N), "a")
    matrix.write(shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    with ClusterHome(workers=1) as single:
        assert torch.equal(single.matrix(LAYOUT, Gaussian(N), "a").multiply(y), matrix.multiply(y))


def test_an_error_in_the_entries_is_told(home):
    with pytest.raises(NumericalFailure, match="not a finite number"):
        home.matrix(LAYOUT, Gaussian(N, nugget=float("nan")), "a").write()


def test_a_worker_killed_while_writing(home):
    """The other one computes its tiles again."""
    matrix, y = home.matrix(LAYOUT, Gaussian(N, seconds=0.05), "a"), targets(N)
    victims, seen = workers_of(home)[:1], []

    def report(share: float) -> None:
        if not seen:
            seen.append(share)
            os.kill(victims[0], signal.SIGKILL)

    matrix.write(report)
    assert seen[0] < 1
    torch.testing.assert_close(matrix.multiply(y), Gaussian(N).dense() @ y, rtol=1e-12, atol=1e-12)


def test_all_workers_killed_while_solving(home):
    """Nothing is left of the tiles, nor of what computes them."""
    matrix, y = home.matrix(LAYOUT, Gaussian(N), "a"), targets(N)
    matrix.write()
    victims, steps = workers_of(home), []

    def report(share: float) -> None:
        steps.append(share)
        if len(steps) == 5:
            for victim in victims:
                threading.Timer(0.03, os.kill, (victim, signal.SIGKILL)).start()

    found = matrix.solve(0.1, y, report)
    assert len(steps) > 10
    expected = Factorisation(Gaussian(N).dense()).solve(0.1, y)
    torch.testing.assert_close(found.coefficients, expected, rtol=1e-9, atol=1e-9)
    assert set(victims).isdisjoint(workers_of(home))


def test_an_address_leads_to_a_running_cluster(home):
    with ClusterHome(home.connect().scheduler.address) as other:
        y = targets(N)
        torch.testing.assert_close(
            other.matrix(LAYOUT, Gaussian(N), "a").multiply(y), Gaussian(N).dense() @ y, rtol=1e-12, atol=1e-12
        )
    assert workers_of(home)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x"])
def test_a_scheduler_that_cannot_be_reached_is_told(address):
    start = time.monotonic()
    with pytest.raises(InputError, match=r"cannot be reached, or has no workers .* Start dask scheduler"):
        ClusterHome(address, timeout=1.0).connect()
    assert time.monotonic() - start < 30


def test_a_worker_with_another_version_is_refused(home, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "1.0")
    with pytest.raises(InputError, match=r"the worker tcp://.* has torch .*, and this process 1\.0"):
        ClusterHome(home.connect().scheduler.address).connect()


def test_workers_with_too_little_memory_are_told(home):
    with pytest.raises(InputError, match=r"takes 4 TB, and 2 workers can hold .* Start more workers"):
        home.matrix(Layout(1_000_000), Gaussian(3), "a")


def test_an_address_and_a_number_of_workers_are_one_too_many():
    with pytest.raises(InputError, match="an address or a number of workers"):
        ClusterHome("tcp://x:1", workers=2)


def test_groups_are_added_in_their_order():
    first, second = ({0: k * np.ones((2, 1)), k: np.ones((2, 1))} for k in (1, 2))
    total = add([first, second])
    assert sorted(total) == [0, 1, 2]
    assert (total[0] == 3).all()
