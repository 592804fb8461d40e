"""Data sets in `.npz` files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntklens.data.arrays import check_scale, images
from ntklens.data.dataset import Dataset, Split
from ntklens.data.labels import named_labels
from ntklens.errors import InputError
from ntklens.files import first_line

_REQUIRED = ("x_train", "y_train", "x_test", "y_test")
_NAMES = "classes"


def read_npz(path: Path, name: str | None = None, licence: str = "the user's own") -> Dataset:
    """Read a data set from an npz file with x_train, y_train, x_test, y_test and, optionally, the names of the classes.

    Args:
        path: the file.
        name: name of the data set; by default that of the file.
        licence: terms of the images.

    Raises:
        InputError: not such a file, or arrays that do not fit.
    """
    arrays, others = _arrays(path)
    if missing := [key for key in _REQUIRED if key not in arrays]:
        raise InputError(
            f"expected {', '.join(_REQUIRED)} in {path}; it lacks {', '.join(missing)}, and has "
            f"{', '.join([*arrays, *others]) or 'no arrays'}. Save the arrays under these names."
        )
    if empty := [key for key in _REQUIRED if arrays[key].size == 0]:
        raise InputError(f"expected images and their classes in {path}; got empty arrays {', '.join(empty)}.")
    x_train, x_test = arrays["x_train"], arrays["x_test"]
    check_scale([x_train, x_test], str(path))
    x = [images(array, f"{path}, {key}") for key, array in (("x_train", x_train), ("x_test", x_test))]
    y_train, y_test, classes = named_labels(arrays["y_train"], arrays["y_test"], arrays.get(_NAMES), str(path))
    try:
        train, test = Split(x[0], y_train), Split(x[1], y_test)
        notes = (f"Left out: the arrays {', '.join(others)}.",) if others else ()
        return Dataset(train, test, classes, name or path.stem, licence, notes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _arrays(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the arrays of the file that make a data set, and the names of those that do not."""
    try:
        with zipfile.ZipFile(path) as archive:
            # Reading an array stops at its last entry, where a checksum at the end of the stream is not looked at.
            if damaged := archive.testzip():
                raise InputError(
                    f"{path} is damaged: {damaged} does not have its checksum. Fetch or save the file again."
                )
        with np.load(path, allow_pickle=False) as file:
            known = [key for key in file.files if key in (*_REQUIRED, _NAMES)]
            return {key: file[key] for key in known}, [key for key in file.files if key not in known]
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds of errors for damaged files
        raise InputError(
            f"expected an npz file of plain arrays, as numpy.savez writes it; got {path} ({first_line(error)}). Arrays of "
            "objects are not opened, because unpickling runs code."
        ) from error
