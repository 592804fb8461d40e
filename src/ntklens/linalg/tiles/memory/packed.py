"""Tiles in memory, and an exact solution by a Cholesky decomposition in their place."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.linalg.filters import rounding_floor
from ntklens.linalg.spectrum import Spectrum
from ntklens.linalg.tiles.base import Entries, Solution, TiledMatrix, check_finite_block
from ntklens.linalg.tiles.blas import fastest, limited_threads
from ntklens.linalg.tiles.cholesky import SmallPivot, factor_in_place, multiply_tiles, singular, solve_factored
from ntklens.linalg.tiles.iterative.conjugate_gradients import conjugate_gradients
from ntklens.linalg.tiles.iterative.leading import leading_pairs
from ntklens.linalg.tiles.layout import Layout, allocated
from ntklens.progress import Parts, Progress, Report

_KEPT = 8192
"""Rows up to which Θ stays in memory beside its factor; larger ones are computed again when they are asked for."""
_AT_ONCE = 8
"""Tiles that are computed at once: 64 MB of entries."""
_PROBES = 32
"""Random vectors by which a residual is estimated after Θ is gone: the estimate is right to a quarter of itself."""


class PackedMatrix(TiledMatrix):
    """A matrix whose tiles are in memory; its factor takes their place.

    Args:
        layout: where it is cut.
        entries: what computes its entries, in float64.
        dtype: of the tiles, torch.float64 or torch.float32.

    Attributes:
        write_seconds: what the last writing of the tiles took.
        factor_seconds: what the last decomposition took.
    """

    def __init__(self, layout: Layout, entries: Entries, dtype: torch.dtype = torch.float64) -> None:
        self.layout = layout
        self.entries = entries
        self.dtype = dtype
        self.write_seconds = self.factor_seconds = 0.0
        self._tiles: dict[tuple[int, int], Tensor] = {}
        self._holds_matrix = False
        self._factor: dict[tuple[int, int], Tensor] = {}
        self._factored: tuple[float, float, float] | None = None  # ρ, the smallest pivot, the jitter
        self._largest_diagonal = 0.0
        self._probes: tuple[Tensor, Tensor] | None = None  # Ω, and Θ Ω

    def __repr__(self) -> str:
        n = self.layout.n
        return f"PackedMatrix({n} x {n}, {str(self.dtype).removeprefix('torch.')})"

    def write(self, progress: Report | None = None) -> None:
        """Compute the tiles, if they are not there or a factor has taken their place."""
        if self._holds_matrix:
            Progress(progress)(1.0)
            return
        start = time.perf_counter()
        layout, done = self.layout, 0
        if not self._tiles:
            self._tiles = allocated(layout, self.dtype)
        self._factored, self._factor = None, {}
        omega = _signs(layout.n)
        through = torch.zeros_like(omega)
        self._largest_diagonal = 0.0
        for i, j, block in self._blocks():
            rows, columns = layout.span(i), layout.span(j)
            check_finite_block(block)
            if i == j:
                self._largest_diagonal = max(self._largest_diagonal, float(block.diagonal().max()))
            else:
                through[columns] += block.T @ omega[rows]
            through[rows] += block @ omega[columns]
            self._tiles[i, j].copy_(block)
            done += block.numel()
            Progress(progress)(done / layout.entries if done < layout.entries else 1.0)
        self._probes = omega, through
        self._holds_matrix = True
        self.write_seconds = time.perf_counter() - start

    def multiply(self, y: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Compute Θ y in float64; tiles in float32 are not read for it, but computed once more."""
        y = y.to(torch.float64)
        if self.dtype == torch.float64:
            self.write()
            return multiply_tiles(self._tiles, self.layout, y)
        result = torch.zeros_like(y)
        for i, j, block in self._blocks():
            rows, columns = self.layout.span(i), self.layout.span(j)
            result[rows] += block @ y[columns]
            if i != j:
                result[columns] += block.T @ y[rows]
        return result

    def solve(self, rho: float, y: Float[Tensor, "n O"], progress: Report | None = None) -> Solution:
        """Compute (Θ + ρ I)⁻¹ y by a Cholesky decomposition in place of the tiles.

        With tiles in float32, the factor is the preconditioner of conjugate gradients with products in float64.

        Raises:
            NumericalFailure: Θ + ρ I is singular to rounding.
        """
        y = y.to(torch.float64)
        pivot, jitter = self._ensure_factor(rho, progress)
        factor = self._factor or self._tiles
        if self.dtype == torch.float64:
            a = solve_factored(factor, self.layout, y)
            library = fastest(self.dtype, torch.get_num_threads()).name
            return Solution(a, f"Cholesky in float64 ({library})", self._estimated_residual(rho, a, y), pivot)
        solution, residuals, steps = conjugate_gradients(
            lambda v: self.multiply(v) + rho * v,
            y,
            lambda r: solve_factored(factor, self.layout, r).to(torch.float64),
        )
        method = "Cholesky in float32, refined in float64"
        return Solution(solution, method, float(residuals.max()), pivot, jitter, steps)

    def leading(self, count: int, progress: Report | None = None) -> Spectrum:
        """Return the `count` largest eigenvalues and their eigenvectors by block Krylov iterations."""
        return leading_pairs(self.multiply, self.layout.n, count, progress=progress)[0]

    def dense(self) -> Float[Tensor, "n n"]:
        """Return the whole matrix in float64, in a tensor of its own."""
        n = self.layout.n
        whole = torch.empty(n, n, dtype=torch.float64)
        if self.dtype == torch.float64:
            self.write()
        for i, j in self.layout.tiles():
            rows, columns = self.layout.span(i), self.layout.span(j)
            tile = self._tiles[i, j] if self.dtype == torch.float64 else self.entries(rows, columns)
            whole[rows, columns] = tile
            whole[columns, rows] = tile.T
        return whole

    def release(self) -> None:
        """Forget the tiles and the factor, which are computed again when they are asked for."""
        self._tiles, self._factor, self._factored, self._holds_matrix = {}, {}, None, False

    def _blocks(self) -> Iterator[tuple[int, int, Tensor]]:
        """Compute the entries of each tile, several tiles of a row at once: many threads have little to do in one."""
        layout = self.layout
        for i in range(layout.blocks):
            for start in range(0, i, _AT_ONCE):
                places = range(start, min(i, start + _AT_ONCE))
                strip = self.entries(layout.span(i), slice(layout.span(start).start, layout.span(places[-1]).stop))
                for j, block in zip(places, strip.split(layout.side, 1), strict=True):  # type: ignore[no-untyped-call]
                    yield i, j, block
            yield i, i, self.entries(layout.span(i), layout.span(i))

    def _ensure_factor(self, rho: float, progress: Report | None) -> tuple[float, float]:
        """Make the factor of Θ + ρ I; return its smallest pivot and the jitter that a factor in float32 needs."""
        if self._factored is not None and self._factored[0] == rho:
            return self._factored[1:]
        parts = Parts(Progress(progress), {"tiles": 1.0, "factor": _factor_share(self.layout.n)})
        with parts("tiles") as part:
            self.write(part)
        jitter = 0.0
        with parts("factor") as part:
            while True:
                try:
                    pivot = self._decompose(rho + jitter, part)
                    break
                except SmallPivot:
                    self._factored, self._holds_matrix = None, bool(self._factor)
                    if self.dtype == torch.float64:
                        raise singular(rho) from None
                    # The factor in float32 is a preconditioner: what is added to its diagonal changes the speed alone.
                    jitter = max(1e-6 * self._largest_diagonal, 10 * jitter)
                    if jitter > self._largest_diagonal:
                        raise singular(rho) from None
                    self.write()
        self._factored = rho, pivot, jitter
        return pivot, jitter

    def _decompose(self, shift: float, progress: Report | None) -> float:
        layout, eps = self.layout, torch.finfo(self.dtype).eps
        tiles, self._factored = self._tiles, None
        if layout.n <= _KEPT:
            self._factor = {}  # that of another ridge makes room
            tiles = self._factor = {place: tile.clone() for place, tile in self._tiles.items()}
        else:
            self._holds_matrix = False
        for i in range(layout.blocks):
            tiles[i, i].diagonal().add_(shift)
        floor = rounding_floor(self._largest_diagonal + shift, layout.n) * (eps / torch.finfo(torch.float64).eps)
        threads = torch.get_num_threads()
        start = time.perf_counter()
        with limited_threads(threads):
            pivot = factor_in_place(tiles, layout, fastest(self.dtype, threads), floor, progress)
        self.factor_seconds = time.perf_counter() - start
        return pivot

    def _estimated_residual(self, rho: float, a: Tensor, y: Tensor) -> float:
        """Estimate |(Θ + ρ I) A - y| / |y| after Θ is gone: for random signs ω, E (ωᵀ r)² = |r|²."""
        assert self._probes is not None
        omega, through = self._probes
        seen = through.T @ a + rho * (omega.T @ a) - omega.T @ y
        size = y.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        return float((seen.norm(dim=0) / _PROBES**0.5 / size).max())


def _signs(n: int) -> Tensor:
    draw = torch.randint(0, 2, (n, _PROBES), generator=torch.Generator().manual_seed(0))
    return draw.to(torch.float64) * 2 - 1


def _factor_share(n: int) -> float:
    """Return about how long the decomposition takes beside the kernel of a small network: n³/3 against 1,000 n²."""
    return n / 3000
