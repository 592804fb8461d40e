"""Whether two kernels have the same features: overlaps, matches, pictures, and what chance gives."""

import math

import pytest
import torch

from ntklens.errors import InputError
from ntklens.features import (
    match,
    picture_cosine,
    principal_cosines,
    random_match,
    random_overlap,
    scalar_pictures,
    subspace_overlap,
)


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


def test_matching_undoes_a_permutation_and_signs():
    q, _ = torch.linalg.qr(torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    order, cosines = match(q, q[:, [2, 0, 3, 1]] * torch.tensor([1.0, -1, 1, -1], dtype=torch.float64))
    assert order.tolist() == [1, 3, 0, 2]
    assert cosines.tolist() == pytest.approx([-1, -1, 1, 1])
    squares = torch.tensor(
        [[0.6, 0.4], [0.4, 0.0]], dtype=torch.float64
    )  # by |cosines|, the other pairs would be better
    rest = torch.linalg.cholesky(torch.eye(2, dtype=torch.float64) - squares.T @ squares).T
    tilted = torch.cat([squares, rest])
    assert match(torch.eye(4, 2, dtype=torch.float64), tilted)[0].tolist() == [0, 1]
    low, high = random_match(30, 4, 40, torch.Generator().manual_seed(1))
    assert 0.02 < low < high < 0.2
    assert (low + high) / 2 > 1 / 30  # the best of several random pairs, not a mean one


def test_principal_cosines_are_those_of_the_angles():
    e, angle = torch.eye(4, dtype=torch.float64), 0.3
    turned = torch.stack([e[:, 0], math.cos(angle) * e[:, 1] + math.sin(angle) * e[:, 2]], 1)
    assert principal_cosines(e[:, :2], turned).tolist() == pytest.approx([1, math.cos(angle)])


def test_scalar_pictures_are_gradients(binary):
    features, data = binary
    x = data.test.x[:2].double().requires_grad_()
    v = features.eigenvectors[:, 3:5]
    value = features.machine.kernel(x, features.machine.double_inputs) @ v
    expected = torch.stack([torch.autograd.grad(value[:, i].sum(), x, retain_graph=True)[0] for i in range(2)])
    torch.testing.assert_close(scalar_pictures(features, x.detach(), v), expected, rtol=1e-9, atol=1e-12)
