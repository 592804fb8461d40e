"""Categories of features: a test against the majority class, over many features at once."""

import pytest
import torch

from ntklens.errors import InputError
from ntklens.features import (
    FRAGILE,
    PARTLY,
    ROBUST,
    USELESS,
    FeatureScores,
    above_majority,
    categories,
)
from ntklens.statistics import proportion


def scores(n: int, *right: int) -> FeatureScores:
    return FeatureScores(tuple(range(len(right))), tuple(proportion(r, n) for r in right))


def test_categories_follow_their_rule():
    useful, robust = scores(100, 90, 90, 80, 80, 30), scores(100, 80, 44, 45, 80, 30)
    assert categories(useful, robust, 0.5) == [ROBUST, FRAGILE, PARTLY, ROBUST, USELESS]
    assert categories(useful, robust, 0.78) == [PARTLY, FRAGILE, USELESS, USELESS, USELESS]
    assert categories(useful, robust, 0.5, robust_share=0.4)[1] == PARTLY
    assert categories(scores(10), scores(10), 0.5) == []


def test_what_is_worse_than_guessing_under_attack_is_not_robust():
    """Half of its accuracy is left of the feature, and a coin is right more often."""
    assert categories(scores(1000, 560), scores(1000, 290), 0.5) == [PARTLY]


@pytest.mark.parametrize("share", ["majority", "robust_share", "false_discoveries"])
def test_shares_are_no_percentages(share):
    given = {"majority": 0.5} | {share: 50}
    with pytest.raises(InputError, match=f"expected {share} as a share"):
        categories(scores(10, 5), scores(10, 5), **given)


def test_the_test_is_the_exact_binomial_one():
    assert above_majority(scores(3, 3, 2, 0), 0.5).tolist() == pytest.approx([1 / 8, 1 / 2, 1])


def test_a_thousand_coins_are_not_useful():
    """Each alone, 2.5 % of them would be above the majority by their interval."""
    g = torch.Generator().manual_seed(0)
    coins = scores(400, *(torch.rand(1000, 400, generator=g) < 0.5).sum(1).tolist())
    assert sum(e.low > 0.5 for e in coins.estimates) > 10
    assert set(categories(coins, coins, 0.5)) == {USELESS}


def test_scores_of_different_features_are_refused():
    with pytest.raises(InputError, match="of the same features"):
        categories(scores(10, 5), scores(10, 5, 5), 0.5)
