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


@pytest.fixture
def numbered():
    """Three classes called 1, 10 and 2, in this order, as folders are sorted; the pixels tell the class."""
    x, y = torch.arange(3.0).div(2).view(3, 1, 1, 1), torch.arange(3)
    return Dataset(Split(x, y), Split(x, y), ("1", "10", "2"), "numbered")


def test_a_text_is_a_name_before_it_is_an_index(numbered):
    data = numbered.select(["1", "2"])
    assert data.classes == ("1", "2")
    assert data.train.x.flatten().tolist() == [0, 1]
    assert (
        data.notes
        == (
            'Class 1 is the one called "1", not the one with the index 1 ("10").',
            'Class 2 is the one called "2", not the one with the index 2 ("2").',
        )[:1]
    )
    assert numbered.select(["0", "2"]).classes == ("1", "2")


def test_a_number_is_an_index_and_says_so_where_a_name_is_the_same(numbered):
    with pytest.warns(UserWarning, match=r'Class 1 is the one with the index 1 \("10"\), not the one called "1"'):
        data = numbered.select([1, 2])
    assert data.classes == ("10", "2")
    assert len(data.notes) == 1
    assert load_dataset("digits", classes=[3, "5"]).notes == ()


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([-1, 0], "no class -1"),
        ([True, 0], "no class True"),
        ([0.0, 1], "no class 0.0"),
        (["²", "1"], "no class '²'"),
        (["3", "1"], "no class 3; it has 0 1, 1 10, 2 2"),
        ("12", "a list of classes; got the text '12'"),
        ([], "two or more different classes"),
    ],
)
def test_classes_that_do_not_exist(classes, message, numbered, untyped):
    with pytest.raises(InputError, match=message):
        numbered.select(classes)


def test_classes_without_images_are_told():
    assert load_dataset("digits", train=3, test=10).notes[0] == "Classes without a training image: 3, 4, 5, 6, 7, 8, 9."


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
