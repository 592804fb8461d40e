"""Finite networks beside an audit: reproducible pairs of trainings, and intervals over seeds and images."""

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.audits.finite import difference_over_seeds, share_over_seeds, trained_predictions
from ntklens.errors import InputError
from ntklens.networks import seeded_network

DATA = nl.load_dataset("fashion-mnist-mini", classes=[0, 1], train=80, test=40, size=7)
X, Y = DATA.train.x, DATA.train.y


def build(seed):
    return seeded_network(lambda: nn.Sequential(nn.Flatten(), nn.Linear(49, 16), nn.ReLU(), nn.Linear(16, 2)), seed)


def test_networks_learn_and_the_same_seeds_give_the_same_predictions():
    shares = []
    tests = [DATA.test.x, DATA.test.x[:5]]
    whole, few = trained_predictions(build, X, Y, tests, seeds=3, epochs=20, progress=shares.append)
    assert whole.shape == (3, 40)
    assert torch.equal(few, whole[:, :5])
    assert share_over_seeds(whole == DATA.test.y).value > 0.8
    (again,) = trained_predictions(build, X, Y, [DATA.test.x], seeds=1, seed=2, epochs=20)
    assert torch.equal(again[0], whole[2])
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_intervals_are_over_seeds_and_images():
    draw = torch.Generator().manual_seed(0)
    right = torch.rand(3, 200, generator=draw) < torch.tensor([[0.6], [0.7], [0.8]])
    found = share_over_seeds(right)
    assert found.value == pytest.approx(right.double().mean().item())
    # Seeds that differ by as much leave more open than 200 images would alone.
    assert found.high - found.low > 0.2
    assert found.low >= 0
    assert found.high <= 1
    same = share_over_seeds(torch.ones(3, 50, dtype=torch.bool))
    assert (same.value, same.high) == (1.0, 1.0)
    assert 0.9 < same.low < 1.0
    change = difference_over_seeds(right, ~right)
    assert change.value == pytest.approx(2 * found.value - 1)


@pytest.mark.parametrize("other", [0, 1])
def test_outcomes_that_differ_nowhere_or_everywhere_leave_open_what_so_few_images_leave_open(other):
    one, two = torch.ones(3, 20, dtype=torch.bool), torch.full((3, 20), bool(other))
    found = difference_over_seeds(one, two)
    assert found.value == 1 - other
    assert 0.1 < found.high - found.low < 0.5
    assert -1 <= found.low <= found.value <= found.high <= 1


def test_perturbed_images_cost_finite_networks_more_than_noise():
    data = nl.load_dataset("fashion-mnist-mini", classes=[0, 6], train=280, test=400, size=14)
    x, y = data.train.x[:140], data.train.y[:140]

    def dense(seed):
        return seeded_network(
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 2)), seed
        )

    kernel = nl.analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(196, 8), nn.ReLU(), nn.Linear(8, 1)))
    found = nl.unlearnable_audit(
        nl.KernelMachine(kernel, nl.GradientFlow(10.0)).fit(x, y),
        data.test.x,
        data.test.y,
        16 / 255,
        held_out=(data.train.x[140:], data.train.y[140:]),
        generator=torch.Generator().manual_seed(0),
        steps=4,
        keep_images=True,
    )
    noise, perturbed = (
        trained_predictions(dense, images, y, [data.test.x], seeds=4)[0] == data.test.y
        for images in (found.noisy, found.images)
    )
    assert difference_over_seeds(noise, perturbed).low > 0.1


@pytest.mark.usefixtures("untyped")
def test_outcomes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"shape \(seeds, images\)"):
        share_over_seeds(torch.ones(0, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="the same seeds and images"):
        difference_over_seeds(torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(InputError, match="seeds as a whole number"):
        trained_predictions(build, X, Y, [], seeds=0)
