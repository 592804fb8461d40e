"""Networks whose initial weights come from a seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def seeded_network(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network whose initial weights depend on the seed alone.

    Torch's layers draw their weights from the global random generator. It is seeded for the time of the build only and
    put back afterwards, so that neither the network nor what the caller draws later depends on the other.

    Args:
        build: builds the network, as in `lambda: build("fc2", (1, 8, 8), 10)`.
        seed: seed of the global generator while `build` runs.

    Example:
        >>> one, two = (seeded_network(lambda: nn.Linear(3, 2), seed=5) for _ in range(2))
        >>> torch.equal(one.weight, two.weight)
        True
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()
