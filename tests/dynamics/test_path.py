"""The path of a kernel against the measures of whole sequences."""

import math

import pytest
import torch

from ntklens.dynamics import measures
from ntklens.dynamics.path import KernelPath
from ntklens.dynamics.settling import settling

EPOCHS = [0.0, 1.0, 3.0, 4.0]


def kernels():
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(4, 12, 12, generator=generator, dtype=torch.float64).cumsum(0)
    return factors @ factors.mT


@pytest.fixture
def path():
    path = KernelPath(torch.arange(12) % 3, top_k=4)
    for epoch, kernel in zip(EPOCHS, kernels(), strict=True):
        path.append(epoch, kernel)
    return path


def restricted(kernel, k, top):
    """The part of a kernel in its own top-k eigenspace, or in the rest."""
    eigenvalues, v = torch.linalg.eigh(kernel)
    chosen = slice(12 - k, None) if top else slice(0, 12 - k)
    return v[:, chosen] @ torch.diag(eigenvalues[chosen]) @ v[:, chosen].T


def test_rows_are_the_measures_of_the_sequence(path):
    rows = [path.row(t) for t in range(4)]
    assert [r["epoch"] for r in rows] == EPOCHS
    velocity = measures.velocity(kernels(), EPOCHS)
    assert [r["velocity"] for r in rows] == pytest.approx(velocity, nan_ok=True)
    assert path.velocities() == pytest.approx(velocity, nan_ok=True)
    polar = measures.polar(kernels())
    assert [r["radius"] for r in rows] == pytest.approx(polar.radius)
    assert [r["angle"] for r in rows] == pytest.approx(polar.angle)
    for row, kernel in zip(rows, kernels(), strict=True):
        eigenvalues = torch.linalg.eigvalsh(kernel)
        assert row["trace"] == pytest.approx(float(kernel.trace()))
        assert row["concentration"] == pytest.approx(measures.concentration(eigenvalues, 4))
        assert row["effective_rank"] == pytest.approx(measures.effective_rank(eigenvalues))
        assert row["centred_rank"] == pytest.approx(measures.centred_rank(kernel))
    whole = settling([measures.centred_cosine(k) for k in kernels()], EPOCHS)
    assert [r["distance_to_end"] for r in rows] == pytest.approx(whole.distance, nan_ok=True)


@pytest.mark.parametrize(("suffix", "top"), [("top", True), ("bottom", False)])
def test_top_and_bottom_are_the_paths_of_the_parts(path, suffix, top):
    """Each kernel is split in its own eigenbasis."""
    expected = measures.polar(torch.stack([restricted(k, 4, top) for k in kernels()]))
    assert [path.row(t)[f"radius_{suffix}"] for t in range(4)] == pytest.approx(expected.radius)
    assert [path.row(t)[f"angle_{suffix}"] for t in range(4)] == pytest.approx(expected.angle)


def test_a_truncated_path_ends_earlier(path):
    before = path.row(1)
    path.truncate(2)
    assert path.epochs == EPOCHS[:2]
    assert path.row(-1)["velocity"] == before["velocity"]
    assert (before["radius"] < 1, path.row(-1)["radius"]) == (True, pytest.approx(1))
    path.append(2.0, kernels()[3])
    assert path.row(2)["angle"] == pytest.approx(measures.polar(kernels()[[0, 3]]).angle[1])
    assert math.isnan(path.row(0)["velocity"])
    short = settling([measures.centred_cosine(k) for k in kernels()[[0, 1, 3]]], [0.0, 1.0, 2.0])
    assert path.settling().distance == pytest.approx(short.distance, nan_ok=True)
