"""What the workers of a cluster compute. Tiles stay with the workers in groups; vectors and sums of them travel."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ntklens.linalg.tiles.base import Entries, check_finite_block
from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.products import add_tile

Block = dict[int, NDArray[np.float64]]
"""Columns of a matrix (k, n), by the number of the block row of Θ that they belong to."""


def compute_tiles(entries: Entries, layout: Layout, places: Sequence[tuple[int, int]]) -> list[NDArray[np.float64]]:
    """Compute a group of tiles."""
    torch.set_num_threads(1)  # a worker has as many tasks at once as it has threads
    tiles = []
    for i, j in places:
        tile = entries(layout.span(i), layout.span(j)).to(torch.float64)
        check_finite_block(tile)
        tiles.append(tile.contiguous().numpy())
    return tiles


def multiply_group(
    layout: Layout, places: Sequence[tuple[int, int]], tiles: list[NDArray[np.float64]], y: NDArray[np.float64]
) -> Block:
    """Compute what a group of tiles adds to (Θ Y)ᵀ, above and below the diagonal; y is Yᵀ, (k, n)."""
    torch.set_num_threads(1)
    rows = _tensor(y)
    total = torch.zeros_like(rows)
    for (i, j), tile in zip(places, tiles, strict=True):
        add_tile(total, rows, _tensor(tile), layout.span(i), layout.span(j))
    # A group has tiles of few block rows and columns, and the rest of its sum is zero: that does not travel.
    touched = sorted({block for place in places for block in place})
    return {i: total[:, layout.span(i)].contiguous().numpy() for i in touched}


def add(blocks: Sequence[Block]) -> Block:
    """Add what several groups have computed, in their order."""
    total: Block = {}
    for block in blocks:
        for i, columns in block.items():
            total[i] = total[i] + columns if i in total else columns
    return total


def diagonals(places: Sequence[tuple[int, int]], tiles: list[NDArray[np.float64]]) -> Block:
    """Return the diagonals of the tiles of a group that have a part of it."""
    return {i: tile.diagonal().copy()[None] for (i, j), tile in zip(places, tiles, strict=True) if i == j}


def rows_of(entries: Entries, indices: NDArray[np.int64], start: int, stop: int) -> NDArray[np.float64]:
    """Compute a part of some rows."""
    torch.set_num_threads(1)
    return entries(_tensor(indices), slice(start, stop)).to(torch.float64).contiguous().numpy()


def versions() -> dict[str, str]:
    """Return the versions on which it depends that results agree and that objects can be sent."""
    return {"ntklens": version("ntklens"), "torch": torch.__version__, "Python": platform.python_version()}


def describe_worker(dask_worker: Any) -> dict[str, Any]:
    """Return what a worker is: the versions of its packages, and the bytes that it may take, 0 for no limit."""
    return {"versions": versions(), "memory": dask_worker.memory_manager.memory_limit or 0}


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    # Arrays that have come over the network cannot be written to, which torch warns of.
    return torch.from_numpy(np.require(array, requirements=["W"]))
