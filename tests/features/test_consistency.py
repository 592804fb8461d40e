import math

import pytest
import torch

from ntklens.errors import InputError
from ntklens.features import picture_cosine, random_overlap, subspace_overlap


def test_overlap_of_equal_orthogonal_and_tilted_subspaces():
    e = torch.eye(4, dtype=torch.float64)
    assert subspace_overlap(e[:, :2], e[:, [1, 0]]) == 1
    assert subspace_overlap(e[:, :2], e[:, 2:]) == 0
    tilted = torch.stack([e[:, 0], (e[:, 1] + e[:, 2]) / math.sqrt(2)], 1)
    assert subspace_overlap(e[:, :2], tilted) == pytest.approx(0.75)


def test_random_subspaces_overlap_by_their_share():
    low, high = random_overlap(60, 12, 40, torch.Generator().manual_seed(0))
    assert low < 12 / 60 < high
    assert high < 0.3


def test_what_chance_gives_holds_nineteen_in_twenty():
    low, high = random_overlap(40, 5, 400, torch.Generator().manual_seed(0))
    draws = [random_overlap(40, 5, 1, torch.Generator().manual_seed(seed))[0] for seed in range(1, 401)]
    assert 0.91 < sum(low <= draw <= high for draw in draws) / 400 < 0.985


def test_subspaces_of_different_size_are_refused(untyped):
    with pytest.raises(InputError, match="of one size"):
        subspace_overlap(torch.eye(4)[:, :2], torch.eye(4)[:, :3])


def test_the_sign_of_a_picture_does_not_matter():
    a = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(picture_cosine(a, -2 * a), torch.ones(3))
