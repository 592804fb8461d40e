"""The operations without a window against their formulas on the full covariance K[p, p'] of a small image."""

import itertools

import pytest
import torch

from ntklens.kernels.rules.operations import (
    ORIGIN,
    Covariance,
    Dense,
    Flatten,
    GlobalPool,
    Input,
    Normalise,
    Scale,
    Scales,
    Sum,
    all_offsets,
    ends,
    is_offset,
    map_size,
)

SIZE = (3, 4)


def covariance(*, ntk: bool = True) -> Covariance:
    """One map for every offset of an image of SIZE, for two inputs and three inputs."""
    g = torch.Generator().manual_seed(0)

    def maps() -> dict:
        return {d: torch.rand(2, 3, *map_size(SIZE, d), generator=g, dtype=torch.float64) for d in all_offsets(SIZE)}

    return Covariance(maps(), maps() if ntk else None)


def no_marginals(offset):
    raise AssertionError("this operation reads no variances")


def pushed(operation, *states: Covariance, offsets=frozenset({ORIGIN})) -> Covariance:
    return operation.push(list(states), set(offsets), no_marginals)


def test_the_ends_of_a_map_are_the_pairs_of_positions_at_its_offset():
    positions = list(itertools.product(range(SIZE[0]), range(SIZE[1])))
    for offset in all_offsets(SIZE):
        expected = [p for p in positions if (p[0] + offset[0], p[1] + offset[1]) in positions]
        grid = torch.tensor(positions).reshape(*SIZE, 2)
        first, second = ends(SIZE, offset)
        assert grid[first].reshape(-1, 2).tolist() == [list(p) for p in expected]
        assert torch.equal(grid[first] + torch.tensor(offset), grid[second])
        assert tuple(grid[first].shape[:2]) == map_size(SIZE, offset)


def test_an_offset_exists_where_the_image_is_large_enough():
    candidates = set(itertools.product(range(-5, 6), repeat=2))
    assert {d for d in candidates if is_offset(d, SIZE)} == all_offsets(SIZE)


@pytest.mark.parametrize("ntk", [True, False])
def test_one_rule_for_the_nngp_and_for_the_ntk_where_it_is_carried(ntk):
    state = covariance(ntk=ntk)
    doubled = state.apply_to_each(lambda t: 2 * t)
    assert torch.equal(doubled.nngp[1, 2], 2 * state.nngp[1, 2])
    if ntk:
        assert torch.equal(doubled.ntk[-1, 0], 2 * state.ntk[-1, 0])
        assert set(state.apply(lambda maps: {ORIGIN: maps[ORIGIN]}).ntk) == {ORIGIN}
    else:
        assert doubled.ntk is None


def test_a_layer_adds_its_new_covariance_to_the_ntk():
    state = covariance()
    k, t = state.nngp[ORIGIN], state.ntk[ORIGIN]
    new = pushed(Dense(Scales(1.5, 0.2, 1.5**2, 0.2**2)), state)
    torch.testing.assert_close(new.nngp[ORIGIN], 2.25 * k + 0.04)
    torch.testing.assert_close(new.ntk[ORIGIN], 2.25 * k + 0.04 + 2.25 * t)


def test_a_layer_in_the_standard_parametrisation_adds_its_fan_in_times_the_covariance_and_one():
    state = covariance()
    new = pushed(Dense(Scales(1.5, 0.2, 64.0, 1.0)), state)
    torch.testing.assert_close(new.ntk[ORIGIN], 64 * state.nngp[ORIGIN] + 1 + 2.25 * state.ntk[ORIGIN])


def test_flattening_is_the_mean_of_the_equal_positions_and_pooling_that_of_all_pairs():
    state = covariance()
    torch.testing.assert_close(pushed(Flatten(), state).nngp[ORIGIN][..., 0, 0], state.nngp[ORIGIN].mean((-2, -1)))
    assert GlobalPool(SIZE).sources({ORIGIN}) == all_offsets(SIZE)
    total = sum(t.sum((-2, -1)) for t in state.ntk.values())
    torch.testing.assert_close(pushed(GlobalPool(SIZE), state).ntk[ORIGIN][..., 0, 0], total / 12**2)


def test_sums_add_and_constants_square():
    a, b = covariance(), covariance(ntk=False)
    both = pushed(Sum(), a, a, a)
    torch.testing.assert_close(both.ntk[ORIGIN], 3 * a.ntk[ORIGIN])
    assert pushed(Sum(), a, b).ntk is None
    torch.testing.assert_close(pushed(Scale(-0.5), a).nngp[ORIGIN], a.nngp[ORIGIN] / 4)


@pytest.mark.parametrize("over_positions", [True, False])
def test_a_normalised_input_has_variance_one(over_positions):
    offsets = all_offsets(SIZE)
    state = covariance()
    q = state.nngp[ORIGIN]

    def marginals(offset):
        first, second = ends(SIZE, offset)
        return q[..., first[0], first[1]], q[..., second[0], second[1]]

    new = Normalise(over_positions, eps=0.0).push([state], offsets, marginals)
    variance = new.nngp[ORIGIN].mean((-2, -1)) if over_positions else new.nngp[ORIGIN]
    torch.testing.assert_close(variance, torch.ones_like(variance))
    ratio = new.nngp[1, 2] / state.nngp[1, 2]
    torch.testing.assert_close(new.ntk[1, 2] / state.ntk[1, 2], ratio)


def test_an_operation_reads_the_offsets_that_it_writes_unless_it_says_otherwise():
    assert Input().sources({(1, 2)}) == {(1, 2)}
