"""What one tile adds to a product with its matrix."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def add_tile(
    total: Float[Tensor, "k n"],
    y: Float[Tensor, "k n"],
    tile: Float[Tensor, "rows columns"],
    rows: slice,
    columns: slice,
) -> None:
    """Add to (Θ Y)ᵀ what a tile and its mirror image contribute: the sum over its columns, and the sum over its rows.

    Vectors are rows here: MKL multiplies a few rows by a matrix, or by its transpose, up to four times as fast as the
    transpose of a matrix by a few columns.

    Args:
        total: (Θ Y)ᵀ so far.
        y: Yᵀ.
        tile: Θ on these rows and columns.
        rows: the tile's rows.
        columns: the tile's columns.
    """
    total[:, rows] += y[:, columns] @ tile.T
    if rows != columns:
        total[:, columns] += y[:, rows] @ tile


def as_rows(y: Float[Tensor, "n k"]) -> Float[Tensor, "k n"]:
    """Return columns as rows, in float64."""
    return y.T.to(torch.float64).contiguous()
