"""The losses against their definitions."""

import pytest
import torch
from torch.nn import functional as F

from ntklens.attacks.losses import cross_entropy, dlr, loss_of, margin


def test_margin_is_to_the_largest_other_logit():
    logits = torch.tensor([[-3.0, -1.0, -2.0], [-3.0, -1.0, -2.0], [4.0, 4.0, 0.0]])
    assert margin(logits, torch.tensor([1, 2, 0])).tolist() == [1.0, -1.0, 0.0]


def test_cross_entropy_of_a_scalar_machine_is_the_binary_one():
    f = torch.linspace(-30, 30, 13, dtype=torch.float64)
    for label in (0, 1):
        y = torch.full((13,), label)
        binary = F.binary_cross_entropy_with_logits(f, y.double(), reduction="none")
        torch.testing.assert_close(cross_entropy(torch.stack([-f / 2, f / 2], 1), y), binary)


def test_cross_entropy_rises_by_the_softmax_minus_the_target():
    """Its slope in the logits is p - y, whatever the size of the batch: each sample has its own value."""
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    y = torch.tensor([0, 1, 2, 3, 0])
    (slope,) = torch.autograd.grad(cross_entropy(logits, y).sum(), logits)
    torch.testing.assert_close(slope, logits.detach().softmax(1) - F.one_hot(y, 4))


def test_dlr_by_hand():
    """-(z_y - max other) / (z_(1) - z_(3)) (Croce & Hein 2020, equation 6)."""
    logits = torch.tensor([[5.0, 3.0, 1.0, -9.0], [5.0, 3.0, 1.0, -9.0]], dtype=torch.float64)
    assert dlr(logits, torch.tensor([0, 2])).tolist() == pytest.approx([-2 / 4, 4 / 4])
    assert loss_of("dlr")(10 * logits, torch.tensor([0, 2])).tolist() == pytest.approx([-0.5, 1.0])
