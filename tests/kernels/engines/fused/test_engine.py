"""The fused engine beside the readable one where their ways differ most."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from kernels import networks
from ntklens.kernels import activation, analytic_kernel
from ntklens.kernels.engines.fused.engine import FusedEngine
from ntklens.kernels.engines.reference import ReferenceEngine
from ntklens.kernels.engines.select import engine_for


def images(n: int, *shape: int) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def conv_net(side: tuple[int, int], *, b_std: float = 0.1):
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(4 * side[0] * side[1], 1))
    return [analytic_kernel(net, b_std=b_std, engine=name) for name in ("auto", "reference")]


def disagreement(fast, plain, x, z) -> float:
    """The larger relative error of kernel and gradient."""
    w = torch.randn(len(x), len(z), generator=torch.Generator().manual_seed(6), dtype=x.dtype)
    pairs = ((fast(x, z), plain(x, z)), (fast.gradient(x, z, w), plain.gradient(x, z, w)))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("side", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 500)])
def test_maps_of_one_column_and_wider_than_a_chunk(side):
    x = images(18, 1, *side)
    assert disagreement(*conv_net(side), x[:2], x) < 1e-11


def test_black_images_and_black_regions_without_bias():
    x = images(6, 1, 5, 5)
    x[0] = 0
    x[1, :, 2:] = 0
    assert disagreement(*conv_net((5, 5), b_std=0.0), x, x) < 1e-11


def test_near_pairs_keep_their_digits_in_float32_after_a_pooling():
    """The pooled maps at offset zero are sums over maps at other offsets, which must be as good as the variances."""
    net = networks.pooled(nn.AvgPool2d(2), features=54)
    fast, plain = (analytic_kernel(net, engine=name) for name in ("auto", "reference"))
    x = images(4, 1, 6, 6).float()
    z = (x.double() + 1e-4 * torch.randn(x.shape, generator=torch.Generator().manual_seed(7))).float()
    w = torch.eye(4)
    exact = plain.gradient(x.double(), z.double(), w.double())
    assert float((fast.gradient(x, z, w) - exact).abs().max() / exact.abs().max()) < 1e-4
    torch.testing.assert_close(fast(x, z).double(), plain(x.double(), z.double()), rtol=1e-6, atol=0)


def test_what_the_engine_has_no_instruction_for_takes_the_readable_one():
    net = networks.dense(activation(lambda u: torch.tanh(u - 1).abs(), kinks=(1.0,)))
    graph, cpu = analytic_kernel(net).graph((1, 4, 4)), torch.device("cpu")
    assert not FusedEngine.supports(graph, cpu, differentiable=False)
    assert isinstance(engine_for(graph, "auto", cpu, 1 << 30, differentiable=False), ReferenceEngine)
    assert analytic_kernel(net)(images(2, 1, 4, 4)).shape == (2, 2)


def test_calls_at_the_same_time_leave_torch_its_threads():
    fast = conv_net((8, 8))[0]
    x, before = images(40, 1, 8, 8), torch.get_num_threads()
    alone = fast(x)
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda _: fast(x), range(12)))
        assert all(torch.equal(matrix, alone) for matrix in together)
        with pytest.raises(ZeroDivisionError, match="division"):
            fast(x, progress=lambda share: 1 / 0)
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_parallel_and_opposite_inputs_have_no_angle_of_rounding(engine):
    """One hidden layer without biases: Θ is 4 <x, z> / d for parallel inputs and 0 for opposite ones."""
    net = nn.Sequential(nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 1))
    kernel = analytic_kernel(net, b_std=0.0, engine=engine)
    x = images(20, 30)
    factors = torch.linspace(0.1, 3, 20, dtype=torch.float64)[:, None]
    torch.testing.assert_close(kernel(x, factors * x).diagonal(), 4 * (factors * x * x).mean(1), rtol=1e-14, atol=0)
    assert float(kernel(x, -factors * x).diagonal().abs().max()) < 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("b_std", "engine_name", "limit"),
    [(0.1, "auto", 1 << 30), (0.0, "auto", 1 << 30), (0.1, "auto", 9), (0.1, "reference", 1 << 30)],
)
def test_matrix_and_gradient_together_are_the_two_alone(dtype, b_std, engine_name, limit):
    """Bit by bit: the inner products that they share are the same, and of a row whatever stands beside it."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(30, 4), nn.ReLU(), nn.Linear(4, 1))
    kernel = analytic_kernel(net, b_std=b_std, engine=engine_name, memory_limit=limit)
    x, z = images(40, 30).to(dtype), images(300, 30).to(dtype)
    w = torch.randn(40, 300, generator=torch.Generator().manual_seed(8), dtype=dtype)
    matrix, pull = kernel.vjp(x, z)
    rows = torch.tensor([31, 4, 5])
    same = torch.equal if engine_name == "auto" else torch.allclose
    assert same(matrix, kernel(x, z))
    assert same(pull(w), kernel.gradient(x, z, w))
    assert same(pull(w[rows], rows), kernel.gradient(x, z, w)[rows])
