"""Plain Jacobians, and products of a matrix with its own transpose."""

import pytest
import torch
from torch import nn

from kernels.empirical.zoo import jacobians_by_hand
from ntklens.kernels.empirical.jacobians import jacobians
from ntklens.kernels.empirical.tangents import PlainTangent, gram

DTYPE = torch.float64


@pytest.mark.parametrize("n", [1, 192, 193, 500])
def test_half_of_a_gram_matrix_is_the_mirror_image_of_the_other(n):
    a = torch.randn(n, 7, generator=torch.Generator().manual_seed(n), dtype=DTYPE)
    product = gram(a, a, same=True)
    torch.testing.assert_close(product, a @ a.T)
    half = n // 2
    assert n <= 192 or torch.equal(product[:half, half:], product[half:, :half].T)


@pytest.mark.parametrize("with_graph", [False, True])
def test_jacobians_are_those_by_hand(with_graph):
    net = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 2)).to(DTYPE)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=DTYPE)
    scales = {"0.weight": 2.0, "3.bias": 1.0}
    blocks = jacobians(net, scales, x.clone().requires_grad_(with_graph), lambda f: f)
    assert set(blocks) == set(scales)
    by_hand = jacobians_by_hand(net, x)
    for name, block in blocks.items():
        torch.testing.assert_close(block.tensors()[0].transpose(0, 1), scales[name] * by_hand[name])


def test_weighted_sums_and_dot_products_of_a_plain_tangent():
    generator = torch.Generator().manual_seed(0)
    jacobian, coefficients = (torch.randn(*shape, generator=generator, dtype=DTYPE) for shape in ((2, 5, 7), (5, 3)))
    block = PlainTangent(jacobian)
    directions = block.weighted_sum(coefficients)
    torch.testing.assert_close(directions[0], torch.einsum("onp,nk->okp", jacobian, coefficients))
    torch.testing.assert_close(block.dot(directions), torch.einsum("onp,okp->nk", jacobian, directions[0]))
