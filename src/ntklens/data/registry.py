"""Data sets by name: what each is, where it is looked for, and how it is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

import numpy as np
import pooch

from ntklens.arguments import as_count, as_path
from ntklens.data import cifar, mnist
from ntklens.data.arrays import images
from ntklens.data.conversion import converted
from ntklens.data.dataset import Dataset, Split
from ntklens.data.download import fetch
from ntklens.data.folder import read_folder
from ntklens.data.labels import labels
from ntklens.data.listing import has_images
from ntklens.data.npz import read_npz
from ntklens.data.pictures import Mode
from ntklens.errors import InputError

ENVIRONMENT = "NTKLENS_DATA"
"""Environment variable with a folder to look for data sets in."""
PREFIX = "ntklens:"
"""Before a name it says that the data set of that name is meant, and not a folder called so."""
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


@dataclass(frozen=True)
class Source:
    """A data set that has a name.

    Attributes:
        about: the task in a few words.
        licence: terms of the images.
        read: reads the data set from its folder; a data set that comes with the package ignores the folder.
        url: where its authors publish the files; None where it comes with the package.
        files: names of the published files, each with its SHA-256.
        folders: folders that the files may lie in, below the place that is searched; those of torchvision among them.
    """

    about: str
    licence: str
    read: Callable[[Path], Dataset]
    url: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()


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
        "clothes, 28x28 grey, ten classes; 6,000 + 10,000 images of Fashion-MNIST",
        "MIT, Zalando SE 2017",
        _read_mini,
    ),
    "digits": Source("handwritten digits, 8x8 grey, ten classes; 1,797 images", "CC BY 4.0", _read_digits),
    "fashion-mnist": Source(
        "clothes, 28x28 grey, ten classes; 60,000 + 10,000 images",
        mnist.FASHION.licence,
        lambda folder: mnist.read_published(folder, mnist.FASHION),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {f"{stem}.gz": sha for stem, sha in zip(mnist.STEMS, _FASHION_SHA256, strict=True)},
        ("fashion-mnist", "", "FashionMNIST/raw", "raw", "FashionMNIST", "fashion_mnist"),
    ),
    "mnist": Source(
        "handwritten digits, 28x28 grey, ten classes; 60,000 + 10,000 images",
        mnist.MNIST.licence,
        lambda folder: mnist.read_published(folder, mnist.MNIST),
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {f"{stem}.gz": sha for stem, sha in zip(mnist.STEMS, _MNIST_SHA256, strict=True)},
        ("mnist", "", "MNIST/raw", "raw", "MNIST"),
    ),
    "cifar10": Source(
        "objects, 32x32 colour, ten classes; 50,000 + 10,000 images",
        cifar.LICENCE,
        lambda folder: cifar.read_cifar10(_cifar_path(folder)),
        "https://www.cs.toronto.edu/~kriz/",
        {cifar.ARCHIVE: cifar.SHA256},
        ("cifar10", "", "CIFAR10", "cifar-10"),
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
    name: str | Path = "fashion-mnist-mini",
    *,
    classes: Sequence[int | str] | None = None,
    train: int | None = None,
    test: int | None = None,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    size: int | None = None,
    mode: Mode | None = None,
) -> Dataset:
    """Load a data set: images in [0, 1] with class indices.

    Args:
        name: one of `dataset_names()`, or the path of an `.npz` file, of a folder of images, or of a folder with the four
            IDX files of a data set like MNIST. A name that is also a folder of images in the current folder is refused:
            write "./name" for the folder, and "ntklens:name" for the data set.
        classes: the classes to keep (names or indices), whose indices are then 0, 1, … in this order; None for all. See
            `Dataset.select` for names that are numbers.
        train: number of training images to keep, the first of these classes; None for all.
        test: number of test images, likewise.
        data_dir: folder with the files, or with a folder of the data set's name that has them. Next, the folder in the
            environment variable NTKLENS_DATA is searched, and then the cache, which a verified download fills.
        cache_dir: another folder for the cache.
        size: resize all images to this many pixels on each side, by Pillow's bilinear filter, which averages where it
            shrinks; the ratio of the sides is not kept. Files of mixed modes then become RGB.
        mode: convert all images to "grey" (ITU-R 601-2 luma) or to "rgb".

    Returns:
        The data set; its `notes` say what was left out or converted.

    Raises:
        InputError: an unknown name, missing files that cannot be fetched, files that are damaged or other than the
            published ones, or arguments that do not fit.

    Example:
        >>> data = load_dataset("fashion-mnist-mini", classes=["Pullover", "Coat"])
        >>> data.train.x.shape, data.classes
        (torch.Size([1200, 1, 28, 28]), ('Pullover', 'Coat'))
    """
    if size is not None:
        size = as_count(size, "size")
    for argument, folder in (("data_dir", data_dir), ("cache_dir", cache_dir)):
        if folder is not None:
            as_path(folder, argument)
    if mode not in (None, "grey", "rgb"):
        raise InputError(f'expected the mode "grey" or "rgb", or None; got {mode!r}.')
    data = _load(str(name), data_dir, cache_dir, size, mode)
    if classes is not None:
        data = data.select(classes)
    data = data.first(train, test)
    return replace(data, notes=(*data.notes, *data.absent()))


def _load(
    name: str, data_dir: str | Path | None, cache_dir: str | Path | None, size: int | None, mode: Mode | None
) -> Dataset:
    """Load all images of a data set, resized and converted."""
    known = name.removeprefix(PREFIX)
    if known in SOURCES:
        source = SOURCES[known]
        if known == name and data_dir is None and Path(name).is_dir() and has_images(Path(name)):
            raise InputError(
                f'"{name}" is a data set and a folder of images here; write "./{name}" for the folder, or "{PREFIX}{name}" '
                "for the data set."
            )
        if source.url is None:
            return converted(source.read(Path()), size, mode)
        folder = find(known, data_dir, cache_dir)
        folder = folder if folder is not None else _download(known, source, _cache(cache_dir))
        return converted(source.read(folder), size, mode)
    path = Path(name).expanduser()
    if name.strip() and path.is_dir():
        return _read_directory(path, size, mode)
    if path.suffix.lower() == ".npz":
        if not path.is_file():
            raise InputError(f"{path} does not exist.")
        return converted(read_npz(path), size, mode)
    if path.is_file():
        raise InputError(f"expected an .npz file, or a folder of images; got the file {path}.")
    if len(path.parts) > 1 or path.suffix:
        raise InputError(f"{path} does not exist; give an .npz file, or a folder with a train and a test set.")
    sources = ", ".join(SOURCES)
    raise InputError(f'expected a data set out of {sources}, or a path to an .npz file or a folder; got "{name}".')


def _read_directory(path: Path, size: int | None, mode: Mode | None) -> Dataset:
    """Read the folder of a user: IDX files, the extracted CIFAR-10, or images in class folders."""
    for folder in (path, path / "raw"):
        if mnist.has_files(folder):
            return converted(mnist.read_own(folder), size, mode)
    if (path / "test_batch.bin").is_file():
        return converted(cifar.read_cifar10(path), size, mode)
    return read_folder(path, size, mode)


def find(
    name: str, data_dir: str | Path | None = None, cache_dir: str | Path | None = None, *, strict: bool = True
) -> Path | None:
    """Return the first folder with a data set's files, searched in the order of `load_dataset`; None where there is none.

    Args:
        name: name of the data set.
        data_dir: as in `load_dataset`.
        cache_dir: as in `load_dataset`.
        strict: raise an error for files of the right names that are of no known data set, and where `data_dir` is given and
            does not hold the files; otherwise such files are passed over.

    Raises:
        InputError: as `strict` says.
    """
    source = SOURCES[name]
    given = None if data_dir is None else Path(data_dir).expanduser()
    places = [] if given is None else [given]
    if os.environ.get(ENVIRONMENT):
        places.append(Path(os.environ[ENVIRONMENT]).expanduser())
    for place in [*places, _cache(cache_dir)]:
        present = [folder for folder in (place / below for below in source.folders) if _has_files(name, folder)]
        held = {folder: _identity(name, folder, strict=strict) for folder in present}
        for folder in present:
            if held[folder] == name:
                return folder
        if strict and place in places:
            # Reading tells which file is not the published one, and what to do.
            if present and (place == given or None in held.values()):
                source.read(next((f for f in present if held[f] is None), present[0]))
            if name == "cifar10":
                _refuse_pickles(place)
        if strict and place == given:
            files, below = (
                ", ".join(source.files),
                ", ".join(str(place / folder) for folder in source.folders if folder),
            )
            raise InputError(f"{place} does not hold {name}: expected {files} in it or in one of {below}.")
    return None


def _has_files(name: str, folder: Path) -> bool:
    """Return whether a folder has files with the names of a data set's files."""
    return _cifar_path(folder).exists() if name == "cifar10" else mnist.has_files(folder)


def _identity(name: str, folder: Path, *, strict: bool) -> str | None:
    """Return which data set the files in a folder are, by a checksum where several have the same names; None if unknown."""
    if name == "cifar10":
        return name
    try:
        return mnist.identify(folder)
    except InputError:
        if strict:
            raise
        return None


def _refuse_pickles(place: Path) -> None:
    """Raise InputError where there is the pickled version of CIFAR-10."""
    for folder in (place / below for below in SOURCES["cifar10"].folders):
        if (folder / "cifar-10-batches-py").is_dir() or (folder / "cifar-10-python.tar.gz").is_file():
            raise InputError(
                f"{folder} has the pickled version of CIFAR-10, which is not read because unpickling runs code. Get "
                f"{cifar.ARCHIVE} from its authors."
            )


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
