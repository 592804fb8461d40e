"""A folder of images: one subfolder a class, below `train` and `test` where there are such."""

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
"""Without a split of the user's, every fifth image of each class is for testing."""


def read_folder(path: Path) -> Dataset:
    """A data set from `train/<class>/*.png` and `test/<class>/*.png`, or from `<class>/*.png`.

    The classes take turns, so that the first images are of all of them. Without `train` and `test`, every fifth image of
    each class, in the order of the file names, is for testing. All images must have one size and mode; images with an
    alpha channel or a palette are refused.

    Raises:
        InputError: no images, or images that do not fit together.
    """
    split = (path / "train").is_dir() and (path / "test").is_dir()
    roots = {"train": path / "train", "test": path / "test"} if split else {"all": path}
    classes = sorted({d.name for root in roots.values() for d in root.iterdir() if d.is_dir()})
    files = {
        (name, c): sorted(f for f in (root / c).glob("*") if f.suffix.lower() in _SUFFIXES)
        for name, root in roots.items()
        for c in classes
    }
    if not split:
        files = {
            (name, c): [f for i, f in enumerate(found) if (i % _HELD_OUT == _HELD_OUT - 1) == (name == "test")]
            for (_, c), found in files.items()
            for name in ("train", "test")
        }
    if len(classes) < 2 or not all(any(files[name, c] for c in classes) for name in ("train", "test")):
        raise InputError(f"{path} must hold images in two or more class folders, below train and test or at its top.")

    def read(name: str) -> Split:
        turns = [(rank, i, f) for i, c in enumerate(classes) for rank, f in enumerate(files[name, c])]
        turns.sort(key=lambda turn: turn[:2])
        y = torch.tensor([i for _, i, _ in turns])
        return Split(images(_stack([f for *_, f in turns]), str(path)), y)

    return Dataset(read("train"), read("test"), tuple(classes), path.name, "the user's own")


def _stack(paths: list[Path]) -> np.ndarray:
    pictures = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                if picture.mode not in ("L", "RGB"):
                    raise InputError(
                        f"{path}: a grey or RGB image was expected; its mode is {picture.mode}; convert it."
                    )
                pictures.append(np.asarray(picture))
        except UnidentifiedImageError:
            raise InputError(f"{path} is not an image.") from None
        if pictures[-1].shape != pictures[0].shape:
            raise InputError(f"images of one size were expected; {path} is {pictures[-1].shape}, {paths[0]} is not.")
    return np.stack(pictures)
