"""Measures against closed forms."""

import math

import pytest
import torch

from ntklens.dynamics import measures as m

I4 = torch.eye(4, dtype=torch.float64)


def rank_one(v: list[float]) -> torch.Tensor:
    u = torch.tensor(v, dtype=torch.float64)
    return torch.outer(u, u)


def test_similarity_ignores_scale():
    assert m.similarity(I4, 3 * I4) == pytest.approx(1)
    assert m.kernel_distance(rank_one([1, 0, 0, 0]), rank_one([0, 2, 0, 0])) == pytest.approx(1)
    assert m.similarity(I4, rank_one([1, 0, 0, 0])) == pytest.approx(0.5)


def test_distance_map_holds_every_pair():
    kernels = torch.stack([I4, rank_one([1, 0, 0, 0]), rank_one([0, 1, 0, 0])])
    expected = torch.tensor([[0, 0.5, 0.5], [0.5, 0, 1], [0.5, 1, 0]], dtype=torch.float64)
    torch.testing.assert_close(m.distance_map(kernels), expected)


def test_velocity_is_distance_over_time():
    kernels = torch.stack([I4, I4, rank_one([1, 0, 0, 0])])
    v = m.velocity(kernels, [0, 1, 3])
    assert math.isnan(v[0])
    assert v[1:] == pytest.approx([0, 0.25])


@pytest.mark.parametrize(
    ("velocities", "expected"),
    [
        ([math.nan, 0.5, 0.01, 0.01, 0.01], 2.0),
        ([math.nan, 0.01, 0.5, 0.01, 0.01], None),
        ([math.nan, 0.5, 0.5, 0.5, 0.01], None),
        ([math.nan, 0.01, 0.01, 0.01, 0.01], 1.0),
    ],
)
def test_lazy_epoch_needs_a_spell(velocities, expected):
    assert m.lazy_epoch(velocities, [0.0, 1.0, 2.0, 3.0, 4.0], 0.1) == expected


def test_polar_coordinates_of_a_straight_path_and_of_a_turn():
    straight = m.polar(torch.stack([I4, 2 * I4, 3 * I4]))
    assert straight.radius == pytest.approx([0, 0.5, 1])
    assert straight.angle == [0, 0, 0]
    turned = m.polar(torch.stack([rank_one([1, 0, 0, 0]), rank_one([0, 1, 0, 0])]))
    assert turned.angle[1] == pytest.approx(math.pi / 2)


def test_what_hardly_moves_keeps_its_digits():
    """A turn by δ in the plane of two kernels: distance 1 - cos δ = δ²/2, angle δ."""
    a, b, turn = rank_one([1, 0, 0, 0]), rank_one([0, 1, 0, 0]), 1e-9
    moved = math.cos(turn) * a + math.sin(turn) * b
    assert m.kernel_distance(a, moved) == pytest.approx(turn**2 / 2, rel=1e-6, abs=0)
    assert float(m.distance_map(torch.stack([a, moved]))[0, 1]) == pytest.approx(turn**2 / 2, rel=1e-6, abs=0)
    assert m.polar(torch.stack([a, moved])).angle[1] == pytest.approx(turn, rel=1e-6, abs=0)


def test_a_zero_kernel_has_no_direction():
    zero = torch.zeros(4, 4, dtype=torch.float64)
    assert math.isnan(m.similarity(I4, zero))
    assert math.isnan(m.polar(torch.stack([I4, zero])).angle[1])


def test_a_path_that_returns_has_no_scale():
    assert m.polar(torch.stack([I4, 2 * I4, I4])).radius == [0, math.inf, 0]


def test_eigenspaces_add_up():
    k = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64))
    axes = torch.eye(4, dtype=torch.float64)
    top, rest = m.split(k, torch.tensor([4.0, 3.0], dtype=torch.float64), axes[:, :2])
    torch.testing.assert_close(top, torch.diag(torch.tensor([4.0, 3.0, 0.0, 0.0], dtype=torch.float64)))
    torch.testing.assert_close(top + rest, k)


def test_concentration_and_effective_rank():
    flat, one = torch.ones(8), torch.tensor([5.0, 0.0, 0.0])
    assert m.concentration(flat, 2) == pytest.approx(0.25)
    assert m.effective_rank(flat) == pytest.approx(8)
    assert m.concentration(one, 1) == m.effective_rank(one) == 1


def test_alignment_with_the_labels_own_kernel_is_one():
    y = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert m.alignment((y @ y.T).double() + 7, y) == pytest.approx(1)
    assert m.alignment(I4, y) < 1


def test_specialisation_of_block_and_uniform_kernels():
    y = torch.tensor([0, 0, 1, 1])
    block = torch.tensor([[1.0, 1.0, 0.5, 0.5]] * 2 + [[0.5, 0.5, 1.0, 1.0]] * 2)
    assert m.specialisation(block, y) == pytest.approx([2, 2])
    assert m.specialisation(torch.ones(4, 4), y) == pytest.approx([1, 1])


def test_specialisation_does_not_count_an_input_with_itself():
    """Tangents at one angle to all others have no classes, however small the classes are."""
    even = 0.3 + 0.7 * torch.eye(5)
    assert m.specialisation(even, torch.tensor([0, 0, 1, 1, 1])) == pytest.approx([1, 1])
    assert math.isnan(m.specialisation(even, torch.tensor([0, 1, 1, 1, 1]))[0])


def test_a_kernel_of_zeros_has_measures():
    assert m.effective_rank(torch.zeros(5)) == 0
    assert m.concentration(torch.zeros(5), 2) == 1
