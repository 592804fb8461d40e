"""Products of tiles: the bits of an entry do not depend on what stands beside it."""

import pytest
import torch

from ntklens.kernels.engines.fused import inner_products
from ntklens.kernels.engines.fused.inner_products import TILE, InnerProducts, multiplied
from ntklens.kernels.engines.fused.threads import own_threads

WHOLE = (TILE, TILE)


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("depth", [1, 7, 100, 785, 2000])
def test_an_entry_has_the_same_bits_at_every_place_of_every_tile(dtype, depth):
    a, b = drawn(TILE, depth, dtype=dtype), drawn(TILE, depth, dtype=dtype)
    with own_threads():
        whole = multiplied(a, b.T, WHOLE)
        torch.testing.assert_close(whole, a @ b.T, rtol=1e-4, atol=1e-3)
        order = torch.randperm(TILE, generator=torch.Generator().manual_seed(4))
        for rows, columns in ((1, 1), (1, 384), (384, 1), (64, 64), (65, 100), (10, 300), (300, 10), (383, 383)):
            first, second = order[:rows], order[-columns:]
            assert torch.equal(multiplied(a[first], b[second].T, WHOLE), whole[first][:, second])
            wide = multiplied(a[first], b.T.contiguous(), (TILE, TILE))
            assert torch.equal(wide, whole[first])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("columns", "width"), [(15, 16), (31, 32), (122, 128), (100, 208)])
def test_columns_that_are_filled_up_keep_the_layout(columns, width, dtype):
    """Of a right side whose rows are contiguous, as a gradient has; transposed, a row's bits depend on its place."""
    a, b = drawn(TILE, 385, dtype=dtype), drawn(385, columns, dtype=dtype)
    order = torch.randperm(TILE, generator=torch.Generator().manual_seed(4))
    with own_threads():
        whole = multiplied(a, b, (TILE, width))
        torch.testing.assert_close(whole, a @ b, rtol=1e-4, atol=1e-3)
        for rows in (order, order[:1], order[:150]):
            assert torch.equal(multiplied(a[rows], b, (TILE, width)), whole[rows])


def test_narrow_and_wide_tiles_have_the_same_bits(monkeypatch):
    x, z = drawn(700, 50), drawn(900, 50)
    with own_threads():
        narrow, symmetric = InnerProducts(x, z).product, InnerProducts(x, None).product
        monkeypatch.setattr(inner_products, "_MANY", 1)
        assert torch.equal(InnerProducts(x, z).product, narrow)
        assert torch.equal(InnerProducts(x, None).product.triu(), symmetric.triu())


def test_where_strips_have_other_bits_every_tile_is_multiplied_whole(monkeypatch):
    a, b = drawn(500, 30), drawn(40, 30)
    with own_threads():
        matrix = InnerProducts(a, b).product
        monkeypatch.setattr(inner_products, "_is_exact", lambda *_: False)
        shapes = []
        product = torch.mm
        monkeypatch.setattr(
            torch, "mm", lambda x, z, out=None: shapes.append((len(x), z.shape[1])) or product(x, z, out=out)
        )
        assert torch.equal(InnerProducts(a, b).product, matrix)
    assert set(shapes) == {WHOLE}


@pytest.mark.parametrize("n", [3, 400, 1300])
def test_a_batch_with_itself_is_multiplied_on_and_above_the_diagonal(n):
    x = drawn(n, 20, dtype=torch.float64)
    with own_threads():
        inner, pair = InnerProducts(x, None), InnerProducts(x, x)
    assert torch.equal(inner.product.triu(), pair.product.triu())
    torch.testing.assert_close(inner.x.square, (x**2).mean(1), rtol=1e-14, atol=0)
