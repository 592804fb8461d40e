"""The steps that take the variances of an image through a network in compiled code, and the way back.

An input with itself has K = q in every rule, which makes them short; with r = 1 + 2 q:

    LeakyReLU, slope a:  q <- (1 + a²) / 2 q
    erf:    q <- (2/π) arcsin(2 q / r),  derivative (4/π) / (r sqrt(1 + 4 q)),  sine sqrt(1 + 4 q) / r
    GELU:   q <- q P + q² D / (1 + q),  P = 1/4 + arcsin(q / (1 + q)) / 2π,  D = 1 / (π sqrt(r)),  sine sqrt(r) / (1 + q)
            derivative P + D q (1/2 + (2 + q) / (1 + q) - q / r) / (1 + q)
"""

from __future__ import annotations

import math
from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.smooth import arctan_over_t
from ntklens.kernels.engines.fused.vectors import FAST, INLINE, at, load, pointer, sqrt, store

INPUT, BOX, LINE, ADD, MEAN, ERF, GELU, READ = range(8)
"""Kinds of steps: the mean square over channels; scaled sums over a window plus a number; a line; a sum of two maps; the
mean over positions; activations; and what activations read: sqrt(q), and 1 / sqrt(1 + factor q) if the factor is not 0."""
KIND, TO, FROM, BESIDE, POSITIONS, HEIGHT, WIDTH, ROWS, COLUMNS = range(9)
"""Columns of a step: its kind; the addresses of its map, of the map that it reads and of a second one; the positions of its
map (READ, MEAN: of the map that it reads); for windows, the size of the map that it reads and of its own."""
KERNEL, STRIDE, PADDING, DILATION, COUNT = range(9, 18, 2)
"""The first of two columns each about windows, the vertical one first; and the number of all columns."""


@njit(**FAST)
@no_type_check
def forwards(steps, numbers, pixels, marginals, space, row_space):
    """Fill the marginals of all images; the maps of the last one stay in the work space."""
    maps, row = pointer(space), pointer(row_space)
    for n in range(len(pixels)):
        _one(steps, numbers, pixels[n], pointer(marginals[n]), maps, row)


@njit(**INLINE)
@no_type_check
def _one(steps, numbers, pixels, marginals, maps, row):
    for i in range(len(steps)):
        step, factor, number = steps[i], numbers[i, 0], numbers[i, 1]
        kind, positions, source = step[KIND], step[POSITIONS], at(maps, step[FROM])
        if kind == READ:
            _read(source, at(marginals, step[TO]), positions, factor)
            continue
        target = at(maps, step[TO])
        if kind == INPUT:
            _mean_square(pixels, target, positions)
        elif kind == BOX:
            _box(source, target, step, factor, number, row)
        elif kind == LINE:
            _into_line(source, target, positions, factor, number)
        elif kind == ADD:
            beside = at(maps, step[BESIDE])
            for p in range(positions):
                target[p] = source[p] + beside[p]
        elif kind == MEAN:
            target[0] = _mean(source, positions)
        elif kind == ERF:
            _erf(source, target, positions)
        elif kind == GELU:
            _gelu(source, target, positions)


@njit(**FAST)
@no_type_check
def backwards(steps, numbers, pixels, marginals_bar, pixels_bar, marginals, space, space_bar, row_space):
    """Add to `pixels_bar` what `marginals_bar` sends back, image by image; `marginals` is room for those of one."""
    maps, bars, row = pointer(space), pointer(space_bar), pointer(row_space)
    for n in range(len(pixels)):
        _one(steps, numbers, pixels[n], pointer(marginals), maps, row)
        space_bar[:] = 0.0
        for i in range(len(steps) - 1, -1, -1):
            step, factor = steps[i], numbers[i, 0]
            kind, positions = step[KIND], step[POSITIONS]
            source, source_bar = at(maps, step[FROM]), at(bars, step[FROM])
            if kind == READ:
                # A standard deviation of 0 has no cotangent, as in the reference.
                place = step[TO]
                for p in range(positions):
                    std = marginals[place + p]
                    source_bar[p] += 0.5 * marginals_bar[n, place + p] / std if std > 0.0 else 0.0
                continue
            bar = at(bars, step[TO])
            if kind == INPUT:
                share = 2.0 / pixels.shape[1]
                for c in range(pixels.shape[1]):
                    for p in range(positions):
                        pixels_bar[n, c, p] += share * pixels[n, c, p] * bar[p]
            elif kind == BOX:
                _box_back(bar, source_bar, step, factor, row)
            elif kind == LINE:
                for p in range(positions):
                    source_bar[p] += factor * bar[p]
            elif kind == ADD:
                _add(bar, source_bar, positions)
                _add(bar, at(bars, step[BESIDE]), positions)
            elif kind == MEAN:
                share = bar[0] / positions
                for p in range(positions):
                    source_bar[p] += share
            elif kind == ERF:
                _erf_back(source, bar, source_bar, positions)
            elif kind == GELU:
                _gelu_back(source, bar, source_bar, positions)


@njit(**INLINE)
@no_type_check
def _read(source, target, positions, factor):
    """Write what activations read: at all positions the standard deviation, then 1 / sqrt(1 + factor q)."""
    for p in range(positions):
        target[p] = math.sqrt(source[p])
    if factor > 0.0:
        for p in range(positions):
            target[positions + p] = 1.0 / math.sqrt(1.0 + factor * source[p])


@njit(**INLINE)
@no_type_check
def _mean_square(pixels, target, positions):
    channels = pixels.shape[0]
    for p in range(positions):
        target[p] = pixels[0, p] * pixels[0, p]
    for c in range(1, channels):
        for p in range(positions):
            target[p] += pixels[c, p] * pixels[c, p]
    _into_line(target, target, positions, 1.0 / channels, 0.0)


@njit(**INLINE)
@no_type_check
def _mean(source, positions):
    # In the order of `loops.add_positions`: of near pairs, the rounding of covariances and of variances then cancels.
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = positions - positions % 4
    for p in range(0, whole, 4):
        a += source[p]
        b += source[p + 1]
        c += source[p + 2]
        d += source[p + 3]
    for p in range(whole, positions):
        a += source[p]
    return ((a + b) + (c + d)) * (1.0 / positions)


@njit(**INLINE)
@no_type_check
def _into_line(source, target, positions, factor, number):
    for p in range(positions):
        target[p] = factor * source[p] + number


# Windows


@njit(**INLINE)
@no_type_check
def _add(source, target, n):
    for p in range(n):
        target[p] += source[p]


@njit(**INLINE)
@no_type_check
def _clear(target, n):
    for p in range(n):
        target[p] = 0.0


@njit(**INLINE)
@no_type_check
def _add_three(first, second, third, target, n):
    for p in range(n):
        target[p] = first[p] + second[p] + third[p]


@njit(**FAST)
@no_type_check
def _box(source, target, step, factor, number, padded):
    """Sum over a window of the source, down the columns into the padded row and along it; take the sums into a line."""
    height, width, rows, columns = step[HEIGHT], step[WIDTH], step[ROWS], step[COLUMNS]
    kernel, stride, padding, dilation = step[KERNEL:], step[STRIDE:], step[PADDING:], step[DILATION:]
    apart, reach = dilation[1], stride[1] * (columns - 1) + dilation[1] * (kernel[1] - 1) + 1
    inside = min(width, reach - padding[1])
    _clear(padded, reach)
    sums = at(padded, padding[1])
    for y in range(rows):
        top, of_row = stride[0] * y - padding[0], at(target, y * columns)
        if kernel[0] == 3 and top >= 0 and top + 2 * dilation[0] < height:
            first, down = at(source, top * width), dilation[0] * width
            _add_three(first, at(first, down), at(first, 2 * down), sums, inside)
        else:
            _clear(sums, inside)
            for i in range(kernel[0]):
                if 0 <= top + dilation[0] * i < height:
                    _add(at(source, (top + dilation[0] * i) * width), sums, inside)
        if kernel[1] == 3 and stride[1] == 1:
            _add_three(padded, at(padded, apart), at(padded, 2 * apart), of_row, columns)
        else:
            _clear(of_row, columns)
            for j in range(kernel[1]):
                read = at(padded, apart * j)
                for x in range(columns):
                    of_row[x] += read[x * stride[1]]
        _into_line(of_row, of_row, columns, factor, number)


@njit(**FAST)
@no_type_check
def _box_back(bar, source_bar, step, factor, padded):
    """Go back through `_box`."""
    height, width, rows, columns = step[HEIGHT], step[WIDTH], step[ROWS], step[COLUMNS]
    kernel, stride, padding, dilation = step[KERNEL:], step[STRIDE:], step[PADDING:], step[DILATION:]
    apart, reach = dilation[1], stride[1] * (columns - 1) + dilation[1] * (kernel[1] - 1) + 1
    inside = min(width, reach - padding[1])
    for y in range(rows):
        of_row = at(bar, y * columns)
        _clear(padded, reach)
        for j in range(kernel[1]):
            written = at(padded, apart * j)
            if stride[1] == 1:
                for x in range(columns):
                    written[x] += factor * of_row[x]
            else:
                for x in range(columns):
                    written[x * stride[1]] += factor * of_row[x]
        for i in range(kernel[0]):
            row = stride[0] * y + dilation[0] * i - padding[0]
            if 0 <= row < height:
                _add(at(padded, padding[1]), at(source_bar, row * width), inside)


# Activations, whole vectors at a time: maps have room for them.


@njit(**FAST)
@no_type_check
def _erf(source, target, positions):
    for p in range(0, positions, LANES):
        q = load(source, p)
        t = 2.0 * q / (1.0 + 2.0 * q + sqrt(1.0 + 4.0 * q))
        store(target, p, (4.0 / math.pi) * (t * arctan_over_t(2.0 * (t * t) - 1.0)))


@njit(**FAST)
@no_type_check
def _erf_back(source, bar, source_bar, positions):
    for p in range(0, positions, LANES):
        q = load(source, p)
        slope = (4.0 / math.pi) / ((1.0 + 2.0 * q) * sqrt(1.0 + 4.0 * q))
        store(source_bar, p, load(source_bar, p) + slope * load(bar, p))


@njit(**INLINE)
@no_type_check
def _gelu_terms(q):
    """Return P, D, r and 1 / (1 + q)."""
    r = 1.0 + 2.0 * q
    root = sqrt(r)
    t = q / (1.0 + q + root)
    level = 0.25 + (1.0 / math.pi) * (t * arctan_over_t(2.0 * (t * t) - 1.0))
    return level, (1.0 / math.pi) / root, r, 1.0 / (1.0 + q)


@njit(**FAST)
@no_type_check
def _gelu(source, target, positions):
    for p in range(0, positions, LANES):
        q = load(source, p)
        level, density, _, inverse = _gelu_terms(q)
        store(target, p, q * (level + (q * inverse) * density))


@njit(**FAST)
@no_type_check
def _gelu_back(source, bar, source_bar, positions):
    for p in range(0, positions, LANES):
        q = load(source, p)
        level, density, r, inverse = _gelu_terms(q)
        slope = level + density * (q * inverse) * (0.5 + (2.0 + q) * inverse - q / r)
        store(source_bar, p, load(source_bar, p) + slope * load(bar, p))
