"""Data sets by name and by path, on real files."""

import gzip
import io
import struct
import tarfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ntklens.data import dataset_names, load_dataset
from ntklens.data.dataset import Dataset, Split
from ntklens.data.idx import read_idx
from ntklens.errors import InputError

FULL = Path(__file__).parents[2].parent / "shared" / "data"
needs_full = pytest.mark.skipif(not FULL.is_dir(), reason="the full data sets are not beside this checkout")
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def test_the_embedded_set_is_stratified_and_interleaved():
    data = load_dataset()
    assert data.train.x.shape == (4000, 1, 28, 28)
    assert data.test.x.shape == (1000, 1, 28, 28)
    assert data.train.x.dtype == torch.float32
    assert (float(data.train.x.min()), float(data.train.x.max())) == (0, 1)
    for split, each in ((data.train, 400), (data.test, 100)):
        assert torch.bincount(split.y).tolist() == [each] * 10
        for n in (13, 100, 777):
            counts = torch.bincount(split.y[:n], minlength=10)
            assert int(counts.max() - counts.min()) <= 1


def test_the_embedded_set_is_small_and_the_same_everywhere():
    asset = resources.files("ntklens.data") / "assets" / "fashion_mnist_mini.npz"
    assert len(asset.read_bytes()) < 3_000_000
    assert load_dataset().fingerprint() == "f05702ef58faae913c0a48eefd0c92539df475298831acd8080f2bd93db1a8b0"


@needs_full
def test_the_embedded_set_is_a_part_of_the_full_one():
    full, mini = load_dataset("fashion-mnist", data_dir=FULL), load_dataset()
    rows = {x.numpy().tobytes(): int(y) for x, y in zip(full.test.x, full.test.y, strict=True)}
    assert all(rows[x.numpy().tobytes()] == int(y) for x, y in zip(mini.test.x, mini.test.y, strict=True))


@needs_full
@pytest.mark.parametrize(("name", "ones"), [("fashion-mnist", 1000), ("mnist", 1135)])
def test_the_full_sets(name, ones, monkeypatch):
    monkeypatch.setenv("NTKLENS_DATA", str(FULL))
    data = load_dataset(name)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert int((data.test.y == 1).sum()) == ones


def test_digits_are_split_by_class():
    data = load_dataset("digits")
    assert len(data.train) + len(data.test) == 1797
    assert data.train.x.shape[1:] == (1, 8, 8)
    share = torch.bincount(data.test.y) / (torch.bincount(data.train.y) + torch.bincount(data.test.y))
    assert share.min() > 0.18
    assert share.max() <= 0.2


def test_classes_by_index_and_name_are_numbered_anew():
    data = load_dataset(classes=["Coat", 2])
    assert data.classes == ("Coat", "Pullover")
    everything = load_dataset()
    assert torch.equal(data.test.x[data.test.y == 0], everything.test.x[everything.test.y == 4])
    assert data.fingerprint() != load_dataset(classes=[2, 4]).fingerprint()


def test_first_keeps_file_order():
    data = load_dataset(train=10, test=5)
    assert torch.equal(data.train.x, load_dataset().train.x[:10])
    assert len(data.test) == 5


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def tiny_mnist(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (6, 4, 4)), np.arange(6), rng.integers(0, 256, (3, 4, 4)), np.arange(3)]
    for stem, array in zip(STEMS, arrays, strict=True):
        (tmp_path / f"{stem}.gz").write_bytes(gzip.compress(idx_bytes(array.astype(np.uint8))))
    return tmp_path, arrays


def test_idx_files_gzipped_and_plain(tiny_mnist):
    folder, arrays = tiny_mnist
    data = load_dataset("mnist", data_dir=folder)
    assert np.array_equal((data.train.x[:, 0] * 255).round().numpy(), arrays[0])
    packed = folder / f"{STEMS[0]}.gz"
    (folder / STEMS[0]).write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert load_dataset("mnist", data_dir=folder).fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an idx file", "not an IDX file"),
        (gzip.compress(idx_bytes(np.zeros((2, 3), np.uint8)), mtime=0)[:-9], "damaged gzip"),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:-1], "holds 5 bytes where its header says 6"),
        (b"\0\0\x08\x03\0", "cut short"),
    ],
    ids=["not idx", "damaged gzip", "too few bytes", "cut header"],
)
def test_damaged_idx_files(content, message, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_idx(path)


CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar_archive(path: Path, *, leave_out: str = "", cut: int = 0, each: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (6, each, 3073)).astype(np.uint8)
    rows[:, :, 0] = rng.integers(0, 10, (6, each))
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    contents = {name: r.tobytes()[: len(r.tobytes()) - cut] for name, r in zip(names, rows, strict=True)}
    contents["batches.meta.txt"] = "\n".join(CIFAR).encode() + b"\n\n"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            if name != leave_out:
                info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return rows


def test_cifar10_from_the_archive_and_from_its_folder(tmp_path):
    archive = tmp_path / "cifar-10-binary.tar.gz"
    rows = cifar_archive(archive)
    data = load_dataset("cifar10", data_dir=tmp_path)
    assert data.train.x.shape == (20, 3, 32, 32)
    assert data.classes[3] == "cat"
    assert np.array_equal((data.test.x * 255).round().numpy().reshape(4, -1), rows[5, :, 1:])
    assert data.test.y.tolist() == rows[5, :, 0].tolist()
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert load_dataset("cifar10", data_dir=tmp_path / "unpacked").fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("damage", "message"),
    [({"leave_out": "data_batch_3.bin"}, "has no data_batch_3.bin"), ({"cut": 7}, "whole records of 3073 bytes")],
)
def test_damaged_cifar10(damage, message, tmp_path):
    cifar_archive(tmp_path / "cifar-10-binary.tar.gz", **damage)
    with pytest.raises(InputError, match=message):
        load_dataset("cifar10", data_dir=tmp_path)


def test_the_pickled_cifar10_is_refused(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(InputError, match="not read because unpickling runs code"):
        load_dataset("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("layout", ["nhw", "nchw", "nhwc"])
def test_npz_files_in_the_usual_layouts(layout, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 3, 5, 4)).astype(np.uint8)
    pixels = {"nhw": pixels[:, 0], "nchw": pixels, "nhwc": pixels.transpose(0, 2, 3, 1)}[layout]
    y = np.array([0, 1, 0, 1, 0, 1])
    np.savez(tmp_path / "mine.npz", x_train=pixels, y_train=y, x_test=pixels, y_test=y, classes=["cat", "dog"])
    data = load_dataset(str(tmp_path / "mine.npz"))
    assert data.shape == (1 if layout == "nhw" else 3, 5, 4)
    assert data.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, "it lacks y_test"),
        ({"x_test": np.zeros((0, 3, 3)), "y_test": np.zeros(0, int)}, "x_test, y_test came empty"),
        ({"y_train": np.zeros(5, int)}, "4 class indices"),
        ({"x_train": np.full((4, 3, 3), 2.0)}, r"pixels in \[0, 1\]"),
        ({"x_train": np.full((4, 3, 3), np.nan)}, r"pixels in \[0, 1\]"),
        ({"x_train": np.zeros((4, 3, 3), int)}, "pixels as bytes or as floats"),
        ({"x_train": np.zeros((4, 9))}, "images .n, H, W."),
        ({"y_train": np.zeros((4, 2), int)}, r"class indices \(n,\)"),
        ({"x_test": np.zeros((4, 2, 2))}, "of one shape"),
        ({"classes": np.array(["only"])}, "one a class name"),
    ],
)
def test_npz_files_that_do_not_fit(changed, message, tmp_path):
    arrays = {"x_train": np.zeros((4, 3, 3)), "x_test": np.zeros((4, 3, 3))}
    arrays |= {"y_train": np.array([0, 1, 0, 1]), "y_test": np.array([0, 1, 0, 1])} | changed
    np.savez(tmp_path / "mine.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(InputError, match=message):
        load_dataset(str(tmp_path / "mine.npz"))


def test_pickles_in_an_npz_are_not_opened(tmp_path):
    np.savez(tmp_path / "evil.npz", x_train=np.array([object()]))
    with pytest.raises(InputError, match="plain arrays"):
        load_dataset(str(tmp_path / "evil.npz"))


def draw(folder: Path, count: int, mode: str = "L", size: tuple[int, int] = (6, 5)) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new(mode, size, 20 * i if mode == "L" else (20 * i, 0, 255)[: len(mode)]).save(folder / f"{i:02}.png")


def test_folders_with_and_without_a_split(tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for c in ("cat", "dog"):
            draw(tmp_path / "split" / split / c, count, "RGB")
    data = load_dataset(str(tmp_path / "split"))
    assert (len(data.train), len(data.test), data.shape) == (8, 4, (3, 5, 6))
    for c in ("cat", "dog"):
        draw(tmp_path / "plain" / c, 10)
    data = load_dataset(str(tmp_path / "plain"))
    assert (len(data.train), len(data.test)) == (16, 4)
    assert sorted((data.test.x[:, 0, 0, 0] * 255).round().tolist()) == [80, 80, 180, 180]


def test_folders_that_do_not_fit(tmp_path):
    draw(tmp_path / "one" / "cat", 10)
    with pytest.raises(InputError, match="two or more class folders"):
        load_dataset(str(tmp_path / "one"))
    draw(tmp_path / "sizes" / "cat", 10)
    draw(tmp_path / "sizes" / "dog", 10, size=(7, 7))
    with pytest.raises(InputError, match="images of one size"):
        load_dataset(str(tmp_path / "sizes"))
    draw(tmp_path / "alpha" / "cat", 10, "LA")
    draw(tmp_path / "alpha" / "dog", 10, "LA")
    with pytest.raises(InputError, match="its mode is LA"):
        load_dataset(str(tmp_path / "alpha"))


def test_unknown_names_and_wrong_choices(tmp_path):
    with pytest.raises(InputError, match="give one of fashion-mnist-mini, digits"):
        load_dataset("imagenet")
    with pytest.raises(InputError, match="does not hold mnist"):
        load_dataset("mnist", data_dir=tmp_path)
    with pytest.raises(InputError, match="has no class 'Hat'"):
        load_dataset(classes=["Hat", "Coat"])
    with pytest.raises(InputError, match="two or more different classes"):
        load_dataset(classes=[1, 1])
    with pytest.raises(InputError, match="from 1 to 4000"):
        load_dataset(train=4001)
    assert "cifar10" in dataset_names()


def test_splits_are_checked(untyped):
    x, y = torch.zeros(2, 1, 3, 3), torch.tensor([0, 1])
    with pytest.raises(InputError, match="float32 images"):
        Split(x.double(), y)
    with pytest.raises(InputError, match="class indices from 0 to 1"):
        Dataset(Split(x, y), Split(x, y + 1), ("a", "b"), "mine")
