"""A folder of images, with one subfolder per class; below a training and a test set where there are such folders."""

from __future__ import annotations

from pathlib import Path

import torch

from ntklens.data.arrays import check_scale, images
from ntklens.data.dataset import Dataset, Split
from ntklens.data.listing import LeftOut, images_by_class, some, split_folders
from ntklens.data.pictures import Mode, Preparation, read_pictures
from ntklens.errors import InputError

_HELD_OUT = 5
"""Without a training and a test set, every fifth image of each class is a test image."""


def read_folder(path: Path, size: int | None = None, mode: Mode | None = None) -> Dataset:
    """Read a data set from `train/<class>/*.png` and `test/<class>/*.png`, or from `<class>/*.png`.

    The classes take turns, so that the first images are of all classes. Without a training and a test set, every fifth
    image of each class, in the order of the file names, is a test image. Images are turned as their EXIF orientation says.
    The splits know the files of their images. Hidden files, empty folders and files that are no images are left out; the
    data set's `notes` count them.

    Args:
        path: the folder.
        size: resize to this many pixels on each side, with Pillow's bilinear filter; None where all have one size.
        mode: convert to "grey" or "rgb"; None where all are of one. With a size, mixed modes become RGB.

    Raises:
        InputError: no images, images that cannot be read, or that do not fit together.
    """
    left_out = LeftOut()
    try:
        roots = split_folders(path, left_out)
        if roots is None:
            files = _every_fifth(images_by_class(path, left_out))
        else:
            files = {name: images_by_class(root, left_out) for name, root in zip(("train", "test"), roots, strict=True)}
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be read ({error}).") from error
    classes = sorted(set().union(*files.values()))
    if len(classes) < 2 or not any(files["test"].values()):
        found = " and ".join(f"{sum(map(len, of.values()))} {name} images" for name, of in files.items())
        raise InputError(
            f"expected images in two or more class folders of {path}, or of train and test in it, and five images in a "
            f"class where there is no test set; got {found} in {len(classes)} class folders ({some(classes)}). "
            + " ".join(left_out.notes())
        )
    if untrained := [c for c in classes if not files["train"].get(c)]:
        raise InputError(
            f"expected training images of every class; {path} has none of {some(untrained)}, whose test images it has. "
            f"Those of {some(c for c in classes if c not in untrained)} are there; rename or move the folders."
        )

    preparation = Preparation(size, mode)
    # The classes take turns: first the first image of each class, then the second of each, and so on.
    turns = {
        name: sorted((rank, label, f) for label, c in enumerate(classes) for rank, f in enumerate(of.get(c, [])))
        for name, of in files.items()
    }
    pixels = read_pictures([f for name in turns for *_, f in turns[name]], preparation)
    check_scale([pixels], str(path))
    y = {name: torch.tensor([label for _, label, _ in turns[name]]) for name in turns}
    count = len(y["train"])
    x = images(pixels, str(path))
    files_of = {name: tuple(f.relative_to(path).as_posix() for *_, f in of) for name, of in turns.items()}
    train = Split(x[:count], y["train"], files_of["train"])
    test = Split(x[count:], y["test"], files_of["test"])
    notes = left_out.notes() + preparation.notes()
    if roots is None:
        notes.append("Every fifth image of each class is a test image.")
    return Dataset(train, test, tuple(classes), path.resolve().name, "the user's own", tuple(notes))


def _every_fifth(files: dict[str, list[Path]]) -> dict[str, dict[str, list[Path]]]:
    """Return training and test images of each class."""
    return {
        name: {
            c: [f for i, f in enumerate(of_class) if (i % _HELD_OUT == _HELD_OUT - 1) == (name == "test")]
            for c, of_class in files.items()
        }
        for name in ("train", "test")
    }
