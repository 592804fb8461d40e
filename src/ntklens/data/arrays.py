"""Arrays of pixels in the usual layouts, as tensors (n, C, H, W) in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ntklens.errors import InputError

_DARKEST = 32
"""Bytes that all lie below this are not taken for pixels from 0 to 255: images of 16 or 32 levels are likelier."""


def images(array: NDArray[Any], where: str) -> torch.Tensor:
    """Return images (n, C, H, W) in float32, C being 1 or 3.

    Args:
        array: (n, H, W), (n, C, H, W) or (n, H, W, C). Bytes are divided by 255, truth values are 0 and 1, floats are taken
            as they are. With four axes, that of the channels is the second or the last, whichever has 1 or 3 entries.
        where: where the array comes from, for error messages.

    Raises:
        InputError: another dtype, another shape, or a shape with two possible axes of channels.
    """
    if array.dtype == np.uint8:
        x = torch.from_numpy(array.astype(np.float32) / np.float32(255))
    elif np.issubdtype(array.dtype, np.floating) or array.dtype == np.bool_:
        x = torch.from_numpy(array.astype(np.float32))
    else:
        raise InputError(
            f"{where}: expected pixels as bytes or as floats in [0, 1]; got {array.dtype}. Integers from 0 to 255 are "
            "converted by x.astype(numpy.uint8), others by a division that takes them to [0, 1]."
        )
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and {x.shape[1], x.shape[3]} <= {1, 3}:
        raise InputError(
            f"{where}: expected images (n, C, H, W) or (n, H, W, C); got {array.shape}, which can be either. Drop the axis "
            "of one channel, or pad the images to more than three pixels in width and height."
        )
    if x.ndim == 4 and x.shape[1] in (1, 3):
        return x
    if x.ndim == 4 and x.shape[3] in (1, 3):
        return x.permute(0, 3, 1, 2).contiguous()
    raise InputError(f"{where}: expected images (n, H, W), (n, C, H, W) or (n, H, W, C); got {array.shape}.")


def check_scale(arrays: Sequence[NDArray[Any]], where: str) -> None:
    """Raise InputError where bytes, or floats, look as if another range than theirs were white.

    Bytes of zeros and ones are the usual case: divided by 255 they would be all but black, and an attack of the radius
    8/255 would be eight times their whole contrast, without a word.

    Args:
        arrays: the pixels of a data set's parts, which have one scale.
        where: where they come from.
    """
    # A part that is black throughout has no scale.
    numbers = [array for array in arrays if array.size and array.dtype.kind in "uf"]
    tops = [(array.dtype, top) for array in numbers if (top := float(array.max())) > 0]
    of_bytes = [top for dtype, top in tops if dtype == np.uint8]
    if of_bytes and (min(of_bytes) <= 1 or max(of_bytes) < _DARKEST):
        top = int(min(of_bytes) if min(of_bytes) <= 1 else max(of_bytes))
        white = "give truth values x == 1" if top == 1 else f"give floats x / {top}"
        raise InputError(
            f"{where}: expected bytes from 0 to 255; got bytes from 0 to {top}. If {top} is white, {white}; if the images "
            "are that dark, give floats x / 255."
        )
    of_floats = [top for dtype, top in tops if dtype.kind == "f"]
    if of_floats and min(of_floats) < 1.001 / 255:
        raise InputError(
            f"{where}: expected floats from 0 to 1; got a largest pixel of {min(of_floats):.4g}, as of images that were "
            "divided by 255 twice. Divide them once."
        )
