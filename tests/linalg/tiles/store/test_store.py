"""A matrix in a store on disk: the same as a dense one, and what is left of it after every kind of damage."""

import errno
import os
import subprocess
import warnings
from pathlib import Path

import pytest
import torch

from ntklens.errors import InputError, NumericalFailure
from ntklens.linalg import Factorisation
from ntklens.linalg.tiles import Layout
from ntklens.linalg.tiles.store import StoredMatrix, StoreHome
from ntklens.linalg.tiles.store.folder import TileFolder
from tile_entries import LAYOUT, Gaussian, targets

zarr = pytest.importorskip("zarr")
N = LAYOUT.n


def stored(folder: Path, *, entries: Gaussian | None = None, identity: str = "a", **home) -> StoredMatrix:
    home = {"method": "iterate"} | home
    return StoreHome(folder, **home).matrix(LAYOUT, entries or Gaussian(N), identity)


def tiles(folder: Path) -> list[Path]:
    return sorted(folder.glob("c/*/*"))


@pytest.mark.parametrize("side", [16, 32, 203, 300])
@pytest.mark.parametrize("outputs", [1, 3])
def test_products_are_those_of_the_dense_matrix(tmp_path, side, outputs):
    matrix = StoreHome(tmp_path).matrix(Layout(N, side), Gaussian(N), "a")
    y = targets(N, outputs)
    torch.testing.assert_close(matrix.multiply(y), Gaussian(N).dense() @ y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("outputs", [1, 3])
def test_solutions_are_those_of_the_dense_matrix(tmp_path, rho, outputs):
    y, dense, shares = targets(N, outputs), Gaussian(N).dense(), []
    found = stored(tmp_path).solve(rho, y, shares.append)
    torch.testing.assert_close(found.coefficients, Factorisation(dense).solve(rho, y), rtol=1e-9, atol=1e-9)
    true = dense @ found.coefficients + rho * found.coefficients - y
    assert found.residual == pytest.approx(float((true.norm(dim=0) / y.norm(dim=0)).max()), abs=1e-14)
    assert found.residual <= 1e-12
    assert found.iterations > 1
    assert "conjugate gradients" in found.method
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert not list(tmp_path.glob("solve-*"))


def test_the_whole_matrix_and_a_second_ridge(tmp_path):
    """The second solution takes over the preconditioner of the first."""
    matrix, y = stored(tmp_path), targets(N)
    assert torch.equal(matrix.dense(), Gaussian(N).dense())
    for rho in (1.0, 0.1):
        expected = Factorisation(Gaussian(N).dense()).solve(rho, y)
        torch.testing.assert_close(matrix.solve(rho, y).coefficients, expected, rtol=1e-9, atol=1e-9)
    matrix.release()
    assert torch.equal(matrix.dense(), Gaussian(N).dense())


def test_leading_eigenpairs_are_those_of_the_dense_matrix(tmp_path):
    found, exact = stored(tmp_path).leading(6), Factorisation(Gaussian(N).dense()).spectrum
    torch.testing.assert_close(found.eigenvalues, exact.eigenvalues[:6], rtol=1e-10, atol=0)
    overlap = (found.eigenvectors.T @ exact.eigenvectors[:, :6]).abs()
    torch.testing.assert_close(overlap, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-7)


def test_a_singular_matrix_is_told(tmp_path):
    """The inputs 5 and 7 are equal."""
    place = torch.arange(N)
    place[5] = 7
    dense = Gaussian(N).dense()[place][:, place]
    matrix = StoreHome(tmp_path, method="iterate").matrix(LAYOUT, lambda rows, columns: dense[rows][:, columns], "a")
    with pytest.raises(NumericalFailure, match=r"not positive definite to rounding.* ridge"):
        matrix.solve(0.0, targets(N))
    y = matrix.multiply(targets(N))
    torch.testing.assert_close(matrix.multiply(matrix.solve(0.0, y).coefficients), y, rtol=0, atol=1e-9)


def test_a_memory_limit_changes_the_way_and_not_the_result(tmp_path):
    """Three tiles fit, and no preconditioner does."""
    y = targets(N)
    small, large = stored(tmp_path, memory_limit=3 * 8 * 32**2), stored(tmp_path)
    assert torch.equal(small.multiply(y), large.multiply(y))
    torch.testing.assert_close(small.solve(0.1, y).coefficients, large.solve(0.1, y).coefficients, rtol=1e-9, atol=1e-9)
    with pytest.raises(InputError, match=r"memory_limit \(--memory-limit\) as 24,576 bytes or more"):
        stored(tmp_path, memory_limit=24_575)


def test_the_same_calls_give_the_same_bits(tmp_path):
    y = targets(N)
    first, second = stored(tmp_path / "a"), stored(tmp_path / "b")
    assert torch.equal(first.solve(0.1, y).coefficients, second.solve(0.1, y).coefficients)
    assert torch.equal(first.leading(3).eigenvectors, second.leading(3).eigenvectors)


def test_other_programs_read_it_as_a_zarr_array(tmp_path):
    stored(tmp_path).write()
    array = torch.from_numpy(zarr.open_array(str(tmp_path), mode="r")[:])
    dense = Gaussian(N).dense()
    lower = torch.ones(N, N).tril().bool()
    assert torch.equal(array[lower], dense[lower])
    assert array[0, N - 1].isnan()


def test_only_missing_tiles_are_computed(tmp_path):
    entries, shares = Gaussian(N), []
    stored(tmp_path, entries=entries).write(shares.append)
    assert entries.calls == LAYOUT.count == len(tiles(tmp_path)) == 28
    assert shares[-1] == 1
    tiles(tmp_path)[3].unlink()
    again = Gaussian(N)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored(tmp_path, entries=again).write()
    assert again.calls == 1


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "a flipped bit": flip,
    "a truncated file": lambda file: os.truncate(file, 1000),
    "an empty file": lambda file: os.truncate(file, 0),
    "a flipped checksum": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"?"),
    "a file that is gone": lambda file: file.unlink(),
    "a longer file": lambda file: file.write_bytes(file.read_bytes() + b"?"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_repaired_in_products_and_solutions(tmp_path, damage):
    entries, y = Gaussian(N), targets(N)
    matrix = stored(tmp_path, entries=entries)
    expected = matrix.multiply(y)
    for file in (tiles(tmp_path)[0], tiles(tmp_path)[7], tmp_path / "c" / "6" / "6"):
        DAMAGE[damage](file)
    with pytest.warns(UserWarning, match=r"3 of 28 tiles .* were damaged or gone"):
        assert torch.equal(matrix.multiply(y), expected)
    assert torch.equal(matrix.multiply(y), expected)
    assert entries.calls == 31
    DAMAGE[damage](tmp_path / "c" / "3" / "1")
    with pytest.warns(UserWarning, match=r"1 of 28 tiles"):
        found = matrix.solve(0.1, y)
    expected = Factorisation(Gaussian(N).dense()).solve(0.1, y)
    torch.testing.assert_close(found.coefficients, expected, rtol=1e-9, atol=1e-9)


def test_a_wrong_size_is_found_by_writing(tmp_path):
    stored(tmp_path).write()
    os.truncate(tiles(tmp_path)[5], 1000)
    again = Gaussian(N)
    with pytest.warns(UserWarning, match=r"1 of 28 tiles"):
        stored(tmp_path, entries=again).write()
    assert again.calls == 1


def test_another_matrix_in_the_folder_is_refused_and_nothing_is_changed(tmp_path):
    stored(tmp_path).write()
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(InputError, match="the kernel matrix of another kernel or of other training inputs"):
        stored(tmp_path, identity="b")
    with pytest.raises(InputError, match="tiles of another size"):
        StoreHome(tmp_path).matrix(Layout(N, 64), Gaussian(N), "a")
    with pytest.raises(InputError, match="a kernel matrix of another size"):
        StoreHome(tmp_path).matrix(Layout(N + 1, 32), Gaussian(N + 1), "a")
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="which holds other files"):
        stored(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        stored(tmp_path / "file")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"zarr_format": 3}'])
def test_a_damaged_description_is_refused(tmp_path, content):
    stored(tmp_path).write()
    (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(InputError, match="holds no kernel matrix that can be read"):
        stored(tmp_path)


def test_a_zarr_array_of_someone_else_is_refused(tmp_path):
    zarr.create_array(str(tmp_path), shape=(3,), dtype="f8")
    with pytest.raises(InputError, match="holds no kernel matrix"):
        stored(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own with room for 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_the_plan_tells_bytes_and_seconds_before_anything_is_written(tmp_path):
    plan = StoreHome(tmp_path / "new", memory_limit=10**8).plan(LAYOUT)
    stored(tmp_path / "new").write()
    assert plan.tile_bytes == sum(file.stat().st_size for file in tiles(tmp_path / "new"))
    assert plan.fits
    assert plan.working_bytes <= 10**8
    assert plan.write_seconds > 0
    assert plan.product_seconds > 0
    assert "203 training inputs" in str(plan)
    large = StoreHome(tmp_path).plan(Layout(10**7))
    assert not large.fits
    assert "too little" in str(large)


def test_a_full_disk_is_told_before_any_work_is_done(small_disk):
    entries = Gaussian(N)
    with pytest.raises(InputError, match=r"too little room: the 28 tiles .* take 229,488 bytes, and [\d,]+ are free"):
        stored(small_disk, entries=entries).write()
    assert entries.calls == 0


def test_a_disk_that_becomes_full_keeps_what_was_written(small_disk, monkeypatch):
    monkeypatch.setattr(TileFolder, "check_space", lambda self, tiles: None)
    with pytest.raises(InputError, match=r"the disk is full: the \d+ tiles .* what has been written is kept"):
        stored(small_disk).write()
    written = len(tiles(small_disk))
    assert 10 < written < 28
    assert not list(small_disk.rglob("*.partial"))
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    again = Gaussian(N)
    stored(small_disk, entries=again).write()
    assert again.calls == 28 - written


def test_a_disk_with_no_room_for_a_checkpoint_does_not_stop_a_solution(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    matrix = stored(tmp_path, checkpoint_seconds=0.0)
    matrix.write()
    monkeypatch.setattr("ntklens.linalg.tiles.iterative.checkpoint.save_file", full)
    with pytest.warns(UserWarning, match="it starts anew"):
        assert matrix.solve(0.1, targets(N)).residual <= 1e-12


def test_entries_that_are_not_finite_are_refused(tmp_path):
    def broken(rows, columns):
        block = Gaussian(N)(rows, columns)
        if rows.start == 64:
            block[3, 3] = float("nan")
        return block

    with pytest.raises(NumericalFailure, match="not a finite number"):
        StoreHome(tmp_path).matrix(LAYOUT, broken, "a").write()


@pytest.mark.parametrize("path", [3, None])
def test_what_is_no_path_is_refused(path, untyped):
    with pytest.raises(InputError, match="expected path as a path"):
        StoreHome(path)
