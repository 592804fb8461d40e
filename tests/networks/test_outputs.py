"""Networks around a network, by their definitions."""

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.networks import BinaryLogits, Centred, build

SHAPE = (1, 8, 8)


def digits(n: int = 60):
    return nl.load_dataset("digits", classes=[3, 8]).first(n, 40)


@pytest.mark.parametrize("wrap", [Centred, BinaryLogits])
def test_wrappers_by_their_definition(wrap):
    x = digits(20).train.x
    net = wrap(nl.ntk_parametrize(build("fc1", SHAPE, 1, width=8)))
    f0 = net.network(x)
    with torch.no_grad():
        for p in net.network.parameters():
            p.mul_(1.5)
    f = net.network(x)
    expected = f - f0 if wrap is Centred else torch.cat([-f / 2, f / 2], 1)
    torch.testing.assert_close(net.train()(x), expected)
    logistic = nn.functional.binary_cross_entropy_with_logits(f, torch.ones_like(f))
    if wrap is BinaryLogits:
        torch.testing.assert_close(nn.functional.cross_entropy(net(x), torch.ones(20).long()), logistic)
    else:
        assert not any(p.requires_grad for p in net.start.parameters())


def test_the_start_of_a_centred_network_stays_as_it_was():
    net = Centred(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 1))).train()
    x = digits(20).train.x
    before = net.start(x)
    net(x)
    assert net.network.training
    assert torch.equal(net.start(x), before)


def test_logits_of_two_outputs_are_refused(untyped):
    with pytest.raises(nl.InputError, match=r"one output, \(n, 1\); got outputs of shape \(20, 2\)"):
        BinaryLogits(build("fc1", SHAPE, 2))(digits(20).train.x)
