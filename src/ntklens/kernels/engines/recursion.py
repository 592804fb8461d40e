"""The readable engine: the recursion in plain torch, layer by layer, differentiable through autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import ORIGIN, Covariance, Offset, Size, ends

_TILE = 64
"""Rows and columns of a tile of a matrix product."""

Input = Callable[[Offset], Tensor]
"""The input's covariance at an offset."""
Variances = Mapping[int, Tensor]
"""For each node that an activation or a normalisation reads: the variances of one batch, (n, H, W)."""


def variances(graph: Graph, x: Tensor) -> dict[int, Tensor]:
    """The recursion of each input with itself, as far as activations and normalisations need it."""
    return _variances(graph, _with_itself(graph, x))


def variances_of_squares(graph: Graph, square: Tensor) -> dict[int, Tensor]:
    """The same from |x|² / d alone, (n,), which is all that a graph without positions reads."""
    return _variances(graph, lambda offset: square[:, None, None])


def _variances(graph: Graph, gram: Input) -> dict[int, Tensor]:
    kept: dict[int, Tensor] = {}
    wanted = {i for node in graph.nodes if node.operation.needs_marginals for i in node.inputs}

    def read(node: int, state: Covariance, offset: Offset) -> tuple[Tensor, Tensor]:
        q = state.nngp[ORIGIN]
        if offset == ORIGIN:
            return q, q
        here, there = _ends(graph.nodes[node].size, offset)
        return q[:, here[0], here[1]], q[:, there[0], there[1]]

    def keep(node: int, state: Covariance) -> None:
        if node in wanted:
            kept[node] = state.nngp[ORIGIN]

    _recurse(graph, gram, graph.needs(output=False), read, ntk=False, keep=keep)
    return kept


def pairs(graph: Graph, x1: Tensor, x2: Tensor, v1: Variances, v2: Variances, *, ntk: bool) -> Covariance:
    """The output's covariance for all pairs: maps of shape (n1, n2, 1, 1) at offset zero."""

    def read(node: int, state: Covariance, offset: Offset) -> tuple[Tensor, Tensor]:
        here, there = _ends(graph.nodes[node].size, offset)
        return v1[node][:, None, here[0], here[1]], v2[node][None, :, there[0], there[1]]

    gram = _Gram(positions(graph, x1), positions(graph, x2), between=True)
    return _recurse(graph, gram, graph.needs(), read, ntk=ntk)


def diagonal(graph: Graph, x: Tensor, *, ntk: bool) -> Covariance:
    """The output's covariance of each input with itself: maps of shape (n, 1, 1) at offset zero."""
    return _diagonal(graph, _with_itself(graph, x), ntk=ntk)


def diagonal_of_squares(graph: Graph, square: Tensor, *, ntk: bool) -> Covariance:
    """The same from |x|² / d alone, (n,), for a graph without positions."""
    return _diagonal(graph, lambda offset: square[:, None, None], ntk=ntk)


def _diagonal(graph: Graph, gram: Input, *, ntk: bool) -> Covariance:
    v = _variances(graph, gram)

    def read(node: int, state: Covariance, offset: Offset) -> tuple[Tensor, Tensor]:
        here, there = _ends(graph.nodes[node].size, offset)
        return v[node][:, here[0], here[1]], v[node][:, there[0], there[1]]

    return _recurse(graph, gram, graph.needs(), read, ntk=ntk)


class _Gram:
    """The input's covariance <x(p), x'(p + Δ)> / C, one offset at a time."""

    def __init__(self, x1: Tensor, x2: Tensor, *, between: bool) -> None:
        self.x1, self.x2, self.between = x1, x2, between

    def __call__(self, offset: Offset) -> Tensor:
        here, there = _ends((self.x1.shape[-2], self.x1.shape[-1]), offset)
        a, b = self.x1[..., here[0], here[1]], self.x2[..., there[0], there[1]]
        if not self.between:
            return (a * b).mean(1)
        if a.shape[-2:] == (1, 1):
            return tiled_product(a[..., 0, 0], b[..., 0, 0])[..., None, None] / a.shape[1]
        total = a[:, None, 0] * b[None, :, 0]
        for c in range(1, a.shape[1]):
            total = total + a[:, None, c] * b[None, :, c]
        return total / a.shape[1]


def tiled_product(a: Tensor, b: Tensor) -> Tensor:
    """Rows of a times rows of b, in tiles of one fixed shape: an entry is the same to the last bit in every batch.

    A library picks its order of summation by the shape of the product; here the tile's shape fixes it.
    """
    rows, columns = (torch.split(_padded(x), _TILE) for x in (a, b))
    bands = [torch.cat([r @ c.T for c in columns], 1) for r in rows]
    return torch.cat(bands)[: len(a), : len(b)]


def _padded(x: Tensor) -> Tensor:
    """Zero rows up to a whole number of tiles."""
    return torch.nn.functional.pad(x, (0, 0, 0, -len(x) % _TILE))


def _with_itself(graph: Graph, x: Tensor) -> Input:
    x = positions(graph, x)
    return _Gram(x, x, between=False)


def positions(graph: Graph, x: Tensor) -> Tensor:
    """The input as (n, C, H, W); all axes are channels of the one position when nothing keeps positions apart."""
    if graph.input.flat:
        return x.reshape(len(x), -1, 1, 1)
    return x.unsqueeze(2) if x.ndim == 3 else x


def _ends(size: Size, offset: Offset) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The positions p, and the positions p + offset, of the entries of a map."""
    return ends(size, offset)


Reader = Callable[[int, Covariance, Offset], tuple[Tensor, Tensor]]
"""(node, its covariance, offset) -> the variances at the two ends of that node's map."""


def _recurse(
    graph: Graph,
    gram: Input,
    needs: tuple[frozenset[Offset], ...],
    read: Reader,
    *,
    ntk: bool,
    keep: Callable[[int, Covariance], None] = lambda node, state: None,
) -> Covariance:
    """Push covariances through the graph, dropping each once its last reader has run."""
    states: dict[int, Covariance] = {}
    last = graph.readers()
    for i, (node, need) in enumerate(zip(graph.nodes, needs, strict=True)):
        if not need:
            continue
        if node.inputs:
            source = node.inputs[0]
            marginals = partial(read, source, states[source])
            states[i] = node.operation.push([states[j] for j in node.inputs], set(need), marginals)
        else:
            nngp = {d: gram(d) for d in need}
            states[i] = Covariance(nngp, {d: torch.zeros_like(k) for d, k in nngp.items()} if ntk else None)
        keep(i, states[i])
        for j in [j for j in states if last[j] <= i < len(graph.nodes) - 1]:
            del states[j]
    return states.get(len(graph.nodes) - 1, Covariance({}, None))
