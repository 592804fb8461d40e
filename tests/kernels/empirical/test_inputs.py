"""Columns of layers against the layers themselves: z = W h, position by position."""

import pytest
import torch
from torch import Tensor, nn

from ntklens.kernels.empirical.inputs import DenseInputs, TokenInputs

DTYPE = torch.float64
LAYERS = {
    "linear": (lambda: nn.Linear(5, 3), (4, 5)),
    "sequence": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (4, 7)),
    "image": (lambda: nn.Conv2d(3, 4, (2, 3), padding="same", padding_mode="circular"), (3, 5, 4)),
    "dilated": (lambda: nn.Conv2d(4, 4, 2, dilation=2, groups=4), (4, 5, 5)),
    "volume": (lambda: nn.Conv3d(2, 4, (2, 3, 1), (1, 2, 1), (0, 1, 0), (1, 1, 2), groups=2), (2, 3, 5, 4)),
}


@pytest.fixture(params=LAYERS)
def call(request) -> tuple[nn.Module, Tensor]:
    make, shape = LAYERS[request.param]
    generator = torch.Generator().manual_seed(0)
    return make().to(DTYPE), torch.randn(2, *shape, generator=generator, dtype=DTYPE)


def test_columns_times_weights_are_the_layers_outputs(call):
    layer, h = call
    inputs = DenseInputs((layer,), (h,))
    columns = inputs.columns(slice(None))
    weight = layer.weight.view(inputs.groups, -1, inputs.fan_in)  # (G, C, K)
    z = torch.einsum("gck,ngkt->ngct", weight, columns).flatten(1, 2) + layer.bias[:, None]
    expected = layer(h)
    expected = expected.flatten(1, -2).transpose(1, 2) if isinstance(layer, nn.Linear) else expected.flatten(2)
    torch.testing.assert_close(z, expected)


def test_cuts_make_up_the_columns(call):
    layer, h = call
    inputs = DenseInputs((layer,), (h,))
    whole = inputs.columns(slice(None))
    cuts = [inputs.columns(slice(i, i + 1)) for i in range(inputs.units)]
    assert torch.equal(torch.cat(cuts, 1 if inputs.groups > 1 else 2), whole)


def test_inner_products_are_those_of_the_columns(call):
    layer, h = call
    one, other = DenseInputs((layer,), (h,)), DenseInputs((layer,), (h + 1,))
    for group in range(one.groups):
        a, b = (inputs.columns(slice(None))[:, group] for inputs in (one, other))
        expected = torch.einsum("nkt,mks->ntms", a, b).flatten(2).flatten(0, 1)
        torch.testing.assert_close(one.inner_products(slice(0, 2), other, slice(0, 2), group), expected)


def test_tokens_are_one_hot_vectors():
    a, b = torch.tensor([[1, 2], [0, 1]]), torch.tensor([[1, 1]])
    one_hot = [nn.functional.one_hot(t, 3).flatten(0, 1).to(DTYPE) for t in (a, b)]
    products = TokenInputs(a, DTYPE).inner_products(slice(0, 2), TokenInputs(b, DTYPE), slice(0, 1), 0)
    assert torch.equal(products, one_hot[0] @ one_hot[1].T)
