"""A Cholesky decomposition of a matrix in tiles, in place, and its triangular solutions.

The decomposition is the classical one by blocks: each block column is divided by the factor of its diagonal tile, and what
it explains is subtracted from the tiles to its right. Nearly all of the work is products of tiles.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ntklens.errors import NotPositiveDefinite, NtklensError
from ntklens.linalg.tiles.blas import TileBlas
from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.products import add_tile
from ntklens.progress import Progress, Report

Tiles = Mapping[tuple[int, int], Tensor]
"""The tiles (i, j), j ≤ i, of a layout."""


class SmallPivot(NtklensError):
    """A pivot that is no larger than rounding errors, and its row."""

    def __init__(self, row: int) -> None:
        super().__init__(f"the pivot of row {row} is zero to rounding.")
        self.row = row


def singular(rho: float) -> NotPositiveDefinite:
    """Return the failure of a matrix with a pivot that is zero to rounding."""
    return NotPositiveDefinite(
        f"the kernel matrix is not positive definite to rounding (ridge {rho:g}): a training input is a combination of "
        "others for the kernel. Use a larger ridge, such as Ridge(1e-6) or --ridge 1e-6, or a finite time."
    )


def factor_in_place(
    tiles: Tiles, layout: Layout, blas: TileBlas, floor: float, progress: Report | None = None
) -> float:
    """Replace the tiles of Θ by those of L, lower triangular with L Lᵀ = Θ.

    Args:
        tiles: contiguous, float32 or float64; the upper triangle of the diagonal tiles is neither read nor kept.
        layout: of the tiles.
        blas: the library that multiplies tiles.
        floor: pivots up to which count as zero: what rounding leaves of zero.
        progress: called with the share of the operations that is done.

    Returns:
        The smallest pivot, L_ii².

    Raises:
        SmallPivot: a pivot is not above the floor; the tiles are then neither Θ nor L.
    """
    count, smallest = layout.blocks, float("inf")
    for k in range(count):
        diagonal = tiles[k, k]
        failed = blas.factor(diagonal)
        if failed:
            raise SmallPivot(k * layout.side + failed - 1)
        pivots = diagonal.diagonal().numpy() ** 2
        row = int(pivots.argmin())
        if not pivots[row] > floor:
            raise SmallPivot(k * layout.side + row)
        smallest = min(smallest, float(pivots[row]))
        for i in range(k + 1, count):
            blas.divide(tiles[i, k], diagonal)
        for i in range(k + 1, count):
            for j in range(k + 1, i):
                blas.subtract(tiles[i, j], tiles[i, k], tiles[j, k])
            blas.subtract_square(tiles[i, i], tiles[i, k])
        Progress(progress)(1 - ((count - 1 - k) / count) ** 3)
    return smallest


def solve_factored(tiles: Tiles, layout: Layout, y: Tensor) -> Tensor:
    """Compute (L Lᵀ)⁻¹ y from the tiles of L, in their dtype.

    Args:
        tiles: of L, as `factor_in_place` leaves them.
        layout: of the tiles.
        y: (n, O).
    """
    # Vectors are rows here, as in `add_tile`: L Lᵀ X = Y is Xᵀ L Lᵀ = Yᵀ.
    x = y.T.to(tiles[0, 0].dtype).clone(memory_format=torch.contiguous_format)
    for i in range(layout.blocks):
        part = x[:, layout.span(i)]
        for j in range(i):
            part -= x[:, layout.span(j)] @ tiles[i, j].T
        part.copy_(torch.linalg.solve_triangular(tiles[i, i].T, part, upper=True, left=False))
    for i in reversed(range(layout.blocks)):
        part = x[:, layout.span(i)]
        part.copy_(torch.linalg.solve_triangular(tiles[i, i], part, upper=False, left=False))
        for j in range(i):
            x[:, layout.span(j)] -= part @ tiles[i, j]
    return x.T.contiguous()


def multiply_tiles(tiles: Tiles, layout: Layout, y: Tensor) -> Tensor:
    """Compute Θ y from the tiles of Θ; each tile is read once, for its own place and for its mirror image."""
    vectors = y.T.contiguous()
    total = torch.zeros_like(vectors)
    for i, j in layout.tiles():
        add_tile(total, vectors, tiles[i, j], layout.span(i), layout.span(j))
    return total.T.contiguous()
