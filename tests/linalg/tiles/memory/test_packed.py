"""Tiles in memory against the dense reference."""

import copy

import pytest
import torch

import ntklens as nl
from ntklens.errors import InputError, NumericalFailure
from ntklens.kernels.entries import KernelEntries
from ntklens.linalg import Band, Factorisation, GradientDescent, GradientFlow, Ridge, equal_rows
from ntklens.linalg.tiles import Layout, MemoryHome, TiledFactorisation
from ntklens.linalg.tiles.blas import ScipyBlas, TorchBlas
from ntklens.linalg.tiles.cholesky import SmallPivot, factor_in_place, multiply_tiles, solve_factored
from ntklens.linalg.tiles.memory import plan
from ntklens.linalg.tiles.memory.plan import memory_plan

N, SIDE = 150, 32  # five block rows, the last of 22
FILTERS = {
    "ridge": Ridge(0.1),
    "ridge 0": Ridge(0.0),
    "early": GradientFlow(1e-3),
    "middle": GradientFlow(0.3),
    "late": GradientFlow(100.0, learning_rate=0.5),
    "no time": GradientFlow(0.0),
    "descent": GradientDescent(37, 2e-3),
    "long descent": GradientDescent(3000, 2e-3),
    "band": Band([0, 3]),
    "late band": Band([0, 100]),
}


def positive(n=N, seed=0):
    """A matrix with eigenvalues over four orders of magnitude, like that of a kernel."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return (basis * torch.logspace(2, -2, n, dtype=torch.float64)) @ basis.T


class Blocks:
    def __init__(self, matrix):
        self.matrix = (matrix + matrix.T) / 2

    def __call__(self, rows, columns):
        return self.matrix[rows][:, columns]


def targets(n=N):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def tiled(matrix, precision="float64", groups=None):
    groups = torch.arange(len(matrix)) if groups is None else groups
    return TiledFactorisation(MemoryHome(precision), Blocks(matrix), groups, "test", side=SIDE)


def close(a, b, tolerance):
    return float((a - b).norm()) <= tolerance * float(b.norm())


@pytest.mark.parametrize("library", [TorchBlas(), ScipyBlas()], ids=lambda library: library.name)
@pytest.mark.parametrize("n", [1, 32, 33, N])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_factor_in_place_is_that_of_torch(library, n, dtype):
    matrix, layout = positive(n), Layout(n, SIDE)
    matrix = (matrix + matrix.T) / 2
    tiles = {(i, j): matrix[layout.span(i), layout.span(j)].to(dtype).clone().contiguous() for i, j in layout.tiles()}
    y = targets(n)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    assert close(multiply_tiles(tiles, layout, y.to(dtype)).double(), matrix @ y, 1e-6 if tolerance > 1e-6 else 1e-14)
    pivot = factor_in_place(tiles, layout, library, 0.0)
    reference = torch.linalg.cholesky(matrix)
    for i, j in layout.tiles():
        block = reference[layout.span(i), layout.span(j)]
        assert close(tiles[i, j].tril().double() if i == j else tiles[i, j].double(), block, tolerance)
    assert pivot == pytest.approx(float(reference.diagonal().min()) ** 2, rel=10 * tolerance)
    assert close(matrix @ solve_factored(tiles, layout, y).double(), y, 1e3 * tolerance)


@pytest.mark.parametrize("library", [TorchBlas(), ScipyBlas()], ids=lambda library: library.name)
@pytest.mark.parametrize("row", [0, 40, 149])
def test_a_pivot_of_zero_is_found_with_its_row(library, row):
    matrix, layout = positive(), Layout(N, SIDE)
    matrix[row] = matrix[:, row] = 0.0
    tiles = {(i, j): matrix[layout.span(i), layout.span(j)].clone().contiguous() for i, j in layout.tiles()}
    with pytest.raises(SmallPivot) as failure:
        factor_in_place(tiles, layout, library, 1e-12)
    assert failure.value.row == row


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_is_that_of_the_dense_matrix(name, precision):
    matrix = positive()
    dense, tiles = Factorisation(matrix), tiled(matrix, precision)
    a, b = dense.apply(FILTERS[name], targets()), tiles.apply(FILTERS[name], targets())
    assert close(b, a, 1e-8)
    assert tiles.last.residual is None or tiles.last.residual < 1e-9
    assert tiles.last.error is None or tiles.last.error < 1e-8
    # The same call gives the same bits, whatever was computed before.
    again = tiled(matrix, precision)
    again.apply(GradientFlow(0.2), targets())
    again.apply(Ridge(1.0), targets())
    assert torch.equal(again.apply(FILTERS[name], targets()), b)


def test_large_matrices_are_factored_in_place_and_computed_again(monkeypatch):
    monkeypatch.setattr("ntklens.linalg.tiles.memory.packed._KEPT", 0)
    matrix = positive()
    dense, tiles = Factorisation(matrix), tiled(matrix)
    for g in (Ridge(0.0), Ridge(0.1), GradientFlow(0.3), Band([1]), Ridge(0.0)):
        assert close(tiles.apply(g, targets()), dense.apply(g, targets()), 1e-8)
    assert torch.allclose(tiles.tiled.multiply(targets()), matrix @ targets())


def test_the_estimated_residual_is_that_of_the_solution(monkeypatch):
    tiles = tiled(positive())
    tiles.apply(Ridge(0.1), targets())
    packed = tiles.tiled
    wrong = torch.linalg.solve(positive() + 0.1 * torch.eye(N), targets()) + 1e-6 * targets()
    true = ((positive() @ wrong + 0.1 * wrong - targets()).norm(dim=0) / targets().norm(dim=0)).max()
    assert packed._estimated_residual(0.1, wrong, targets()) == pytest.approx(float(true), rel=0.75)
    assert tiles.last.residual < 1e-12 < float(true)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_equal_inputs_are_one_row_for_every_filter(precision):
    matrix = positive()
    repeated = torch.cat([torch.arange(N), torch.tensor([3, 3, 50])])
    whole = matrix[repeated][:, repeated]
    y = targets(N + 3)
    dense = Factorisation(whole)
    tiles = tiled(whole, precision, repeated)
    assert tiles.tiled.layout.n == N
    for name, g in FILTERS.items():
        expected = dense.solve_merged(repeated, y) if name == "ridge 0" else dense.apply(g, y)
        assert close(tiles.apply(g, y), expected, 1e-8), name
    assert close(tiles.spectrum.eigenvalues, dense.spectrum.eigenvalues, 1e-12)
    v = tiles.spectrum.eigenvectors
    assert torch.allclose(v.T @ v, torch.eye(N + 3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(whole @ v, v * tiles.spectrum.eigenvalues, atol=1e-10)
    assert close(tiles.leading(5).eigenvalues, dense.leading(5).eigenvalues, 1e-9)


def test_inputs_that_are_equal_for_the_kernel_alone_are_found_and_merged():
    repeated = torch.cat([torch.arange(N), torch.tensor([3, 120])])
    whole = positive()[repeated][:, repeated]
    tiles = tiled(whole)  # which is not told of the repetitions
    assert close(
        tiles.apply(Ridge(0.0), targets(N + 2)), Factorisation(whole).solve_merged(repeated, targets(N + 2)), 1e-9
    )
    assert tiles.groups.count == N
    assert tiles.groups.numbers[150] == tiles.groups.numbers[3]


def test_inputs_that_are_parallel_for_the_kernel_are_not_taken_for_equal():
    """An image and its half are parallel for a network without biases, and their targets are not the same."""
    scales = torch.ones(N + 1, dtype=torch.float64)
    scales[N] = 0.5
    repeated = torch.cat([torch.arange(N), torch.tensor([3])])
    whole = scales[:, None] * positive()[repeated][:, repeated] * scales
    for factors in (tiled(whole), Factorisation(whole)):
        with pytest.raises(NumericalFailure, match="not positive definite to rounding"):
            factors.apply(Ridge(0.0), targets(N + 1))
    assert len(set(Factorisation(whole).equal_to_rounding().tolist())) == N + 1


@pytest.mark.parametrize("kind", ["tiles", "dense"])
def test_the_residual_of_merged_inputs_is_that_of_all_targets(kind):
    repeated = torch.cat([torch.arange(N), torch.tensor([3, 3, 50])])
    whole, y = positive()[repeated][:, repeated], targets(N + 3)
    factors = tiled(whole, groups=repeated) if kind == "tiles" else Factorisation(whole)
    a = factors.apply(Ridge(0.0), y) if kind == "tiles" else factors.solve_merged(repeated, y)
    true = float(((whole @ a - y).norm(dim=0) / y.norm(dim=0)).max())
    assert true > 0.01
    assert factors.last.residual == pytest.approx(true, rel=1e-6)


@pytest.mark.parametrize("duration", [1.0, 1e3, 1e6])
def test_the_estimated_error_bounds_what_is_predicted_for_the_training_inputs(duration):
    """Over eight orders of magnitude, and for labels as targets."""
    basis, _ = torch.linalg.qr(torch.randn(N, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    matrix = (basis * (1e6 * torch.arange(1, N + 1, dtype=torch.float64) ** -4)) @ basis.T
    y = torch.nn.functional.one_hot(torch.arange(N) % 3).double()
    tiles, g = tiled(matrix), GradientFlow(duration)
    a, b = tiles.apply(g, y), Factorisation(matrix).apply(g, y)
    predicted, expected = matrix @ a, matrix @ b
    error = max(
        float(((a - b).norm(dim=0) / b.norm(dim=0)).max()),
        float(((predicted - expected).norm(dim=0) / expected.norm(dim=0)).max()),
    )
    assert error <= 20 * (tiles.last.error or 1e-8)
    assert error < 1e-5


def test_a_machine_in_tiles_is_copied_without_its_tiles():
    tiles = tiled(positive())
    expected = tiles.apply(GradientFlow(0.3), targets())
    twin = copy.deepcopy(tiles)
    assert twin._spaces == {}
    assert torch.equal(twin.apply(GradientFlow(0.3), targets()), expected)


def test_many_columns_and_times_near_zero():
    dense, tiles = Factorisation(positive()), tiled(positive())
    y = torch.randn(N, 70, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert close(tiles.apply(GradientFlow(0.3), y), dense.apply(GradientFlow(0.3), y), 1e-8)
    assert close(tiles.apply(GradientFlow(1e-300), y), 1e-300 * y, 1e-12)


def test_a_matrix_without_full_rank_is_refused_at_ridge_0():
    low = targets()
    tiles = tiled(low @ low.T)
    with pytest.raises(NumericalFailure, match="not positive definite to rounding"):
        tiles.apply(Ridge(0.0), targets())
    assert close(tiles.apply(Ridge(1.0), targets()), Factorisation(low @ low.T).apply(Ridge(1.0), targets()), 1e-9)
    assert tiles.smallest == 0


def test_the_ends_of_the_spectrum():
    dense, tiles = Factorisation(positive()), tiled(positive())
    assert tiles.largest == pytest.approx(dense.largest, rel=1e-9)
    assert tiles.smallest == pytest.approx(dense.smallest, rel=1e-3)


def test_descent_that_diverges_is_refused():
    with pytest.raises(NumericalFailure, match="gradient descent diverges"):
        tiled(positive()).apply(GradientDescent(10, 0.03), targets())


def test_values_that_are_not_finite_are_told():
    matrix = positive()
    matrix[40, 7] = matrix[7, 40] = float("nan")
    with pytest.raises(NumericalFailure, match="an entry of the kernel matrix is not a finite number"):
        tiled(matrix).apply(Ridge(0.1), targets())


def test_values_of_a_kernel_that_are_not_finite_are_told_with_their_inputs():
    class Broken(nl.RBFKernel):
        def between(self, x1, x2):
            return torch.where(x1[:, :1] + x2[:, :1].T > 100, torch.nan, super().between(x1, x2))

    x = torch.rand(80, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[5] = x[3]
    x[7, 0], x[70, 0] = 0.5, 100.0
    entries = KernelEntries(Broken(1.0), x)
    factors = TiledFactorisation(MemoryHome(), entries, equal_rows(x), "test", side=SIDE)
    with pytest.raises(NumericalFailure, match=r"the training inputs 70 and \d+ is nan, not a finite number"):
        factors.apply(Ridge(0.1), targets(80))


@pytest.mark.parametrize("kept", [0, 8192])
def test_a_decomposition_that_was_interrupted_is_not_taken_for_a_whole_one(monkeypatch, kept):
    monkeypatch.setattr("ntklens.linalg.tiles.memory.packed._KEPT", kept)
    matrix = positive()
    tiles, dense = tiled(matrix), Factorisation(matrix)
    tiles.apply(Ridge(0.1), targets())

    def stop(share):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiles.tiled.solve(1.0, targets(), stop)
    for rho in (0.1, 1.0):
        assert close(tiles.apply(Ridge(rho), targets()), dense.apply(Ridge(rho), targets()), 1e-9)


def test_the_plan_takes_float32_where_float64_does_not_fit_and_refuses_the_rest(monkeypatch):
    layout = Layout(60_000)
    monkeypatch.setattr(plan, "available_memory", lambda: int(24e9))
    assert memory_plan(layout).precision == "float64"
    assert memory_plan(layout).tile_bytes / (8 * 60_000**2 / 2) == pytest.approx(1.0, abs=0.02)
    assert "60,000 training inputs" in str(memory_plan(layout))
    monkeypatch.setattr(plan, "available_memory", lambda: int(10e9))
    assert memory_plan(layout).precision == "float32"
    monkeypatch.setattr(plan, "available_memory", lambda: int(2e9))
    with pytest.raises(InputError, match=r"and 2\.0 GB are available\. Fit on at most 2\d,"):
        memory_plan(layout).check()
    with pytest.raises(InputError, match="expected precision"):
        MemoryHome("double")


def test_a_machine_in_tiles_is_the_machine_of_the_whole_matrix():
    data = nl.load_dataset("fashion-mnist-mini").train
    x, y = data.x[:140].flatten(1), data.y[:140]
    x = torch.cat([x, x[:2]])
    y = torch.cat([y, y[2:4]])
    network = torch.nn.Sequential(torch.nn.Linear(784, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
    kernel = nl.analytic_kernel(network)
    with pytest.warns(UserWarning, match="2 of 142 training inputs are copies"):
        dense = nl.KernelMachine(kernel).fit(x, y)
    shares = []
    with pytest.warns(UserWarning, match="2 of 142 training inputs are copies"):
        machine = nl.KernelMachine(kernel).fit(x, y, home=MemoryHome(), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert close(machine.coefficients, dense.coefficients, 1e-10)
    assert machine.solution.residual == pytest.approx(dense.solution.residual)  # copies with other targets
    assert machine.solution.smallest_pivot == pytest.approx(dense.solution.smallest_pivot, rel=1e-3)
    assert "smallest pivot" in str(machine.solution)
    test = data.x[200:230].flatten(1)
    flow = nl.GradientFlow(0.01)
    assert close(machine.refilter(flow).outputs(test), dense.refilter(flow).outputs(test), 1e-7)
    features = nl.eigenfeatures(machine, 5)
    assert close(features.eigenvalues, nl.eigenfeatures(dense, 5).eigenvalues, 1e-9)
    spread = machine.predict(test, return_std=True)[1]
    assert close(spread, dense.predict(test, return_std=True)[1], 1e-5)


def test_entries_of_a_kernel_are_those_of_its_matrix():
    x = torch.rand(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = nl.RBFKernel(1.0)
    entries, whole = KernelEntries(kernel, x), kernel(x)
    rows = torch.tensor([3, 1])
    assert torch.allclose(entries(slice(2, 9), slice(0, 2)), whole[2:9, :2])
    assert torch.allclose(entries(rows, slice(0, 20)), whole[rows])
    assert torch.equal(entries(rows, rows), entries(rows, rows).T)
    assert torch.equal(entries(slice(0, 9), slice(0, 9)), entries(slice(0, 9), slice(0, 9)).T)


def test_equal_rows_are_numbered_in_their_order():
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, -0.0], [3.0, 0.0], [2.0, 0.0]])
    assert equal_rows(rows).tolist() == [0, 1, 0, 2, 1]
