"""Small inputs and objects that the rows of the table share."""

import functools

import torch
from torch import nn

import ntklens as nl

N, SHAPE = 6, (1, 3, 3)


def images(n: int = N, seed: int = 0) -> torch.Tensor:
    """Return images well inside the bounds, (n, 1, 3, 3)."""
    return 0.2 + 0.6 * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def classes(n: int = N) -> torch.Tensor:
    """Return classes 0 and 1 in turn."""
    return torch.arange(n) % 2


def generator() -> torch.Generator:
    """Return a generator with one seed."""
    return torch.Generator().manual_seed(1)


def network(outputs: int = 2) -> nn.Sequential:
    """Return a dense network on flattened images, the same one each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, outputs)).eval()


@functools.cache
def machine() -> nl.KernelMachine:
    """Return a machine on the Gaussian kernel."""
    return nl.KernelMachine(nl.RBFKernel()).fit(images(), classes())


@functools.cache
def features() -> nl.NTKFeatures:
    """Return the features of that machine."""
    return nl.eigenfeatures(machine())


@functools.cache
def analytic() -> nl.AnalyticKernel:
    """Return the kernel of the network at infinite width."""
    return nl.analytic_kernel(network(1))


@functools.cache
def empirical() -> nl.EmpiricalKernel:
    """Return the kernel of the network at its weights."""
    return nl.empirical_kernel(network())
