"""MNIST and the data sets in its four IDX files, which are told apart by the checksums of their contents.

MNIST, Fashion-MNIST, KMNIST and others have the same file names, so that a name says nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ntklens.data.arrays import check_scale, images
from ntklens.data.dataset import Dataset, Split
from ntklens.data.idx import parse_idx, unpacked
from ntklens.data.labels import check_every_index, labels
from ntklens.errors import InputError

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
"""Names of the four files, without the suffix .gz of a packed one."""
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


@dataclass(frozen=True)
class Published:
    """A published data set in these files.

    Attributes:
        name: its name.
        classes: names of the classes.
        licence: terms of the images.
        contents: SHA-256 of the unpacked files, in the order of `STEMS`; it does not depend on how they were packed.
    """

    name: str
    classes: tuple[str, ...]
    licence: str
    contents: tuple[str, str, str, str]


FASHION = Published(
    "fashion-mnist",
    CLOTHES,
    "MIT, Zalando SE 2017",
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)
MNIST = Published(
    "mnist",
    tuple(map(str, range(10))),
    "CC BY-SA 3.0",
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
_PUBLISHED = (FASHION, MNIST)


def has_files(folder: Path) -> bool:
    """Return whether a folder has the four files, packed or plain."""
    return all(_file(folder, stem).is_file() for stem in STEMS)


def identify(folder: Path) -> str | None:
    """Return the name of the published data set whose test labels a folder has; None for another one.

    Raises:
        InputError: a damaged file.
    """
    digest = _sha256(unpacked(_file(folder, STEMS[3])))
    return next((p.name for p in _PUBLISHED if p.contents[3] == digest), None)


def read_published(folder: Path, published: Published) -> Dataset:
    """Read a published data set, whose four files are verified.

    Raises:
        InputError: files that are damaged or other than the published ones.
    """
    arrays = []
    for stem, expected in zip(STEMS, published.contents, strict=True):
        path = _file(folder, stem)
        content = unpacked(path)
        if (digest := _sha256(content)) != expected:
            other = next((p.name for p in _PUBLISHED if digest in p.contents), None)
            got = f"that of {other}" if other else "another one, by its SHA-256"
            raise InputError(
                f"expected the published file of {published.name} in {path}; got {got}. Fetch the published files, or give "
                f"the folder itself as the data set ({folder}, in place of the name {published.name}) to read it as one of "
                "your own."
            )
        arrays.append(parse_idx(content, path))
    return _assembled(arrays, folder, published.classes, published.name, published.licence)


def read_own(folder: Path) -> Dataset:
    """Read a data set from four IDX files; a published one gets its name and the names of its classes.

    Raises:
        InputError: files that are damaged or do not fit together.
    """
    name = identify(folder)
    if name is not None:
        return read_published(folder, next(p for p in _PUBLISHED if p.name == name))
    arrays = [parse_idx(unpacked(path), path) for path in (_file(folder, stem) for stem in STEMS)]
    place = folder.resolve()
    own = place.parent.name if place.name.lower() == "raw" else place.name
    return _assembled(arrays, folder, None, own, "the user's own")


def _assembled(
    arrays: list[NDArray[np.uint8]], folder: Path, classes: tuple[str, ...] | None, name: str, licence: str
) -> Dataset:
    """Put the four arrays together; without names, the classes are the indices that occur."""
    check_scale([arrays[0], arrays[2]], str(folder))
    x = [images(array, str(folder)) for array in (arrays[0], arrays[2])]
    y = [labels(array, str(folder)) for array in (arrays[1], arrays[3])]
    if classes is None:
        classes = tuple(map(str, range(check_every_index(y[0], y[1], str(folder)))))
    return Dataset(Split(x[0], y[0]), Split(x[1], y[1]), classes, name, licence)


def _file(folder: Path, stem: str) -> Path:
    """Return the path of the gzipped file where it exists, and otherwise that of the plain one."""
    gzipped = folder / f"{stem}.gz"
    return gzipped if gzipped.exists() else folder / stem


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
