"""The time of a machine that is a network's twin, and how alike their gradients are."""

import pytest
import torch

import ntklens as nl
from ntklens.errors import InputError
from ntklens.transfer import gradient_cosine, match_time, search_time, surrogate


@pytest.fixture(scope="module")
def data():
    return nl.load_dataset("fashion-mnist-mini", classes=[2, 4]).first(200, 60)


@pytest.fixture(scope="module")
def machine(data):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    return nl.KernelMachine(nl.analytic_kernel(net)).fit(data.train.x[:100], data.train.y[:100])


@pytest.mark.parametrize("time", [0.01, 1.0, 100.0])
def test_a_machines_own_time_is_found_from_its_outputs(machine, data, time):
    found = match_time(machine, machine.refilter(nl.GradientFlow(time)), data.train.x[100:])
    assert found.filter.time == pytest.approx(time, rel=0.8)
    assert found.correlation > 0.99


def test_the_cosine_of_gradients(machine, data):
    x, y = data.test.x, data.test.y
    assert gradient_cosine(machine, machine, x, y).value == pytest.approx(1)
    assert gradient_cosine(machine, lambda z: 3 * machine(z), x, y).value == pytest.approx(1, abs=0.05)
    assert gradient_cosine(machine, lambda z: -machine(z), x, y).value == pytest.approx(-1)
    early = gradient_cosine(machine, machine.refilter(nl.GradientFlow(0.01)), x, y)
    assert -0.5 < early.low < early.value < early.high < 0.9


def test_a_search_keeps_the_ridge_of_machines_that_need_one(data):
    """The linear kernel is singular on more images than pixels, and on images that are there twice."""
    x = torch.cat([data.train.x[:80], data.train.x[:80]])
    y = torch.cat([data.train.y[:80], data.train.y[:80]])
    machine = nl.KernelMachine(nl.LinearKernel(), nl.Ridge(1e-2)).fit(x, y)
    found = search_time(machine, machine, data.train.x[100:], data.train.y[100:], 8 / 255, "linf")
    assert 0 <= found.fooled <= 1
    assert found.time > 0


def test_surrogates_have_an_output_for_classes_without_images(data):
    made = surrogate("ntk:fc1", data.train.x[:40], data.train.y[:40], 5)
    assert made.model is not None
    assert made.model(data.test.x[:3]).shape == (3, 5)
    assert surrogate("linear", data.train.x[:40], data.train.y[:40], 2).model(data.test.x[:3]).shape == (3, 2)


def test_machines_refuse_what_they_would_round(machine, data, untyped):
    with pytest.raises(InputError, match="floating-point"):
        machine((data.test.x * 255).to(torch.uint8))
    with pytest.raises(InputError, match="finite targets"):
        nl.KernelMachine(nl.LinearKernel()).fit(data.train.x[:2], torch.tensor([[1.0], [float("nan")]]))
    with pytest.raises(InputError, match="at least one"):
        nl.KernelMachine(nl.LinearKernel()).fit(data.train.x[:0], data.train.y[:0])
    x = data.test.x[:1].requires_grad_()
    (g,) = torch.autograd.grad(machine(x)[:, 0].sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="differentiated once"):
        g.sum().backward()
    assert machine.float()(data.test.x[:2]).dtype == torch.float32
