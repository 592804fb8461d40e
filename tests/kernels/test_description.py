"""Kernels as text: a restored kernel has the same values, and what only code can describe has no description."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ntklens as nl
from ntklens.errors import InputError
from ntklens.kernels import LinearKernel, RBFKernel
from ntklens.kernels.description import describe_kernel, kernel_from
from ntklens.networks import build


class _Mixed(nn.Module):
    """A network with most of the operations and ways to give an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")
        self.rest = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(6))
        self.norm = nn.LayerNorm([4, 8, 8])
        self.last = nn.Linear(4 * 64, 3)

    def forward(self, x):
        h = self.first(x)
        h = self.norm(h + self.rest[0](F.elu(h, alpha=0.7)))
        for layer, function in zip(
            self.rest[1:],
            (torch.tanh, F.relu6, torch.cos, lambda u: F.gelu(u, approximate="tanh"), torch.abs),
            strict=True,
        ):
            h = layer(function(h)) * 0.9
        return self.last(torch.flatten(F.interpolate(F.avg_pool2d(h, 2), scale_factor=2), 1))


@pytest.mark.parametrize(
    "kernel",
    [
        nl.analytic_kernel(build("fc3", (1, 8, 8), 3)),
        nl.analytic_kernel(build("fc2", (1, 8, 8), 3), parametrisation="standard"),
        nl.analytic_kernel(build("fc1", (1, 8, 8), 3), w_std=[1.0, 1.5], b_std=[0.0, 0.3]),
        nl.analytic_kernel(build("conv2-gap", (1, 8, 8), 3), 1.3, 0.2).prior,
        nl.analytic_kernel(_Mixed()),
        LinearKernel(),
        RBFKernel(0.7),
    ],
    ids=["fc3", "standard", "by layer", "prior", "mixed", "linear", "rbf"],
)
def test_a_restored_kernel_has_the_same_values(kernel):
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    text = describe_kernel(kernel, (1, 8, 8))
    restored = kernel_from(text)
    assert torch.equal(restored(x), kernel(x))
    assert repr(restored) == repr(kernel)
    assert describe_kernel(restored, (1, 8, 8)) == text


def test_a_restored_kernel_says_what_it_lacks():
    restored = kernel_from(describe_kernel(nl.analytic_kernel(build("fc1", (1, 8, 8), 3)), (1, 8, 8)))
    with pytest.raises(InputError, match=r"shape \(n, 1, 8, 8\), for which this kernel was saved; got \(n, 1, 4, 4\)"):
        restored(torch.rand(2, 1, 4, 4))
    with pytest.raises(InputError, match="a kernel of a network to draw networks of"):
        restored.monte_carlo(torch.rand(2, 1, 8, 8))


class _Cube(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
        self.activation = nl.activation(lambda u: u**3, degree=3)

    def forward(self, x):
        return self.layers[1](self.activation(self.layers[0](x)))


def test_what_only_code_can_describe():
    assert describe_kernel(nl.analytic_kernel(_Cube()), (4,)) is None
    assert describe_kernel(nl.empirical_kernel(nn.Linear(4, 1)), (4,)) is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        "[]",
        json.dumps({"elementary": {"class": "Kernel"}}),
        json.dumps({"elementary": {"class": "RBFKernel", "width": 1}}),
        json.dumps({"network": "N", "shape": [4], "nodes": [{"function": "system"}], "parametrisation": {}}),
    ],
)
def test_what_is_no_description(text):
    with pytest.raises(InputError, match="expected the description of a kernel"):
        kernel_from(text)
