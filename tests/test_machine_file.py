"""Kernel machines saved and loaded."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ntklens as nl
from ntklens.linalg import described


@pytest.fixture(scope="module")
def data():
    return nl.load_dataset("fashion-mnist-mini", classes=[2, 4]).first(40, 20)


@pytest.fixture(scope="module")
def kernel():
    return nl.analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 1)))


@pytest.fixture(scope="module")
def machine(kernel, data):
    return nl.KernelMachine(kernel).fit(data.train.x.double(), data.train.y)


@pytest.fixture
def path(machine, tmp_path):
    machine.save(tmp_path / "machine.safetensors")
    return tmp_path / "machine.safetensors"


def test_saved_and_loaded(machine, kernel, data, path):
    again = nl.KernelMachine.load(path, kernel)
    assert torch.equal(again(data.test.x), machine(data.test.x))
    early = again.refilter(nl.GradientFlow(time=math.inf))
    torch.testing.assert_close(early(data.test.x), machine(data.test.x), rtol=1e-4, atol=1e-5)


def test_another_kernel_or_filter_is_refused(kernel, path):
    with pytest.raises(nl.InputError, match=r"expected the kernel that .* was saved with"):
        nl.KernelMachine.load(path, nl.LinearKernel())
    with pytest.raises(nl.InputError, match=r"expected the filter that .* was saved with"):
        nl.KernelMachine.load(path, kernel, nl.Ridge(3.0))


FILTERS = [
    nl.Ridge(0.25),
    nl.Ridge(np.float64(0.5)),
    nl.Ridge(1),
    nl.GradientFlow(50.0, learning_rate=0.1),
    nl.GradientFlow(math.inf),
    nl.GradientDescent(7, 1e-9),
    nl.Band([0, 3]),
]


@pytest.mark.parametrize("arithmetic", [torch.float32, torch.float64])
@pytest.mark.parametrize("filter", FILTERS, ids=repr)
def test_the_file_knows_its_filter_and_its_arithmetic(machine, kernel, data, filter, arithmetic, tmp_path):
    fitted = nl.KernelMachine(kernel, filter, arithmetic=arithmetic).fit(data.train.x[:20], data.train.y[:20])
    fitted.save(tmp_path / "machine.safetensors")
    again = nl.KernelMachine.load(tmp_path / "machine.safetensors", kernel)
    assert again.filter == filter
    assert again.arithmetic == arithmetic
    assert torch.equal(again(data.test.x), fitted(data.test.x))
    nl.KernelMachine.load(tmp_path / "machine.safetensors", kernel, filter)
    with pytest.raises(nl.InputError, match=r"expected the filter that .* was saved with"):
        nl.KernelMachine.load(tmp_path / "machine.safetensors", kernel, nl.Ridge(3.0))


def test_a_filter_of_the_users_own_is_given_again(kernel, data, tmp_path):
    class Half:
        def __call__(self, eigenvalues):
            return 0.5 / (eigenvalues + 1)

        def __repr__(self):
            return "Half()"

    fitted = nl.KernelMachine(kernel, Half()).fit(data.train.x[:20], data.train.y[:20])
    fitted.save(tmp_path / "machine.safetensors")
    with pytest.raises(nl.InputError, match=r"saved with, Half\(\); got Ridge"):
        nl.KernelMachine.load(tmp_path / "machine.safetensors", kernel)
    again = nl.KernelMachine.load(tmp_path / "machine.safetensors", kernel, Half())
    assert torch.equal(again(data.test.x), fitted(data.test.x))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"filter": "eval"}', '{"filter": "Ridge", "rho": -1}', '{"filter": "Ridge", "a": 1}']
)
def test_texts_that_describe_no_filter(text):
    with pytest.raises(nl.InputError, match=r"expected the description of a filter|non-negative and finite ridge"):
        described(text)


def test_a_network_with_other_weights_is_refused(data, tmp_path):
    """Both kernels have one description; their values tell them apart."""
    first, second = (nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.ReLU(), nn.Linear(4, 1)) for _ in range(2))
    machine = nl.KernelMachine(nl.empirical_kernel(first), nl.Ridge(1e-3)).fit(data.train.x[:9], data.train.y[:9])
    machine.save(tmp_path / "machine.safetensors")
    nl.KernelMachine.load(tmp_path / "machine.safetensors", nl.empirical_kernel(first), nl.Ridge(1e-3))
    with pytest.raises(nl.InputError, match="got one with other values"):
        nl.KernelMachine.load(tmp_path / "machine.safetensors", nl.empirical_kernel(second), nl.Ridge(1e-3))


def test_other_files_are_refused(kernel, tmp_path):
    (tmp_path / "junk").write_text("junk")
    save_file({"weight": torch.ones(2)}, str(tmp_path / "network"))
    for name in ("junk", "network"):
        with pytest.raises(nl.InputError, match=f"{name} is not a safetensors file written by KernelMachine.save"):
            nl.KernelMachine.load(tmp_path / name, kernel)
    with pytest.raises(nl.InputError, match="does not exist"):
        nl.KernelMachine.load(tmp_path / "none", kernel)
