"""Products of 8-bit images: exact, and of a pair the same in every batch."""

import pytest
import torch

from ntklens.kernels.engines.fused import eight_bit
from ntklens.kernels.engines.fused.eight_bit import MOST_PIXELS, WholeNumbers
from ntklens.kernels.engines.fused.inner_products import TILE, Batch, InnerProducts
from ntklens.kernels.engines.fused.threads import own_threads

UNITS = {"0 to 1": lambda k: k / 255, "-1 to 1": lambda k: (k / 255 - 0.5) / 0.5, "0 to 255": lambda k: k}

needs_instructions = pytest.mark.skipif(
    not eight_bit.fits(16), reason="this processor multiplies 8-bit numbers no faster, so they are not looked for"
)


def numbers(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, d), generator=torch.Generator().manual_seed(seed)).float()


def products(x: torch.Tensor, z: torch.Tensor | None) -> InnerProducts:
    with own_threads():
        return InnerProducts(x, z)


def found(x: torch.Tensor) -> list[int]:
    whole = WholeNumbers(*x.shape)
    whole.find(x.numpy(), x.double().square().mean(1).numpy(), slice(None))
    return whole.unit.tolist()


def is_searched(x: torch.Tensor, z: torch.Tensor) -> bool:
    with own_threads():
        return Batch(x, search=x.dtype == z.dtype).whole is not None


@needs_instructions
@pytest.mark.parametrize("unit2", UNITS)
@pytest.mark.parametrize("unit1", UNITS)
@pytest.mark.parametrize(("n", "d"), [(3, 16), (40, 783), (500, 300)])
def test_products_are_those_of_the_pixels(n, d, unit1, unit2):
    x, z = UNITS[unit1](numbers(n, d)), UNITS[unit2](numbers(70, d, seed=1))
    inner = products(x, z)
    assert -1 not in found(x) + found(z)
    expected = x.double() @ z.double().T
    scale = x.double().norm(dim=1)[:, None] * z.double().norm(dim=1)
    assert bool(((inner.product - expected).abs() <= 4 * 2.0**-24 * scale).all())


@needs_instructions
def test_black_and_white_images_are_exact():
    x = torch.tensor([0.0, 1.0])[:, None].expand(2, MOST_PIXELS).clone()
    assert torch.equal(products(x, None).product.triu(), torch.tensor([[0.0, 0.0], [0.0, MOST_PIXELS]]))
    assert torch.equal(products(x, x.flip(0)).product, torch.tensor([[0.0, 0.0], [MOST_PIXELS, 0.0]]))


@needs_instructions
def test_symmetric_products_of_whole_numbers_have_the_bits_of_all_pairs():
    x = numbers(900, 100) / 255
    assert torch.equal(products(x, None).product.triu(), products(x, x).product.triu())


@needs_instructions
def test_a_pair_has_the_same_bits_whatever_stands_beside_it():
    d = 200
    drawn = torch.rand(100, d, generator=torch.Generator().manual_seed(2))
    x = torch.cat([numbers(300, d) / 255, drawn[:50], numbers(200, d, seed=3)])
    z = torch.cat([numbers(80, d, seed=4) / 255, drawn[50:], numbers(400, d, seed=5) / 127.5 - 1])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(6))
    whole = products(x, z).product
    assert torch.equal(products(x[order], z).product, whole[order])
    for i in (0, 310, 549):
        for columns in (slice(None), slice(0, 80), slice(80, 130), slice(129, 131)):
            assert torch.equal(products(x[i : i + 1], z[columns]).product[0], whole[i, columns])


def test_units_are_told_from_each_image():
    k = numbers(4, 600)
    drawn = torch.rand(1, 600, generator=torch.Generator().manual_seed(0))
    x = torch.cat([k[:1] / 255, k[1:2] * (1 / 255), k[2:3] / 127.5 - 1, k[3:], drawn, torch.zeros(1, 600), -k[:1]])
    assert found(x) == [0, 0, 1, 2, -1, 0, -1]


def test_an_image_beside_whole_numbers_is_not_one_of_them():
    x = numbers(6, 900).clamp(min=20) / 255
    x[1, 899] += 1e-5  # at the end, where the others are whole numbers
    x[2, 0] = 1.5
    x[3] *= 1 + 1e-6
    x[4, 500] = 1e30
    x[5] = (126 / 255 - 0.5) / 0.5  # grey: from -1 to 1 its rounding is a large share of it
    x[5, ::2] += 1e-7
    assert found(x) == [0, -1, -1, -1, -1, -1]
    x[1], x[2], x[3] = torch.nan, torch.inf, -torch.inf
    assert found(x) == [0, -1, -1, -1, -1, -1]


@pytest.mark.parametrize(("contrast", "is_found"), [(20, False), (40, True), (70, True)])
def test_images_from_minus_one_to_one_need_some_contrast(contrast, is_found):
    drawn = torch.randn(20, 784, generator=torch.Generator().manual_seed(0))
    k = (127 + contrast * drawn).round().clamp(0, 255)
    assert found((k / 255 - 0.5) / 0.5) == [1 if is_found else -1] * 20


def test_other_processors_multiply_pixels(monkeypatch):
    monkeypatch.setattr(eight_bit, "_has_instructions", lambda: False)
    x, z = numbers(30, 100) / 255, numbers(40, 100, seed=1) / 255
    assert not is_searched(x, z)
    inner = products(x, z)
    torch.testing.assert_close(inner.product.double(), x.double() @ z.double().T, rtol=1e-5, atol=0)


@needs_instructions
@pytest.mark.parametrize("place", [(7, 11), (TILE - 1, 39), (0, 0)])
@pytest.mark.parametrize("wrong", ["one entry", "turned columns"])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_wrong_product_is_noticed(monkeypatch, caplog, place, wrong, mixed):
    monkeypatch.setattr(eight_bit, "_failures", [])
    x, z = numbers(TILE, 100) / 255, numbers(40, 100, seed=1) / 255
    if mixed:
        x[3] = torch.rand(100, generator=torch.Generator().manual_seed(1))
    right = torch._int_mm

    def product_of(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        product = right(a, b)
        if wrong == "turned columns":
            return product.flip(1)
        product[place] += 100
        return product

    monkeypatch.setattr(torch, "_int_mm", product_of)
    for _ in range(2):  # after the first time, whole numbers are not looked for
        torch.testing.assert_close(products(x, z).product.double(), x.double() @ z.double().T, rtol=1e-6, atol=0)
    assert len(caplog.records) == 1
    assert "torch._int_mm is wrong for shapes (384, 100, 40)" in caplog.text


@needs_instructions
def test_only_float32_images_are_searched():
    x = numbers(5, 50) / 255
    assert is_searched(x, x)
    assert not is_searched(x.double(), x.double())
    assert not is_searched(x, x.double())


@needs_instructions
def test_whole_numbers_are_not_kept():
    x = numbers(5, 50) / 255
    inner = products(x, x)
    assert inner.x.whole is None
    assert inner.z.whole is None
