"""An exact factor of a matrix that is larger than memory: a Cholesky decomposition from disk to disk.

The factor is computed by panels of block columns that fit into memory, from the left to the right. A panel is read from the
matrix; the panels before it, which are streamed from the disk, are subtracted; it is factored and written. With B block
columns and panels of w of them, the factor is read B / (3 w) times, which takes a small part of the time of the products of
tiles. A run that is interrupted goes on with the panel that it was at.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.errors import InputError
from ntklens.files import written_whole
from ntklens.linalg.filters import rounding_floor
from ntklens.linalg.tiles.blas import ScipyBlas, TileBlas, TorchBlas, fastest, limited_threads
from ntklens.linalg.tiles.cholesky import SmallPivot
from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.products import as_rows
from ntklens.linalg.tiles.store.folder import TileFolder
from ntklens.linalg.tiles.store.reading import Places, read_ahead
from ntklens.progress import Progress, Report

PREFIX = "factor-"
"""How the name of a factor's folder begins."""


_LIBRARY = ".blas"
"""The file in a factor's folder that names the library by which its first panel was computed."""


def _library(note: Path) -> TileBlas:
    """Return the library that a factor was begun with, or the faster one for a new factor, whose name is noted.

    A factor that is continued by another library would be right to rounding, and have other bits than one that was never
    interrupted.
    """
    try:
        begun_with = note.read_text(encoding="ascii")
    except (OSError, ValueError):
        begun_with = ""
    libraries: dict[str, type[TorchBlas] | type[ScipyBlas]] = {"torch": TorchBlas, "SciPy": ScipyBlas}
    if begun_with in libraries:
        return libraries[begun_with]()
    chosen = fastest(torch.float64, torch.get_num_threads())
    with written_whole(note) as part:
        part.write_text(chosen.name, encoding="ascii")
    return chosen


class StoredFactor:
    """L with L Lᵀ = Θ + ρ I in a folder of its own, whose name says which matrix and which ρ it is for.

    Args:
        parent: the folder that the factor's folder is in; those of other factors are removed from it, to make room.
        layout: of the tiles.
        identity: of the matrix.
        rho: ρ.
        read: yields tiles of Θ in the order of their places.
        ahead: how many tiles are read ahead.
        columns: block columns of a panel.
        largest: the largest entry on the diagonal of Θ.
    """

    def __init__(
        self,
        parent: Path,
        layout: Layout,
        identity: str,
        rho: float,
        read: Callable[[Places], Iterable[tuple[int, int, Tensor]]],
        *,
        ahead: int,
        columns: int,
        largest: float,
    ) -> None:
        self.layout = layout
        self.rho = rho
        self._read = read
        self._ahead = ahead
        self._columns = columns
        self._floor = rounding_floor(largest + rho, layout.n)
        identity = f"the factor of {identity} with the ridge {rho!r}"
        name = f"{PREFIX}{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}"
        for other in parent.glob(f"{PREFIX}*"):
            if other.name != name:
                shutil.rmtree(other, ignore_errors=True)
        self._folder = TileFolder(parent / name, layout, identity)
        self._blas = _library(parent / name / _LIBRARY)

    @property
    def blas(self) -> str:
        """The name of the library that multiplies tiles."""
        return self._blas.name

    def compute(self, progress: Report | None = None) -> float:
        """Compute the panels that are missing, and return the smallest pivot.

        Raises:
            SmallPivot: a pivot is zero to rounding.
            InputError: the disk has too little room.
        """
        blocks = self.layout.blocks
        with self._folder.writing():
            self._folder.check_space(len(self._folder.missing()[0]))
            for start in range(0, blocks, self._columns):
                stop = min(blocks, start + self._columns)
                if not self._is_written(start, stop):
                    self._panel(start, stop)
                Progress(progress)(1 - ((blocks - stop) / blocks) ** 3)
        smallest = float("inf")
        for _, _, tile in self._tiles([(i, i) for i in range(blocks)]):
            smallest = min(smallest, float(tile.diagonal().min()) ** 2)
        return smallest

    def solve(self, y: Float[Tensor, "n O"]) -> Float[Tensor, "n O"]:
        """Compute (L Lᵀ)⁻¹ y in two passes over the tiles."""
        layout, x = self.layout, as_rows(y).clone()
        for i, j, tile in self._tiles(list(layout.tiles())):
            part = x[:, layout.span(i)]
            if i != j:
                part -= x[:, layout.span(j)] @ tile.T
            else:
                part.copy_(torch.linalg.solve_triangular(tile.T, part, upper=True, left=False))
        backwards = [(i, j) for i in reversed(range(layout.blocks)) for j in reversed(range(i + 1))]
        for i, j, tile in self._tiles(backwards):
            part = x[:, layout.span(i)]
            if i == j:
                part.copy_(torch.linalg.solve_triangular(tile, part, upper=False, left=False))
            else:
                x[:, layout.span(j)] -= part @ tile
        return x.T.contiguous()

    def _is_written(self, start: int, stop: int) -> bool:
        """Whether all tiles of a panel are there, and have the size that they should have."""
        places, _ = self._folder.missing()
        return not any(start <= j < stop for _, j in places)

    def _panel(self, start: int, stop: int) -> None:
        """Compute the block columns from start to stop, and write them."""
        layout, blas = self.layout, self._blas
        columns = range(start, stop)
        panel = {
            (i, j): tile.clone()
            for i, j, tile in self._read([(i, j) for j in columns for i in range(j, layout.blocks)])
        }
        for j in columns:
            panel[j, j].diagonal().add_(self.rho)
        earlier = [(i, k) for k in range(start) for i in range(start, layout.blocks)]
        with limited_threads(torch.get_num_threads()):
            own: dict[int, Tensor] = {}
            for i, _, tile in self._tiles(earlier):
                if i == start:
                    own = {}
                if i < stop:
                    own[i] = tile  # the rows of this panel, with which every row below is multiplied
                for j in range(start, min(i + 1, stop)):
                    if i == j:
                        blas.subtract_square(panel[i, i], tile)
                    else:
                        blas.subtract(panel[i, j], tile, own[j])
            for k in columns:
                failed = blas.factor(panel[k, k])
                pivots = panel[k, k].diagonal().numpy() ** 2
                row = failed - 1 if failed else int(pivots.argmin())
                if failed or not pivots[row] > self._floor:
                    raise SmallPivot(k * layout.side + row)
                for i in range(k + 1, layout.blocks):
                    blas.divide(panel[i, k], panel[k, k])
                for i in range(k + 1, layout.blocks):
                    for j in range(k + 1, min(i, stop)):
                        blas.subtract(panel[i, j], panel[i, k], panel[j, k])
                    if i < stop:
                        blas.subtract_square(panel[i, i], panel[i, k])
        # The diagonal tile of the last row comes last: a panel that is there whole is one that was written whole.
        for i, j in sorted(panel, reverse=True):
            self._folder.write(i, j, panel[i, j])

    def _tiles(self, places: Places) -> Iterable[tuple[int, int, Tensor]]:
        """Yield tiles of the factor; where one is damaged, its panel is computed again."""

        def repair(i: int, j: int) -> Tensor:
            warnings.warn(
                f"the tile ({i}, {j}) of the factor in {self._folder.path} is damaged or gone, and is computed again. Is "
                "the disk sound?",
                stacklevel=4,
            )
            start = j - j % self._columns
            self._panel(start, min(self.layout.blocks, start + self._columns))
            tile = self._folder.read(i, j)
            if tile is None:
                raise InputError(f"the tile ({i}, {j}) of {self._folder.path} cannot be read. Is the disk sound?")
            return tile

        return read_ahead(self._folder.read, places, self._ahead, repair)
