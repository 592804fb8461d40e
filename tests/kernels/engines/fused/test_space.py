from hypothesis import given
from hypothesis import strategies as st

from ntklens.kernels.engines.fused.space import Space


def test_the_first_gap_that_is_large_enough_is_taken():
    space = Space()
    first, second, third = space.allocate(3), space.allocate(5), space.allocate(2)
    assert (first, second, third, space.top) == (0, 3, 8, 10)
    space.release(first, 3)
    space.release(third, 2)
    assert space.allocate(2) == 0  # in the gap of three
    assert space.allocate(2) == 8  # one place is left of that gap, too small
    assert space.allocate(1) == 2
    assert space.top == 10


def test_neighbouring_gaps_become_one():
    space = Space()
    starts = [space.allocate(2) for _ in range(4)]
    for start in (starts[0], starts[2], starts[1]):  # the last one touches gaps on both sides
        space.release(start, 2)
    assert space.gaps == [(0, 6)]
    assert space.allocate(6) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=60))
def test_maps_never_overlap_and_everything_is_free_at_the_end(steps):
    space, taken = Space(), []
    for releases, size in steps:
        if releases and taken:
            space.release(*taken.pop(size % len(taken)))
        else:
            start = space.allocate(size)
            assert all(start + size <= other or other + length <= start for other, length in taken)
            assert start + size <= space.top
            taken.append((start, size))
    for start, size in taken:
        space.release(start, size)
    assert space.gaps == ([(0, space.top)] if space.top else [])
