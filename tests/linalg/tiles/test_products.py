"""A product as a sum over tiles."""

import torch

from ntklens.linalg.tiles.products import add_tile, as_rows
from tile_entries import LAYOUT, Gaussian, targets


def test_the_tiles_add_up_to_the_product():
    entries, y = Gaussian(LAYOUT.n), as_rows(targets(LAYOUT.n, 3))
    total = torch.zeros_like(y)
    for i, j in LAYOUT.tiles():
        rows, columns = LAYOUT.span(i), LAYOUT.span(j)
        add_tile(total, y, entries(rows, columns), rows, columns)
    torch.testing.assert_close(total, y @ entries.dense(), rtol=1e-12, atol=1e-12)
