"""The first trace at construction guesses a shape of inputs, or leaves the trace to the first batch."""

import pytest
from torch import nn

from kernels.networks import Forward
from ntklens.errors import UnsupportedLayer
from ntklens.kernels.parametrisation import Parametrisation
from ntklens.kernels.tracing.probe import probe


def convolutional(features: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(features, 2))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 1)), (12,)),
        (convolutional(4 * 32 * 32), (3, 32, 32)),
        (convolutional(4 * 28 * 28), (3, 28, 28)),
    ],
)
def test_the_shape_fits_the_first_and_the_last_layer(module, shape):
    traced = probe(module, Parametrisation())
    assert traced is not None
    assert traced[0] == shape
    assert traced[1].nodes[-1].path == list(dict(module.named_children()))[-1]


def test_a_size_that_is_not_guessed_is_left_to_the_first_batch():
    assert probe(convolutional(4 * 5 * 7), Parametrisation()) is None


def test_a_module_without_layers_is_left_to_the_first_batch():
    assert probe(Forward(lambda self, x: x), Parametrisation()) is None


def test_an_operation_without_a_rule_is_refused_at_once():
    with pytest.raises(UnsupportedLayer, match="no infinite-width rule"):
        probe(nn.Sequential(nn.Linear(12, 4), nn.Softmax(1), nn.Linear(4, 1)), Parametrisation())
