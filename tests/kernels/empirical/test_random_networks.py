"""Random networks of many kinds of layers: everything that differentiates them is right, or refuses with a sentence."""

import warnings

import pytest
from benchmarks.random_blocks import BLOCKS
from benchmarks.random_networks import verdicts

# Four of five networks take every kind of block in turn; the long version is `python -m benchmarks.random_networks`.
SEEDS = range(0, len(BLOCKS), 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_comparison_is_right_or_refused(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        bad = [(what, verdict) for what, verdict in verdicts(seed, 2) if not verdict.startswith(("right", "refused"))]
    assert not bad


def test_the_comparisons_can_fail_and_most_of_them_are_right():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [verdict.partition(":")[0] for seed in (0, 9) for _, verdict in verdicts(seed, 2)]
    assert found == ["right"] * len(found)
    assert len(found) == 20
