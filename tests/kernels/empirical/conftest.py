"""The networks of the zoo, and their kernels from one gradient at a time."""

import pytest
import torch
from torch import nn

from kernels.empirical.zoo import IMAGE_NETWORKS, ZOO, ByHand, Case, kernel_by_hand


@pytest.fixture(params=ZOO, scope="module")
def case(request) -> Case:
    return ZOO[request.param]


@pytest.fixture(scope="module")
def brute(case) -> ByHand:
    return kernel_by_hand(case, torch.float64)


@pytest.fixture(params=IMAGE_NETWORKS)
def net(request) -> nn.Module:
    """A small network for images (n, 2, 5, 5), in float64 and eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return IMAGE_NETWORKS[request.param]().to(torch.float64).eval()
