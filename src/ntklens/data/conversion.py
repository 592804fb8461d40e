"""Data sets of arrays with other sizes and modes of their images, as `pictures` makes them of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ntklens.data.dataset import Dataset
from ntklens.data.pictures import FILTER, Mode, converted_to, resized_to

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601-7, section 2.5.1)."""


def converted(data: Dataset, size: int | None, mode: Mode | None) -> Dataset:
    """Return a data set with its images resized and converted; its notes say so.

    Args:
        data: the data set.
        size: pixels of each side, by Pillow's bilinear filter; None keeps them.
        mode: "grey" or "rgb"; None keeps it.
    """
    channels, height, width = data.shape
    notes = []
    if mode == "grey" and channels == 3:
        data = _mapped(data, lambda x: (x * torch.tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True).clamp(0, 1))
        notes.append(f"{converted_to(mode)}.")
    if mode == "rgb" and channels == 1:
        data = _mapped(data, lambda x: x.expand(-1, 3, -1, -1).contiguous())
        notes.append(f"{converted_to(mode)}.")
    if size is not None and (height, width) != (size, size):
        data = _mapped(data, lambda x: _resized(x, size))
        notes.append(resized_to(size, Counter({(width, height): len(data.train) + len(data.test)})))
    return replace(data, notes=(*data.notes, *notes))


def _mapped(data: Dataset, change: Callable[[Tensor], Tensor]) -> Dataset:
    """Return the data set with its images changed by a function of (n, C, H, W)."""
    train, test = (replace(split, x=change(split.x)) for split in (data.train, data.test))
    return replace(data, train=train, test=test)


def _resized(x: Tensor, size: int) -> Tensor:
    """Resize each channel of images by the filter that is used for files, without rounding to bytes."""
    planes = [
        np.asarray(Image.fromarray(plane).resize((size, size), FILTER))
        for plane in x.flatten(0, 1).contiguous().numpy()
    ]
    return torch.from_numpy(np.stack(planes)).reshape(*x.shape[:2], size, size).clamp(0, 1)
