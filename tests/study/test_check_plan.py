"""The default checks ask for no more than the attack did."""

import pytest

from ntklens.study.stages.check_plan import check_plan


@pytest.mark.parametrize("n", [1, 20, 50, 200, 1000, 5000])
@pytest.mark.parametrize(("queries", "gradients"), [(0, 1), (0, 10), (0, 100), (1000, 0), (30, 0)])
def test_the_checks_ask_for_less_than_the_attack(n, queries, gradients):
    plan = check_plan(n * queries, n * gradients, n)
    attack = n * queries + 2 * n * gradients
    checks = 5 * plan.images + plan.attacked * (4 * plan.steps + plan.queries)
    assert 1 <= plan.attacked <= plan.images <= min(n, 200)
    assert checks <= attack or plan.attacked == 1


def test_an_attack_that_asks_for_much_is_checked_in_full():
    plan = check_plan(1000 * 5000, 0, 5000)
    assert (plan.images, plan.attacked, plan.steps, plan.queries) == (200, 200, 20, 300)
