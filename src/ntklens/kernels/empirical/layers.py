"""Layers of torch whose tangents have a closed form, and the tangents that their calls leave behind.

Notation of a call: h enters the layer, z leaves it, and δ_o = ∂f_o/∂z comes back to z (its cotangent).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ntklens.kernels.empirical.inputs import CONVOLUTIONS, DenseInputs, TokenInputs, groups_of
from ntklens.kernels.empirical.products import WeightTangent
from ntklens.kernels.empirical.tangents import PlainTangent, Tangent

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NORMALISATIONS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, *BATCH_NORMS)
STRUCTURED: tuple[type[nn.Module], ...] = (nn.Linear, *CONVOLUTIONS, nn.Embedding, *NORMALISATIONS)
"""Classes of layers whose tangents have a closed form."""

Call = tuple[nn.Module, Tensor, Tensor]
"""One call of a layer: the layer, what its weight multiplies (n, *), and the cotangent δ of its output (O, n, *)."""

_AT_ONCE = 1 << 19
"""Numbers that are multiplied at a time where a product is summed right away."""


def layer_class(layer: nn.Module) -> type[nn.Module]:
    """Return the class of `STRUCTURED` that a layer belongs to."""
    return next(cls for cls in STRUCTURED if isinstance(layer, cls))


def is_per_input(layer: nn.Module, h: Tensor) -> bool:
    """Return whether a layer in its present state treats the first axis of h as independent inputs."""
    if isinstance(layer, CONVOLUTIONS):
        return h.ndim == layer.weight.ndim
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    if isinstance(layer, BATCH_NORMS):
        return not layer.training and layer.running_mean is not None and h.ndim >= 2
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return h.ndim > len(layer.normalized_shape)
    return h.ndim >= 2


def weight_family(layer: nn.Module) -> tuple[type[nn.Module], int]:
    """Return what layers must have in common to share a weight: their calls are then positions of one product."""
    return layer_class(layer), groups_of(layer)


def entering(layer: nn.Module, h: Tensor) -> Tensor:
    """Return what the weight of a layer multiplies: ĥ of a normalisation, and h itself for other layers."""
    return _normalised(layer, h) if isinstance(layer, NORMALISATIONS) else h


def tangent(calls: Sequence[Call], weight_scale: float, bias_scale: float) -> Tangent:
    """Return the tangent of a weight and a bias from all calls that use them.

    Args:
        calls: the calls of layers of one family.
        weight_scale: factor of the weight; 0 where it is not differentiated.
        bias_scale: factor of the bias, likewise.
    """
    first = calls[0][0]
    if isinstance(first, NORMALISATIONS):
        return _normalisation_tangent(calls, weight_scale, bias_scale)
    per_call = [_by_position(layer, h, cotangent) for layer, h, cotangent in calls]
    cotangents = per_call[0] if len(per_call) == 1 else torch.cat(per_call, 4)
    if not weight_scale:
        # A bias alone: ∂f_o/∂b = Σ_t δ_ot, which is small enough to be stored as it is.
        return PlainTangent(bias_scale * cotangents.sum(4).flatten(2))
    inputs: TokenInputs | DenseInputs
    if isinstance(first, nn.Embedding):
        inputs = TokenInputs(torch.cat([h.flatten(1) for _, h, _ in calls], 1), cotangents.dtype)
    else:
        inputs = DenseInputs(tuple(layer for layer, _, _ in calls), tuple(h for _, h, _ in calls))
    return WeightTangent(inputs, cotangents, weight_scale, bias_scale)


def _normalisation_tangent(calls: Sequence[Call], weight_scale: float, bias_scale: float) -> PlainTangent:
    """Return the Jacobian of gains and shifts: z = gain ĥ + shift has ∂f/∂gain = Σ δ ĥ and ∂f/∂shift = Σ δ."""
    gains = [weight_scale * _product_per_channel(layer, cotangent, h) for layer, h, cotangent in calls if weight_scale]
    shifts = [bias_scale * _per_channel(layer, cotangent) for layer, _, cotangent in calls if bias_scale]
    sums_over_calls = [sum(terms[1:], start=terms[0]) for terms in (gains, shifts) if terms]
    return PlainTangent(torch.cat(sums_over_calls, 2))


def _by_position(layer: nn.Module, h: Tensor, cotangent: Tensor) -> Tensor:
    """Reshape a cotangent (O, n, *) to (O, n, G, C, T)."""
    o, n = cotangent.shape[:2]
    if isinstance(layer, CONVOLUTIONS):
        return cotangent.reshape(o, n, layer.groups, layer.out_channels // layer.groups, -1)
    if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
        # torch gives the row of the padding token no gradient
        cotangent = cotangent * (h != layer.padding_idx)[..., None]
    return cotangent.reshape(o, n, -1, cotangent.shape[-1]).transpose(2, 3)[:, :, None]


def _normalised(layer: nn.Module, h: Tensor) -> Tensor:
    """Return ĥ, which the gains of a normalisation layer multiply."""
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(h, layer.normalized_shape, eps=layer.eps)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(h, layer.num_groups, eps=layer.eps)
    if isinstance(layer, nn.RMSNorm):
        return F.rms_norm(h, layer.normalized_shape, eps=layer.eps)
    assert isinstance(layer, BATCH_NORMS)
    return F.batch_norm(h, layer.running_mean, layer.running_var, eps=layer.eps)


def _product_per_channel(layer: nn.Module, cotangent: Tensor, h: Tensor) -> Tensor:
    """Sum δ ĥ over all positions that share a gain, a few inputs at a time: (O, n, gains)."""
    if cotangent.requires_grad or h.requires_grad or cotangent.numel() <= _AT_ONCE:
        return _per_channel(layer, cotangent * h)
    rows = max(1, _AT_ONCE // (cotangent.numel() // len(h)))
    pairs = zip(torch.split(cotangent, rows, 1), torch.split(h, rows), strict=True)
    return torch.cat([_per_channel(layer, d * part) for d, part in pairs], 1)


def _per_channel(layer: nn.Module, t: Tensor) -> Tensor:
    """Sum (O, n, *) over all positions that share a gain: (O, n, gains)."""
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return t.reshape(*t.shape[:2], -1, math.prod(layer.normalized_shape)).sum(2)
    return t.flatten(3).sum(3) if t.ndim > 3 else t
