"""Torch's attention with its projections written out, beside torch's own forward."""

import copy

import pytest
import torch
from torch import nn

from ntklens.kernels.empirical.attention import ProjectedAttention, with_projections

T, D = 5, 12
CAUSAL = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)


def both(**options) -> tuple[nn.MultiheadAttention, nn.Module]:
    torch.manual_seed(0)
    own = nn.MultiheadAttention(D, 3, dtype=torch.float64, **options).eval()
    return own, with_projections(copy.deepcopy(own))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"attn_mask": CAUSAL},
        {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False},
        {"attn_mask": torch.linspace(-1, 1, T * T, dtype=torch.float64).view(T, T)},
        {"key_padding_mask": torch.arange(T).expand(2, -1) > 3},
    ],
    ids=["plain", "outputs alone", "weights of each head", "causal", "causal hint", "added mask", "padding"],
)
@pytest.mark.parametrize("options", [{"batch_first": True}, {"batch_first": True, "bias": False}, {}])
def test_outputs_and_weights_are_torchs(options, arguments):
    own, projected = both(**options)
    assert isinstance(projected, ProjectedAttention)
    x = torch.randn(2, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = x if own.batch_first else x.transpose(0, 1)
    for found, expected in zip(projected(x, x, x, **arguments), own(x, x, x, **arguments), strict=True):
        if expected is None:
            assert found is None
        else:
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_a_causal_hint_without_a_mask_is_torchs_error():
    for module in both(batch_first=True):
        x = torch.zeros(2, T, D, dtype=torch.float64)
        with pytest.raises(RuntimeError, match="attn_mask"):
            module(x, x, x, is_causal=True)
