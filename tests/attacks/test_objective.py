"""What an attack ascends, and when it has succeeded."""

import pytest
import torch

from ntklens.attacks.losses import cross_entropy, negative_margin
from ntklens.attacks.objective import Objective

WEIGHT = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 2.0, -0.5]])


def linear(x):
    return x @ WEIGHT.T


@pytest.mark.parametrize("targeted", [False, True])
def test_the_gradient_of_the_margin_of_a_linear_model_is_its_weights(targeted):
    x, y = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 0, 1])
    gradient, reached = Objective(negative_margin, targeted).gradient(linear, x, y)
    towards_other = torch.where(y[:, None] == 0, WEIGHT[1] - WEIGHT[0], WEIGHT[0] - WEIGHT[1])
    torch.testing.assert_close(gradient, -towards_other if targeted else towards_other)
    right = linear(x).argmax(1) == y
    assert torch.equal(reached, right if targeted else ~right)
    assert 0 < int(reached.sum()) < 6


def test_scores_do_not_depend_on_the_batch_size():
    x, y = torch.rand(7, 3, generator=torch.Generator().manual_seed(1)), torch.arange(7) % 2
    value, reached = Objective().scores(linear, x, y)
    in_batches, _ = Objective().scores(linear, x, y, batch_size=2)
    torch.testing.assert_close(in_batches, value)
    torch.testing.assert_close(value, cross_entropy(linear(x), y))
    assert torch.equal(reached, linear(x).argmax(1) != y)
