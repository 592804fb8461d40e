"""Tiles in a store on disk, for matrices that are larger than memory. Products read them tile by tile."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.errors import InputError, NumericalFailure
from ntklens.linalg.spectrum import Spectrum
from ntklens.linalg.tiles.base import Entries, Solution, TiledMatrix, check_finite_block
from ntklens.linalg.tiles.cholesky import SmallPivot, singular
from ntklens.linalg.tiles.iterative.checkpoint import Checkpoint, digest_of
from ntklens.linalg.tiles.iterative.conjugate_gradients import ACCEPTED
from ntklens.linalg.tiles.iterative.leading import leading_pairs
from ntklens.linalg.tiles.iterative.pivoted_cholesky import Preconditioner
from ntklens.linalg.tiles.iterative.solve import preconditioner_of, rank_for, solve_by_products
from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.products import add_tile, as_rows
from ntklens.linalg.tiles.store.factor import PREFIX, StoredFactor
from ntklens.linalg.tiles.store.folder import TileFolder
from ntklens.linalg.tiles.store.reading import Places, read_ahead
from ntklens.progress import Parts, Progress, Report

if TYPE_CHECKING:
    from ntklens.linalg.tiles.store.home import StoreHome

_AHEAD = 4
"""Tiles that are read ahead at most."""
_LARGE_RIDGE = 1e-5
"""Ridges from this part of the trace on take a few dozen products by conjugate gradients, less time than a factor."""
PER_TILE = 2
"""A tile that is being read is in memory twice: as the bytes of its file, and as an array."""


class StoredMatrix(TiledMatrix):
    """A matrix whose tiles are files. Those that are missing or damaged are computed again wherever they are met.

    Args:
        home: the folder, and how much memory may be taken.
        layout: where it is cut.
        entries: what computes its entries, in float64.
        identity: a text that no other matrix has.
    """

    def __init__(self, home: StoreHome, layout: Layout, entries: Entries, identity: str) -> None:
        self.layout = layout
        self.entries = entries
        self._home = home
        self._identity = identity
        self._folder = TileFolder(Path(home.path), layout, identity)
        self._is_written = False
        self._preconditioner: Preconditioner | None = None
        self._factor: tuple[StoredFactor, float] | None = None  # with its smallest pivot

    def __repr__(self) -> str:
        return f"StoredMatrix({self.layout.n} x {self.layout.n} in {self._folder.path})"

    def write(self, progress: Report | None = None) -> None:
        """Compute the tiles that are missing; one is written while the next is computed.

        Raises:
            InputError: the disk has too little room, or another process writes to the folder.
            NumericalFailure: an entry is not a finite number.
        """
        whole = Progress(progress)
        if self._is_written or not self._folder.missing()[0]:
            self._is_written = True
            whole(1.0)
            return
        with self._folder.writing(), ThreadPoolExecutor(1) as writer:
            places, damaged = self._folder.missing()
            self._folder.check_space(len(places))
            done = self.layout.count - len(places)
            pending: Future[None] | None = None
            for i, j in places:
                tile = self._compute(i, j)
                if pending is not None:
                    pending.result()
                pending = writer.submit(self._folder.write, i, j, tile)
                done += 1
                whole(min(done / self.layout.count, 1.0))
            if pending is not None:
                pending.result()
        self._is_written = True
        self._tell(damaged)

    def multiply(self, y: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Compute Θ y in float64. Every tile is read once, and serves above and below the diagonal."""
        self.write()
        rows = as_rows(y)
        total = torch.zeros_like(rows)
        for i, j, tile in self._read(list(self.layout.tiles())):
            add_tile(total, rows, tile, self.layout.span(i), self.layout.span(j))
        return total.T.contiguous()

    def solve(self, rho: float, y: Float[Tensor, "n O"], progress: Report | None = None) -> Solution:
        """Compute (Θ + ρ I)⁻¹ y; what was interrupted goes on from where it was.

        Where the ridge is small, conjugate gradients would take hundreds of products, each of which reads all tiles. An
        exact factor, which is kept in the folder too, then takes less time where the disk has room for it; see
        `StoreHome.method`.

        Raises:
            InputError: `method` is "factor", and the factor fits neither on the disk nor by panels into memory.
            NumericalFailure: Θ + ρ I is singular to rounding, or the iteration does not converge.
        """
        parts = Parts(Progress(progress), {"tiles": 1.0, "solution": 3.0})
        with parts("tiles") as part:
            self.write(part)
        y = y.to(torch.float64)
        with parts("solution") as part:
            diagonal = self._diagonal()
            if self._takes_factor(rho, diagonal):
                return self._by_factor(rho, y, float(diagonal.max()), part)
            return self._by_products(rho, y, diagonal, part)

    def _by_products(self, rho: float, y: Tensor, diagonal: Tensor, progress: Report) -> Solution:
        rank = rank_for(self.layout.n, self._room)
        if self._preconditioner is None:
            self._preconditioner = preconditioner_of(self.entries, diagonal, rank)
        problem = f"{self._identity}\n{self.layout.n} {rho!r} {rank} {digest_of(y)}"
        return solve_by_products(
            self.multiply,
            self._preconditioner,
            rho,
            y,
            progress=progress,
            checkpoint=Checkpoint(self._folder.path, problem, self._home.checkpoint_seconds),
        )

    def _by_factor(self, rho: float, y: Tensor, largest: float, progress: Report) -> Solution:
        if self._factor is None or self._factor[0].rho != rho:
            self._factor = None  # its folder makes room for that of this ridge
            factor = StoredFactor(
                self._folder.path,
                self.layout,
                self._identity,
                rho,
                self._read,
                ahead=self._ahead,
                columns=self._panel_columns,
                largest=largest,
            )
            try:
                self._factor = factor, factor.compute(progress)
            except SmallPivot:
                raise singular(rho) from None
        factor, pivot = self._factor
        a = factor.solve(y)
        size = y.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        residual = float(((self.multiply(a) + rho * a - y).norm(dim=0) / size).max())
        if not residual <= ACCEPTED:
            raise NumericalFailure(
                f"the factor of the kernel matrix gives a solution with a residual of {residual:.1e} of the targets. Use a "
                "larger ridge, such as Ridge(1e-6) or --ridge 1e-6, or delete the folder of the store and start again."
            )
        return Solution(a, f"Cholesky in float64 from disk to disk ({factor.blas})", residual, pivot)

    def _takes_factor(self, rho: float, diagonal: Tensor) -> bool:
        """Whether the solution comes from a factor: as the home says, or by the size of the ridge and by the room."""
        if self._home.method != "auto":
            if self._home.method == "factor" and not self._panel_columns:
                raise InputError(
                    f"expected memory_limit of {9 * self.layout.n * self.layout.side:,} bytes or more for a factor of "
                    f"{self.layout.n:,} rows; got {self._home.memory_limit:,}. Raise it, or use the method iterate."
                )
            return self._home.method == "factor"
        if rho >= _LARGE_RIDGE * float(diagonal.sum()) or not self._panel_columns:
            return False
        there = sum(file.stat().st_size for file in self._folder.path.glob(f"{PREFIX}*/c/*/*"))
        free = shutil.disk_usage(self._folder.path).free
        return self.layout.count * self._folder.bytes_per_tile < there + free

    @property
    def _room(self) -> int:
        """Bytes of the memory limit beside the tiles that are being read."""
        return self._home.memory_limit - (self._ahead * PER_TILE + 1) * self._folder.bytes_per_tile

    @property
    def _panel_columns(self) -> int:
        """Block columns of the factor that fit into memory, with one tile beside each of them."""
        return max(0, self._room // (8 * self.layout.side * (self.layout.n + self.layout.side)))

    def leading(self, count: int, progress: Report | None = None) -> Spectrum:
        """Return the `count` largest eigenvalues and their eigenvectors, by block Lanczos."""
        self.write()
        return leading_pairs(self.multiply, self.layout.n, count, progress=progress)[0]

    def dense(self) -> Float[Tensor, "n n"]:
        """Return the whole matrix in float64."""
        self.write()
        whole = torch.empty(self.layout.n, self.layout.n, dtype=torch.float64)
        for i, j, tile in self._read(list(self.layout.tiles())):
            whole[self.layout.span(i), self.layout.span(j)] = tile
            whole[self.layout.span(j), self.layout.span(i)] = tile.T
        return whole

    def release(self) -> None:
        """Forget the preconditioner, which is computed again when it is needed; what is on the disk stays there."""
        self._preconditioner = None

    def _diagonal(self) -> Float[Tensor, " n"]:
        diagonal = torch.empty(self.layout.n, dtype=torch.float64)
        for i, _, tile in self._read([(i, i) for i in range(self.layout.blocks)]):
            diagonal[self.layout.span(i)] = tile.diagonal()
        return diagonal

    @property
    def _ahead(self) -> int:
        """How many tiles may be read ahead within the memory limit, one being multiplied."""
        return min(_AHEAD, max(1, (self._home.memory_limit // self._folder.bytes_per_tile - 1) // PER_TILE))

    def _read(self, places: Places) -> Iterator[tuple[int, int, Tensor]]:
        """Yield tiles in the order of their places, and read others in the meantime; repair what is damaged."""
        repaired = 0

        def repair(i: int, j: int) -> Tensor:
            nonlocal repaired
            tile = self._compute(i, j)
            self._folder.write(i, j, tile)
            repaired += 1
            return tile

        yield from read_ahead(self._folder.read, places, self._ahead, repair)
        self._tell(repaired)

    def _compute(self, i: int, j: int) -> Tensor:
        tile = self.entries(self.layout.span(i), self.layout.span(j))
        check_finite_block(tile)
        return tile.to(torch.float64)

    def _tell(self, repaired: int) -> None:
        if repaired:
            warnings.warn(
                f"{repaired} of {self.layout.count} tiles of the kernel matrix in {self._folder.path} were damaged or "
                "gone, and have been computed again. Is the disk sound?",
                stacklevel=4,
            )
