"""The time at which a machine resembles a network, and how alike their gradients are."""

import pytest
import torch

import ntklens as nl
from ntklens.errors import InputError
from ntklens.networks import build
from ntklens.transfer import TrainingRecipe, gradient_cosine, match_time, search_time

EPS = 16 / 255


@pytest.fixture(scope="module")
def machine(two_classes):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    return nl.KernelMachine(nl.analytic_kernel(net)).fit(two_classes.train.x[:100], two_classes.train.y[:100])


@pytest.mark.parametrize("time", [0.01, 1.0, 100.0])
def test_a_machines_own_time_is_found_from_its_outputs(machine, two_classes, time):
    matched = match_time(machine, machine.refilter(nl.GradientFlow(time)), two_classes.train.x[100:])
    assert matched.filter.time == pytest.approx(time, rel=0.8)
    assert matched.correlation > 0.99


def test_the_cosine_of_gradients(machine, two_classes):
    x, y = two_classes.test.x, two_classes.test.y
    assert gradient_cosine(machine, machine, x, y).value == pytest.approx(1)
    assert gradient_cosine(machine, lambda z: 3 * machine(z), x, y).value == pytest.approx(1, abs=0.05)
    assert gradient_cosine(machine, lambda z: -machine(z), x, y).value == pytest.approx(-1)
    early = gradient_cosine(machine, machine.refilter(nl.GradientFlow(0.01)), x, y)
    assert -0.5 < early.low < early.value < early.high < 0.9


def test_a_search_keeps_the_ridge_of_machines_that_need_one(two_classes):
    """The linear kernel is singular on more images than pixels, and on images that are there twice."""
    train = two_classes.train
    x, y = torch.cat([train.x[:80], train.x[:80]]), torch.cat([train.y[:80], train.y[:80]])
    machine = nl.KernelMachine(nl.LinearKernel(), nl.Ridge(1e-2)).fit(x, y)
    searched = search_time(machine, machine, train.x[100:], train.y[100:], 8 / 255, "linf")
    assert 0 <= searched.fooled <= 1
    assert searched.time > 0


def test_the_time_is_searched_by_effect(data):
    """The machine whose outputs are most like a convolutional network's is a very early one, which fools it less."""
    victim = TrainingRecipe(epochs=12, width=32).network("small-cnn", data.train.x, data.train.y, 10, seed=5)
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc3", data.shape, 10)))
    machine.fit(data.train.x[:400], data.train.y[:400])
    aside = data.train.x[500:], data.train.y[500:]
    searched, matched = search_time(machine, victim, *aside, EPS, "linf"), match_time(machine, victim, aside[0])
    assert searched.queries == 1100
    x, y = data.test.x, data.test.y
    accuracy = {}
    for name, result in (("search", searched), ("match", matched)):
        x_adv = nl.fgsm(machine.refilter(result.filter), x, y, EPS, loss="margin")
        accuracy[name] = float((victim(x_adv).argmax(1) == y).double().mean())
    assert accuracy["search"] <= accuracy["match"]
    assert searched.fooled > 0.05


def test_outputs_of_more_classes_than_the_data_have(data):
    victim = TrainingRecipe(epochs=2, width=16).network("fc1", data.train.x, data.train.y, 10, seed=5)
    few = nl.load_dataset("fashion-mnist-mini", classes=[0, 1, 2]).first(100, 20)
    machine = nl.KernelMachine(nl.LinearKernel(), nl.Ridge(0.1)).fit(few.train.x, few.train.y)
    assert match_time(machine, victim, few.test.x).correlation > 0


def test_machines_refuse_what_they_would_round(machine, two_classes, untyped):
    train, test = two_classes.train, two_classes.test
    with pytest.raises(InputError, match="floating-point"):
        machine((test.x * 255).to(torch.uint8))
    with pytest.raises(InputError, match="y without NaN"):
        nl.KernelMachine(nl.LinearKernel()).fit(train.x[:2], torch.tensor([[1.0], [float("nan")]]))
    with pytest.raises(InputError, match="at least one"):
        nl.KernelMachine(nl.LinearKernel()).fit(train.x[:0], train.y[:0])
    x = test.x[:1].requires_grad_()
    (g,) = torch.autograd.grad(machine(x)[:, 0].sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="differentiated once"):
        g.sum().backward()
    assert machine.float()(test.x[:2]).dtype == torch.float32


def test_a_search_among_machines_of_the_cross_entropy(data):
    """It has times of the cross-entropy alone, and finds one that fools a network on images set aside."""
    victim = TrainingRecipe(epochs=12, width=32).network("fc2", data.train.x, data.train.y, 10, seed=5)
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc1", data.shape, 10)))
    machine.fit(data.train.x[:200], data.train.y[:200])
    aside = data.train.x[500:], data.train.y[500:]
    found = search_time(machine, victim, *aside, EPS, "linf", loss="cross-entropy")
    assert isinstance(found.filter, nl.CrossEntropy)
    assert found.time == found.filter.time
    assert found.queries == 600
    assert found.fooled > 0.05
    with pytest.raises(InputError, match='expected loss "squared" or "cross-entropy"'):
        search_time(machine, victim, *aside, EPS, "linf", loss="hinge")
