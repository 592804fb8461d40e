"""Choices of classes and images, and what a data set checks."""

import pytest
import torch

from ntklens.data import load_dataset
from ntklens.data.dataset import Dataset, Split
from ntklens.errors import InputError


def test_classes_by_index_and_name_are_numbered_anew():
    data = load_dataset(classes=["Coat", 2])
    assert data.classes == ("Coat", "Pullover")
    everything = load_dataset()
    assert torch.equal(data.test.x[data.test.y == 0], everything.test.x[everything.test.y == 4])
    assert data.fingerprint() != load_dataset(classes=[2, 4]).fingerprint()


def test_first_keeps_file_order():
    data = load_dataset(train=10, test=5)
    assert torch.equal(data.train.x, load_dataset().train.x[:10])
    assert len(data.test) == 5


def test_splits_are_checked(untyped):
    x, y = torch.zeros(2, 1, 3, 3), torch.tensor([0, 1])
    with pytest.raises(InputError, match="float32 images"):
        Split(x.double(), y)
    with pytest.raises(InputError, match="class indices from 0 to 1"):
        Dataset(Split(x, y), Split(x, y + 1), ("a", "b"), "mine")
