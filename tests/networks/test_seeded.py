"""Networks from a seed: the seed alone decides the weights, and the caller's random state does not move."""

import torch
from torch import nn

from ntklens.networks import build, seeded_network


def network() -> nn.Module:
    return build("fc1", (4,), 2, width=3)


def weights(net: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_the_seed_alone_decides_the_weights():
    one = weights(seeded_network(network, 5))
    torch.rand(3)
    assert torch.equal(one, weights(seeded_network(network, 5)))
    assert not torch.equal(one, weights(seeded_network(network, 6)))


def test_the_seed_is_that_of_torchs_global_generator():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = weights(network())
    assert torch.equal(weights(seeded_network(network, 5)), expected)


def test_the_global_random_state_is_put_back():
    before = torch.random.get_rng_state()
    seeded_network(network, 5)
    assert torch.equal(torch.random.get_rng_state(), before)
