"""Kernel machines saved and loaded."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ntklens as nl


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
