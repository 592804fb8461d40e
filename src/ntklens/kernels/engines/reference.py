"""The readable engine: the recursion in plain torch on blocks of pairs, differentiable through autograd."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ntklens.kernels.engines import recursion
from ntklens.kernels.engines.base import Kind, outside_inference_mode
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import ORIGIN, Covariance
from ntklens.progress import Progress

_BYTES_PER_ENTRY = 8 * 12
"""Working memory per covariance entry of a pair: the float64 maps that are alive while one node is computed."""
_BYTES_PER_TAPED_ENTRY = 8 * 48
"""Working memory per covariance entry with autograd's tape of the whole recursion beside it."""
_CACHED_ENTRIES = 1 << 19
"""Entries of a block of pairs where maps are few: larger blocks leave the cache and are no faster."""
_ENTRIES_PER_MAP = 1 << 17
"""Entries of each map of a block where maps are many: in smaller blocks torch's overhead per call dominates."""
_DIAGONAL_INPUTS = 256
"""Most inputs of a diagonal that are computed at a time."""

Tile = tuple[slice, slice]
"""A block of pairs: rows of x1 and rows of x2."""


class ReferenceEngine:
    """The recursion layer by layer in float64, on square tiles of pairs that fit the cache and the memory limit.

    It runs every graph on every device, and a call on inputs that require gradients is differentiable. The other engines
    are tested against it.

    Args:
        graph: the traced network.
        memory_limit: bytes of working memory beside the result.
    """

    def __init__(self, graph: Graph, memory_limit: int) -> None:
        self.graph = graph
        self.memory_limit = memory_limit

    @classmethod
    def supports(cls, graph: Graph, device: torch.device, *, differentiable: bool) -> bool:
        """Return True: this engine runs everything that can be traced."""
        return True

    @outside_inference_mode
    def matrices(
        self, x1: Tensor, x2: Tensor | None, kinds: tuple[Kind, ...], progress: Progress, products: None = None
    ) -> dict[Kind, Tensor]:
        """Compute the kernel matrices (n1, n2); see `Engine.matrices`."""
        a = x1.to(torch.float64)
        if x2 is None:
            matrices = self._symmetric(a, kinds, progress)
        else:
            matrices = self._between(a, x2.to(torch.float64), kinds, progress)
        return {kind: matrix.to(x1.dtype) for kind, matrix in matrices.items()}

    @outside_inference_mode
    def gradient(
        self,
        x1: Tensor,
        x2: Tensor,
        weights: Tensor,
        kind: Kind,
        progress: Progress,
        products: None = None,
    ) -> Tensor:
        """Compute d/dx1 of sum(weights * K(x1, x2)) by autograd, one tile at a time; see `Engine.gradient`.

        At a coincident pair, where the kernels of piecewise linear activations have a kink, the kink's directional part
        counts as zero, so the gradient is finite everywhere.
        """
        a, b, w = (t.detach().to(torch.float64) for t in (x1, x2, weights))
        with torch.no_grad():
            variances_b = recursion.variances(self.graph, b)
        total = torch.zeros_like(a)
        tiles = self._tiles(len(a), len(b), a.device, taped=True)
        for rows, columns in _reporting(tiles, len(a) * len(b), progress):
            # The tape holds one tile: its rows are leaves of their own, and their gradients are added up over columns.
            with torch.enable_grad():
                leaf = a[rows].requires_grad_()
                variances_leaf = recursion.variances(self.graph, leaf)
                covariance = recursion.pairs(
                    self.graph,
                    leaf,
                    b[columns],
                    variances_leaf,
                    _of_inputs(variances_b, columns),
                    ntk=kind == "ntk",
                )
                value = (_output(covariance, kind) * w[rows, columns]).sum()
            total[rows] += torch.autograd.grad(value, leaf)[0]
        return total.to(x1.dtype)

    @outside_inference_mode
    def diagonal(self, x: Tensor, kinds: tuple[Kind, ...]) -> dict[Kind, Tensor]:
        """Compute K(x_i, x_i), (n,) for each kind, in the dtype of x; see `Engine.diagonal`."""
        return {kind: values.to(x.dtype) for kind, values in self.exact_diagonal(x, kinds).items()}

    def exact_diagonal(self, x: Tensor, kinds: tuple[Kind, ...]) -> dict[Kind, Tensor]:
        """Compute K(x_i, x_i), (n,) for each kind, in float64 whatever the dtype of x."""
        tracked = x.requires_grad and torch.is_grad_enabled()
        step = len(x) if tracked else max(1, min(_DIAGONAL_INPUTS, self._pairs_per_block(x.device)))
        blocks = [
            recursion.diagonal(self.graph, x[start : start + step].to(torch.float64), ntk="ntk" in kinds)
            for start in range(0, len(x), max(step, 1))
        ]
        return {kind: torch.cat([_output(block, kind) for block in blocks]) for kind in kinds}

    def products(self, x1: Tensor, x2: Tensor) -> None:
        """Return None: the matrix and its gradient share nothing here."""
        return

    def _between(self, a: Tensor, b: Tensor, kinds: tuple[Kind, ...], progress: Progress) -> dict[Kind, Tensor]:
        variances_a, variances_b = recursion.variances(self.graph, a), recursion.variances(self.graph, b)
        matrices: dict[Kind, Tensor] = {kind: a.new_zeros(len(a), len(b)) for kind in kinds}
        for rows, columns in _reporting(self._tiles(len(a), len(b), a.device), len(a) * len(b), progress):
            covariance = recursion.pairs(
                self.graph,
                a[rows],
                b[columns],
                _of_inputs(variances_a, rows),
                _of_inputs(variances_b, columns),
                ntk="ntk" in kinds,
            )
            for kind, matrix in matrices.items():
                matrix[rows, columns] = _output(covariance, kind)
        return matrices

    def _symmetric(self, a: Tensor, kinds: tuple[Kind, ...], progress: Progress) -> dict[Kind, Tensor]:
        variances = recursion.variances(self.graph, a)
        matrices: dict[Kind, Tensor] = {kind: a.new_zeros(len(a), len(a)) for kind in kinds}
        upper = [
            (rows, columns) for rows, columns in self._tiles(len(a), len(a), a.device) if columns.start >= rows.start
        ]
        pairs = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in upper)
        for rows, columns in _reporting(upper, pairs, progress):
            covariance = recursion.pairs(
                self.graph,
                a[rows],
                a[columns],
                _of_inputs(variances, rows),
                _of_inputs(variances, columns),
                ntk="ntk" in kinds,
            )
            for kind, matrix in matrices.items():
                tile = _output(covariance, kind)
                if rows == columns:
                    # Mirror the strict upper triangle; the diagonal comes from its own recursion below, because the
                    # covariance of an input with itself as a pair is rounded before the angle 0 is taken.
                    tile = tile.triu(1) + tile.triu(1).T
                else:
                    matrix[columns, rows] = tile.T
                matrix[rows, columns] = tile
        for kind, diagonal in self.exact_diagonal(a, kinds).items():
            if diagonal.requires_grad:  # autograd cannot follow a copy into a view of the matrix's diagonal
                matrices[kind] = matrices[kind] + torch.diag(diagonal)
            else:
                matrices[kind].diagonal().copy_(diagonal)
        return matrices

    def _pairs_per_block(self, device: torch.device, *, taped: bool = False) -> int:
        """Return how many pairs a block holds: small enough for the cache, large enough to amortise overhead, in memory.

        A device other than the processor is kept busy by large blocks alone, so there the memory limit decides.
        """
        entries, maps = self.graph.entries(), self.graph.maps()
        affordable = self.memory_limit // (entries * (_BYTES_PER_TAPED_ENTRY if taped else _BYTES_PER_ENTRY))
        if device.type != "cpu":
            return max(1, affordable)
        efficient = max(_CACHED_ENTRIES // entries, _ENTRIES_PER_MAP * maps // entries)
        return max(1, min(affordable, efficient))

    def _tiles(self, n1: int, n2: int, device: torch.device, *, taped: bool = False) -> list[Tile]:
        """Return square tiles of pairs (smaller at the far edges), row by row."""
        side = max(1, math.isqrt(self._pairs_per_block(device, taped=taped)))
        return [
            (slice(i, min(i + side, n1)), slice(j, min(j + side, n2)))
            for i in range(0, n1, side)
            for j in range(0, n2, side)
        ]


def _output(covariance: Covariance, kind: Kind) -> Tensor:
    """Return the output's covariance without its position axes, both of length 1 at the output."""
    maps = covariance.nngp if kind == "nngp" else covariance.ntk
    if maps is None:
        raise ValueError("the recursion was run without the NTK")
    return maps[ORIGIN][..., 0, 0]


def _of_inputs(variances: recursion.Variances, inputs: slice) -> dict[int, Tensor]:
    """Return the variances of some inputs of a batch."""
    return {node: variance[inputs] for node, variance in variances.items()}


def _reporting(tiles: list[Tile], pairs: int, progress: Progress) -> Iterator[Tile]:
    """Yield the tiles, reporting the share of pairs that is done after each."""
    done = 0
    for rows, columns in tiles:
        yield rows, columns
        done += (rows.stop - rows.start) * (columns.stop - columns.start)
        progress(done / pairs)
