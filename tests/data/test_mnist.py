"""The four IDX files of MNIST and its kin: told apart by their contents, wherever and however they lie."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from ntklens.data import find, load_dataset, mnist
from ntklens.errors import InputError


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def contents(seed: int, classes: int = 4) -> list[bytes]:
    rng = np.random.default_rng(seed)
    pixels, y = rng.integers(0, 256, (3 * classes, 5, 5)), rng.permutation(3 * classes) % classes
    cut = 2 * classes
    return [idx_bytes(array) for array in (pixels[:cut], y[:cut], pixels[cut:], y[cut:])]


def written(folder: Path, files: list[bytes], *, packed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in zip(mnist.STEMS, files, strict=True):
        if packed:
            (folder / f"{stem}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / stem).write_bytes(content)
    return folder


DIGITS, CLOTHES, OTHER = contents(0), contents(1), contents(2)


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """Let small files be the published ones."""
    sets = []
    for attribute, files in (("MNIST", DIGITS), ("FASHION", CLOTHES)):
        real = getattr(mnist, attribute)
        digests = tuple(hashlib.sha256(content).hexdigest() for content in files)
        sets.append(mnist.Published(real.name, real.classes, real.licence, digests))
        monkeypatch.setattr(mnist, attribute, sets[-1])
    monkeypatch.setattr(mnist, "_PUBLISHED", tuple(sets))
    monkeypatch.delenv("NTKLENS_DATA", raising=False)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw", "raw"])
def test_the_files_are_found_where_people_have_them(below, packed, tmp_path):
    written(tmp_path / "FashionMNIST" / "raw", CLOTHES)
    folder = written(tmp_path / below, DIGITS, packed=packed)
    assert find("mnist", tmp_path) == folder
    data = load_dataset("mnist", data_dir=tmp_path)
    assert (data.name, data.classes[:2], data.shape) == ("mnist", ("0", "1"), (1, 5, 5))
    assert np.array_equal((data.train.x * 255).round().numpy().astype(np.uint8).tobytes(), DIGITS[0][16:])
    assert load_dataset("fashion-mnist", data_dir=tmp_path).classes[0] == "T-shirt/top"


def test_the_data_set_is_chosen_by_its_contents_where_names_agree(tmp_path):
    written(tmp_path, CLOTHES)
    written(tmp_path / "MNIST" / "raw", DIGITS)
    assert find("mnist", tmp_path) == tmp_path / "MNIST" / "raw"
    assert find("fashion-mnist", tmp_path) == tmp_path


@pytest.mark.parametrize("through", ["argument", "environment"])
@pytest.mark.parametrize(("files", "got"), [(CLOTHES, "that of fashion-mnist"), (OTHER, "another one, by its SHA-256")])
def test_files_of_another_set_are_refused(files, got, through, tmp_path, monkeypatch):
    folder = written(tmp_path / "mnist", files)
    if through == "environment":
        monkeypatch.setenv("NTKLENS_DATA", str(tmp_path))
        if files is CLOTHES:  # known to be another set: the search goes on
            assert find("mnist", cache_dir=tmp_path / "cache") is None
            return
    with pytest.raises(
        InputError, match=rf"published file of mnist in {folder}.*; got {got}\. .*give the folder itself"
    ):
        load_dataset("mnist", data_dir=tmp_path if through == "argument" else None, cache_dir=tmp_path / "cache")
    assert find("mnist", tmp_path if through == "argument" else None, tmp_path / "cache", strict=False) is None


@pytest.mark.parametrize("file", range(4))
def test_each_file_is_verified(file, tmp_path):
    files = [OTHER[i] if i == file else content for i, content in enumerate(DIGITS)]
    folder = written(tmp_path, files)
    with pytest.raises(InputError, match=f"published file of mnist in {folder / mnist.STEMS[file]}"):
        load_dataset("mnist", data_dir=tmp_path)


def test_a_folder_of_idx_files_is_a_data_set_of_its_own(tmp_path):
    data = load_dataset(written(tmp_path / "KMNIST" / "raw", OTHER))
    assert (data.name, data.classes, data.licence) == ("KMNIST", ("0", "1", "2", "3"), "the user's own")
    assert load_dataset(tmp_path / "KMNIST").fingerprint() == data.fingerprint()
    assert load_dataset(written(tmp_path / "mine", CLOTHES)).classes == mnist.CLOTHES
    letters = [OTHER[0], idx_bytes(np.arange(8) % 4 + 1), OTHER[2], idx_bytes(np.arange(4) + 1)]
    with pytest.raises(InputError, match="labels from 1 to 4 and no image of class 0"):
        load_dataset(written(tmp_path / "letters", letters))


def test_damaged_test_labels_are_no_reason_to_fail_for_a_search(tmp_path):
    folder = written(tmp_path / "mnist", DIGITS, packed=True)
    path = folder / f"{mnist.STEMS[3]}.gz"
    path.write_bytes(path.read_bytes()[:-6])
    assert find("mnist", tmp_path, strict=False, cache_dir=tmp_path) is None
    with pytest.raises(InputError, match="is a damaged gzip file"):
        load_dataset("mnist", data_dir=tmp_path)


def test_where_the_files_are_expected_is_told(tmp_path):
    with pytest.raises(
        InputError, match=f"does not hold mnist: expected train-images.* in one of .*{tmp_path}/MNIST/raw"
    ):
        load_dataset("mnist", data_dir=tmp_path)
