"""Layers of torch whose tangents are known in closed form, and the tangents that their calls leave."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ntklens.kernels.empirical.products import Entered, Product
from ntklens.kernels.empirical.tangents import Rows, Tangent, gram

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NORMALISATIONS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, *BATCH_NORMS)
KINDS: tuple[type[nn.Module], ...] = (nn.Linear, *CONVOLUTIONS, nn.Embedding, *NORMALISATIONS)
"""Layers that are understood."""

Call = tuple[nn.Module, Tensor, Tensor]
"""A layer, what entered it in one call (n, *), and what came back to its output (O, n, *)."""


def kind(layer: nn.Module) -> type[nn.Module]:
    """Which of `KINDS` a layer is."""
    return next(k for k in KINDS if isinstance(layer, k))


def takes(layer: nn.Module, h: Tensor) -> bool:
    """Whether a layer in its present state treats the first axis of h as a batch of inputs on their own."""
    if isinstance(layer, CONVOLUTIONS):
        return h.ndim == layer.weight.ndim
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    if isinstance(layer, BATCH_NORMS):
        return not layer.training and layer.running_mean is not None and h.ndim >= 2
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return h.ndim > len(layer.normalized_shape)
    return h.ndim >= 2


def family(layer: nn.Module) -> tuple[type[nn.Module], int]:
    """Layers of one family can have one weight: their calls are positions of the same product."""
    return kind(layer), layer.groups if isinstance(layer, CONVOLUTIONS) else 1


def tangent(calls: Sequence[Call], weight: float, bias: float) -> Tangent:
    """Of a weight and a bias with their scales, either of them 0 for none, from all calls that use them."""
    first = calls[0][0]
    if isinstance(first, NORMALISATIONS):
        gains = [weight * _per_channel(layer, back * _normalised(layer, h)) for layer, h, back in calls if weight]
        shifts = [bias * _per_channel(layer, back) for layer, _, back in calls if bias]
        return Rows(torch.cat([sum(part[1:], start=part[0]) for part in (gains, shifts) if part], 2))
    returned = [_by_position(layer, h, back) for layer, h, back in calls]
    back = returned[0] if len(returned) == 1 else torch.cat(returned, 4)
    if not weight:
        return Rows(bias * back.sum(4).flatten(2))
    if isinstance(first, nn.Embedding):
        return Product(Tokens(torch.cat([h.flatten(1) for _, h, _ in calls], 1), back.dtype), back, weight, bias)
    layers, inputs = tuple(layer for layer, _, _ in calls), tuple(h for _, h, _ in calls)
    return Product(Columns(layers, inputs), back, weight, bias)


def _by_position(layer: nn.Module, h: Tensor, back: Tensor) -> Tensor:
    """What came back as (O, n, groups, channels a group, positions)."""
    o, n = back.shape[:2]
    if isinstance(layer, CONVOLUTIONS):
        return back.reshape(o, n, layer.groups, layer.out_channels // layer.groups, -1)
    if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
        back = back * (h != layer.padding_idx)[..., None]
    return back.reshape(o, n, -1, back.shape[-1]).transpose(2, 3)[:, :, None]


def _normalised(layer: nn.Module, h: Tensor) -> Tensor:
    """What the gains of a layer multiply."""
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(h, layer.normalized_shape, eps=layer.eps)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(h, layer.num_groups, eps=layer.eps)
    if isinstance(layer, nn.RMSNorm):
        return F.rms_norm(h, layer.normalized_shape, eps=layer.eps)
    assert isinstance(layer, BATCH_NORMS)
    return F.batch_norm(h, layer.running_mean, layer.running_var, eps=layer.eps)


def _per_channel(layer: nn.Module, t: Tensor) -> Tensor:
    """Sums of (O, n, *) over all positions that share a gain: (O, n, gains)."""
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return t.reshape(*t.shape[:2], -1, math.prod(layer.normalized_shape)).sum(2)
    return t.flatten(3).sum(3) if t.ndim > 3 else t


@dataclass(frozen=True)
class Columns:
    """What dense layers and convolutions see, unfolded when it is asked for.

    Attributes:
        layers: the layer of each call.
        inputs: what entered it, (n, *).
    """

    layers: tuple[nn.Module, ...]
    inputs: tuple[Tensor, ...]

    @property
    def groups(self) -> int:
        """Of a convolution; 1 for a dense layer."""
        return family(self.layers[0])[1]

    @property
    def width(self) -> int:
        """Fan-in."""
        layer = self.layers[0]
        assert isinstance(layer, (nn.Linear, *CONVOLUTIONS))
        return layer.weight[0].numel()

    @property
    def units(self) -> int:
        """Groups, or input channels where there is one group."""
        layer = self.layers[0]
        if isinstance(layer, CONVOLUTIONS):
            return layer.groups if layer.groups > 1 else layer.in_channels
        return self.width

    def tensors(self) -> list[Tensor]:
        """What entered."""
        return list(self.inputs)

    def replaced(self, tensors: Iterator[Tensor]) -> Columns:
        """The same on other tensors."""
        return replace(self, inputs=tuple(next(tensors) for _ in self.inputs))

    def columns(self, part: slice) -> Tensor:
        """What each position sees of some units: (n, groups, fan-in, positions)."""
        seen = [_columns(layer, h, part) for layer, h in zip(self.layers, self.inputs, strict=True)]
        return seen[0] if len(seen) == 1 else torch.cat(seen, 3)

    def kernel(self, rows: slice, other: Entered, columns: slice, group: int) -> Tensor:
        """<h_t, h'_t'>: (n1 T, n2 T')."""
        assert isinstance(other, Columns)
        u, same = self._of(rows, group), self is other and rows == columns
        return gram(u, u if same else other._of(columns, group), same=same)

    def _of(self, rows: slice, group: int) -> Tensor:
        whole = slice(None) if self.groups == 1 else slice(group, group + 1)
        some = replace(self, inputs=tuple(h[rows] for h in self.inputs))
        return some.columns(whole)[:, 0].transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True)
class Tokens:
    """Rows of an embedding that were looked up, (n, positions), and the precision of its rows."""

    tokens: Tensor
    dtype: torch.dtype

    @property
    def groups(self) -> int:
        """One."""
        return 1

    @property
    def width(self) -> None:
        """None: columns have as many entries as there are tokens, and are not formed."""
        return None

    @property
    def units(self) -> int:
        """One."""
        return 1

    def tensors(self) -> list[Tensor]:
        """None that is a floating point number."""
        return []

    def replaced(self, tensors: Iterator[Tensor]) -> Tokens:
        """The same."""
        return self

    def columns(self, part: slice) -> Tensor:
        """Not formed."""
        raise NotImplementedError

    def kernel(self, rows: slice, other: Entered, columns: slice, group: int) -> Tensor:
        """1 where two positions hold the same token: (n1 T, n2 T')."""
        assert isinstance(other, Tokens)
        return (self.tokens[rows].flatten()[:, None] == other.tokens[columns].flatten()).to(self.dtype)


def _columns(layer: nn.Module, h: Tensor, part: slice) -> Tensor:
    if isinstance(layer, nn.Linear):
        h = h[..., part]
        return h.reshape(len(h), 1, -1, h.shape[-1]).transpose(2, 3)
    assert isinstance(layer, CONVOLUTIONS)
    if layer.groups > 1:
        each = layer.in_channels // layer.groups
        start, stop, _ = part.indices(layer.groups)
        patches = _patches(layer, h[:, start * each : stop * each])
        return patches.view(len(h), stop - start, -1, patches.shape[2])
    return _patches(layer, h[:, part])[:, None]


def _patches(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, h: Tensor) -> Tensor:
    """What each position of a convolution's output sees of some channels: (n, channels * kernel, positions)."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    if any(layer._reversed_padding_repeated_twice):
        h = F.pad(h, layer._reversed_padding_repeated_twice, mode=mode)
    if isinstance(layer, nn.Conv3d):
        return _patches_in_space(layer, h)
    one, flat = ((1,), True) if isinstance(layer, nn.Conv1d) else ((), False)
    return F.unfold(
        h[:, :, None] if flat else h,
        one + layer.kernel_size,
        dilation=one + layer.dilation,
        stride=one + layer.stride,
    )


def _patches_in_space(layer: nn.Conv3d, h: Tensor) -> Tensor:
    for axis in (2, 3, 4):
        size, step, gap = layer.kernel_size[axis - 2], layer.stride[axis - 2], layer.dilation[axis - 2]
        starts = torch.arange(0, h.shape[2 * axis - 2] - gap * (size - 1), step, device=h.device)
        seen = starts + gap * torch.arange(size, device=h.device)[:, None]
        # each axis becomes its kernel and its positions
        h = h.index_select(2 * axis - 2, seen.flatten())
        h = h.reshape(*h.shape[: 2 * axis - 2], size, len(starts), *h.shape[2 * axis - 1 :])
    return h.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(len(h), -1, h.shape[3] * h.shape[5] * h.shape[7])
