"""Functions Σ_j K(x, z_j) A_j through weights, against the same through the kernel's matrix."""

import pytest
import torch
from torch import nn

import ntklens as nl
from kernels.empirical.zoo import ZOO, inputs_of, network_of
from ntklens.kernels.empirical.weight_space import WeightSpaceExpansion
from ntklens.kernels.matrix_expansion import MatrixExpansion
from ntklens.kernels.parametrisation import Parametrisation

DTYPE = torch.float64
PICTURES = {name: case for name, case in ZOO.items() if not case.tokens}


def error(found, truth):
    return float((found - truth).abs().max() / truth.abs().max())


def in_weight_space(kernel, z, a):
    """The expansion by directions, however few the z are."""
    found = kernel.in_weight_space(z, a, DTYPE)
    assert isinstance(found, WeightSpaceExpansion)
    return found


@pytest.fixture(params=PICTURES, scope="module")
def sides(request):
    """One case, its kernel, inputs and coefficients."""
    case = PICTURES[request.param]
    net, generator = network_of(case, DTYPE), torch.Generator().manual_seed(2)
    x, z = inputs_of(case, 5, 0, DTYPE), inputs_of(case, 4, 1, DTYPE)
    return net, x, z, torch.randn(4, 3, generator=generator, dtype=DTYPE)


@pytest.mark.parametrize("outputs", ["trace", "pseudo"])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("size", [None, 2])
def test_as_through_the_matrix(sides, outputs, columns, size):
    net, x, z, a = sides
    kernel, a = nl.empirical_kernel(net, outputs), a[:, :columns]
    found, truth = in_weight_space(kernel, z, a), MatrixExpansion(kernel, z, a)
    if size is not None:
        found.size = size
    values, slope = found.vjp(x)
    exact, pull = truth.vjp(x)
    assert error(found(x), exact) < 1e-12
    assert error(values, exact) < 1e-12
    w = torch.randn(5, columns, generator=torch.Generator().manual_seed(3), dtype=DTYPE)
    rows = torch.tensor([4, 1])
    scale = pull(w).abs().max()
    assert (slope(w) - pull(w)).abs().max() < 1e-11 * scale
    assert (slope(w[:2], rows) - pull(w[:2], rows)).abs().max() < 1e-11 * scale
    twice = torch.tensor([4, 4, 0])
    assert (slope(w[:3], twice) - pull(w[:3], twice)).abs().max() < 1e-11 * scale


def test_each_input_with_a_column_of_its_own(sides):
    net, x, z, a = sides
    kernel = nl.empirical_kernel(net)
    found, truth = in_weight_space(kernel, z, a), MatrixExpansion(kernel, z, a)
    columns = torch.tensor([0, 2, 1, 2, 0])
    values, slope = found.along(x, columns)
    exact, pull = truth.along(x, columns)
    assert error(values, exact) < 1e-12
    kept, other = torch.tensor([3, 0]), torch.tensor([1, 1])
    for chosen in (columns[kept], other):
        assert error(slope.along(chosen, kept), pull.along(chosen, kept)) < 1e-11
    whole, every = found.vjp(x)[1], torch.tensor([4, 4, 2])
    assert error(whole.along(columns[:3], every), truth.vjp(x)[1].along(columns[:3], every)) < 1e-11


def test_parametrised_and_projected_kernels_have_one():
    net = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)).double()
    x, z, a = torch.rand(3, 6, dtype=DTYPE), torch.rand(4, 6, dtype=DTYPE), torch.ones(4, 1, dtype=DTYPE)
    for kernel in (
        nl.empirical_kernel(net, parametrisation=Parametrisation(w_std=1.5, b_std=0.3)),
        nl.empirical_kernel(net, projections=50),
    ):
        found = in_weight_space(kernel, z, a)
        assert error(found(x), kernel(x, z) @ a) < 1e-12


def test_the_matrix_is_the_way_where_directions_exceed_the_memory():
    net = nn.Linear(6, 3).double()
    z, a = torch.rand(4, 6, dtype=DTYPE), torch.ones(4, 1, dtype=DTYPE)
    assert isinstance(nl.empirical_kernel(net, memory_limit=100).expansion(z, a, DTYPE), MatrixExpansion)
    assert isinstance(nl.empirical_kernel(net, "full").expansion(z, a, DTYPE), MatrixExpansion)


@pytest.mark.parametrize("outputs", ["trace", "pseudo"])
def test_the_matrix_is_the_way_for_few_inputs_and_many_columns(outputs):
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4)).double()
    kernel, generator = nl.empirical_kernel(net, outputs), torch.Generator().manual_seed(0)
    z = torch.rand(400, 20, dtype=DTYPE, generator=generator)
    least = kernel.least_inputs(z, 10)
    assert 2 < least < 400
    assert least == pytest.approx(10 * kernel.least_inputs(z, 1), abs=10)  # as many times as there are columns
    a, x = torch.randn(400, 10, dtype=DTYPE, generator=generator), torch.rand(5, 20, dtype=DTYPE, generator=generator)
    for n, form in ((least - 1, MatrixExpansion), (least, WeightSpaceExpansion)):
        found = kernel.expansion(z[:n], a[:n], DTYPE)
        assert isinstance(found, form)
        assert error(found(x), kernel(x, z[:n]) @ a[:n]) < 1e-12
    # In float32 the coefficients cancel in the directions, so these are taken whatever they cost.
    assert isinstance(kernel.expansion(z[:2], a[:2], torch.float32), WeightSpaceExpansion)
    assert nl.empirical_kernel(net, projections=9).least_inputs(z, 3) == 0


def test_a_machine_in_float32_is_as_right_as_float32():
    """Through the matrix the coefficients would magnify what it rounds."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 40), nn.ReLU(), nn.Linear(40, 2))
    data = nl.load_dataset("fashion-mnist-mini", classes=(0, 6))
    x, y = data.train.x[:80, :, ::4, ::4][:, :, :6, :6], data.train.y[:80]
    exact, fast = (
        nl.KernelMachine(nl.empirical_kernel(net), nl.Ridge(1e-6), arithmetic=dtype).fit(x, y)
        for dtype in (torch.float64, torch.float32)
    )
    probe = x[:20].double() + 0.05
    assert error(fast.outputs(probe), exact.outputs(probe)) < 1e-5
    loose = MatrixExpansion(fast.kernel, x, fast.coefficients)
    assert error(loose(probe.float()), exact.outputs(probe)) > error(fast.outputs(probe), exact.outputs(probe))
