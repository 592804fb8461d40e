"""What enters a layer, position by position: patches of images, features of vectors, or tokens.

The tangent of a weight needs two things of the inputs h_t of its layer: the matrix of all h_t ("columns", from which the
gradients δ_t ⊗ h_t are formed), or only their inner products <h_t, h'_t'> with those of another batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ntklens.kernels.empirical.tangents import ALL, gram

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@runtime_checkable
class LayerInputs(Protocol):
    """The inputs of a layer in one or several calls."""

    @property
    def groups(self) -> int:
        """Number G of groups of channels."""
        ...

    @property
    def fan_in(self) -> int | None:
        """Fan-in K of one channel, or None where `columns` cannot be formed."""
        ...

    @property
    def units(self) -> int:
        """Number of units that `columns` can be cut into: groups, or input channels where there is one group."""
        ...

    def tensors(self) -> list[Tensor]:
        """Return all floating point tensors."""
        ...

    def with_tensors(self, tensors: Iterator[Tensor]) -> LayerInputs:
        """Return a copy with these tensors in the place of `tensors()`."""
        ...

    def columns(self, units: slice, rows: slice = ALL) -> Tensor:
        """Return h_t of some inputs, cut to some of the units: (n, G, K, T), with fewer groups or a smaller fan-in."""
        ...

    def inner_products(self, rows: slice, other: LayerInputs, columns: slice, group: int) -> Tensor:
        """Return <h_t, h'_t'> in one group, for some inputs of either batch: (n1 T, n2 T')."""
        ...


@dataclass(frozen=True)
class DenseInputs:
    """Inputs of dense layers and convolutions; patches are unfolded only when they are asked for.

    Attributes:
        layers: the layer of each call.
        inputs: its input in each call, (n, *).
    """

    layers: tuple[nn.Module, ...]
    inputs: tuple[Tensor, ...]

    @property
    def groups(self) -> int:
        """Number of groups of a convolution; 1 for a dense layer."""
        return groups_of(self.layers[0])

    @property
    def fan_in(self) -> int:
        """Fan-in of one channel."""
        layer = self.layers[0]
        assert isinstance(layer, (nn.Linear, *CONVOLUTIONS))
        return layer.weight[0].numel()

    @property
    def units(self) -> int:
        """Number of groups, or of input channels where there is one group."""
        layer = self.layers[0]
        if isinstance(layer, CONVOLUTIONS):
            return layer.groups if layer.groups > 1 else layer.in_channels
        return self.fan_in

    def tensors(self) -> list[Tensor]:
        """Return the inputs of all calls."""
        return list(self.inputs)

    def with_tensors(self, tensors: Iterator[Tensor]) -> DenseInputs:
        """Return a copy with other inputs of the same calls."""
        return replace(self, inputs=tuple(next(tensors) for _ in self.inputs))

    def columns(self, units: slice, rows: slice = ALL) -> Tensor:
        """Return what each position sees of some units, (n, G, K, T); the calls follow each other along T."""
        per_call = [_columns(layer, h[rows], units) for layer, h in zip(self.layers, self.inputs, strict=True)]
        return per_call[0] if len(per_call) == 1 else torch.cat(per_call, 3)

    def inner_products(self, rows: slice, other: LayerInputs, columns: slice, group: int) -> Tensor:
        """Return <h_t, h'_t'>: (n1 T, n2 T')."""
        assert isinstance(other, DenseInputs)
        u, same = self._vectors(rows, group), self is other and rows == columns
        return gram(u, u if same else other._vectors(columns, group), same=same)

    def _vectors(self, rows: slice, group: int) -> Tensor:
        """Return one vector h_t per input and position: (n T, K)."""
        units = ALL if self.groups == 1 else slice(group, group + 1)
        return self.columns(units, rows)[:, 0].transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True)
class TokenInputs:
    """Tokens that an embedding looks up: h_t is the one-hot vector of the token at t.

    Attributes:
        tokens: (n, T), integers.
        dtype: of the embedding's rows.
    """

    tokens: Tensor
    dtype: torch.dtype

    @property
    def groups(self) -> int:
        """One group."""
        return 1

    @property
    def fan_in(self) -> None:
        """None: one-hot columns would have as many entries as there are tokens, so they are never formed."""
        return None

    @property
    def units(self) -> int:
        """One unit."""
        return 1

    def tensors(self) -> list[Tensor]:
        """Return an empty list: token indices are not differentiable."""
        return []

    def with_tensors(self, tensors: Iterator[Tensor]) -> TokenInputs:
        """Return these inputs, which hold no floating point tensors."""
        return self

    def columns(self, units: slice, rows: slice = ALL) -> Tensor:
        """Raise NotImplementedError: one-hot columns are not formed."""
        raise NotImplementedError

    def inner_products(self, rows: slice, other: LayerInputs, columns: slice, group: int) -> Tensor:
        """Return 1 where two positions hold the same token and 0 elsewhere: (n1 T, n2 T')."""
        assert isinstance(other, TokenInputs)
        return (self.tokens[rows].flatten()[:, None] == other.tokens[columns].flatten()).to(self.dtype)


def groups_of(layer: nn.Module) -> int:
    """Return the number of groups of a convolution, and 1 for any other layer."""
    return layer.groups if isinstance(layer, CONVOLUTIONS) else 1


def _columns(layer: nn.Module, h: Tensor, units: slice) -> Tensor:
    """Return the columns (n, G, K, T) of one call."""
    if isinstance(layer, nn.Linear):
        h = h[..., units]
        return h.reshape(len(h), 1, -1, h.shape[-1]).transpose(2, 3)
    assert isinstance(layer, CONVOLUTIONS)
    if layer.groups > 1:
        channels_per_group = layer.in_channels // layer.groups
        start, stop, _ = units.indices(layer.groups)
        patches = _patches(layer, h[:, start * channels_per_group : stop * channels_per_group])
        return patches.view(len(h), stop - start, -1, patches.shape[2])
    return _patches(layer, h[:, units])[:, None]


def _patches(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, h: Tensor) -> Tensor:
    """Return what each position of a convolution's output sees of some channels: (n, channels * kernel size, T)."""
    # The input is padded as the layer itself pads it; F.unfold knows zero padding only.
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    if any(layer._reversed_padding_repeated_twice):
        h = F.pad(h, layer._reversed_padding_repeated_twice, mode=mode)
    if isinstance(layer, nn.Conv3d):
        return _patches_3d(layer, h)
    # A sequence is an image of height 1.
    one, flat = ((1,), True) if isinstance(layer, nn.Conv1d) else ((), False)
    return F.unfold(
        h[:, :, None] if flat else h,
        one + layer.kernel_size,
        dilation=one + layer.dilation,
        stride=one + layer.stride,
    )


def _patches_3d(layer: nn.Conv3d, h: Tensor) -> Tensor:
    """Unfold volumes, which F.unfold does not take, one axis at a time."""
    for axis in (2, 3, 4):
        size, stride, dilation = layer.kernel_size[axis - 2], layer.stride[axis - 2], layer.dilation[axis - 2]
        # Each axis before this one has become two, of its kernel and of its positions, so this one is now number
        # 2 axis - 2.
        place = 2 * axis - 2
        starts = torch.arange(0, h.shape[place] - dilation * (size - 1), stride, device=h.device)
        indices = starts + dilation * torch.arange(size, device=h.device)[:, None]
        h = h.index_select(place, indices.flatten())
        h = h.reshape(*h.shape[:place], size, len(starts), *h.shape[place + 1 :])
    # (n, channels, k1, T1, k2, T2, k3, T3) -> (n, channels k1 k2 k3, T1 T2 T3)
    return h.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(len(h), -1, h.shape[3] * h.shape[5] * h.shape[7])
