"""Self-attention of torch with its projections as layers of their own, so that their weights have structured tangents.

`nn.MultiheadAttention` hands its weights to one function, in which no layer is called. Written out, it is a dense layer
for queries, keys and values, the attention, and a dense layer for the outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ProjectedAttention(nn.MultiheadAttention):
    """Torch's attention on the same parameters; where its arguments are not those of self-attention, torch's own forward.

    It is never built: `with_projections` turns an attention of torch into one, and adds the layer `in_proj`.
    """

    in_proj: nn.Linear

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the outputs, and the attention weights where they are asked for."""
        is_own = query is key and query is value and query.ndim == 3 and not (self.training and self.dropout)
        if not is_own or key_padding_mask is not None or (attn_mask.ndim != 2 if attn_mask is not None else is_causal):
            result: tuple[Tensor, Tensor | None] = super().forward(
                *(query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
            )
            return result
        h = query if self.batch_first else query.transpose(0, 1)
        n, t, d = h.shape
        q, k, v = self.in_proj(h).view(n, t, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mask = attn_mask
        if mask is not None and mask.dtype == torch.bool:  # torch masks where it is True
            mask = torch.zeros_like(mask, dtype=h.dtype).masked_fill_(mask, -torch.inf)
        weights = None
        if need_weights:
            scores = (q * self.head_dim**-0.5) @ k.mT
            weights = torch.softmax(scores if mask is None else scores + mask, -1)
            values = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            values = F.scaled_dot_product_attention(q, k, v, mask)
        out: Tensor = self.out_proj(values.transpose(1, 2).reshape(n, t, d))
        return (out if self.batch_first else out.transpose(0, 1)), weights


def with_projections(network: nn.Module) -> nn.Module:
    """Turn each plain self-attention of torch in a network into a `ProjectedAttention`, in place; names stay as they are.

    Args:
        network: the network, which is changed.
    """
    for module in list(network.modules()):
        if _is_plain(module):
            assert isinstance(module, nn.MultiheadAttention)
            layer = nn.Linear(1, 1, bias=False, device="meta")
            layer.in_features, layer.out_features = module.embed_dim, 3 * module.embed_dim
            layer.weight, layer.bias = module.in_proj_weight, module.in_proj_bias
            module.__class__ = ProjectedAttention
            module.in_proj = layer.train(module.training)
    return network


def _is_plain(module: Any) -> bool:
    """Return whether this is torch's own attention, without the options that the written-out form lacks."""
    return (
        type(module) is nn.MultiheadAttention
        and module._qkv_same_embed_dim
        and module.bias_k is None
        and not module.add_zero_attn
        and not {"forward", "parametrizations", "in_proj"} & (vars(module).keys() | module._modules.keys())
        and isinstance(module.in_proj_weight, nn.Parameter)
    )
