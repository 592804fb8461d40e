"""Randomised smoothing: against the exact radius of a linear classifier, and the same for any batch size."""

import pytest
import torch
from scipy.stats import norm
from torch import nn

import ntklens as nl
from ntklens.certificates import smooth
from ntklens.certificates.smoothing import ABSTAINS


def linear(direction, offset):
    """Return a classifier of the sign of <u, x> + offset for a unit vector u."""
    net = nn.Linear(len(direction), 2)
    with torch.no_grad():
        net.weight.copy_(torch.stack([-direction, direction]) / 2)
        net.bias.copy_(torch.tensor([-offset, offset]) / 2)
    return net


U = torch.tensor([0.6, 0.0, 0.8])
X = torch.tensor([[0.1, 0.5, 0.2], [0.9, 0.1, 0.9], [0.4, 0.4, 0.325]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_radii_of_a_linear_classifier_are_below_its_distances_and_near_them():
    found = smooth(linear(U, -0.5), X, 0.5, generator=seeded(), draws=4000)
    distance = (X @ U - 0.5).double()
    assert (found.predictions[:2] == (distance[:2] > 0).long()).all()
    # The probability is Φ(distance / σ) exactly, and the radius the distance.
    assert (found.radius <= distance.abs() + 1e-9).all()
    assert (found.radius[:2] > 0.6 * distance[:2].abs()).all()
    assert found.predictions[2] == ABSTAINS  # it lies on the border
    assert found.radius[2] == 0


def test_the_largest_radius_is_what_the_draws_can_show():
    found = smooth(linear(U, 100.0), X, 0.25, generator=seeded(), draws=1000)
    assert found.radius.tolist() == pytest.approx([found.largest] * 3)
    assert found.largest == pytest.approx(0.25 * norm.ppf(0.001 ** (1 / 1000)), rel=1e-9)
    assert found.certified(torch.ones(3).long(), 0.6).all()
    assert not found.certified(torch.zeros(3).long(), 0.1).any()
    assert found.accuracy(torch.ones(3).long(), 0.7).value == 0.0
    assert "3 certain" in repr(found)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_the_same_seed_gives_the_same_result_for_any_batch_size(batch_size):
    reference = smooth(linear(U, -0.5), X, 0.5, generator=seeded(3), draws=300, selection=30)
    found = smooth(linear(U, -0.5), X, 0.5, generator=seeded(3), draws=300, selection=30, batch_size=batch_size)
    assert torch.equal(found.radius, reference.radius)
    assert torch.equal(found.predictions, reference.predictions)


def test_kernel_machines_and_three_classes_are_smoothed_too():
    x, y = torch.rand(12, 3, generator=seeded()), torch.arange(12) % 3
    machine = nl.KernelMachine(nl.RBFKernel(0.5), nl.Ridge(1e-3)).fit(x, y)
    found = smooth(machine, x[:3], 0.02, generator=seeded(), draws=200)
    assert torch.equal(found.predictions, machine.predict(x[:3]))
    assert (found.radius > 0).all()
    assert smooth(machine, x[:0], 0.1, generator=seeded()).radius.shape == (0,)
