"""One way to name a network."""

import pytest
import torch

from ntklens.errors import InputError
from ntklens.networks import labels, network_source, with_logits

_FACTORIES = """
import torch
from torch import nn

def drawn():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

def fixed():
    net = drawn()
    for p in net.parameters():
        nn.init.constant_(p, 0.5)
    return net

def scalar():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(_FACTORIES)
    return path


@pytest.mark.parametrize(
    ("text", "kind", "weights", "label"),
    [
        ("fc3", "architecture", None, "fc3"),
        ("conv4-gap", "architecture", None, "conv4-gap"),
        ("nets/model.py:build", "factory", None, "model.py:build"),
        ("a@b/model.py:build", "factory", None, "model.py:build"),
        ("nets/model.py:build@runs/best.pt", "factory", "runs/best.pt", "model.py:build@best.pt"),
        ("runs/victim.pt2", "program", None, "victim.pt2"),
        ("runs/machine.safetensors", "machine", None, "machine.safetensors"),
    ],
)
def test_what_a_name_stands_for(text, kind, weights, label):
    source = network_source(text)
    assert (source.kind, source.weights, source.label) == (kind, weights, label)


@pytest.mark.parametrize(
    ("text", "weights", "message"),
    [
        ("fc0", None, r'expected an architecture out of .*; got "fc0"'),
        ("resnet50", None, 'got "resnet50"'),
        ("model.py", None, "expected a network as file.py:factory"),
        ("fc3", "w.pt", "fc3 takes no weights"),
        ("model.py:build@a.pt", "b.pt", "expected one file of weights"),
        ("", None, "expected"),
    ],
)
def test_what_names_no_network(text, weights, message):
    with pytest.raises(InputError, match=message):
        network_source(text, weights)


def test_equal_labels_are_told_apart():
    sources = [network_source(name) for name in ("a/m.py:f", "b/m.py:f", "fc1")]
    assert list(labels(sources).values()) == ["a/m.py:f", "b/m.py:f", "fc1"]


def test_the_weights_of_a_factory_come_from_the_seed(model):
    source = network_source(f"{model}:drawn")
    one, same, other = (source.build((1, 2, 2), 3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one[1].weight, same[1].weight)
    assert not torch.equal(one[1].weight, other[1].weight)
    assert source.draws_its_weights()
    assert not network_source(f"{model}:fixed").draws_its_weights()


def test_weights_after_the_at_sign_are_loaded(model, tmp_path):
    weights = {"1.weight": torch.ones(3, 4), "1.bias": torch.zeros(3)}
    torch.save(weights, tmp_path / "w.pt")
    network = network_source(f"{model}:drawn@{tmp_path / 'w.pt'}").build((1, 2, 2), 3)
    assert torch.equal(network[1].weight, weights["1.weight"])


def test_one_output_for_two_classes_becomes_two_logits(model):
    network = network_source(f"{model}:scalar").build((1, 2, 2), 1)
    x = torch.rand(2, 1, 2, 2)
    f = network(x)
    assert torch.equal(with_logits(network, x, 2)(x), torch.cat([-f / 2, f / 2], 1))
    with pytest.raises(InputError, match="one output per class, 3"):
        with_logits(network, x, 3)
    with pytest.raises(InputError, match="does not take images of shape 1x3x3"):
        with_logits(network, torch.rand(2, 1, 3, 3), 2)
