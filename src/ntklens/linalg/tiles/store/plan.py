"""What a matrix in a store on disk will take, told before any work is done."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.plan import Plan, duration, size
from ntklens.linalg.tiles.products import add_tile

_PROBE = 1 << 25
"""Bytes that are written and read to measure the disk."""
_COLUMNS = 10
"""Right-hand sides for which a product is timed."""


@dataclass(frozen=True, kw_only=True)
class StorePlan(Plan):
    """What a matrix in a store takes; what is available is on its disk.

    Attributes:
        folder: where the tiles are.
        tiles: number of them.
        present: those that are there.
        tile_bytes: of all tiles, on the disk.
        write_seconds: what the disk takes to write the tiles; computing them is not among it.
        product_seconds: of one product with ten columns, all tiles read from the disk. A solution takes from some dozens to
            some hundreds of them, the more the smaller the ridge is.
    """

    folder: Path
    tiles: int
    present: int
    tile_bytes: int
    write_seconds: float
    product_seconds: float

    @property
    def missing_bytes(self) -> int:
        """Of the tiles that are not there yet."""
        return (self.tiles - self.present) * self.tile_bytes // self.tiles

    @property
    def fits(self) -> bool:
        """Whether the disk has room for the tiles that are missing."""
        return self.available is None or self.missing_bytes <= self.available

    def refusal(self) -> str:
        """Return why it does not fit, and what to do."""
        return (
            f"the disk has too little room: the {self.tiles - self.present:,} tiles of the kernel matrix that are missing "
            f"in {self.folder} take {self.missing_bytes:,} bytes, and {self.available:,} are free. Make room, or give a "
            "folder on another disk; tiles that are there are kept, and the same call continues from them."
        )

    def __str__(self) -> str:
        assert self.available is not None
        verdict = "" if self.fits else ", which is too little"
        return (
            f"{self.n:,} training inputs: the lower triangle of the kernel matrix takes {size(self.tile_bytes)} on "
            f"the disk, where {size(self.available)} are free{verdict}, and {size(self.working_bytes)} of "
            f"memory; writing it takes {duration(self.write_seconds)} beside its computation, and one product "
            f"{self.product_seconds:.1f} s. A solution takes dozens of products, or for a ridge below 1e-5 of the trace an "
            f"exact factor, which takes as much room on the disk again where it is free.{self._tiles_there()}"
        )

    def _tiles_there(self) -> str:
        there = f" {self.present:,} of {self.tiles:,} tiles are there" if self.present else ""
        if self.present == self.tiles:
            return f"{there}; none is computed."
        if self.matrix_seconds is None:
            return f"{there}." if there else ""
        rest = f"omputing the tiles takes about {duration(self.matrix_seconds)}."
        return f"{there}; c{rest}" if there else f" C{rest}"


def store_plan(folder: Path, layout: Layout, memory_limit: int, matrix_seconds: float | None = None) -> StorePlan:
    """Measure the disk and a product with one tile, which takes about a second, and return the plan.

    A disk that is too full to be measured is taken to read and write a gigabyte per second.

    Args:
        folder: where the tiles will be; it need not be there yet.
        layout: of the tiles.
        memory_limit: bytes.
        matrix_seconds: what all tiles take to compute, those included that are there.
    """
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    one_tile = 8 * layout.side**2 + 4
    tile_bytes = layout.count * one_tile
    # Whether their content is right is checked when they are read.
    present = sum(1 for file in folder.glob("c/*/*") if file.stat().st_size == one_tile)
    try:
        write_rate, read_rate = _rates(place)
    except OSError:
        write_rate = read_rate = 1e9
    return StorePlan(
        n=layout.n,
        folder=folder,
        tiles=layout.count,
        present=present,
        tile_bytes=tile_bytes,
        # A matrix that is smaller than the limit takes no more than itself and the tiles that are read.
        working_bytes=min(memory_limit, tile_bytes + 9 * one_tile),
        available=shutil.disk_usage(place).free,
        matrix_seconds=None if matrix_seconds is None else matrix_seconds * (1 - present / layout.count),
        write_seconds=tile_bytes / write_rate,
        # Tiles are read while others are multiplied.
        product_seconds=max(tile_bytes / read_rate, layout.count * _tile_seconds(layout.side)),
    )


def _rates(place: Path) -> tuple[float, float]:
    """Return bytes per second of writing and of reading, past the system's cache where it can be told to drop a file."""
    content = os.urandom(_PROBE)
    with tempfile.TemporaryFile(dir=place) as file:
        start = time.perf_counter()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        written = time.perf_counter() - start
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        start = time.perf_counter()
        file.read()
        read = time.perf_counter() - start
    return _PROBE / max(written, 1e-9), _PROBE / max(read, 1e-9)


def _tile_seconds(side: int) -> float:
    tile, y = torch.ones(side, side, dtype=torch.float64), torch.ones(_COLUMNS, 2 * side, dtype=torch.float64)
    total, best = torch.zeros_like(y), float("inf")
    for _ in range(3):
        start = time.perf_counter()
        add_tile(total, y, tile, slice(0, side), slice(side, 2 * side))
        best = min(best, time.perf_counter() - start)
    return best
