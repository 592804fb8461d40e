"""Data sets by name: what each is, where it is looked for, and how it is read."""

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
"""Environment variable with a folder to look for data sets in."""
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
    """A data set that has a name.

    Attributes:
        about: the task in a few words.
        licence: terms of the images.
        read: reads the data set from its folder; a data set that comes with the package ignores the folder.
        url: where its authors publish the files; None where it comes with the package.
        files: names of the published files, each with its SHA-256.
    """

    about: str
    licence: str
    read: Callable[[Path], Dataset]
    url: str | None = None
    files: dict[str, str] = field(default_factory=dict)


def _idx_reader(name: str, classes: tuple[str, ...], licence: str) -> Callable[[Path], Dataset]:
    """Return a function that reads the four IDX files of a data set from a folder."""

    def read(folder: Path) -> Dataset:
        arrays = [read_idx(_gzipped_or_plain(folder, stem)) for stem in _IDX]
        train, test = (Split(images(x, name), labels(y, name)) for x, y in (arrays[:2], arrays[2:]))
        return Dataset(train, test, classes, name, licence)

    return read


def _gzipped_or_plain(folder: Path, stem: str) -> Path:
    """Return the path of the gzipped file where it exists, and otherwise that of the plain one."""
    gzipped = folder / f"{stem}.gz"
    return gzipped if gzipped.exists() else folder / stem


def _read_mini(_: Path) -> Dataset:
    asset = resources.files("ntklens.data").joinpath("assets/fashion_mnist_mini.npz")
    with resources.as_file(asset) as path:
        return read_npz(path, "fashion-mnist-mini", "MIT, Zalando SE 2017")


def _read_digits(_: Path) -> Dataset:
    """Read the digits of scikit-learn, with every fifth image of each class as a test image."""
    from sklearn.datasets import load_digits  # slow to import, and needed for this data set only

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
        _idx_reader("fashion-mnist", CLOTHES, "MIT, Zalando SE 2017"),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {f"{stem}.gz": sha for stem, sha in zip(_IDX, _FASHION_SHA256, strict=True)},
    ),
    "mnist": Source(
        "handwritten digits, 28x28 grey, ten classes; 60,000 + 10,000 images",
        "CC BY-SA 3.0",
        _idx_reader("mnist", tuple(map(str, range(10))), "CC BY-SA 3.0"),
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {f"{stem}.gz": sha for stem, sha in zip(_IDX, _MNIST_SHA256, strict=True)},
    ),
    "cifar10": Source(
        "objects, 32x32 colour, ten classes; 50,000 + 10,000 images",
        cifar.LICENCE,
        lambda folder: cifar.read_cifar10(_cifar_path(folder)),
        "https://www.cs.toronto.edu/~kriz/",
        {cifar.ARCHIVE: _CIFAR_SHA256},
    ),
}


def _cifar_path(folder: Path) -> Path:
    """Return where CIFAR-10 is: the folder itself, the extracted folder in it, or else the archive in it."""
    extracted = folder / cifar.FOLDER
    if (folder / "test_batch.bin").exists():
        return folder
    return extracted if extracted.is_dir() else folder / cifar.ARCHIVE


def dataset_names() -> tuple[str, ...]:
    """Return the names that `load_dataset` knows."""
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
    """Load a data set: images in [0, 1] with class indices.

    Args:
        name: one of `dataset_names()`, or the path of an `.npz` file or of a folder of images.
        classes: the classes to keep (indices or names), whose indices are then 0, 1, … in this order; None for all.
        train: number of training images to keep, the first of these classes; None for all.
        test: number of test images, likewise.
        data_dir: folder with the files, or with a folder of the data set's name that has them. Next, the folder in the
            environment variable NTKLENS_DATA is searched, and then the cache, which a verified download fills.
        cache_dir: another folder for the cache.

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
        folder = find(name, data_dir, cache_dir)
        return source.read(folder if folder is not None else _download(name, source, _cache(cache_dir)))
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
    raise InputError(f'expected a data set out of {known}, or a path to an .npz file or a folder; got "{name}".')


def find(
    name: str, data_dir: str | Path | None = None, cache_dir: str | Path | None = None, *, strict: bool = True
) -> Path | None:
    """Return the first folder with a data set's files, searched in the order of `load_dataset`; None where there is none.

    Args:
        name: name of the data set.
        data_dir: as in `load_dataset`.
        cache_dir: as in `load_dataset`.
        strict: raise an error where `data_dir` is given and does not hold the files.

    Raises:
        InputError: `data_dir` does not hold the files, and `strict` is set.
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
            raise InputError(f"{place} does not hold {name}: expected {files} in it or in {place / name}.")
    return None


def _holds(name: str, folder: Path) -> bool:
    """Return whether a folder has the files of a data set."""
    if name == "cifar10":
        if (folder / "cifar-10-batches-py").is_dir() and not _cifar_path(folder).exists():
            raise InputError(
                f"{folder} has the pickled version of CIFAR-10, which is not read because unpickling runs code. Get "
                f"{cifar.ARCHIVE} from its authors."
            )
        return _cifar_path(folder).exists()
    return all(_gzipped_or_plain(folder, stem).is_file() for stem in _IDX)


def _cache(cache_dir: str | Path | None) -> Path:
    return Path(cache_dir) if cache_dir is not None else Path(pooch.os_cache("ntklens"))


def _download(name: str, source: Source, cache: Path) -> Path:
    folder = cache / name
    remedy = (
        f"without a network, put the files into a folder and pass it as data_dir (--data-dir), or set {ENVIRONMENT}."
    )
    for file, sha256 in source.files.items():
        fetch(f"{source.url}{file}", f"sha256:{sha256}", folder, file, remedy)
    return folder
