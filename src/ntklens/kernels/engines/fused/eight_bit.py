"""Inner products of 8-bit images: products of whole numbers, which are exact, and four times as fast as those of float32.

Pixels that were read from 8-bit files are x = step (k - zero) for whole numbers k from 0 to 255, but for a rounding, so

    <x, z> = step step' (Σ k k' - zero' Σ k - zero Σ k' + d zero zero').

Processors with instructions for 8-bit numbers (AVX-512 VNNI and the like) add up the products in 32 bits without rounding.
Which images are of this kind is told from each by itself, so that a result is the same in every batch. Images from -1 to 1
of little contrast are not: the rounding of their pixels, which is that of numbers near 1, is a large share of them.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import no_type_check

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels.engines.fused.vectors import FAST

STEPS = np.array([1 / 255, 2 / 255, 1.0])
ZEROS = np.array([0.0, 127.5, 0.0])
"""Step and zero of the usual units of pixels: from 0 to 1, from -1 to 1, and from 0 to 255."""
LEAST_PIXELS = 16
"""With fewer pixels, nothing is gained."""
MOST_PIXELS = 1 << 16
"""With more pixels, a sum of products of numbers from -128 to 127 could leave 32 bits."""
_MIDDLE = 128
"""What is taken from k, so that it is a signed number of 8 bits."""
_ROUNDING = 2.0**-22
"""Greatest distance of a pixel from its whole number, relative to its size or to the root mean square of the image.

These are a few roundings of float32: x / 255 has one, (x / 255 - 0.5) / 0.5 has one of a number near 1, which is less than
this of an image whose root mean square is a quarter. So the whole numbers of an image differ from it by at most √2 of this,
relative to its norm.
"""
_STRETCH = 256
"""Pixels after which an image that is not of whole numbers is left."""
_failures: list[tuple[int, ...]] = []
"""Shapes of products that were wrong; after one, this process multiplies pixels."""

_log = logging.getLogger("ntklens")


class WholeNumbers:
    """The whole numbers of the images of a batch that have them.

    Args:
        n: number of images.
        d: number of pixels.

    Attributes:
        numbers: k - 128, (n, d) int8; arbitrary where an image has none.
        unit: (n,) int64, the place of the image's unit in `STEPS` and `ZEROS`; -1 where it has no whole numbers.
        sums: Σ (k - 128), (n,) float64.
    """

    def __init__(self, n: int, d: int) -> None:
        self.numbers = torch.empty(n, d, dtype=torch.int8)
        self.unit: NDArray[np.int64] = np.full(n, -1)
        self.sums = np.zeros(n)

    def find(self, rows: NDArray[np.float32], square: NDArray[np.float64], some: slice) -> None:
        """Find the whole numbers of some images of the batch, which are its `rows`, (n, d), with |x|² / d, (n,)."""
        _find(self.numbers[some].numpy(), self.unit[some], self.sums[some], rows[some], square[some], STEPS, ZEROS)
        self.unit[some][~np.isfinite(square[some])] = -1  # compiled code takes it that there is no NaN

    def __bool__(self) -> bool:
        """Return whether any image has them."""
        return self.has_any(slice(None))

    def has_all(self, some: slice) -> bool:
        """Return whether all of these images have them."""
        return bool((self.unit[some] >= 0).all())

    def has_any(self, some: slice) -> bool:
        """Return whether any of these images has them."""
        return bool((self.unit[some] >= 0).any())


def fits(d: int) -> bool:
    """Return whether products of 8-bit numbers with d terms are fast and exact on this processor."""
    return LEAST_PIXELS <= d <= MOST_PIXELS and _has_instructions() and not _failures


@cache
def _has_instructions() -> bool:
    """Return whether torch multiplies 8-bit numbers by instructions for them.

    Older processors add up two products in 16 bits, which can overflow.
    """
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return supported is not None and bool(supported()) and hasattr(torch, "_int_mm")


def multiply(x: WholeNumbers, z: WholeNumbers, rows: slice, columns: slice, out: Tensor) -> bool:
    """Write <x, z> of a tile into `out` (rows, columns) float32 where both images have whole numbers.

    The function of torch is not a public one, and in some versions it is wrong for some shapes. So each of its results is
    checked: a weighted sum of a row of the product is the product with the weighted sum of the columns.

    Returns:
        Whether the products are right; otherwise nothing is written, and a warning of the log tells of it.
    """
    left, right = x.numbers[rows], z.numbers[columns]
    product = torch._int_mm(left, right.T).numpy()
    if not _sums_agree(product, left.numpy(), right.numpy()):
        _failures.append((*left.shape, len(right)))
        _log.warning(
            "torch._int_mm is wrong for shapes %s; products of 8-bit images are made in float32", _failures[-1]
        )
        return False
    sides = (array[some] for each, some in ((x, rows), (z, columns)) for array in (each.unit, each.sums))
    _scale(out.numpy(), product, *sides, STEPS, ZEROS - _MIDDLE, x.numbers.shape[1])
    return True


@njit(**FAST)
@no_type_check
def _find(numbers, unit, sums, x, square, steps, zeros):
    """Write the whole numbers of each image in the first unit in which it has some; square is |x|² / d, (n,)."""
    n, d = x.shape
    for i in range(n):
        least = np.float32(_ROUNDING * np.sqrt(square[i]))
        for u in range(len(steps)):
            total, is_whole = 0, True
            for start in range(0, d, _STRETCH):
                stop = min(start + _STRETCH, d)
                missed, of_stretch = _find_some(numbers[i, start:stop], x[i, start:stop], steps[u], zeros[u], least)
                if missed > 0:
                    is_whole = False
                    break
                total += of_stretch
            if is_whole:
                unit[i] = u
                sums[i] = total
                break


@njit(**FAST)
@no_type_check
def _find_some(numbers, pixels, step, zero, least):
    """Write the nearest whole numbers of some pixels, and return how many are too far from theirs, and their sum."""
    high, inverse = np.float32(step), np.float32(1.0 / step)
    low, offset = np.float32(step - np.float64(high)), np.float32(zero)  # the step is the sum of two float32 numbers
    black, white = np.float32(0.0), np.float32(255.9)
    missed, total = 0, 0
    for j in range(len(pixels)):
        value = pixels[j]
        nearest = value * inverse + offset + np.float32(0.5)
        # Conditions and not min and max, which keep LLVM from using vectors.
        nearest = nearest if nearest > black else black
        nearest = nearest if nearest < white else white
        k = np.int32(nearest)
        count = np.float32(k) - offset
        error = abs((value - high * count) - low * count)
        bound = np.float32(_ROUNDING) * abs(value)
        bound = bound if bound > least else least
        missed += 1 if error > bound else 0
        total += k - _MIDDLE
        numbers[j] = np.int8(k - _MIDDLE)
    return missed, total


@njit(**FAST)
@no_type_check
def _sums_agree(product, left, right):
    """Return whether each row of left @ right.T, weighted by 1, 2, 3, ..., has the sum that left and right tell."""
    d = left.shape[1]
    total = np.zeros(d, np.int32)
    for j in range(len(right)):
        for c in range(d):
            total[c] += np.int32(j + 1) * np.int32(right[j, c])
    for i in range(len(left)):
        expected = found = 0
        for c in range(d):
            expected += np.int64(left[i, c]) * np.int64(total[c])
        for j in range(len(right)):
            found += np.int64(j + 1) * np.int64(product[i, j])
        if expected != found:
            return False
    return True


@njit(**FAST)
@no_type_check
def _scale(out, product, unit1, sums1, unit2, sums2, steps, zeros, d):
    """Write step step' (P - b Σ - a Σ' + d a b), rounded once, with the zeros a and b of the numbers k - 128."""
    for i in range(len(out)):
        if unit1[i] < 0:
            continue
        step1, a, sum1 = steps[unit1[i]], zeros[unit1[i]], sums1[i]
        for j in range(len(unit2)):
            if unit2[j] >= 0:
                step2, b = steps[unit2[j]], zeros[unit2[j]]
                out[i, j] = step1 * step2 * (product[i, j] - b * sum1 - a * sums2[j] + d * a * b)
