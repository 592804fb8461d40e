"""Sums over windows that slide over a map, and the way back through them."""

from __future__ import annotations

from typing import no_type_check

from numba import njit

from ntklens.kernels.fused.codes import ADD, DIL_X, DIL_Y, IN_H, IN_W, KH, KW, LANES, STRIDE_X, STRIDE_Y, SX, SY, H, W
from ntklens.kernels.fused.loops import FAST, add, affine, affine_of_3, clear, copy, sum_of_2, sum_of_3
from ntklens.kernels.fused.relu import activate


@njit(**FAST)
@no_type_check
def slide_row(dst, src, out_width, in_width, places, start, stride, dilation):
    """Sum over a window along one row; what lies outside is zero."""
    L = LANES
    if places == 3 and stride == 1 and dilation == 1 and start == -1 and out_width == in_width and in_width > 1:
        n = in_width * L
        sum_of_2(dst[:L], src[:L], src[L : 2 * L])
        sum_of_3(dst[L : n - L], src[: n - 2 * L], src[L : n - L], src[2 * L : n])
        sum_of_2(dst[n - L : n], src[n - 2 * L : n - L], src[n - L : n])
        return
    if places == 1 and stride == 1 and start == 0 and out_width == in_width:
        copy(dst[: out_width * L], src[: out_width * L])
        return
    clear(dst[: out_width * L])
    for j in range(places):
        first = start + j * dilation  # out column o reads in column first + stride * o
        low = 0 if first >= 0 else (-first + stride - 1) // stride
        high = 0 if first >= in_width else min(out_width, (in_width - 1 - first) // stride + 1)
        if stride == 1:
            if high > low:
                add(dst[low * L : high * L], src[(first + low) * L : (first + high) * L])
        else:
            for o in range(low, high):
                c = first + stride * o
                add(dst[o * L : (o + 1) * L], src[c * L : (c + 1) * L])


@njit(**FAST)
@no_type_check
def columns_of_3(dst, src, line, height, y0, y1):
    """Sums over three rows, of the map's rows y0 to y1; zero outside the map."""
    a, b = max(y0, 1), min(y1, height - 1)
    if b > a:
        n, p = (b - a) * line, (a - 1) * line
        o = (a - y0) * line
        sum_of_3(dst[o : o + n], src[p : p + n], src[p + line : p + line + n], src[p + 2 * line : p + 2 * line + n])
    if height == 1:
        copy(dst[:line], src[:line])
        return
    if y0 == 0:
        sum_of_2(dst[:line], src[:line], src[line : 2 * line])
    if y1 == height:
        o, p = (y1 - 1 - y0) * line, (height - 2) * line
        sum_of_2(dst[o : o + line], src[p : p + line], src[p + line : p + 2 * line])


@njit(**FAST)
@no_type_check
def edges(k, t, tmpk, tmpt, n, line, w, b, own, bias, wt):
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


@njit(**FAST)
@no_type_check
def box_of_3(
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
        columns_of_3(tmpk, ki, line, height, y0, y1)
        columns_of_3(tmpt, ti, line, height, y0, y1)
        k, t = ko[y0 * line : y0 * line + n], to[y0 * line : y0 * line + n]
        if width == 1:
            copy(k, tmpk[:n])
            copy(t, tmpt[:n])
            affine(k, t, w, b, own, bias, wt)
        else:
            a, c, e = slice(0, n - 2 * LANES), slice(LANES, n - LANES), slice(2 * LANES, n)
            affine_of_3(k[c], t[c], tmpk[a], tmpk[c], tmpk[e], tmpt[a], tmpt[c], tmpt[e], w, b, own, bias, wt)
            edges(k, t, tmpk, tmpt, n, line, w, b, own, bias, wt)
        if fused == 1:
            activate(k, t, y0, y1, ins, slope, r1, r2, s, gap, scale, excess)
        elif fused == 2:
            part = slice(y0 * line, y0 * line + n)
            copy(ka[part], k)
            copy(ta[part], t)
            activate(ka[part], ta[part], y0, y1, ins, slope, r1, r2, s, gap, scale, excess)


@njit(**FAST)
@no_type_check
def window(k, t, dst, src, ins, w, b, own, bias, wt, tmpk, tmpt):
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
            slide_row(
                tmpk[slot : slot + size_out],
                k[a : a + size_in],
                width,
                in_width,
                ins[KW],
                ins[SX],
                ins[STRIDE_X],
                ins[DIL_X],
            )
            slide_row(
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
            clear(ko)
            clear(to)
        for place in range(kh):
            r = first + dilation * place
            if 0 <= r < in_height:
                slot = (r % span) * size_out
                add(ko, tmpk[slot : slot + size_out])
                add(to, tmpt[slot : slot + size_out])
        if not adding:
            affine(ko, to, w, b, own, bias, wt)


@njit(**FAST)
@no_type_check
def slide_row_t(dst, src, out_width, in_width, places, start, stride, dilation):
    """Add each entry of a row to the places that its window saw."""
    L = LANES
    for j in range(places):
        first = start + j * dilation
        low = 0 if first >= 0 else (-first + stride - 1) // stride
        high = 0 if first >= in_width else min(out_width, (in_width - 1 - first) // stride + 1)
        if stride == 1:
            if high > low:
                add(dst[(first + low) * L : (first + high) * L], src[low * L : high * L])
        else:
            for o in range(low, high):
                c = first + stride * o
                add(dst[c * L : (c + 1) * L], src[o * L : (o + 1) * L])


@njit(**FAST)
@no_type_check
def window_t(dst, src, ins, tmp):
    """Add each entry of a map to the places that its window saw."""
    L = LANES
    height, width, in_height, in_width = ins[H], ins[W], ins[IN_H], ins[IN_W]
    line_in, line = in_width * L, width * L
    for o in range(height):
        row = tmp[:line_in]
        clear(row)
        slide_row_t(row, src[o * line : (o + 1) * line], width, in_width, ins[KW], ins[SX], ins[STRIDE_X], ins[DIL_X])
        for place in range(ins[KH]):
            r = ins[SY] + ins[STRIDE_Y] * o + ins[DIL_Y] * place
            if 0 <= r < in_height:
                add(dst[r * line_in : (r + 1) * line_in], row)
