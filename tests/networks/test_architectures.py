"""Architectures by name."""

import pytest
import torch

import ntklens as nl
from ntklens.networks import architecture_names, build

SHAPE = (1, 8, 8)


@pytest.mark.parametrize("name", ["fc3", "conv2", "conv2-gap", "myrtle5", "myrtle7", "myrtle10", "small-cnn"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 8)])
def test_architectures_by_name_run_and_have_a_kernel(name, shape):
    x = torch.rand(2, *shape)
    assert build(name, shape, 3, width=8)(x).shape == (2, 3)
    assert nl.analytic_kernel(build(name, shape, 3))(x[:1]).shape == (1, 1)


@pytest.mark.parametrize(("name", "shape"), [("vgg", SHAPE), ("fc0", SHAPE), ("conv2", (64,)), ("myrtle5", (1, 6, 6))])
def test_architectures_that_do_not_fit(name, shape):
    with pytest.raises(nl.InputError, match=r"expected an architecture|expected images"):
        build(name, shape, 2)
    with pytest.raises(nl.InputError, match="outputs and width of 1 or more"):
        build("fc1", SHAPE, 0)
    assert "fcN" in architecture_names()
