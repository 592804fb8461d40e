"""Every engine through the methods of `Engine`, on neural-tangents' values in float64 (tests/golden)."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from ntklens.kernels import analytic_kernel
from ntklens.kernels.engines.fused.engine import FusedEngine
from ntklens.kernels.engines.reference import ReferenceEngine
from ntklens.kernels.engines.select import engine_for
from ntklens.progress import Progress

CPU = torch.device("cpu")
KINDS = ("nngp", "ntk")


def error(value: Tensor, truth: Tensor) -> float:
    """Largest error over the largest true value."""
    return float((value.double() - truth).abs().max() / truth.abs().max())


@pytest.fixture(params=[FusedEngine, ReferenceEngine], ids=lambda engine: engine.__name__)
def engine(golden, request):
    graph = analytic_kernel(golden.net, golden.w_std, golden.b_std).graph(tuple(golden["x1"].shape[1:]))
    if not request.param.supports(graph, CPU, differentiable=False):
        pytest.skip("this engine has no instruction for an operation of the network")
    return request.param(graph, 1 << 30)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_matrices_between_two_batches(golden, engine, dtype, tolerance):
    matrices = engine.matrices(golden["x1"].to(dtype), golden["x2"].to(dtype), KINDS, Progress())
    for kind, matrix in matrices.items():
        assert matrix.dtype == dtype
        assert error(matrix, golden[kind]) < tolerance


def test_matrices_of_a_batch_with_itself(golden, engine):
    matrices = engine.matrices(golden["x1"], None, KINDS, Progress())
    between = engine.matrices(golden["x1"], golden["x1"], KINDS, Progress())
    for kind, matrix in matrices.items():
        assert torch.equal(matrix, matrix.T)
        assert error(between[kind], matrix) < 1e-12


def test_the_diagonal(golden, engine):
    matrices = engine.matrices(golden["x1"], None, KINDS, Progress())
    for kind, values in engine.diagonal(golden["x1"], KINDS).items():
        torch.testing.assert_close(values, matrices[kind].diagonal(), rtol=1e-13, atol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-7)])
def test_the_gradient_with_and_without_shared_products(golden, engine, dtype, tolerance):
    x1, x2, weights = (golden[name].to(dtype) for name in ("x1", "x2", "weights"))
    gradient = engine.gradient(x1, x2, weights, "ntk", Progress())
    assert gradient.dtype == dtype
    assert gradient.shape == x1.shape
    assert error(gradient, golden["grad"]) < tolerance
    products = engine.products(x1, x2)
    assert torch.equal(engine.gradient(x1, x2, weights, "ntk", Progress(), products), gradient)
    if products is not None:
        rows = torch.tensor([3, 0])
        some = engine.gradient(x1[rows], x2, weights[rows], "ntk", Progress(), products.of(rows))
        assert torch.equal(some, gradient[rows])


def test_progress_grows_and_ends_at_one(golden, engine):
    shares: list[float] = []
    engine.matrices(golden["x1"], None, ("ntk",), Progress(shares.append))
    engine.gradient(
        golden["x1"], golden["x2"], golden["weights"], "ntk", Progress(lambda share: shares.append(1 + share))
    )
    assert shares == sorted(shares)
    assert 1.0 in shares
    assert shares[-1] == 2.0


@pytest.mark.parametrize(
    ("name", "device", "differentiable", "expected"),
    [
        ("auto", "cpu", False, FusedEngine),
        ("auto", "cpu", True, ReferenceEngine),
        ("auto", "cuda", False, ReferenceEngine),
        ("reference", "cpu", False, ReferenceEngine),
    ],
)
def test_the_engine_that_is_selected(name, device, differentiable, expected):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    graph = analytic_kernel(net).graph((3,))
    engine = engine_for(graph, name, torch.device(device), 1 << 20, differentiable=differentiable)
    assert isinstance(engine, expected)
    assert engine.memory_limit == 1 << 20


def test_inference_mode_changes_no_value(golden, engine):
    x1, x2, weights = (golden[name] for name in ("x1", "x2", "weights"))

    def values(x: Tensor, z: Tensor, w: Tensor) -> list[Tensor]:
        products = engine.products(x, z)
        return [
            engine.matrices(x, z, ("ntk",), Progress(), products)["ntk"],
            engine.matrices(x, None, ("ntk",), Progress())["ntk"],
            engine.gradient(x, z, w, "ntk", Progress(), products),
            engine.diagonal(x, ("ntk",))["ntk"],
        ]

    with torch.inference_mode():
        inside = values(x1.clone(), x2.clone(), weights.clone())
    for value, expected in zip(inside, values(x1, x2, weights), strict=True):
        assert torch.equal(value, expected)
        assert not value.requires_grad


def test_without_compilation_the_reference_engine_runs():
    """NUMBA_DISABLE_JIT is read when Numba is imported, so this takes a process of its own."""
    script = (
        "import torch, ntklens as nl\n"
        "kernel = nl.analytic_kernel(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)))\n"
        "kernel(torch.eye(3))\n"
        "print(*(type(engine).__name__ for engine in kernel._engines.values()))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["ReferenceEngine"]
