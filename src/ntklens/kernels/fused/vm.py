"""Instructions on covariance maps, run for LANES pairs at once: one input x against a block of inputs z.

A map is contiguous: rows, then columns, then lanes. K is float64 throughout. Θ has the dtype of the inputs, and so has the
arithmetic of the activations' corrections: they are functions of g = 1 - |c|, taken in float64, so that near pairs keep
their relative precision whatever the dtype.

All compiled code stands in this file, because Numba's cache looks at one file's date.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numpy as np
from numba import njit, types
from numba.extending import overload

LANES = 16
"""Inputs z of a block: two vectors of float64, one of float32, with AVX-512."""
CHUNK = 6144
"""Entries that an activation takes at a time, so that its scratch stays in the first-level cache."""

GRAM, WINDOW, AFFINE, RELU, SUM, REDUCE, MEAN, NORMALISE, ZERO, LOAD, SCALE = range(11)
SEED, FILL, AFFINE_T, WINDOW_T, RELU_T, NORMALISE_T, GRAM_T, LOAD_T = range(11, 19)
"""Operations, and their transposed forms for gradients; what the columns mean for each stands in `program`."""

(
    OP,
    DST,
    SRC,
    SRC2,
    H,
    W,
    IN_H,
    IN_W,
    KH,
    KW,
    SY,
    SX,
    STRIDE_Y,
    STRIDE_X,
    DIL_Y,
    DIL_X,
    ADD,
    SAME,
    MX,
    MZ,
    ROW,
    STEP,
    EXACT,
    COLUMNS,
) = range(24)
"""Columns of an instruction. Places are counted in positions; a map at place p starts at element p * LANES."""

COINCIDENT = 4e-15
"""As in `ntklens.kernels.safe`: a cosine closer to 1 than this is 1."""

# Printed by tools/make_arccos_polynomials.py: θ = sqrt(g) ANGLE(2 g - 1), sqrt(1 - c²) - |c| θ = g sqrt(g) EXCESS(2 g - 1).
_ANGLE_32 = (
    1.4809609589295243, 0.07601608545693156, 0.011029966269837582, 0.0021493202634401826, 0.0004788339995501214,
    0.00011650348193192883, 3.516311303575214e-05, 9.466701328175732e-06,
)  # fmt: skip
_ANGLE_64 = (
    1.480960979386122, 0.07601609123466604, 0.011029313317957985, 0.002149135858985546, 0.0004820541011458775,
    0.00011741250446072784, 3.0187163990135413e-05, 8.063537664996473e-06, 2.2160511345801716e-06,
    6.225408682680339e-07, 1.778819229754103e-07, 5.158517500022495e-08, 1.528766263283538e-08, 4.526234631055193e-09,
    1.2042582214179218e-09, 3.658500047021608e-10, 1.8980075290632236e-10, 5.6995001311103475e-11,
)  # fmt: skip
_EXCESS_32 = (
    0.9685287617127247, 0.028167833862185142, 0.002798306540881281, 0.0004118232368986105, 7.3732289480169e-05,
    1.4945205846772502e-05, 3.7184429266257082e-06, 8.764433792052274e-07,
)  # fmt: skip
_EXCESS_64 = (
    0.9685287633970557, 0.02816783429053863, 0.002798252754158521, 0.0004118095594585881, 7.399821035763351e-05,
    1.5012788867231282e-05, 3.304896218692054e-06, 7.714919600230533e-07, 1.8823149801019078e-07,
    4.7537449803356314e-08, 1.2340822336915313e-08, 3.274057841827311e-09, 8.877847243874961e-10,
    2.4728899379905685e-10, 6.59712543218772e-11, 1.6921129270691466e-11, 7.163774698512383e-12,
    2.4253192047278077e-12,
)  # fmt: skip

_FAST: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "nnan", "ninf"}}


_SUMS: Any = _FAST | {"fastmath": {"contract", "nsz", "nnan", "ninf", "reassoc"}}


def _angle(y: Any) -> Any:
    """θ / sqrt(g) at y = 2 g - 1."""


def _excess(y: Any) -> Any:
    """E / (g sqrt(g)) at y = 2 g - 1."""


@no_type_check
def _horner(single: tuple[float, ...], double: tuple[float, ...]) -> Any:
    """A polynomial whose length and precision follow the dtype of its argument."""

    def choose(y: Any) -> Any:
        c = np.array(single, np.float32) if y == types.float32 else np.array(double)
        top = len(c) - 1

        def evaluate(y: Any) -> Any:
            r = c[top]
            for i in range(top - 1, -1, -1):
                r = r * y + c[i]
            return r

        return evaluate

    return choose


overload(_angle, inline="always")(_horner(_ANGLE_32, _ANGLE_64))
overload(_excess, inline="always")(_horner(_EXCESS_32, _EXCESS_64))


@njit(**_FAST)
@no_type_check
def _copy(dst, src):
    for i in range(len(dst)):
        dst[i] = src[i]


@njit(**_FAST)
@no_type_check
def _gram_row(k, x, z, width, factor, first):
    """Add factor x[p] z[p, lane] to k; the first channel overwrites."""
    for p in range(width):
        v = factor * x[p]
        # slices of one vector, so that the compiler sees no overlap between positions
        here, there = k[p * LANES : (p + 1) * LANES], z[p * LANES : (p + 1) * LANES]
        if first:
            for i in range(LANES):
                here[i] = v * there[i]
        else:
            for i in range(LANES):
                here[i] += v * there[i]


@njit(**_FAST)
@no_type_check
def _gram_row3(k, x0, x1, x2, z0, z1, z2, width, factor):
    """The same of three channels."""
    for p in range(width):
        a, b, c = factor * x0[p], factor * x1[p], factor * x2[p]
        here = k[p * LANES : (p + 1) * LANES]
        u, v, w = z0[p * LANES : (p + 1) * LANES], z1[p * LANES : (p + 1) * LANES], z2[p * LANES : (p + 1) * LANES]
        for i in range(LANES):
            here[i] = a * u[i] + b * v[i] + c * w[i]


@njit(**_FAST)
@no_type_check
def _scales(s, r1, r2, width, step):
    """Outer product of the two inputs' standard deviations; with step 0 x has one for all positions."""
    if step == 0:
        a = r1[0]
        for i in range(len(s)):
            s[i] = a * r2[i]
        return
    _copy(s, r2)
    for p in range(width):
        a = r1[p * step]
        here = s[p * LANES : (p + 1) * LANES]
        for i in range(LANES):
            here[i] *= a


@njit(**_FAST)
@no_type_check
def _gap(k, s, gap, scale):
    """The gap s - |k|, in which near pairs keep their digits, and s with the sign of k."""
    for i in range(len(k)):
        gap[i] = s[i] - abs(k[i])
        scale[i] = s[i] if k[i] >= 0.0 else -s[i]


@njit(**_FAST)
@no_type_check
def _relu(gap, scale, t, excess, both, slope):
    """Θ times E[φ'φ'], and the part of E[φφ] that the angle adds: E = sqrt(1 - c²) - |c| θ."""
    zero, one = t.dtype.type(0), t.dtype.type(1)
    pi, coincident = t.dtype.type(math.pi), t.dtype.type(COINCIDENT)
    for i in range(len(gap)):
        s = abs(scale[i])
        positive = s > zero  # where a variance vanishes, c = 0
        g = gap[i] / (s if positive else one)
        g = g if g > coincident else zero
        g = g if positive else one
        root = math.sqrt(g)
        y = g + g - one
        theta = root * _angle(y)
        excess[i] = g * root * _excess(y)
        t[i] = t[i] * (both * (theta if scale[i] < zero else pi - theta) + slope)


@njit(**_FAST)
@no_type_check
def _relu_nngp(k, s, excess, both, slope):
    """K = (1 - a)² (π max(k, 0) + s E) / 2π + a k."""
    for i in range(len(k)):
        v = k[i]
        v = v if v < s[i] else s[i]
        positive = v if v > 0.0 else 0.0
        k[i] = both * (math.pi * positive + s[i] * excess[i]) + slope * v


@njit(**_FAST)
@no_type_check
def _zero(dst):
    for i in range(len(dst)):
        dst[i] = 0.0


@njit(**_FAST)
@no_type_check
def _add(dst, src):
    for i in range(len(dst)):
        dst[i] += src[i]


@njit(**_FAST)
@no_type_check
def _relu_exact(k, s, t, both, slope):
    """The rule of `_relu` and `_relu_nngp` in float64 throughout, for maps that a pooling mixes."""
    for i in range(len(k)):
        v = k[i]
        v = v if v < s[i] else s[i]
        positive = s[i] > 0.0
        g = (s[i] - abs(v)) / (s[i] if positive else 1.0)
        g = g if g > COINCIDENT else 0.0
        g = g if positive else 1.0
        root = math.sqrt(g)
        y = g + g - 1.0
        theta = root * _angle(y)
        t[i] = t[i] * (both * (theta if v < 0.0 else math.pi - theta) + slope)
        k[i] = both * (math.pi * (v if v > 0.0 else 0.0) + s[i] * (g * root * _excess(y))) + slope * v


@njit(**_FAST)
@no_type_check
def _add2(dst, a, b):
    for i in range(len(dst)):
        dst[i] = a[i] + b[i]


@njit(**_FAST)
@no_type_check
def _add3(dst, a, b, c):
    for i in range(len(dst)):
        dst[i] = a[i] + b[i] + c[i]


@njit(**_FAST)
@no_type_check
def _affine(k, t, w, b, own, bias, wt):
    """Θ <- own K + bias + wt Θ, K <- w K + b."""
    for i in range(len(k)):
        t[i] = own * k[i] + bias + wt * t[i]
        k[i] = w * k[i] + b


@njit(**_FAST)
@no_type_check
def _affine3(k, t, k0, k1, k2, t0, t1, t2, w, b, own, bias, wt):
    """The same of the sum of three rows."""
    for i in range(len(k)):
        v = k0[i] + k1[i] + k2[i]
        t[i] = own * v + bias + wt * (t0[i] + t1[i] + t2[i])
        k[i] = w * v + b


@njit(**_FAST)
@no_type_check
def _affine2(k, t, k0, k1, t0, t1, w, b, own, bias, wt):
    """The same of the sum of two rows."""
    for i in range(len(k)):
        v = k0[i] + k1[i]
        t[i] = own * v + bias + wt * (t0[i] + t1[i])
        k[i] = w * v + b


@njit(**_FAST)
@no_type_check
def _reduce(total, src, tmp):
    """Add all positions of a map to a vector of lanes: folded in halves, so that the loops are long."""
    n = len(src)
    step = min(16 * LANES, n)
    _copy(tmp[:step], src[:step])
    for p in range(step, n, step):
        m = min(step, n - p)
        _add(tmp[:m], src[p : p + m])
    for p in range(0, step, LANES):
        _add(total, tmp[p : p + LANES])


@njit(**_FAST)
@no_type_check
def _scaled(k, t, s):
    for i in range(len(k)):
        k[i] *= s[i]
        t[i] *= s[i]


@njit(**_FAST)
@no_type_check
def _slide_row(dst, src, out_width, in_width, places, start, stride, dilation):
    """Sum over a window along one row; what lies outside is zero."""
    L = LANES
    if places == 3 and stride == 1 and dilation == 1 and start == -1 and out_width == in_width and in_width > 1:
        n = in_width * L
        _add2(dst[:L], src[:L], src[L : 2 * L])
        _add3(dst[L : n - L], src[: n - 2 * L], src[L : n - L], src[2 * L : n])
        _add2(dst[n - L : n], src[n - 2 * L : n - L], src[n - L : n])
        return
    if places == 1 and stride == 1 and start == 0 and out_width == in_width:
        _copy(dst[: out_width * L], src[: out_width * L])
        return
    _zero(dst[: out_width * L])
    for j in range(places):
        first = start + j * dilation  # out column o reads in column first + stride * o
        low = 0 if first >= 0 else (-first + stride - 1) // stride
        high = 0 if first >= in_width else min(out_width, (in_width - 1 - first) // stride + 1)
        if stride == 1:
            if high > low:
                _add(dst[low * L : high * L], src[(first + low) * L : (first + high) * L])
        else:
            for o in range(low, high):
                c = first + stride * o
                _add(dst[o * L : (o + 1) * L], src[c * L : (c + 1) * L])


@njit(**_FAST)
@no_type_check
def _columns3(dst, src, line, height, y0, y1):
    """Sums over three rows, of the map's rows y0 to y1; zero outside the map."""
    a, b = max(y0, 1), min(y1, height - 1)
    if b > a:
        n, p = (b - a) * line, (a - 1) * line
        o = (a - y0) * line
        _add3(dst[o : o + n], src[p : p + n], src[p + line : p + line + n], src[p + 2 * line : p + 2 * line + n])
    if height == 1:
        _copy(dst[:line], src[:line])
        return
    if y0 == 0:
        _add2(dst[:line], src[:line], src[line : 2 * line])
    if y1 == height:
        o, p = (y1 - 1 - y0) * line, (height - 2) * line
        _add2(dst[o : o + line], src[p : p + line], src[p + line : p + 2 * line])


@njit(**_FAST)
@no_type_check
def _edges(k, t, tmpk, tmpt, n, line, w, b, own, bias, wt):
    """The affine rule of the sums of two columns at the first and the last column of each row."""
    for e in range(0, n, line):
        for side in range(2):
            d = e + side * (line - LANES)
            f = e + side * (line - 2 * LANES)
            ko, to = k[d : d + LANES], t[d : d + LANES]
            k0, k1 = tmpk[f : f + LANES], tmpk[f + LANES : f + 2 * LANES]
            t0, t1 = tmpt[f : f + LANES], tmpt[f + LANES : f + 2 * LANES]
            for i in range(LANES):
                v = k0[i] + k1[i]
                to[i] = own * v + bias + wt * (t0[i] + t1[i])
                ko[i] = w * v + b


@njit(**_FAST)
@no_type_check
def _activate(k, t, y0, y1, ins, slope, r1, r2, s, gap, scale, excess):
    """The activation, or the normalisation, on rows y0 to y1 of a map, given as k and t."""
    width, line = ins[W], ins[W] * LANES
    for y in range(y0, y1):
        e, m1, m2 = (y - y0) * line, ins[MX] + y * ins[ROW] * ins[STEP], (ins[MZ] + y * ins[ROW]) * LANES
        _scales(s[e : e + line], r1[m1:], r2[m2 : m2 + line], width, ins[STEP])
    if ins[OP] == NORMALISE:
        _scaled(k, t, s)
        return
    number = t.dtype.type
    both = (1.0 - slope) ** 2 / (2 * math.pi)
    if ins[EXACT]:
        _relu_exact(k, s, t, both, slope)
        return
    _gap(k, s, gap, scale)
    _relu(gap[: len(k)], scale, t, excess, number(both), number(slope))
    _relu_nngp(k, s, excess, both, slope)


@njit(**_FAST)
@no_type_check
def _box3(
    ko,
    to,
    ka,
    ta,
    ki,
    ti,
    height,
    width,
    w,
    b,
    own,
    bias,
    wt,
    tmpk,
    tmpt,
    chunk,
    ins,
    fused,
    slope,
    r1,
    r2,
    s,
    gap,
    scale,
    excess,
):
    """The window of 3 x 3 that keeps the size, and the activation after it, if there is one, on rows still in the cache.

    What the activation makes goes to ka and ta, which may be ko and to. The loops are flat: the edges of each row, where
    they run over into the next, are written over afterwards.
    """
    line = width * LANES
    rows = chunk // line
    for y0 in range(0, height, rows):
        y1 = min(height, y0 + rows)
        n = (y1 - y0) * line
        _columns3(tmpk, ki, line, height, y0, y1)
        _columns3(tmpt, ti, line, height, y0, y1)
        k, t = ko[y0 * line : y0 * line + n], to[y0 * line : y0 * line + n]
        if width == 1:
            _copy(k, tmpk[:n])
            _copy(t, tmpt[:n])
            _affine(k, t, w, b, own, bias, wt)
        else:
            a, c, e = slice(0, n - 2 * LANES), slice(LANES, n - LANES), slice(2 * LANES, n)
            _affine3(k[c], t[c], tmpk[a], tmpk[c], tmpk[e], tmpt[a], tmpt[c], tmpt[e], w, b, own, bias, wt)
            _edges(k, t, tmpk, tmpt, n, line, w, b, own, bias, wt)
        if fused == 1:
            _activate(k, t, y0, y1, ins, slope, r1, r2, s, gap, scale, excess)
        elif fused == 2:
            part = slice(y0 * line, y0 * line + n)
            _copy(ka[part], k)
            _copy(ta[part], t)
            _activate(ka[part], ta[part], y0, y1, ins, slope, r1, r2, s, gap, scale, excess)


@njit(**_FAST)
@no_type_check
def _window(k, t, dst, src, ins, w, b, own, bias, wt, tmpk, tmpt):
    """Sum over a window, rows by a ring of column sums; then the affine rule, or added to what is there."""
    L = LANES
    height, width, in_height, in_width = ins[H], ins[W], ins[IN_H], ins[IN_W]
    kh, start, stride, dilation, adding = ins[KH], ins[SY], ins[STRIDE_Y], ins[DIL_Y], ins[ADD]
    size_in, size_out = in_width * L, width * L
    span = dilation * (kh - 1) + 1
    done = -1  # column sums of rows up to this one are in the ring
    for o in range(height):
        first = start + stride * o
        last = min(first + span - 1, in_height - 1)
        begin = max(done + 1, first, 0)
        for r in range(begin, last + 1):
            slot = (r % span) * size_out
            if dilation > 1 and (r - first) % dilation != 0 and stride % dilation == 0:
                continue  # never read
            a = (src + r * in_width) * L
            _slide_row(
                tmpk[slot : slot + size_out],
                k[a : a + size_in],
                width,
                in_width,
                ins[KW],
                ins[SX],
                ins[STRIDE_X],
                ins[DIL_X],
            )
            _slide_row(
                tmpt[slot : slot + size_out],
                t[a : a + size_in],
                width,
                in_width,
                ins[KW],
                ins[SX],
                ins[STRIDE_X],
                ins[DIL_X],
            )
        done = max(done, last)
        d = (dst + o * width) * L
        ko, to = k[d : d + size_out], t[d : d + size_out]
        if not adding:
            _zero(ko)
            _zero(to)
        for place in range(kh):
            r = first + dilation * place
            if 0 <= r < in_height:
                slot = (r % span) * size_out
                _add(ko, tmpk[slot : slot + size_out])
                _add(to, tmpt[slot : slot + size_out])
        if not adding:
            _affine(ko, to, w, b, own, bias, wt)


@njit(**_FAST)
@no_type_check
def _aligned(n, like):
    """An array of n in the dtype of another that starts on a cache line."""
    item = like.itemsize
    raw = np.empty(n + 64 // item, like.dtype)
    skip = (-raw.ctypes.data % 64) // item
    return raw[skip : skip + n]


@njit(**_FAST)
@no_type_check
def _map(n, code, column):
    """First and last element of a map of an instruction's size, from the place in this column."""
    start = code[n, column] * LANES
    return start, start + code[n, H] * code[n, W] * LANES


@njit(**_FAST)
@no_type_check
def _do_gram(n, code, row, block, x, z, k, t):
    d, e = _map(n, code, DST)
    line, stride, inverse = code[n, W] * LANES, code[n, ROW], 1.0 / x.shape[1]
    for y in range(code[n, H]):
        p, q = code[n, MX] + y * stride, (code[n, MZ] + y * stride) * LANES
        out, f = k[d + y * line : d + (y + 1) * line], q + line
        if x.shape[1] == 3:
            z0, z1, z2 = z[block, 0, q:f], z[block, 1, q:f], z[block, 2, q:f]
            _gram_row3(out, x[row, 0, p:], x[row, 1, p:], x[row, 2, p:], z0, z1, z2, code[n, W], inverse)
        else:
            for c in range(x.shape[1]):
                _gram_row(out, x[row, c, p:], z[block, c, q:f], code[n, W], inverse, c == 0)
    _zero(t[d:e])


@njit(**_FAST)
@no_type_check
def _do_load(n, code, row, block, x, k, t):
    d, e = _map(n, code, DST)
    _copy(k[d:e], x[row, block])
    _zero(t[d:e])


@njit(**_FAST)
@no_type_check
def _do_box(n, code, consts, x_root, z_root, k, t, s, gap, scale, excess, tmpk, tmpt):
    number = t.dtype.type
    d, e = _map(n, code, DST)
    a, b = _map(n, code, SRC)
    m = min(n + 1, len(code) - 1)
    done = n + 1 < len(code) and code[m, OP] == RELU and code[m, SRC] == code[n, DST]
    fused = (1 if code[m, DST] == code[n, DST] else 2) if done else 0
    f = code[m, DST] * LANES if done else d
    _box3(
        k[d:e], t[d:e], k[f : f + e - d], t[f : f + e - d], k[a:b], t[a:b], code[n, H], code[n, W],
        consts[n, 0], consts[n, 1], number(consts[n, 2]), number(consts[n, 3]), number(consts[n, 4]), tmpk, tmpt, len(s),
        code[m], fused, consts[m, 0], x_root, z_root, s, gap, scale, excess,
    )  # fmt: skip
    return done


@njit(**_FAST)
@no_type_check
def _do_window(n, code, consts, k, t, tmpk, tmpt):
    number = t.dtype.type
    own, bias, wt = number(consts[n, 2]), number(consts[n, 3]), number(consts[n, 4])
    _window(k, t, code[n, DST], code[n, SRC], code[n], consts[n, 0], consts[n, 1], own, bias, wt, tmpk, tmpt)


@njit(**_FAST)
@no_type_check
def _moved(n, code, k, t):
    """Where the result goes, with the source copied there if that is elsewhere."""
    d, e = _map(n, code, DST)
    a, b = _map(n, code, SRC)
    if a != d:
        _copy(k[d:e], k[a:b])
        _copy(t[d:e], t[a:b])
    return d, e


@njit(**_FAST)
@no_type_check
def _do_affine(n, code, consts, k, t):
    number = t.dtype.type
    d, e = _moved(n, code, k, t)
    own, bias, wt = number(consts[n, 2]), number(consts[n, 3]), number(consts[n, 4])
    _affine(k[d:e], t[d:e], consts[n, 0], consts[n, 1], own, bias, wt)


@njit(**_FAST)
@no_type_check
def _do_activation(n, code, consts, x_root, z_root, k, t, s, gap, scale, excess):
    d, _ = _moved(n, code, k, t)
    line, height = code[n, W] * LANES, code[n, H]
    rows = len(s) // line
    for y0 in range(0, height, rows):
        y1 = min(height, y0 + rows)
        a, b = d + y0 * line, d + y1 * line
        _activate(k[a:b], t[a:b], y0, y1, code[n], consts[n, 0], x_root, z_root, s, gap, scale, excess)


@njit(**_FAST)
@no_type_check
def _do_sum(n, code, k, t):
    d, e = _moved(n, code, k, t)
    a, b = _map(n, code, SRC2)
    _add(k[d:e], k[a:b])
    _add(t[d:e], t[a:b])


@njit(**_FAST)
@no_type_check
def _do_reduce(n, code, k, t, s):
    d, a = code[n, DST] * LANES, code[n, SRC] * LANES
    b = a + code[n, IN_H] * code[n, IN_W] * LANES
    if not code[n, ADD]:
        _zero(k[d : d + 2 * LANES])
    _reduce(k[d : d + LANES], k[a:b], s)
    _reduce(k[d + LANES : d + 2 * LANES], t[a:b], s)


@njit(**_FAST)
@no_type_check
def _do_mean(n, code, consts, k, t):
    d, a, share = code[n, DST] * LANES, code[n, SRC] * LANES, consts[n, 0]
    for i in range(LANES):
        k[d + i] = share * k[a + i]
        t[d + i] = share * k[a + LANES + i]


@njit(**_FAST)
@no_type_check
def _do_zero(n, code, k, t):
    d, e = _map(n, code, DST)
    _zero(k[d:e])
    _zero(t[d:e])


@njit(**_FAST)
@no_type_check
def _do_scale(n, code, places, k, t):
    number = t.dtype.type
    d, e = _map(n, code, DST)
    for p in range(d, e, LANES):
        factor = places[code[n, SRC2] + (p - d) // LANES, 0]
        for i in range(p, p + LANES):
            k[i] *= factor
            t[i] *= number(factor)


@njit(**_FAST)
@no_type_check
def _step(n, code, consts, places, row, block, x, z, x_root, z_root, k, t, s, gap, scale, excess, tmpk, tmpt):
    """One instruction; whether it has done the next one too."""
    op = code[n, OP]
    if op == GRAM:
        _do_gram(n, code, row, block, x, z, k, t)
    elif op == LOAD:
        _do_load(n, code, row, block, x, k, t)
    elif op == WINDOW and code[n, SAME]:
        return _do_box(n, code, consts, x_root, z_root, k, t, s, gap, scale, excess, tmpk, tmpt)
    elif op == WINDOW:
        _do_window(n, code, consts, k, t, tmpk, tmpt)
    elif op == AFFINE:
        _do_affine(n, code, consts, k, t)
    elif op in (RELU, NORMALISE):
        _do_activation(n, code, consts, x_root, z_root, k, t, s, gap, scale, excess)
    elif op == SUM:
        _do_sum(n, code, k, t)
    elif op == REDUCE:
        _do_reduce(n, code, k, t, s)
    elif op == MEAN:
        _do_mean(n, code, consts, k, t)
    elif op == ZERO:
        _do_zero(n, code, k, t)
    elif op == SCALE:
        _do_scale(n, code, places, k, t)
    return False


@njit(**_FAST)
@no_type_check
def _scratch(code, k, t):
    """Work arrays of a chunk, and of a window's rows."""
    chunk, ring = CHUNK, CHUNK
    for n in range(len(code)):
        chunk = max(chunk, code[n, W] * LANES, code[n, IN_W] * LANES)
        if code[n, OP] in (WINDOW, WINDOW_T):
            ring = max(ring, (code[n, DIL_Y] * (code[n, KH] - 1) + 1) * code[n, W] * LANES)
    size = max(chunk, ring)
    return (
        _aligned(chunk, k), _aligned(chunk, t), _aligned(chunk, t), _aligned(chunk, t), _aligned(size, k), _aligned(size, t)
    )  # fmt: skip


@njit(**_FAST)
@no_type_check
def run(items, code, consts, places, x, z, r1, r2, k, t, out_k, out_t):
    """Run the program for each item (row of x, block of z).

    Args:
        items: (m, 2) int64.
        code: (n, COLUMNS) int64; the last instruction's destination is the output.
        consts: (n, 5) float64.
        places: (p, LANES) float64: factors an entry, for SCALE.
        x: (n1, C, positions) float64, or for LOAD the rows of K itself, (n1, blocks, entries).
        z: (blocks, C, positions * LANES) float64.
        r1: (n1, m) standard deviations at the nodes that need them (for NORMALISE their inverses).
        r2: (blocks, m * LANES), the same of z.
        k: work space, (size,) float64.
        t: the same for Θ, in its dtype.
        out_k: (items, entries), filled; or (items, 0) where K is not wanted.
        out_t: the same for Θ.
    """
    s, gap, scale, excess, tmpk, tmpt = _scratch(code, k, t)
    d = code[len(code) - 1, DST] * LANES
    for item in range(len(items)):
        row, block = items[item, 0], items[item, 1]
        x_root, z_root = r1[row], r2[block]
        done = False
        for n in range(len(code)):
            if done:
                done = False
                continue
            done = _step(
                n, code, consts, places, row, block, x, z, x_root, z_root, k, t, s, gap, scale, excess, tmpk, tmpt
            )
        _copy(out_k[item], k[d : d + out_k.shape[1]])
        _copy(out_t[item], t[d : d + out_t.shape[1]])


@njit(**_FAST)
@no_type_check
def _muladd(dst, a, b, factor):
    for i in range(len(dst)):
        dst[i] += factor * a[i] * b[i]


@njit(**_FAST)
@no_type_check
def _affine_t(k, t, w, own, wt):
    """Back through `_affine`: K̄ <- w K̄ + own Θ̄, Θ̄ <- wt Θ̄."""
    for i in range(len(k)):
        k[i] = w * k[i] + own * t[i]
        t[i] = wt * t[i]


@njit(**_FAST)
@no_type_check
def _slopes_t(gap, scale, t, tangent, both, slope, angle, sine, share):
    """θ = arccos|c|, σ = sqrt(1 - c²), A = Θ̄ Θ dF/dθ / (σ s), 0 at coincident pairs, and Θ̄ <- Θ̄ F, F = E[φ'φ']."""
    zero, one = t.dtype.type(0), t.dtype.type(1)
    pi, coincident = t.dtype.type(math.pi), t.dtype.type(COINCIDENT)
    for i in range(len(t)):
        s = abs(scale[i])
        positive = s > zero
        g = gap[i] / (s if positive else one)
        g = g if g > coincident else zero
        g = g if positive else one
        sigma = math.sqrt(g * (one + one - g))
        theta = math.sqrt(g) * _angle(g + g - one)
        factor = both * (theta if scale[i] < zero else pi - theta) + slope
        a = t[i] * tangent[i] * both / (sigma * s if sigma > zero and positive else one)
        share[i] = a if (sigma > zero and positive) else zero
        sine[i] = sigma
        t[i] = t[i] * factor
        angle[i] = theta


@njit(**_FAST)
@no_type_check
def _relu_t(k, value, s, both, slope, angle, sine, share, out):
    """K̄ <- K̄ F + A, and for the standard deviation r of x, times r: K̄ both σ s - A k.

    F is taken in float64: near pairs' large terms cancel to what the variances' own recursion leaves, which is in float64.
    """
    for i in range(len(k)):
        turn = angle[i] if value[i] < 0.0 else math.pi - angle[i]
        f = both * (turn if s[i] > 0.0 else 0.0) + slope
        out[i] = k[i] * both * sine[i] * s[i] - share[i] * value[i]
        k[i] = k[i] * f + share[i]


@njit(**_FAST)
@no_type_check
def _scaled_t(k, t, value, tangent, s, out):
    """Back through a product with s: `out` gets s dL/ds."""
    for i in range(len(k)):
        out[i] = s[i] * (k[i] * value[i] + t[i] * tangent[i])
        k[i] *= s[i]
        t[i] *= s[i]


@njit(**_FAST)
@no_type_check
def _slide_row_t(dst, src, out_width, in_width, places, start, stride, dilation):
    """Add each entry of a row to the places that its window saw."""
    L = LANES
    for j in range(places):
        first = start + j * dilation
        low = 0 if first >= 0 else (-first + stride - 1) // stride
        high = 0 if first >= in_width else min(out_width, (in_width - 1 - first) // stride + 1)
        if stride == 1:
            if high > low:
                _add(dst[(first + low) * L : (first + high) * L], src[low * L : high * L])
        else:
            for o in range(low, high):
                c = first + stride * o
                _add(dst[c * L : (c + 1) * L], src[o * L : (o + 1) * L])


@njit(**_FAST)
@no_type_check
def _window_t(dst, src, ins, tmp):
    """Add each entry of a map to the places that its window saw."""
    L = LANES
    height, width, in_height, in_width = ins[H], ins[W], ins[IN_H], ins[IN_W]
    line_in, line = in_width * L, width * L
    for o in range(height):
        row = tmp[:line_in]
        _zero(row)
        _slide_row_t(row, src[o * line : (o + 1) * line], width, in_width, ins[KW], ins[SX], ins[STRIDE_X], ins[DIL_X])
        for place in range(ins[KH]):
            r = ins[SY] + ins[STRIDE_Y] * o + ins[DIL_Y] * place
            if 0 <= r < in_height:
                _add(dst[r * line_in : (r + 1) * line_in], row)


@njit(**_FAST)
@no_type_check
def _do_seed(n, code, weights, ntk, k, t):
    d, e = _map(n, code, DST)
    for i in range(e - d):
        k[d + i] = 0.0 if ntk else weights[i]
        t[d + i] = weights[i] if ntk else 0.0


@njit(**_FAST)
@no_type_check
def _do_fill(n, code, consts, k, t):
    d, e = _map(n, code, DST)
    a, share = code[n, SRC] * LANES, consts[n, 0]
    first, second = k[a : a + LANES], t[a : a + LANES]
    for p in range(d, e, LANES):
        ko, to = k[p : p + LANES], t[p : p + LANES]
        for i in range(LANES):
            ko[i] = share * first[i]
            to[i] = share * second[i]


@njit(**_FAST)
@no_type_check
def _do_affine_t(n, code, consts, k, t):
    d, e = _map(n, code, DST)
    _affine_t(k[d:e], t[d:e], consts[n, 0], consts[n, 2], consts[n, 4])


@njit(**_FAST)
@no_type_check
def _do_window_t(n, code, k, t, tmpk, tmpt):
    a, b = _map(n, code, SRC)
    d = code[n, DST] * LANES
    e = d + code[n, IN_H] * code[n, IN_W] * LANES
    _window_t(k[d:e], k[a:b], code[n], tmpk)
    _window_t(t[d:e], t[a:b], code[n], tmpt)


@njit(**_FAST)
@no_type_check
def _do_activation_t(n, code, consts, x_root, z_root, rbar, k, t, s, gap, scale, angle, sine, share, out, tmp):
    number, slope = t.dtype.type, consts[n, 0]
    both = (1.0 - slope) ** 2 / (2 * math.pi)
    d, v = code[n, DST] * LANES, code[n, SRC2] * LANES
    width, line, height, step = code[n, W], code[n, W] * LANES, code[n, H], code[n, STEP]
    rows = len(s) // line
    for y0 in range(0, height, rows):
        y1 = min(height, y0 + rows)
        for y in range(y0, y1):
            e, m1, m2 = (y - y0) * line, code[n, MX] + y * code[n, ROW] * step, (code[n, MZ] + y * code[n, ROW]) * LANES
            _scales(s[e : e + line], x_root[m1:], z_root[m2 : m2 + line], width, step)
        ko, to = k[d + y0 * line : d + y1 * line], t[d + y0 * line : d + y1 * line]
        value, tangent = k[v + y0 * line : v + y1 * line], t[v + y0 * line : v + y1 * line]
        if code[n, OP] == RELU_T:
            _gap(value, s, gap, scale)
            _slopes_t(gap, scale, to, tangent, number(both), number(slope), angle, sine, share)
            _relu_t(ko, value, s, both, slope, angle, sine, share, out)
        else:
            _scaled_t(ko, to, value, tangent, s, out)
        for y in range(y0, y1):
            e, m1 = (y - y0) * line, (code[n, MX] + y * code[n, ROW] * step) * LANES
            if step == 0:
                _reduce(rbar[m1 : m1 + LANES], out[e : e + line], tmp)
            else:
                _add(rbar[m1 : m1 + line], out[e : e + line])


@njit(**_FAST)
@no_type_check
def _do_gram_t(n, code, block, xbar, z, k):
    a, line, inverse = code[n, SRC] * LANES, code[n, W] * LANES, 1.0 / len(xbar)
    for c in range(len(xbar)):
        for y in range(code[n, H]):
            p, q = (code[n, MX] + y * code[n, ROW]) * LANES, (code[n, MZ] + y * code[n, ROW]) * LANES
            _muladd(xbar[c, p : p + line], k[a + y * line : a + (y + 1) * line], z[block, c, q : q + line], inverse)


@njit(**_FAST)
@no_type_check
def run_adjoint(items, code, consts, places, x, z, r1, r2, weights, ntk, k, t, xbar, rbar, kbar):
    """Run the program of a gradient for each item (row of x, block of z, place of what it adds to).

    Args:
        items: (m, 3) int64.
        code: (n, COLUMNS) int64.
        consts: as in `run`.
        places: as in `run`.
        x: as in `run`.
        z: as in `run`.
        r1: as in `run`.
        r2: as in `run`.
        weights: (m, entries), the cotangents of the output.
        ntk: whether they are of Θ, or else of K.
        k: work space for K and its cotangents.
        t: the same for Θ.
        xbar: (places, C, positions * LANES), to which the cotangents of x are added; lanes are apart.
        rbar: (places, m * LANES), likewise those of its standard deviations, times these.
        kbar: (m, entries), for LOAD the cotangents of K itself.
    """
    s, gap, scale, excess, tmpk, tmpt = _scratch(code, k, t)
    out, sine, share = _aligned(len(s), k), _aligned(len(s), t), _aligned(len(s), t)
    for item in range(len(items)):
        row, block, place = items[item, 0], items[item, 1], items[item, 2]
        x_root, z_root = r1[row], r2[block]
        done = False
        for n in range(len(code)):
            if done:
                done = False
                continue
            op = code[n, OP]
            if op < SEED:
                done = _step(
                    n, code, consts, places, row, block, x, z, x_root, z_root, k, t, s, gap, scale, excess, tmpk, tmpt
                )
            elif op == SEED:
                _do_seed(n, code, weights[item], ntk, k, t)
            elif op == FILL:
                _do_fill(n, code, consts, k, t)
            elif op == AFFINE_T:
                _do_affine_t(n, code, consts, k, t)
            elif op == WINDOW_T:
                _do_window_t(n, code, k, t, tmpk, tmpt)
            elif op in (RELU_T, NORMALISE_T):
                _do_activation_t(
                    n, code, consts, x_root, z_root, rbar[place], k, t, s, gap, scale, excess, sine, share, out, tmpk
                )
            elif op == GRAM_T:
                _do_gram_t(n, code, block, xbar[place], z, k)
            elif op == LOAD_T:
                a, b = _map(n, code, SRC)
                _copy(kbar[item], k[a:b])


@njit(**_SUMS)
@no_type_check
def _dot(a, b):
    """Product of two rows in float64."""
    total = 0.0
    for i in range(len(a)):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@njit(**_FAST)
@no_type_check
def squares(out, x):
    """|x|² / d of each row, in float64."""
    for i in range(len(x)):
        out[i] = _dot(x[i], x[i]) / x.shape[1]


@njit(**_FAST)
@no_type_check
def refine(panel, product, x, z, square1, square2, near):
    """<x, z> / d in float64: from the product given, but anew for pairs nearly parallel, where its rounding shows.

    Args:
        panel: (rows, columns) float64, filled.
        product: (rows, columns) in the dtype of x.
        x: (rows, d) float32 or float64.
        z: (columns, d), likewise.
        square1: |x|² / d of the rows.
        square2: |z|² / d of the columns.
        near: pairs with cosine² above (1 - near)² are computed anew.
    """
    d = x.shape[1]
    bound = (1.0 - near) ** 2
    for i in range(len(x)):
        out, rounded = panel[i], product[i]
        for j in range(len(out)):
            out[j] = rounded[j] / d
        limit = bound * square1[i]
        for j in range(len(z)):
            if out[j] * out[j] > limit * square2[j]:
                out[j] = _dot(x[i], z[j]) / d


@njit(**_FAST)
@no_type_check
def _axpy(dst, src, factor):
    for i in range(len(dst)):
        dst[i] += factor * src[i]


@njit(**_FAST)
@no_type_check
def split(far, total, kbar, product, z, square1, square2, near):
    """Cotangents of the product as float32 for the far pairs; those of near pairs are carried to x here, in float64.

    Args:
        far: (rows, columns) float32, filled; 0 for near pairs.
        total: (rows, d) float64, to which the near pairs' kbar z is added.
        kbar: (rows, columns) float64.
        product: (rows, columns) float64, <x, z> / d.
        z: (columns, d) float32.
        square1: |x|² / d of the rows.
        square2: |z|² / d of the columns.
        near: as in `refine`.
    """
    bound = (1.0 - near) ** 2
    for i in range(len(kbar)):
        limit = bound * square1[i]
        for j in range(len(z)):
            value = kbar[i, j]
            if product[i, j] * product[i, j] > limit * square2[j]:
                _axpy(total[i], z[j], value)
                value = 0.0
            far[i, j] = value
