"""Pixel arrays in the layouts that people keep, as tensors (n, C, H, W) in [0, 1]; and `.npz` files of them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ntklens.data.dataset import Dataset, Split
from ntklens.errors import InputError


def images(array: NDArray[Any], where: str) -> torch.Tensor:
    """Bytes are divided by 255, floats taken as they are; (n, H, W), (n, C, H, W) or (n, H, W, C) with C of 1 or 3.

    A four-dimensional array is taken as (n, C, H, W) when its second axis is 1 or 3, else as (n, H, W, C).
    """
    if array.dtype == np.uint8:
        x = torch.from_numpy(array.astype(np.float32) / np.float32(255))
    elif np.issubdtype(array.dtype, np.floating):
        x = torch.from_numpy(array.astype(np.float32))
    else:
        raise InputError(f"{where}: pixels as bytes or as floats in [0, 1] were expected; {array.dtype} came.")
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[1] in (1, 3):
        return x
    if x.ndim == 4 and x.shape[3] in (1, 3):
        return x.permute(0, 3, 1, 2).contiguous()
    raise InputError(f"{where}: images (n, H, W), (n, C, H, W) or (n, H, W, C) were expected; {array.shape} came.")


def labels(array: NDArray[Any], where: str) -> torch.Tensor:
    """Class indices from an integer array (n,)."""
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{where}: class indices (n,) were expected; {array.dtype} {array.shape} came.")
    return torch.from_numpy(array.astype(np.int64))


def read_npz(path: Path, name: str | None = None, licence: str = "the user's own") -> Dataset:
    """A data set from an npz file with x_train, y_train, x_test, y_test and, if wanted, classes.

    Raises:
        InputError: not such a file, or arrays that do not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {key: file[key] for key in file.files}
    except (ValueError, zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} is not an npz file of plain arrays ({error}).") from error
    wanted = ("x_train", "y_train", "x_test", "y_test")
    if missing := [key for key in wanted if key not in held]:
        raise InputError(f"{path} must hold {', '.join(wanted)}; it lacks {', '.join(missing)}.")
    if empty := [key for key in wanted if held[key].size == 0]:
        raise InputError(f"{path} must hold images and their classes; {', '.join(empty)} came empty.")
    train, test = (
        Split(images(held[f"x_{s}"], f"{path}, x_{s}"), labels(held[f"y_{s}"], f"{path}, y_{s}"))
        for s in ("train", "test")
    )
    count = 1 + max(int(train.y.max()), int(test.y.max()))
    classes = tuple(map(str, held["classes"])) if "classes" in held else tuple(map(str, range(count)))
    return Dataset(train, test, classes, name or path.stem, licence)
