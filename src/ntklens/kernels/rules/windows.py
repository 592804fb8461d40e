"""Convolution, pooling, padding and upsampling, which move or add up positions, on covariances stored by offset."""

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
    ends,
    is_offset,
    map_size,
    short,
)


@dataclass(frozen=True)
class Window:
    """The geometry of a window: output position p reads the inputs stride * p + dilation * i - padding, i in the kernel.

    Each field has the vertical value first. `in_size` and `out_size` are the sizes of the images, in positions.
    """

    kernel: Size
    stride: Size
    padding: Size
    dilation: Size
    in_size: Size
    out_size: Size

    @property
    def area(self) -> str:
        """Height and width, such as 3x3."""
        return "x".join(map(str, self.kernel))

    def unusual(self, **usual: Size) -> list[str]:
        """Return the fields that differ from these values, in words."""
        return [f"{name} {short(getattr(self, name))}" for name, value in usual.items() if getattr(self, name) != value]

    def source(self, offset: Offset, shift: Offset = ORIGIN) -> Offset:
        """Return the input offset that an output offset Δ reads, for inputs at window places i and i + shift.

        With p' = p + Δ: (stride * p' + i + shift) - (stride * p + i) = stride * Δ + shift. Only pooling has shifts, and
        its dilation is 1.
        """
        return (self.stride[0] * offset[0] + shift[0], self.stride[1] * offset[1] + shift[1])

    def places(self, axis: int, shift: Offset = ORIGIN) -> int:
        """Return how many places i of one axis of the kernel have i + shift inside the kernel too."""
        return self.kernel[axis] - abs(shift[axis])

    def start(self, axis: int, source: Offset, offset: Offset, shift: Offset = ORIGIN) -> int:
        """Return the index in the input map `source` that the first entry of the output map `offset` reads first.

        The index is along one axis and is negative where it lies in the padding.
        """
        # The first entry of map Δ stands for the first position p with p >= 0 and p + Δ >= 0, and the first
        # place i of the window is the first with i >= 0 and i + shift >= 0.
        first_position = max(0, -offset[axis])
        first_place = max(0, -shift[axis])
        position = self.stride[axis] * first_position + self.dilation[axis] * first_place - self.padding[axis]
        # The input map, too, starts at the first position that it stands for.
        return position - max(0, -source[axis])

    def slide(self, t: Tensor, source: Offset, offset: Offset, shift: Offset = ORIGIN) -> Tensor:
        """Sum the input map `t` at offset `source` over the window, for every entry of the output map at `offset`.

        The two inputs stand at window places i and i + shift, and the sum is over the places i for which both are in
        the kernel. Entries outside the input map count as zero, because one of the two positions is in the padding.
        """
        pads: list[int] = []
        for axis in (1, 0):  # F.pad takes the last axis first
            start = self.start(axis, source, offset, shift)
            entries = self.out_size[axis] - abs(offset[axis])
            last_place = self.places(axis, shift) - 1
            stop = start + self.stride[axis] * (entries - 1) + self.dilation[axis] * last_place + 1
            # The sum reads start, ..., stop - 1. Cut the map to the part of it that lies in this range ...
            size = t.shape[axis - 2]
            low = min(max(start, 0), size)
            high = max(min(stop, size), 0)
            t = t.narrow(axis - 2, low, max(high - low, 0))
            # ... and put zeros before and behind, up to exactly stop - start entries.
            before = min(max(-start, 0), stop - start)
            pads += [before, (stop - start) - before - t.shape[axis - 2]]
        kernel = (self.places(0, shift), self.places(1, shift))
        return window_sum(F.pad(t, pads), kernel, self.stride, self.dilation)


def window_sum(t: Tensor, kernel: Size, stride: Size, dilation: Size) -> Tensor:
    """Sum over a sliding window of the last two axes, without padding.

    A sum over a rectangle is a sum over rows of sums over columns, so kernel[0] + kernel[1] additions per entry suffice.
    """
    for axis in (-2, -1):
        k, s, d = kernel[axis], stride[axis], dilation[axis]
        count = (t.shape[axis] - d * (k - 1) - 1) // s + 1
        shifted = [_strided(t, axis, d * i, s, count) for i in range(k)]
        t = sum(shifted[1:], shifted[0])
    return t


def _strided(t: Tensor, axis: int, start: int, step: int, count: int) -> Tensor:
    """Return `count` entries of one of the last two axes, from `start` on in steps of `step`, as a view."""
    entries = slice(start, start + step * (count - 1) + 1, step)
    return t[..., entries, :] if axis == -2 else t[..., entries]


@dataclass(frozen=True)
class Conv(Operation):
    """Convolution: K(p, p') <- w_std² / |window| Σ_i K(p + i, p' + i) + b_std² (Novak et al. 2019; Arora et al. 2019).

    The place i is the same for both inputs, because the weights of different places are independent. The output offset
    Δ = p' - p therefore reads the single input offset stride * Δ.
    """

    window: Window
    scales: Scales
    is_layer = True

    def __str__(self) -> str:
        window = self.window
        steps = [f"{name} {short(getattr(window, name))}" for name in ("stride", "padding")]
        return ", ".join([f"Conv {window.area}", *steps, *window.unusual(dilation=(1, 1))])

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """Return stride times each offset."""
        return {d for d in map(self.window.source, offsets) if is_offset(d, self.window.in_size)}

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Take the mean over the window, then apply the affine rule."""
        places = self.window.kernel[0] * self.window.kernel[1]

        def mean(maps: Maps) -> Maps:
            return {d: self._sum(maps, d) / places for d in offsets}

        return affine(states[0].apply(mean), self.scales)

    def _sum(self, maps: Maps, offset: Offset) -> Tensor:
        source = self.window.source(offset)
        if source in maps:
            return self.window.slide(maps[source], source, offset)
        # The offset is larger than the input image, so that one of the two positions always lies in the padding.
        like = next(iter(maps.values()))
        return like.new_zeros(*like.shape[:-2], *map_size(self.window.out_size, offset))


@dataclass(frozen=True)
class AveragePool(Operation):
    """Average pooling: K(p, p') <- 1 / |window|² Σ_i Σ_j K(p + i, p' + j), so each offset reads its neighbours too.

    With `include_padding` off, a window is divided by the number of its places inside the image and not by |window|.
    """

    window: Window
    include_padding: bool = True

    def __str__(self) -> str:
        window = self.window
        parts = [f"AvgPool {window.area}", *window.unusual(stride=window.kernel, padding=(0, 0))]
        return ", ".join(parts if self.include_padding else [*parts, "padding not counted"])

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """Return stride * Δ + e for every difference e of two places in the window."""
        shifts = list(self._shifts())
        candidates = {self.window.source(d, e) for d in offsets for e in shifts}
        return {d for d in candidates if is_offset(d, self.window.in_size)}

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Sum the pairs (i, j) by their difference e = j - i, each of which reads one map: stride * Δ + e."""
        pairs = (self.window.kernel[0] * self.window.kernel[1]) ** 2

        def pool(maps: Maps) -> Maps:
            pooled: Maps = {}
            for offset in offsets:
                terms = [
                    self.window.slide(maps[source], source, offset, shift)
                    for shift in self._shifts()
                    if (source := self.window.source(offset, shift)) in maps
                ]
                divisor = pairs if self.include_padding else self.pairs_inside(terms[0], offset)
                pooled[offset] = sum(terms[1:], terms[0]) / divisor
            return pooled

        return states[0].apply(pool)

    def pairs_inside(self, like: Tensor, offset: Offset) -> Tensor:
        """Count the pairs of places inside the image of the two windows, for each entry of the map at this offset.

        The counts have the dtype and the device of `like`.
        """
        window = self.window
        # Places inside the image on each axis, for the window at each output position.
        counts = []
        for axis in (0, 1):
            starts = [window.stride[axis] * p - window.padding[axis] for p in range(window.out_size[axis])]
            inside = [min(s + window.kernel[axis], window.in_size[axis]) - max(s, 0) for s in starts]
            counts.append(like.new_tensor(inside))
        places = counts[0][:, None] * counts[1]
        first, second = ends(window.out_size, offset)
        return places[first] * places[second]

    def _shifts(self) -> itertools.product[Offset]:
        h, w = self.window.kernel
        return itertools.product(range(1 - h, h), range(1 - w, w))


@dataclass(frozen=True)
class Pad(Operation):
    """Zeros around the image: a window of one place, without weights."""

    window: Window

    def __str__(self) -> str:
        return f"zero padding, {short(self.window.padding)}"

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """Return these offsets, where two positions of the unpadded image can be so far apart."""
        return {d for d in offsets if is_offset(d, self.window.in_size)}

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Surround each map with zeros."""

        def pad(maps: Maps) -> Maps:
            # An offset that the unpadded image does not have is read from a map without entries: zeros throughout.
            like = next(iter(maps.values()))
            return {d: self.window.slide(maps.get(d, like[..., :0, :0]), d, d) for d in offsets}

        return states[0].apply(pad)


@dataclass(frozen=True)
class CircularPad(Operation):
    """The image continued around its edges, as circular convolutions pad it.

    Position p of the output reads the input at (p - before) modulo the input's size, where `before` is the padding at
    the top and on the left.
    """

    before: Size
    in_size: Size
    out_size: Size

    def __str__(self) -> str:
        return f"circular padding, {short(self.before)}"

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """Return the input offsets that equal one of these modulo the size of the image."""
        pairs = (pair for offset in offsets for pair in itertools.product(*self._congruent(offset)))
        return {pair for pair in pairs if is_offset(pair, self.in_size)}

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Join the maps of the congruent offsets and read each entry from its place."""
        return states[0].apply(lambda maps: {d: self._wrap(maps, d) for d in offsets})

    def _congruent(self, offset: Offset) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return, for each axis of size n, the two input offsets that equal this one modulo n: Δ in [0, n), and Δ - n.

        From position p, the first leads to p + Δ where that lies inside the image; elsewhere the second leads to p + Δ - n.
        """
        (h, w), (a, b) = self.in_size, offset
        return (a % h, a % h - h), (b % w, b % w - w)

    def _wrap(self, maps: Maps, offset: Offset) -> Tensor:
        # Along one axis, map Δ >= 0 has the entries p = 0, ..., n - Δ - 1, and map Δ - n has the remaining ones,
        # p = n - Δ, ..., n - 1. Joined, they have one entry for every position p of the input. For Δ = 0 the map
        # Δ - n has no entries and does not exist.
        row_offsets, column_offsets = self._congruent(offset)
        bands = []
        for a in row_offsets:
            blocks = [maps[a, b] for b in column_offsets if is_offset((a, b), self.in_size)]
            if blocks:
                bands.append(torch.cat(blocks, -1))
        t = torch.cat(bands, -2)
        # Entry number i of the output map stands for the position max(0, -Δ) + i of the padded image.
        for axis in (-2, -1):
            size = self.in_size[axis]
            first = max(0, -offset[axis]) - self.before[axis]
            positions = [(first + i) % size for i in range(self.out_size[axis] - abs(offset[axis]))]
            t = t.index_select(axis, torch.tensor(positions, device=t.device))
        return t


@dataclass(frozen=True)
class Upsample(Operation):
    """Each position repeated into a block of size `factor`: K(p, p') <- K(p // factor, p' // factor)."""

    factor: Size
    in_size: Size
    out_size: Size

    def __str__(self) -> str:
        return f"Upsample by {short(self.factor)}"

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """Return the input offsets that the positions of these output offsets have; one or two on each axis."""
        return {d for o in offsets for d in itertools.product(self._entries(o, 0), self._entries(o, 1))}

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Copy each entry from its source."""
        return states[0].apply(lambda maps: {d: self._repeat(maps, d) for d in offsets})

    def _entries(self, offset: Offset, axis: int) -> dict[int, list[tuple[int, int]]]:
        """Group the entries of the output map along one axis by the input offset that they read.

        Returns:
            Input offset -> pairs of (index in the output map, index in the input map at that offset).
        """
        factor, delta = self.factor[axis], offset[axis]
        first = max(0, -delta)
        entries: dict[int, list[tuple[int, int]]] = {}
        for index in range(self.out_size[axis] - abs(delta)):
            position, other = (first + index) // factor, (first + index + delta) // factor
            source = other - position
            entries.setdefault(source, []).append((index, position - max(0, -source)))
        return entries

    def _repeat(self, maps: Maps, offset: Offset) -> Tensor:
        like = next(iter(maps.values()))
        t = like.new_zeros(*like.shape[:-2], *map_size(self.out_size, offset))
        rows, columns = (
            {d: torch.tensor(entries, device=t.device).T for d, entries in self._entries(offset, axis).items()}
            for axis in (0, 1)
        )
        for a, (to_row, from_row) in rows.items():
            for b, (to_column, from_column) in columns.items():
                t[..., to_row[:, None], to_column] = maps[a, b][..., from_row[:, None], from_column]
        return t
