"""Convolution and average pooling: a window of positions slid over an image, on offset-major covariances."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ntklens.kernels.rules.operations import (
    ORIGIN,
    Covariance,
    Maps,
    Marginals,
    Offset,
    Operation,
    Scales,
    Size,
    affine,
    overlap,
)


@dataclass(frozen=True)
class Window:
    """The geometry: output position p sees the inputs stride * p + dilation * i - padding, i in the kernel."""

    kernel: Size
    stride: Size
    padding: Size
    dilation: Size
    in_size: Size
    out_size: Size

    def source(self, offset: Offset, shift: Offset = ORIGIN) -> Offset:
        """The input offset behind an output offset, for window places that differ by `shift`."""
        return (self.stride[0] * offset[0] + shift[0], self.stride[1] * offset[1] + shift[1])

    def exists(self, source: Offset) -> bool:
        """Whether two positions of the input image can be so far apart."""
        return all(abs(d) < n for d, n in zip(source, self.in_size, strict=True))

    def slide(self, t: Tensor, source: Offset, offset: Offset, shift: Offset = ORIGIN) -> Tensor:
        """Sum the input map `source` over the window, at the entries of the output map `offset`.

        With `shift` e, the two inputs stand at window places i and i + e: i runs over the places where both are in the
        kernel. What lies outside the input map is zero: one of the two is in the padding.
        """
        pads: list[int] = []
        extent: list[int] = []
        for axis in (-1, -2):  # F.pad takes the last axis first
            first, count = max(0, -offset[axis]), self.out_size[axis] - abs(offset[axis])
            places = self.kernel[axis] - abs(shift[axis])
            start = self.stride[axis] * first + self.dilation[axis] * max(0, -shift[axis]) - self.padding[axis]
            start -= max(0, -source[axis])
            stop = start + self.stride[axis] * (count - 1) + self.dilation[axis] * (places - 1) + 1
            low, high = min(max(start, 0), t.shape[axis]), max(min(stop, t.shape[axis]), 0)
            t = t.narrow(axis, low, max(high - low, 0))
            left = min(max(-start, 0), stop - start)
            pads += [left, (stop - start) - left - t.shape[axis]]
            extent.insert(0, places)
        return window_sum(F.pad(t, pads), (extent[0], extent[1]), self.stride, self.dilation)


def window_sum(t: Tensor, kernel: Size, stride: Size, dilation: Size) -> Tensor:
    """Sum over a sliding window of the last two axes, without padding, one axis after the other."""
    for axis in (-2, -1):
        k, s, d = kernel[axis], stride[axis], dilation[axis]
        count = (t.shape[axis] - d * (k - 1) - 1) // s + 1
        places = [_strided(t, axis, d * i, s, count) for i in range(k)]
        t = sum(places[1:], places[0])
    return t


def _strided(t: Tensor, axis: int, start: int, step: int, count: int) -> Tensor:
    """Entries start, start + step, … of one of the last two axes, as a view."""
    entries = slice(start, start + step * (count - 1) + 1, step)
    return t[..., entries, :] if axis == -2 else t[..., entries]


@dataclass(frozen=True)
class Conv(Operation):
    """K(p, p') <- w_std² / |window| Σ_i K(p + i, p' + i) + b_std² (Novak et al. 2019; Arora et al. 2019).

    The places i are the same for both inputs, so the offset Δ = p' - p comes from the one input offset stride * Δ.
    """

    window: Window
    scales: Scales
    is_layer = True

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """Stride times each offset."""
        return {d for d in map(self.window.source, offsets) if self.window.exists(d)}

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Mean over the window, then the dense rule."""
        (state,) = states
        places = self.window.kernel[0] * self.window.kernel[1]

        def mean(maps: Maps) -> Maps:
            return {d: self._sum(maps, d) / places for d in offsets}

        ntk = None if state.ntk is None else mean(state.ntk)
        return affine(Covariance(mean(state.nngp), ntk), self.scales)

    def _sum(self, maps: Maps, offset: Offset) -> Tensor:
        source = self.window.source(offset)
        if source in maps:
            return self.window.slide(maps[source], source, offset)
        like = next(iter(maps.values()))  # further apart than the image is wide: both windows lie in the padding
        shape = [n - abs(d) for n, d in zip(self.window.out_size, offset, strict=True)]
        return like.new_zeros(*like.shape[:-2], *shape)


@dataclass(frozen=True)
class AveragePool(Operation):
    """Local average pooling: the mean over both windows, which mixes each offset with its near neighbours.

    With `include_padding` off, each window is divided by the number of its places inside the image.
    """

    window: Window
    include_padding: bool = True

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """Stride * Δ + e for every difference e of two places in the window."""
        shifts = list(self._shifts())
        candidates = {self.window.source(d, e) for d in offsets for e in shifts}
        return {d for d in candidates if self.window.exists(d)}

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Sum over the shifts e of the sliding sums of the maps stride * Δ + e, over |window|²."""
        (state,) = states
        pairs = (self.window.kernel[0] * self.window.kernel[1]) ** 2

        def pool(maps: Maps) -> Maps:
            pooled: Maps = {}
            for offset in offsets:
                parts = [
                    self.window.slide(maps[source], source, offset, e)
                    for e in self._shifts()
                    if (source := self.window.source(offset, e)) in maps
                ]
                pooled[offset] = sum(parts[1:], parts[0]) / (
                    pairs if self.include_padding else self.places(parts[0], offset)
                )
            return pooled

        return Covariance(pool(state.nngp), None if state.ntk is None else pool(state.ntk))

    def places(self, like: Tensor, offset: Offset) -> Tensor:
        """Number of places inside the image of one window times that of the other, at each entry of a map."""
        w, counts = self.window, []
        for axis in (0, 1):
            starts = [w.stride[axis] * p - w.padding[axis] for p in range(w.out_size[axis])]
            inside = [min(s + w.kernel[axis], w.in_size[axis]) - max(s, 0) for s in starts]
            counts.append(like.new_tensor(inside))
        both = counts[0][:, None] * counts[1]
        here, there = overlap(w.out_size, offset), overlap(w.out_size, (-offset[0], -offset[1]))
        return both[here] * both[there]

    def _shifts(self) -> itertools.product[Offset]:
        h, w = self.window.kernel
        return itertools.product(range(1 - h, h), range(1 - w, w))


@dataclass(frozen=True)
class Pad(Operation):
    """Zeros around the image."""

    window: Window

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """The same offsets, where the image is wide enough."""
        return {d for d in offsets if self.window.exists(d)}

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Each map within zeros."""

        def pad(maps: Maps) -> Maps:
            like = next(iter(maps.values()))
            return {d: self.window.slide(maps.get(d, like[..., :0, :0]), d, d) for d in offsets}

        (state,) = states
        return Covariance(pad(state.nngp), None if state.ntk is None else pad(state.ntk))


@dataclass(frozen=True)
class CircularPad(Operation):
    """The image continued around its edges, as circular convolutions pad it."""

    before: Size
    in_size: Size
    out_size: Size

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """The offsets that are the same around the edges."""
        return {pair for d in offsets for pair in itertools.product(*self._around(d)) if self._exists(pair)}

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Join the maps of an offset and of its continuations, and read each entry at its place."""
        (state,) = states

        def wrap(maps: Maps) -> Maps:
            return {d: self._wrap(maps, d) for d in offsets}

        return Covariance(wrap(state.nngp), None if state.ntk is None else wrap(state.ntk))

    def _around(self, offset: Offset) -> tuple[tuple[int, int], tuple[int, int]]:
        """On each axis the offset from 0 on, and the one that reaches the same place the other way."""
        (h, w), (a, b) = self.in_size, offset
        return (a % h, a % h - h), (b % w, b % w - w)

    def _exists(self, offset: Offset) -> bool:
        return all(abs(d) < n for d, n in zip(offset, self.in_size, strict=True))

    def _wrap(self, maps: Maps, offset: Offset) -> Tensor:
        rows, columns = self._around(offset)
        bands = []
        for a in rows:
            parts = [maps[a, b] for b in columns if self._exists((a, b))]
            if parts:
                bands.append(torch.cat(parts, -1))
        t = torch.cat(bands, -2)
        for axis in (-2, -1):
            size = self.in_size[axis]
            first = max(0, -offset[axis]) - self.before[axis]
            places = [(first + i) % size for i in range(self.out_size[axis] - abs(offset[axis]))]
            t = t.index_select(axis, torch.tensor(places, device=t.device))
        return t


@dataclass(frozen=True)
class Upsample(Operation):
    """Each position repeated into a block of `factor`: K(p, p') <- K(p // factor, p' // factor)."""

    factor: Size
    in_size: Size
    out_size: Size

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """The one or two input offsets on each axis that the positions of an output offset come from."""
        return {d for o in offsets for d in itertools.product(self._places(o, 0), self._places(o, 1))}

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Read each entry at its source."""
        (state,) = states

        def repeat(maps: Maps) -> Maps:
            return {d: self._repeat(maps, d) for d in offsets}

        return Covariance(repeat(state.nngp), None if state.ntk is None else repeat(state.ntk))

    def _places(self, offset: Offset, axis: int) -> dict[int, list[tuple[int, int]]]:
        """By source offset: (entry of the output map, entry of that source map) along one axis."""
        f, d, first = self.factor[axis], offset[axis], max(0, -offset[axis])
        places: dict[int, list[tuple[int, int]]] = {}
        for entry in range(self.out_size[axis] - abs(d)):
            here, there = (first + entry) // f, (first + entry + d) // f
            source = there - here
            places.setdefault(source, []).append((entry, here - max(0, -source)))
        return places

    def _repeat(self, maps: Maps, offset: Offset) -> Tensor:
        like = next(iter(maps.values()))
        t = like.new_zeros(*like.shape[:-2], *(n - abs(d) for n, d in zip(self.out_size, offset, strict=True)))
        rows, columns = (
            {d: torch.tensor(entries, device=t.device).T for d, entries in self._places(offset, axis).items()}
            for axis in (0, 1)
        )
        for a, (to_row, from_row) in rows.items():
            for b, (to_column, from_column) in columns.items():
                t[..., to_row[:, None], to_column] = maps[a, b][..., from_row[:, None], from_column]
        return t
