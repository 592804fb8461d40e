"""The recursion in plain torch: covariances pushed through a graph, layer by layer, differentiable through autograd.

An activation between layers reads three numbers per pair: the covariance of its two inputs and the variance of each. A
variance belongs to one input alone, so the recursion runs twice. `variances` runs it on every input with itself, n times;
`pairs` runs it on all n1 · n2 pairs and looks the variances up. `diagonal` is both at once, for an input with itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import ORIGIN, Covariance, Offset, Operation, Region, ends

_TILE = 64
"""Rows and columns of a tile of a matrix product on a processor."""
_DEVICE_TILE = 1024
"""Rows and columns on a GPU, where starting a product of small matrices takes longer than the product."""

InputCovariance = Callable[[Offset], Tensor]
"""Offset -> the map of the inputs' own covariance at this offset."""
Variances = Mapping[int, Tensor]
"""For each node that an activation or a normalisation reads: the variances of one batch, (n, H, W)."""
VariancesAtEnds = Callable[[int, Covariance, Offset], tuple[Tensor, Tensor]]
"""(node, its covariance, offset) -> the variances at the two ends of the node's map at this offset."""


def variances(graph: Graph, x: Tensor) -> dict[int, Tensor]:
    """Compute the variances that activations and normalisations read, by the recursion of each input with itself.

    Args:
        graph: the traced network.
        x: (n, *shape), float64.

    Returns:
        For each node that is read: (n, H, W).
    """
    return _variances(graph, _covariance_with_itself(graph, x))


def variances_of_squares(graph: Graph, square: Tensor) -> dict[int, Tensor]:
    """Compute `variances` from |x|² / d, (n,), which is all that a graph without positions reads."""
    return _variances(graph, lambda offset: square[:, None, None])


def _variances(graph: Graph, input_covariance: InputCovariance) -> dict[int, Tensor]:
    readers: dict[int, list[Operation]] = {}
    for node in graph.nodes:
        if node.operation.needs_marginals:
            for i in node.inputs:
                readers.setdefault(i, []).append(node.operation)
    results: dict[int, Tensor] = {}

    def at_ends(node: int, covariance: Covariance, offset: Offset) -> tuple[Tensor, Tensor]:
        # The recursion of an input with itself carries its own variances: they are its map at offset 0.
        q = covariance.nngp[ORIGIN]
        if offset == ORIGIN:
            return q, q
        first, second = ends(graph.nodes[node].size, offset)
        return _crop(q, first), _crop(q, second)

    def keep(node: int, covariance: Covariance) -> None:
        for operation in readers.get(node, ()):
            results[node] = covariance.nngp[ORIGIN]
            operation.check(results[node])

    _recurse(graph, input_covariance, graph.needs(output=False), at_ends, ntk=False, keep=keep)
    return results


def pairs(graph: Graph, x1: Tensor, x2: Tensor, v1: Variances, v2: Variances, *, ntk: bool) -> Covariance:
    """Compute the output's covariance for all pairs of two batches.

    Args:
        graph: the traced network.
        x1: (n1, *shape), float64.
        x2: (n2, *shape), float64.
        v1: `variances` of x1.
        v2: `variances` of x2.
        ntk: whether to compute the NTK beside the NNGP.

    Returns:
        Maps of shape (n1, n2, 1, 1) at offset 0.
    """

    def at_ends(node: int, covariance: Covariance, offset: Offset) -> tuple[Tensor, Tensor]:
        first, second = ends(graph.nodes[node].size, offset)
        return _crop(v1[node], first)[:, None], _crop(v2[node], second)[None]

    input_covariance = partial(_covariance_of_pairs, positions(graph, x1), positions(graph, x2))
    return _recurse(graph, input_covariance, graph.needs(), at_ends, ntk=ntk)


def diagonal(graph: Graph, x: Tensor, *, ntk: bool) -> Covariance:
    """Compute the output's covariance of each input with itself: maps of shape (n, 1, 1) at offset 0."""
    return _diagonal(graph, _covariance_with_itself(graph, x), ntk=ntk)


def diagonal_of_squares(graph: Graph, square: Tensor, *, ntk: bool) -> Covariance:
    """Compute `diagonal` from |x|² / d, (n,), for a graph without positions."""
    return _diagonal(graph, lambda offset: square[:, None, None], ntk=ntk)


def _diagonal(graph: Graph, input_covariance: InputCovariance, *, ntk: bool) -> Covariance:
    v = _variances(graph, input_covariance)

    def at_ends(node: int, covariance: Covariance, offset: Offset) -> tuple[Tensor, Tensor]:
        if offset == ORIGIN:  # an input with itself, for which activations have a rule of their own
            q = covariance.nngp[ORIGIN]
            return q, q
        first, second = ends(graph.nodes[node].size, offset)
        return _crop(v[node], first), _crop(v[node], second)

    return _recurse(graph, input_covariance, graph.needs(), at_ends, ntk=ntk)


def positions(graph: Graph, x: Tensor) -> Tensor:
    """Return the input as (n, C, H, W); all axes are channels of one position when nothing keeps positions apart."""
    if graph.input.flat:
        return x.reshape(len(x), -1, 1, 1)
    return x.unsqueeze(2) if x.ndim == 3 else x


def _covariance_with_itself(graph: Graph, x: Tensor) -> InputCovariance:
    """Return the function from an offset Δ to <x(p), x(p + Δ)> / C, (n, H', W')."""
    images = positions(graph, x)

    def covariance(offset: Offset) -> Tensor:
        first, second = ends((images.shape[-2], images.shape[-1]), offset)
        return (_crop(images, first) * _crop(images, second)).mean(1)

    return covariance


def _covariance_of_pairs(x1: Tensor, x2: Tensor, offset: Offset) -> Tensor:
    """Compute <x(p), x'(p + Δ)> / C for all pairs, (n1, n2, H', W')."""
    channels = x1.shape[1]
    first, second = ends((x1.shape[-2], x1.shape[-1]), offset)
    a, b = _crop(x1, first), _crop(x2, second)
    if a.shape[-2:] == (1, 1):  # one position: a matrix product over the channels
        return tiled_product(a[..., 0, 0], b[..., 0, 0])[..., None, None] / channels
    # Many positions and few channels: one product of maps per channel needs no copy of the inputs for every pair.
    total = a[:, None, 0] * b[None, :, 0]
    for c in range(1, channels):
        total = total + a[:, None, c] * b[None, :, c]
    return total / channels


def tiled_product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply rows of a by rows of b, in tiles of one fixed shape: an entry is the same to the last bit in every batch.

    A library picks its order of summation by the shape of the product; the tile's shape fixes it.
    """
    tile = _TILE if a.device.type == "cpu" else _DEVICE_TILE
    rows, columns = (torch.split(_padded(x, tile), tile) for x in (a, b))
    bands = [torch.cat([r @ c.T for c in columns], 1) for r in rows]
    return torch.cat(bands)[: len(a), : len(b)]


def _padded(x: Tensor, tile: int) -> Tensor:
    """Append rows of zeros up to a whole number of tiles."""
    return torch.nn.functional.pad(x, (0, 0, 0, -len(x) % tile))


def _crop(maps: Tensor, region: Region) -> Tensor:
    """Return the region of maps (..., H, W)."""
    return maps[..., region[0], region[1]]


def _recurse(
    graph: Graph,
    input_covariance: InputCovariance,
    needs: tuple[frozenset[Offset], ...],
    at_ends: VariancesAtEnds,
    *,
    ntk: bool,
    keep: Callable[[int, Covariance], None] = lambda node, covariance: None,
) -> Covariance:
    """Push covariances through the graph and return that of the output (empty where no offset of it is needed).

    Args:
        graph: the traced network.
        input_covariance: the maps of the inputs' own covariance.
        needs: for each node, the offsets to compute.
        at_ends: where an activation or a normalisation finds the variances that it reads.
        ntk: whether to carry the NTK along.
        keep: called with every node and its covariance, before it may be dropped.
    """
    covariances: dict[int, Covariance] = {}
    last_reader = graph.readers()
    output = len(graph.nodes) - 1
    for i, (node, offsets) in enumerate(zip(graph.nodes, needs, strict=True)):
        if not offsets:
            continue
        if node.inputs:
            source = node.inputs[0]
            marginals = partial(at_ends, source, covariances[source])
            covariances[i] = node.operation.push([covariances[j] for j in node.inputs], set(offsets), marginals)
        else:
            nngp = {offset: input_covariance(offset) for offset in offsets}
            # The data have no parameters: their tangent kernel is zero.
            zeros = {offset: torch.zeros_like(k) for offset, k in nngp.items()} if ntk else None
            covariances[i] = Covariance(nngp, zeros)
        keep(i, covariances[i])
        # Memory: drop every covariance whose last reader has run.
        for j in [j for j in covariances if last_reader[j] <= i < output]:
            del covariances[j]
    return covariances.get(output, Covariance({}, None))
