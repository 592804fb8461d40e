"""Label flips: against all sets of changed labels, and in their order."""

import itertools

import pytest
import torch

import ntklens as nl
from ntklens.certificates import collective_flips, label_flips
from ntklens.certificates.labels import NEVER
from ntklens.errors import InputError
from ntklens.kernels import RBFKernel
from ntklens.linalg import Band
from ntklens.machine import KernelMachine

N = 7


def drawn(seed, classes):
    g = torch.Generator().manual_seed(seed)
    x, tests = (torch.rand(count, 4, generator=g, dtype=torch.float64) for count in (N, 6))
    y = torch.arange(N)[torch.randperm(N, generator=g)] % classes
    filters = (nl.Ridge(0.05), nl.GradientFlow(time=2.0), Band((0, 1, 2)))
    return KernelMachine(RBFKernel(0.5), filters[seed % 3]).fit(x, y), y, tests


def smallest(machine, y, tests, classes):
    """Try every labelling."""
    b = machine.readout(tests)
    before = machine.predict(tests)
    needed = torch.full((len(tests),), N + 1)
    for labels in itertools.product(range(classes), repeat=N):
        labels = torch.tensor(labels)
        changes = int((labels != y).sum())
        if classes == 2:
            f = b @ (2.0 * labels.double() - 1)
            outputs = torch.stack([-f, f], 1)
        else:
            outputs = b @ torch.nn.functional.one_hot(labels, classes).double()
        predicted = outputs.gather(1, before[:, None])[:, 0]
        rivals = outputs.scatter(1, before[:, None], -torch.inf).amax(1)
        needed = torch.where((predicted <= rivals) & (changes < needed), changes, needed)
    return torch.where(needed == N + 1, NEVER, needed)


@pytest.mark.parametrize("seed", range(6))
def test_two_classes_agree_with_every_labelling(seed):
    machine, y, tests = drawn(seed, 2)
    found = label_flips(machine, tests)
    assert found.needed.tolist() == smallest(machine, y, tests, 2).tolist()
    assert torch.equal(found.predictions, machine.predict(tests))


@pytest.mark.parametrize("seed", range(3))
def test_three_classes_agree_with_every_labelling(seed):
    machine, y, tests = drawn(seed, 3)
    assert label_flips(machine, tests).needed.tolist() == smallest(machine, y, tests, 3).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_a_set_of_predictions_lies_between_the_exact_number_and_that_of_single_ones(seed):
    machine, _, tests = drawn(seed, 2)
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    b, before = machine.readout(tests), machine.predict(tests)
    right = before == y
    for flips in (1, 2, 3):
        worst = 0
        for size in range(flips + 1):
            for chosen in itertools.combinations(range(N), size):
                targets = machine.targets[:, 0].clone()
                targets[list(chosen)] *= -1
                f = b @ targets
                worst = max(worst, int((right & (f * (2.0 * before - 1) <= 0)).sum()))
        exact, bound = (collective_flips(machine, tests, y, flips, exact=e) for e in (True, False))
        alone = int((right & ~label_flips(machine, tests).certified(flips)).sum())
        assert exact.changed == worst
        assert worst <= bound.changed <= alone
        assert bound.certified_accuracy == (int(right.sum()) - bound.changed) / 6


@pytest.mark.parametrize("seed", range(3))
def test_a_set_of_predictions_of_three_classes(seed):
    machine, labels, tests = drawn(seed, 3)
    y = machine.predict(tests)
    y[seed] = (y[seed] + 1) % 3
    b, before = machine.readout(tests), machine.predict(tests)
    right, count = before == y, dict.fromkeys((1, 2, 3), 0)
    for other in itertools.product(range(3), repeat=N):
        changes = int((torch.tensor(other) != labels).sum())
        if changes <= 3:
            outputs = b @ torch.nn.functional.one_hot(torch.tensor(other), 3).double()
            own = outputs.gather(1, before[:, None])[:, 0]
            lost = int((right & (own <= outputs.scatter(1, before[:, None], -torch.inf).amax(1))).sum())
            for flips in range(max(1, changes), 4):
                count[flips] = max(count[flips], lost)
    for flips, worst in count.items():
        exact, bound = (collective_flips(machine, tests, y, flips, exact=e) for e in (True, False))
        alone = int((right & ~label_flips(machine, tests).certified(flips)).sum())
        assert exact.changed == worst
        assert worst <= bound.changed <= alone


@pytest.mark.parametrize("exact", [False, True])
def test_how_many_predictions_change_together_does_not_depend_on_the_size_of_the_outputs(exact):
    g, found = torch.Generator().manual_seed(0), []
    x, tests = (torch.rand(count, 2, generator=g, dtype=torch.float64) for count in (15, 10))
    machine = KernelMachine(RBFKernel(0.2), nl.Ridge(0.1)).fit(x, torch.arange(15) % 2)
    for time in (1e-3, 1e-10):
        # For a short time the outputs are it times Θ(x, X) Y.
        early = machine.refilter(nl.GradientFlow(time=time))
        y = early.predict(tests)
        found.append([collective_flips(early, tests, y, flips, exact=exact).changed for flips in (1, 2, 3)])
    assert found[0] == found[1]
    assert found[0] != [int((~label_flips(early, tests).certified(flips)).sum()) for flips in (1, 2, 3)]


def test_more_flips_certify_less_and_no_flips_the_prediction():
    machine, _, tests = drawn(0, 3)
    found, y = label_flips(machine, tests), machine.predict(tests)
    shares = [found.accuracy(y, flips).value for flips in range(N + 1)]
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert repr(found).startswith("LabelFlips(6 predictions, 7 training labels, median")
    assert collective_flips(drawn(0, 2)[0], tests, y % 2, 0).changed == 0


def test_the_label_of_a_training_image_decides_where_nothing_is_smoothed():
    machine, _, _ = drawn(0, 2)
    sharp = machine.refilter(nl.Ridge(0.0))
    assert label_flips(sharp, sharp.train_inputs).needed.tolist() == [1] * N


def test_other_targets_are_refused():
    x = torch.rand(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    soft = KernelMachine(RBFKernel()).fit(x, torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None])
    with pytest.raises(InputError, match="fitted on class indices, whose labels can change"):
        label_flips(soft, x)
    machine, _, tests = drawn(0, 3)
    with pytest.raises(InputError, match="flips"):
        label_flips(machine, tests).certified(-1)
