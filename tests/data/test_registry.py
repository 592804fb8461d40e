"""Data sets by name, on real files."""

from importlib import resources
from pathlib import Path

import pytest
import torch

from ntklens.data import dataset_names, load_dataset
from ntklens.errors import InputError

FULL = Path(__file__).parents[2].parent / "shared" / "data"
needs_full = pytest.mark.skipif(not FULL.is_dir(), reason="the full data sets are not beside this checkout")


def test_the_embedded_set_is_stratified_and_interleaved():
    data = load_dataset()
    assert data.train.x.shape == (6000, 1, 28, 28)
    assert data.test.x.shape == (10000, 1, 28, 28)
    assert data.train.x.dtype == torch.float32
    assert (float(data.train.x.min()), float(data.train.x.max())) == (0, 1)
    for split, each in ((data.train, 600), (data.test, 1000)):
        assert torch.bincount(split.y).tolist() == [each] * 10
        for n in (13, 100, 777, 5991):
            counts = torch.bincount(split.y[:n], minlength=10)
            assert int(counts.max() - counts.min()) <= 1


def test_the_embedded_set_is_small_and_the_same_everywhere():
    asset = resources.files("ntklens.data") / "assets" / "fashion_mnist_mini.npz"
    assert len(asset.read_bytes()) < 9_000_000
    assert load_dataset().fingerprint() == "069e5d79b1dc067f38bd294ccf9f634f5f861a941e441c45b4ef58df5c496424"


@needs_full
def test_the_embedded_set_is_a_part_of_the_full_one():
    full, mini = load_dataset("fashion-mnist", data_dir=FULL), load_dataset()
    rows = {x.numpy().tobytes(): int(y) for x, y in zip(full.test.x, full.test.y, strict=True)}
    assert all(rows[x.numpy().tobytes()] == int(y) for x, y in zip(mini.test.x, mini.test.y, strict=True))
    assert len({x.numpy().tobytes() for x in mini.test.x}) == 10_000


@needs_full
@pytest.mark.parametrize(("name", "ones"), [("fashion-mnist", 1000), ("mnist", 1135)])
def test_the_full_sets(name, ones, monkeypatch):
    monkeypatch.setenv("NTKLENS_DATA", str(FULL))
    data = load_dataset(name)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert int((data.test.y == 1).sum()) == ones


def test_digits_are_split_by_class():
    data = load_dataset("digits")
    assert len(data.train) + len(data.test) == 1797
    assert data.train.x.shape[1:] == (1, 8, 8)
    share = torch.bincount(data.test.y) / (torch.bincount(data.train.y) + torch.bincount(data.test.y))
    assert share.min() > 0.18
    assert share.max() <= 0.2


def test_unknown_names_and_wrong_choices(tmp_path):
    with pytest.raises(InputError, match="expected a data set out of fashion-mnist-mini, digits"):
        load_dataset("imagenet")
    with pytest.raises(InputError, match="does not hold mnist"):
        load_dataset("mnist", data_dir=tmp_path)
    with pytest.raises(InputError, match="has no class 'Hat'"):
        load_dataset(classes=["Hat", "Coat"])
    with pytest.raises(InputError, match="two or more different classes"):
        load_dataset(classes=[1, 1])
    with pytest.raises(InputError, match="from 1 to 6000"):
        load_dataset(train=6001)
    assert "cifar10" in dataset_names()
