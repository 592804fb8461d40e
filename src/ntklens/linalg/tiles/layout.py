"""The lower triangle of a symmetric matrix, cut into square tiles: the same in memory, in a store and on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.arguments import as_count

TILE = 1024
"""Rows of a tile: 8 MB in float64. Larger tiles multiply a few per cent faster, and waste more of the diagonal tiles."""


@dataclass(frozen=True)
class Layout:
    """The tiles (i, j) with j ≤ i of an (n, n) matrix; those on the diagonal are stored whole.

    Attributes:
        n: rows of the matrix.
        side: rows of a tile; those of the last block row have the rest.

    Example:
        >>> layout = Layout(5, 2)
        >>> list(layout.tiles()), layout.shape(2, 0)
        ([(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)], (1, 2))
    """

    n: int
    side: int = TILE

    def __post_init__(self) -> None:
        as_count(self.n, "n")
        as_count(self.side, "side")

    @property
    def blocks(self) -> int:
        """Number of block rows."""
        return -(-self.n // self.side)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.blocks * (self.blocks + 1) // 2

    @property
    def entries(self) -> int:
        """Number of stored entries: n (n + 1) / 2, and the upper halves of the diagonal tiles."""
        return (self.n**2 + sum(self.size(i) ** 2 for i in range(self.blocks))) // 2

    def span(self, i: int) -> slice:
        """Return the rows of the block row i."""
        return slice(i * self.side, min(self.n, (i + 1) * self.side))

    def size(self, i: int) -> int:
        """Return the number of rows of the block row i."""
        return min(self.n, (i + 1) * self.side) - i * self.side

    def shape(self, i: int, j: int) -> tuple[int, int]:
        """Return the shape of the tile (i, j)."""
        return self.size(i), self.size(j)

    def tiles(self) -> Iterator[tuple[int, int]]:
        """Yield the places of all tiles, row by row."""
        for i in range(self.blocks):
            for j in range(i + 1):
                yield i, j


def allocated(layout: Layout, dtype: torch.dtype) -> dict[tuple[int, int], Tensor]:
    """Return the tiles of a layout, not filled, as parts of one piece of memory.

    Tiles of their own would leave gaps between them, from what is computed while they are filled, of up to their size.
    """
    memory, start = torch.empty(layout.entries, dtype=dtype), 0
    tiles = {}
    for i, j in layout.tiles():
        rows, columns = layout.shape(i, j)
        tiles[i, j] = memory[start : start + rows * columns].view(rows, columns)
        start += rows * columns
    return tiles
