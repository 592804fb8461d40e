"""The first features and the rest: halves of the images, and the choice of their number."""

import pytest
import torch

from ntklens.errors import InputError
from ntklens.features import best_head, halves


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_class_chooses_by_half_of_its_images():
    y = torch.tensor([0] * 40 + [1] * 31 + [2])
    half = halves(y, seeded())
    assert [int(half[y == c].sum()) for c in range(3)] == [20, 16, 1]


def test_halves_are_drawn():
    y = torch.arange(200) % 2
    assert torch.equal(halves(y, seeded(1)), halves(y, seeded(1)))
    assert not torch.equal(halves(y, seeded(1)), halves(y, seeded(2)))
    shares = torch.stack([halves(y, seeded(s)).double() for s in range(400)]).mean(0)
    # Each image is drawn in 400 draws as often as a coin would show heads: within four standard deviations.
    assert float((shares - 0.5).abs().max()) < 4 * 0.5 / 400**0.5


def test_the_smallest_of_equal_heads_is_chosen():
    right = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]]).bool()
    assert best_head([1, 5, 10, 20], right) == 5


@pytest.mark.parametrize(
    ("sizes", "right", "message"),
    [
        ([], torch.zeros(0, 3, dtype=torch.bool), "at least one number, ascending"),
        ([2, 2], torch.zeros(2, 3, dtype=torch.bool), "ascending"),
        ([1, 2], torch.zeros(3, 3, dtype=torch.bool), r"truth values \(2, m\)"),
    ],
)
def test_choices_that_do_not_fit_are_refused(sizes, right, message):
    with pytest.raises(InputError, match=message):
        best_head(sizes, right)
