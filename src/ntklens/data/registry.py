"""The data sets by name: where each is looked for, how it is read, and what it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import pooch

from ntklens.data import cifar
from ntklens.data.arrays import images, labels, read_npz
from ntklens.data.dataset import Dataset, Split
from ntklens.data.download import fetch
from ntklens.data.folder import read_folder
from ntklens.data.idx import read_idx
from ntklens.errors import InputError

ENVIRONMENT = "NTKLENS_DATA"
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_FASHION_SHA256 = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
_MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
_CIFAR_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"


@dataclass(frozen=True)
class Source:
    """One data set that has a name.

    Attributes:
        about: the task in a few words.
        licence: terms of the images.
        read: from its folder or archive to the data set; without arguments from the package itself.
        url: where its authors publish the files; None when it comes with the package.
        files: the published files' names, each with its SHA-256.
    """

    about: str
    licence: str
    read: Callable[[Path], Dataset]
    url: str | None = None
    files: dict[str, str] = field(default_factory=dict)


def _read_idx_set(name: str, classes: tuple[str, ...], licence: str) -> Callable[[Path], Dataset]:
    def read(folder: Path) -> Dataset:
        arrays = [read_idx(_either(folder, stem)) for stem in _IDX]
        train, test = (Split(images(x, name), labels(y, name)) for x, y in (arrays[:2], arrays[2:]))
        return Dataset(train, test, classes, name, licence)

    return read


def _either(folder: Path, stem: str) -> Path:
    """The gzipped file, or the plain one."""
    packed = folder / f"{stem}.gz"
    return packed if packed.exists() else folder / stem


def _read_mini(_: Path) -> Dataset:
    asset = resources.files("ntklens.data").joinpath("assets/fashion_mnist_mini.npz")
    with resources.as_file(asset) as path:
        return read_npz(path, "fashion-mnist-mini", "MIT, Zalando SE 2017")


def _read_digits(_: Path) -> Dataset:
    """Every fifth image of each class is for testing."""
    from sklearn.datasets import load_digits  # slow to import, and wanted here alone

    bunch = load_digits()
    x, y = images((bunch.images / 16).astype(np.float32), "digits"), labels(bunch.target, "digits")
    held_out = np.zeros(len(y), dtype=bool)
    for c in range(10):
        held_out[np.flatnonzero(bunch.target == c)[4::5]] = True
    names = tuple(map(str, range(10)))
    return Dataset(Split(x[~held_out], y[~held_out]), Split(x[held_out], y[held_out]), names, "digits", "CC BY 4.0")


SOURCES = {
    "fashion-mnist-mini": Source(
        "clothes, 28x28 grey, ten classes; 4,000 + 1,000 images of Fashion-MNIST",
        "MIT, Zalando SE 2017",
        _read_mini,
    ),
    "digits": Source("handwritten digits, 8x8 grey, ten classes; 1,797 images", "CC BY 4.0", _read_digits),
    "fashion-mnist": Source(
        "clothes, 28x28 grey, ten classes; 60,000 + 10,000 images",
        "MIT, Zalando SE 2017",
        _read_idx_set("fashion-mnist", CLOTHES, "MIT, Zalando SE 2017"),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {f"{stem}.gz": sha for stem, sha in zip(_IDX, _FASHION_SHA256, strict=True)},
    ),
    "mnist": Source(
        "handwritten digits, 28x28 grey, ten classes; 60,000 + 10,000 images",
        "CC BY-SA 3.0",
        _read_idx_set("mnist", tuple(map(str, range(10))), "CC BY-SA 3.0"),
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {f"{stem}.gz": sha for stem, sha in zip(_IDX, _MNIST_SHA256, strict=True)},
    ),
    "cifar10": Source(
        "objects, 32x32 colour, ten classes; 50,000 + 10,000 images",
        "unstated; research use, cite Krizhevsky 2009",
        lambda path: cifar.read_cifar10(_cifar_place(path)),
        "https://www.cs.toronto.edu/~kriz/",
        {cifar.ARCHIVE: _CIFAR_SHA256},
    ),
}


def _cifar_place(folder: Path) -> Path:
    unpacked = folder / cifar.FOLDER
    if (folder / "test_batch.bin").exists():
        return folder
    return unpacked if unpacked.is_dir() else folder / cifar.ARCHIVE


def dataset_names() -> tuple[str, ...]:
    """The names that `load_dataset` knows."""
    return tuple(SOURCES)


def load_dataset(
    name: str = "fashion-mnist-mini",
    *,
    classes: Sequence[int | str] | None = None,
    train: int | None = None,
    test: int | None = None,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Images in [0, 1] with class indices.

    Args:
        name: one of `dataset_names()`, or the path of an `.npz` file or of a folder of images.
        classes: keep these classes (indices or names), numbered anew in this order.
        train: keep the first so many training images (after the choice of classes).
        test: likewise of the test images.
        data_dir: folder that holds the files, or a folder of that name with them; then the environment variable
            NTKLENS_DATA is looked at, then the cache, which a verified download fills.
        cache_dir: another place for the cache.

    Raises:
        InputError: an unknown name, missing files that cannot be fetched, or arguments that do not fit.

    Example:
        >>> data = load_dataset("fashion-mnist-mini", classes=["Pullover", "Coat"])
        >>> data.train.x.shape, data.classes
        (torch.Size([800, 1, 28, 28]), ('Pullover', 'Coat'))
    """
    data = _load(name, data_dir, cache_dir)
    if classes is not None:
        data = data.select(classes)
    return data.first(train, test)


def _load(name: str, data_dir: str | Path | None, cache_dir: str | Path | None) -> Dataset:
    if name in SOURCES:
        source = SOURCES[name]
        if source.url is None:
            return source.read(Path())
        found = find(name, data_dir, cache_dir)
        return source.read(found if found is not None else _download(name, source, _cache(cache_dir)))
    path = Path(name)
    if path.is_dir():
        return read_folder(path)
    if path.suffix == ".npz":
        if not path.is_file():
            raise InputError(f"{path} does not exist.")
        return read_npz(path)
    if len(path.parts) > 1 or path.suffix:
        raise InputError(f"{path} does not exist; give an .npz file, or a folder with a train and a test set.")
    known = ", ".join(SOURCES)
    raise InputError(f'the data set "{name}" is not known; give one of {known}, or a path to an .npz file or a folder.')


def find(
    name: str, data_dir: str | Path | None = None, cache_dir: str | Path | None = None, *, strict: bool = True
) -> Path | None:
    """The folder that holds a data set's files, in the order in which `load_dataset` looks; None when there is none.

    Raises:
        InputError: `data_dir` is given and does not hold them; not when `strict` is off.
    """
    places = [Path(data_dir)] if data_dir is not None else []
    if os.environ.get(ENVIRONMENT):
        places.append(Path(os.environ[ENVIRONMENT]))
    for place in [*places, _cache(cache_dir)]:
        for folder in (place / name, place):
            if _holds(name, folder):
                return folder
        if strict and data_dir is not None and place == Path(data_dir):
            files = ", ".join(SOURCES[name].files)
            raise InputError(f"{place} does not hold {name}: {files} were looked for there and in {place / name}.")
    return None


def _holds(name: str, folder: Path) -> bool:
    if name == "cifar10":
        if any((folder / p).is_dir() for p in ("cifar-10-batches-py",)) and not _cifar_place(folder).exists():
            raise InputError(
                f"{folder} has the pickled version of CIFAR-10, which is not read because unpickling runs code; get "
                f"{cifar.ARCHIVE} from its authors."
            )
        return _cifar_place(folder).exists()
    return all(_either(folder, stem).is_file() for stem in _IDX)


def _cache(cache_dir: str | Path | None) -> Path:
    return Path(cache_dir) if cache_dir is not None else Path(pooch.os_cache("ntklens"))


def _download(name: str, source: Source, cache: Path) -> Path:
    folder = cache / name
    remedy = (
        f"without a network, put the files into a folder and pass it as data_dir (--data-dir), or set {ENVIRONMENT}."
    )
    for file, sha in source.files.items():
        fetch(f"{source.url}{file}", f"sha256:{sha}", folder, file, remedy)
    return folder
