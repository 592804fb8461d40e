"""The exact factor of a matrix in a store, computed by panels from disk to disk."""

from pathlib import Path

import pytest
import torch

from ntklens.errors import InputError, NumericalFailure
from ntklens.linalg import Factorisation, GradientFlow, Ridge
from ntklens.linalg.tiles import TiledFactorisation
from ntklens.linalg.tiles.store import StoredMatrix, StoreHome
from ntklens.linalg.tiles.store.factor import StoredFactor
from tile_entries import LAYOUT, Gaussian, targets

pytest.importorskip("zarr")
N = LAYOUT.n
TILE = 8 * LAYOUT.side**2
LIMITS = {"one column": 20 * TILE, "two columns": 28 * TILE, "all at once": 1 << 30}


def stored(folder: Path, method: str = "factor", limit: int = 1 << 30) -> StoredMatrix:
    return StoreHome(folder, memory_limit=limit, method=method).matrix(LAYOUT, Gaussian(N), "a")


def factor_tiles(folder: Path) -> list[Path]:
    return sorted(folder.glob("factor-*/c/*/*"))


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_solutions_are_those_of_the_dense_matrix(tmp_path, rho, limit):
    matrix, y, shares = stored(tmp_path, limit=LIMITS[limit]), targets(N), []
    assert matrix._panel_columns == {"one column": 1, "two columns": 2}.get(limit, matrix._panel_columns)
    found = matrix.solve(rho, y, shares.append)
    dense = Gaussian(N).dense()
    torch.testing.assert_close(found.coefficients, Factorisation(dense).solve(rho, y), rtol=1e-9, atol=1e-9)
    factor = torch.linalg.cholesky(dense + rho * torch.eye(N, dtype=torch.float64))
    assert found.smallest_pivot == pytest.approx(float(factor.diagonal().min()) ** 2, rel=1e-6)
    assert found.residual < 1e-12
    assert "from disk to disk" in found.method
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(factor_tiles(tmp_path)) == LAYOUT.count


def test_the_way_depends_on_the_ridge_and_the_room(tmp_path):
    auto = stored(tmp_path, "auto")
    assert "Cholesky" in auto.solve(0.0, targets(N)).method
    assert "conjugate gradients" in auto.solve(1.0, targets(N)).method
    assert "conjugate gradients" in stored(tmp_path, "auto", limit=3 * TILE).solve(0.0, targets(N)).method
    with pytest.raises(InputError, match="expected memory_limit of"):
        stored(tmp_path, limit=3 * TILE).solve(0.0, targets(N))
    with pytest.raises(InputError, match="expected method"):
        StoreHome(tmp_path, method="lu")


def test_a_factor_that_was_interrupted_goes_on_with_its_panel(tmp_path, monkeypatch):
    whole = stored(tmp_path / "whole", limit=LIMITS["one column"]).solve(0.0, targets(N))
    panels, compute = [], StoredFactor._panel

    def counted(self, start, stop):
        panels.append(start)
        if len(panels) == 4:
            raise KeyboardInterrupt
        compute(self, start, stop)

    monkeypatch.setattr(StoredFactor, "_panel", counted)
    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path / "cut", limit=LIMITS["one column"]).solve(0.0, targets(N))
    again = stored(tmp_path / "cut", limit=LIMITS["one column"]).solve(0.0, targets(N))
    assert panels == [0, 1, 2, 3, *range(3, LAYOUT.blocks)]
    assert torch.equal(again.coefficients, whole.coefficients)


@pytest.mark.parametrize("place", [(0, 0), (3, 1), (6, 6)])
def test_a_damaged_tile_of_the_factor_is_computed_again(tmp_path, place):
    first = stored(tmp_path, limit=LIMITS["two columns"]).solve(0.0, targets(N))
    (folder,) = tmp_path.glob("factor-*")
    file = folder / "c" / str(place[0]) / str(place[1])
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="of the factor in .* is damaged or gone"):
        again = stored(tmp_path, limit=LIMITS["two columns"]).solve(0.0, targets(N))
    assert torch.equal(again.coefficients, first.coefficients)


def test_the_factor_of_another_ridge_takes_its_place(tmp_path):
    for rho in (0.0, 0.5, 0.0):
        found = stored(tmp_path).solve(rho, targets(N)).coefficients
        torch.testing.assert_close(
            found, Factorisation(Gaussian(N).dense()).solve(rho, targets(N)), rtol=1e-9, atol=1e-9
        )
    assert len(factor_tiles(tmp_path)) == LAYOUT.count


def test_a_singular_matrix_is_told(tmp_path):
    low = targets(N)
    matrix = StoreHome(tmp_path).matrix(LAYOUT, lambda rows, columns: (low @ low.T)[rows][:, columns], "a")
    with pytest.raises(NumericalFailure, match=r"not positive definite to rounding \(ridge 0\)"):
        matrix.solve(0.0, targets(N))


def test_filters_and_equal_inputs_in_a_store(tmp_path):
    repeated = torch.cat([torch.arange(N), torch.tensor([4, 9])])
    whole = Gaussian(N).dense()[repeated][:, repeated]
    dense, y = Factorisation(whole), targets(N + 2)

    def entries(rows, columns):
        return whole[rows][:, columns]

    # One is told of the repetitions, the other finds them, and keeps its second matrix in a folder of its own.
    for name, groups in (("told", repeated), ("found", torch.arange(N + 2))):
        tiles = TiledFactorisation(StoreHome(tmp_path / name), entries, groups, "test", side=32)
        for g in (Ridge(0.0), Ridge(0.1), GradientFlow(0.5)):
            expected = dense.solve_merged(repeated, y) if g == Ridge(0.0) else dense.apply(g, y)
            torch.testing.assert_close(tiles.apply(g, y), expected, rtol=1e-7, atol=1e-7)
        assert tiles.groups.count == N


def test_matrices_of_one_folder_do_not_take_each_others_factor(tmp_path):
    first, second = stored(tmp_path), stored(tmp_path)
    expected = first.solve(0.1, targets(N)).coefficients
    second.solve(0.5, targets(N))
    with pytest.warns(UserWarning, match="is damaged or gone"):
        assert torch.equal(first.solve(0.1, targets(N)).coefficients, expected)


def test_a_factor_that_fails_leaves_the_others_right(tmp_path):
    low = Gaussian(N).dense()
    low[:, 150:] = low[:, :53]
    low[150:] = low[:53]
    tiles = TiledFactorisation(
        StoreHome(tmp_path, method="factor"), lambda rows, columns: low[rows][:, columns], torch.arange(N), "t", side=32
    )
    expected = tiles.apply(Ridge(0.1), targets(N))
    assert tiles.smallest == 0
    assert torch.equal(tiles.apply(Ridge(0.1), targets(N)), expected)


def test_a_factor_goes_on_with_the_library_that_it_was_begun_with(tmp_path, monkeypatch):
    from ntklens.linalg.tiles.blas import ScipyBlas, TorchBlas
    from ntklens.linalg.tiles.store import factor

    def begun(library):
        monkeypatch.setattr(factor, "fastest", lambda *_: library)
        home = StoreHome(tmp_path, method="factor")
        return home.matrix(LAYOUT, Gaussian(LAYOUT.n), "a").solve(0.1, targets(LAYOUT.n))

    first, again = begun(ScipyBlas()), begun(TorchBlas())
    assert "SciPy" in first.method
    assert "SciPy" in again.method
    assert torch.equal(first.coefficients, again.coefficients)
