"""A folder of images, with one subfolder per class; below `train` and `test` where there are such folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ntklens.data.arrays import images
from ntklens.data.dataset import Dataset, Split
from ntklens.errors import InputError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
_HELD_OUT = 5
"""Without folders `train` and `test`, every fifth image of each class is a test image."""


def read_folder(path: Path) -> Dataset:
    """Read a data set from `train/<class>/*.png` and `test/<class>/*.png`, or from `<class>/*.png`.

    The classes take turns, so that the first images are of all classes. Without `train` and `test`, every fifth image of
    each class, in the order of the file names, is a test image. All images must have one size and mode; images with an
    alpha channel or a palette are refused.

    Raises:
        InputError: no images, or images that do not fit together.
    """
    has_split = (path / "train").is_dir() and (path / "test").is_dir()
    roots = {"train": path / "train", "test": path / "test"} if has_split else {"all": path}
    classes = sorted({d.name for root in roots.values() for d in root.iterdir() if d.is_dir()})
    files = {
        (name, c): sorted(f for f in (root / c).glob("*") if f.suffix.lower() in _SUFFIXES)
        for name, root in roots.items()
        for c in classes
    }
    if not has_split:
        files = {
            (name, c): [f for i, f in enumerate(of_class) if (i % _HELD_OUT == _HELD_OUT - 1) == (name == "test")]
            for (_, c), of_class in files.items()
            for name in ("train", "test")
        }
    if len(classes) < 2 or not all(any(files[name, c] for c in classes) for name in ("train", "test")):
        raise InputError(
            f"expected images in two or more class folders, below train and test or at the top of {path}; got "
            f"{len(classes)} class folders with images in {sum(bool(f) for f in files.values())} of them."
        )

    def read(name: str) -> Split:
        # The classes take turns: first the first image of each class, then the second of each, and so on.
        turns = [(rank, label, f) for label, c in enumerate(classes) for rank, f in enumerate(files[name, c])]
        turns.sort(key=lambda turn: turn[:2])
        y = torch.tensor([label for _, label, _ in turns])
        return Split(images(_pixels([f for *_, f in turns]), str(path)), y)

    return Dataset(read("train"), read("test"), tuple(classes), path.name, "the user's own")


def _pixels(paths: list[Path]) -> np.ndarray:
    """Read images of one size and mode: (n, H, W) or (n, H, W, 3)."""
    arrays = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                if picture.mode not in ("L", "RGB"):
                    raise InputError(f"{path}: expected a grey or RGB image; got mode {picture.mode}. Convert it.")
                arrays.append(np.asarray(picture))
        except UnidentifiedImageError:
            raise InputError(f"{path} is not an image.") from None
        if arrays[-1].shape != arrays[0].shape:
            raise InputError(
                f"expected images of one size; got {arrays[0].shape} in {paths[0]} and {arrays[-1].shape} in {path}."
            )
    return np.stack(arrays)
