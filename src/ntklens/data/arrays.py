"""Arrays of pixels in the usual layouts, as tensors (n, C, H, W) in [0, 1]; and `.npz` files of them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ntklens.data.dataset import Dataset, Split
from ntklens.errors import InputError

_REQUIRED = ("x_train", "y_train", "x_test", "y_test")


def images(array: NDArray[Any], where: str) -> torch.Tensor:
    """Return images (n, C, H, W) in float32, C being 1 or 3.

    Args:
        array: (n, H, W), (n, C, H, W) or (n, H, W, C). Bytes are divided by 255, floats are taken as they are. With four
            axes, the second one is that of the channels if it has 1 or 3 entries, and otherwise the last.
        where: where the array comes from, for error messages.

    Raises:
        InputError: another dtype or another shape.
    """
    if array.dtype == np.uint8:
        x = torch.from_numpy(array.astype(np.float32) / np.float32(255))
    elif np.issubdtype(array.dtype, np.floating):
        x = torch.from_numpy(array.astype(np.float32))
    else:
        raise InputError(f"{where}: expected pixels as bytes or as floats in [0, 1]; got {array.dtype}.")
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[1] in (1, 3):
        return x
    if x.ndim == 4 and x.shape[3] in (1, 3):
        return x.permute(0, 3, 1, 2).contiguous()
    raise InputError(f"{where}: expected images (n, H, W), (n, C, H, W) or (n, H, W, C); got {array.shape}.")


def labels(array: NDArray[Any], where: str) -> torch.Tensor:
    """Return class indices from an array of integers (n,).

    Raises:
        InputError: another dtype or another shape.
    """
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{where}: expected class indices (n,); got {array.dtype} of shape {array.shape}.")
    return torch.from_numpy(array.astype(np.int64))


def read_npz(path: Path, name: str | None = None, licence: str = "the user's own") -> Dataset:
    """Read a data set from an npz file with x_train, y_train, x_test, y_test and, optionally, the names of the classes.

    Args:
        path: the file.
        name: name of the data set; by default that of the file.
        licence: terms of the images.

    Raises:
        InputError: not such a file, or arrays that do not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, zipfile.BadZipFile, OSError) as error:
        raise InputError(f"expected an npz file of plain arrays; got {path} ({error}).") from error
    if missing := [key for key in _REQUIRED if key not in arrays]:
        raise InputError(f"expected {', '.join(_REQUIRED)} in {path}; it lacks {', '.join(missing)}.")
    if empty := [key for key in _REQUIRED if arrays[key].size == 0]:
        raise InputError(f"expected images and their classes in {path}; got empty arrays {', '.join(empty)}.")
    train, test = (
        Split(images(arrays[f"x_{half}"], f"{path}, x_{half}"), labels(arrays[f"y_{half}"], f"{path}, y_{half}"))
        for half in ("train", "test")
    )
    count = 1 + max(int(train.y.max()), int(test.y.max()))
    classes = tuple(map(str, arrays["classes"])) if "classes" in arrays else tuple(map(str, range(count)))
    return Dataset(train, test, classes, name or path.stem, licence)
