"""The infinite-width kernel of a torch module."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, cast, overload

import torch
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.kernels.base import Pull, without_product
from ntklens.kernels.engines import recursion
from ntklens.kernels.engines.fused import engine as fused
from ntklens.kernels.monte_carlo import Draws, monte_carlo
from ntklens.kernels.nngp import NNGPKernel
from ntklens.kernels.parametrisation import Parametrisation, Values
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import ORIGIN, Covariance
from ntklens.kernels.tracing.probe import probe
from ntklens.kernels.tracing.trace import trace

Kind = Literal["ntk", "nngp"]
Engine = Literal["auto", "reference"]
Progress = Callable[[float], None]
"""Called with the share of the work that is done, from 0 to 1."""

_LIVE, _TAPED = 8 * 12, 8 * 48
"""Working bytes a covariance entry: of the maps alive at one node, and with autograd's tape beside them."""
_BLOCK_ENTRIES = 1 << 19
"""Entries of a block where maps are few: larger blocks leave the cache and are no faster."""
_DIAGONAL = 256
"""Inputs of a diagonal that are taken at a time."""
_FEW_MAPS = 64
"""With more maps a diagonal is as dear as the pairs, and only a small share of it is at coincident positions."""
_MAP_ENTRIES = 1 << 17
"""Entries of one map of a block where maps are many: smaller ones are all overhead."""


class AnalyticKernel:
    """Exact NTK and NNGP of a network at infinite width.

    The module is read, never altered, and its weights do not matter: only its operations, and the parametrisation, do.
    It is traced once for each shape of inputs. All arithmetic is in float64, whatever the dtype of
    the inputs, so that near pairs keep their distance; the result has the dtype and device of x1.

    Args:
        module: any module whose forward uses the operations of `ntklens.kernels.tracing.layers`.
        parametrisation: standard deviations of weights and biases, one for all layers or one a layer.
        memory_limit: bytes of working memory beside the result; the work is cut into blocks of pairs accordingly.
        engine: "auto" takes the fused engine on processors for the networks that it knows; "reference" never does.
    """

    def __init__(
        self,
        module: nn.Module,
        parametrisation: Parametrisation,
        *,
        memory_limit: int = 1 << 30,
        engine: Engine = "auto",
    ) -> None:
        if engine not in ("auto", "reference"):
            raise InputError(f'engine must be "auto" or "reference"; {engine!r} came.')
        self._module = module
        self.parametrisation = parametrisation
        self.memory_limit = memory_limit
        self.engine = engine
        self._graphs: dict[tuple[int, ...], Graph] = {}
        if (traced := probe(module, parametrisation)) is not None:
            shape, graph = traced
            self._graphs[shape] = graph

    def graph(self, shape: tuple[int, ...]) -> Graph:
        """The traced operations for inputs of this shape; prints as a table."""
        if shape not in self._graphs:
            self._graphs[shape] = trace(self._module, shape, self.parametrisation)
        return self._graphs[shape]

    @overload
    def __call__(
        self, x1: Tensor, x2: Tensor | None = None, kind: Kind = "ntk", *, progress: Progress | None = None
    ) -> Tensor: ...
    @overload
    def __call__(
        self, x1: Tensor, x2: Tensor | None, kind: tuple[Kind, ...], *, progress: Progress | None = None
    ) -> tuple[Tensor, ...]: ...
    @overload
    def __call__(
        self,
        x1: Tensor,
        x2: Tensor | None = None,
        *,
        kind: tuple[Kind, ...],
        progress: Progress | None = None,
    ) -> tuple[Tensor, ...]: ...

    def __call__(
        self,
        x1: Tensor,
        x2: Tensor | None = None,
        kind: str | tuple[str, ...] = "ntk",
        *,
        progress: Progress | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """The kernel matrix between two batches, or of one with itself.

        Args:
            x1: (n1, C, H, W) or (n1, d), float32 or float64.
            x2: (n2, ...) of the same shape an input; without it x1 is taken with itself, half of the work is done, and
                the matrix is exactly symmetric.
            kind: "ntk", "nngp", or both as a tuple, which costs one pass.
            progress: called with the share done.

        Returns:
            Tensor (n1, n2) in dtype and on device of x1; a tuple of them for a tuple of kinds. It is differentiable
            when an input requires a gradient; `gradient` is the way that keeps no graph.

        Raises:
            InputError: inputs that do not fit.
            UnsupportedLayer: the module has a part without an infinite-width rule.
        """
        kinds = _kinds(kind)
        graph = self._graph_of(x1, x2)
        tracked = torch.is_grad_enabled() and (x1.requires_grad or (x2 is not None and x2.requires_grad))
        if not tracked and self.engine == "auto" and fused.usable(graph, x1):
            fast = self._fused(graph, x1, x2, kinds, progress)
            return fast[0] if isinstance(kind, str) else fast
        a, b = x1.to(torch.float64), None if x2 is None else x2.to(torch.float64)
        with torch.set_grad_enabled(tracked):
            out = (
                self._symmetric(graph, a, kinds, progress) if b is None else self._between(graph, a, b, kinds, progress)
            )
        results = tuple(m.to(x1.dtype) for m in out)
        return results[0] if isinstance(kind, str) else results

    def diagonal(self, x: Tensor, kind: str = "ntk") -> Tensor:
        """K(x_i, x_i) for every input: (n,), in time and memory linear in n."""
        return self._diagonal(self._graph_of(x, None), x, _kinds(kind))[0].to(x.dtype)

    @property
    def prior(self) -> NNGPKernel:
        """The NNGP: the covariance of the infinitely wide network's outputs before training."""
        return NNGPKernel(self)

    def gradient(
        self, x1: Tensor, x2: Tensor, weights: Tensor, kind: str = "ntk", *, progress: Progress | None = None
    ) -> Tensor:
        """d/dx1 of sum(weights * K(x1, x2)), keeping no autograd graph.

        At a coincident pair, where the kernels of piecewise linear activations have a kink, the kink's directional part
        counts as zero, so the gradient is finite everywhere.

        Args:
            x1: (n1, ...) inputs to differentiate at.
            x2: (n2, ...) inputs held fixed.
            weights: (n1, n2).
            kind: "ntk" or "nngp".
            progress: called with the share done.

        Returns:
            Tensor in shape, dtype and device of x1.
        """
        (which,) = _kinds(kind)
        graph, x1, x2 = self._graph_of(x1, x2), x1.detach(), x2.detach()
        if weights.shape != (len(x1), len(x2)):
            raise InputError(
                f"weights of shape ({len(x1)}, {len(x2)}), one a pair, were expected; {tuple(weights.shape)} came."
            )
        if self.engine == "auto" and fused.usable(graph, x1):
            with torch.no_grad():
                return fused.gradient(graph, x1, x2, weights.detach(), which, self.memory_limit, progress)
        a, b = x1.to(torch.float64), x2.to(torch.float64)
        w = weights.detach().to(torch.float64)
        with torch.no_grad():
            fixed = recursion.variances(graph, b)
        total = torch.zeros_like(a)
        for rows, columns in _reported(self._tiles(graph, len(a), len(b), taped=True), len(a) * len(b), progress):
            with torch.enable_grad():
                part = a[rows].requires_grad_()
                own = recursion.variances(graph, part)
                state = recursion.pairs(graph, part, b[columns], own, _rows(fixed, columns), ntk=which == "ntk")
                value = (_matrix(state, which) * w[rows, columns]).sum()
            total[rows] += torch.autograd.grad(value, part)[0]
        return total.to(x1.dtype)

    def vjp(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pull]:
        """The NTK between two batches, and its gradient for weights that are only known once the matrix is.

        Networks without positions keep the inner products between the two, where `memory_limit` allows: an attack then
        takes two matrix products a step in place of three.

        Args:
            x1: (n1, ...) inputs to differentiate at.
            x2: (n2, ...) inputs held fixed.

        Returns:
            The matrix (n1, n2), and a function of weights (n1, n2) to the gradient as of `gradient`; with `rows`, indices
            of x1, the weights and the gradient are of these rows alone.
        """
        x1, x2 = x1.detach(), x2.detach()
        graph = self._graph_of(x1, x2)
        if self.engine != "auto" or not fused.usable(graph, x1):
            with torch.no_grad():
                return self(x1, x2), without_product(self, x1, x2)
        with torch.no_grad():
            kept = fused.inner_products(graph, x1, x2, self.memory_limit)
            matrix = fused.matrices(graph, x1, x2, ("ntk",), self.memory_limit, kept=kept)["ntk"]
        if kept is None:
            return matrix, without_product(self, x1, x2)

        def pull(weights: Tensor, rows: Tensor | None = None) -> Tensor:
            part, x = (kept, x1) if rows is None else (kept.of(rows), x1[rows])
            with torch.no_grad():
                return fused.gradient(graph, x, x2, weights.detach(), "ntk", self.memory_limit, kept=part)

        return matrix, pull

    def _fused(
        self, graph: Graph, x1: Tensor, x2: Tensor | None, kinds: tuple[Kind, ...], progress: Progress | None
    ) -> tuple[Tensor, ...]:
        with torch.no_grad():
            x1, x2 = x1.detach(), None if x2 is None else x2.detach()
            made = fused.matrices(graph, x1, x2, kinds, self.memory_limit, progress)
            if x2 is None and not graph.input.flat and graph.maps() <= _FEW_MAPS:
                for kind, diagonal in zip(kinds, self._diagonal(graph, x1, kinds), strict=True):
                    made[kind].diagonal().copy_(diagonal)
        return tuple(made[kind] for kind in kinds)

    def _between(
        self, graph: Graph, a: Tensor, b: Tensor, kinds: tuple[Kind, ...], progress: Progress | None
    ) -> list[Tensor]:
        v1, v2 = recursion.variances(graph, a), recursion.variances(graph, b)
        out = [a.new_zeros(len(a), len(b)) for _ in kinds]
        for rows, columns in _reported(self._tiles(graph, len(a), len(b)), len(a) * len(b), progress):
            state = recursion.pairs(graph, a[rows], b[columns], _rows(v1, rows), _rows(v2, columns), ntk="ntk" in kinds)
            for matrix, kind in zip(out, kinds, strict=True):
                matrix[rows, columns] = _matrix(state, kind)
        return out

    def _symmetric(self, graph: Graph, a: Tensor, kinds: tuple[Kind, ...], progress: Progress | None) -> list[Tensor]:
        v = recursion.variances(graph, a)
        out = [a.new_zeros(len(a), len(a)) for _ in kinds]
        upper = [(r, c) for r, c in self._tiles(graph, len(a), len(a)) if c.start >= r.start]
        pairs = sum((r.stop - r.start) * (c.stop - c.start) for r, c in upper)
        for rows, columns in _reported(upper, pairs, progress):
            state = recursion.pairs(graph, a[rows], a[columns], _rows(v, rows), _rows(v, columns), ntk="ntk" in kinds)
            for matrix, kind in zip(out, kinds, strict=True):
                tile = _matrix(state, kind)
                if rows == columns:
                    tile = tile.triu(1) + tile.triu(1).T
                else:
                    matrix[columns, rows] = tile.T
                matrix[rows, columns] = tile
        for matrix, diagonal in zip(out, self._diagonal(graph, a, kinds), strict=True):
            matrix += torch.diag(diagonal) if diagonal.requires_grad else 0
            if not diagonal.requires_grad:
                matrix.diagonal().copy_(diagonal)
        return out

    def _diagonal(self, graph: Graph, a: Tensor, kinds: tuple[Kind, ...]) -> list[Tensor]:
        tracked = a.requires_grad and torch.is_grad_enabled()
        step = len(a) if tracked else max(1, min(_DIAGONAL, self._pairs_a_block(graph)))
        parts: list[list[Tensor]] = [[] for _ in kinds]
        with torch.set_grad_enabled(tracked):
            for start in range(0, len(a), step):
                x = a[start : start + step].to(torch.float64)
                state = recursion.diagonal(graph, x, ntk="ntk" in kinds)
                for part, kind in zip(parts, kinds, strict=True):
                    part.append(_matrix(state, kind))
        return [torch.cat(p) for p in parts]

    def _pairs_a_block(self, graph: Graph, *, taped: bool = False) -> int:
        """As many pairs as keep the maps in the cache or, where they are many, outweigh their overhead; within memory."""
        fit = self.memory_limit // (graph.entries() * (_TAPED if taped else _LIVE))
        worth = max(_BLOCK_ENTRIES // graph.entries(), _MAP_ENTRIES * graph.maps() // graph.entries())
        return max(1, min(fit, worth))

    def _tiles(self, graph: Graph, n1: int, n2: int, *, taped: bool = False) -> list[tuple[slice, slice]]:
        """Square tiles of pairs (less at the far edges), row by row."""
        side = max(1, math.isqrt(self._pairs_a_block(graph, taped=taped)))
        return [
            (slice(i, min(i + side, n1)), slice(j, min(j + side, n2)))
            for i in range(0, n1, side)
            for j in range(0, n2, side)
        ]

    def _graph_of(self, x1: Tensor, x2: Tensor | None) -> Graph:
        """The graph for these inputs, once they are seen to fit."""
        for name, x in (("x1", x1), ("x2", x2)):
            if x is None:
                continue
            if x.dtype not in (torch.float32, torch.float64) or x.ndim not in (2, 3, 4):
                raise InputError(
                    f"{name} must be float32 or float64 of shape (n, d), (n, C, L) or (n, C, H, W); "
                    f"{x.dtype} of shape {tuple(x.shape)} came."
                )
        if x2 is not None and x2.shape[1:] != x1.shape[1:]:
            raise InputError(
                f"inputs of one shape were expected; {tuple(x1.shape[1:])} and {tuple(x2.shape[1:])} came."
            )
        return self.graph(tuple(x1.shape[1:]))

    def monte_carlo(
        self,
        x1: Tensor,
        x2: Tensor | None = None,
        *,
        width: int = 512,
        draws: int = 20,
        generator: torch.Generator | None = None,
    ) -> Draws:
        """Empirical kernels of freshly drawn finite networks, which this kernel is the wide limit of.

        Args:
            x1: (n1, ...) inputs.
            x2: (n2, ...) inputs; x1 by default.
            width: hidden units or channels a layer.
            draws: number of networks.
            generator: source of the draws; a fresh one with seed 0 by default.

        Returns:
            `Draws`, with the kernels, their mean and its standard error.
        """
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        graph = self.graph(tuple(x1.shape[1:]))
        options = {"width": width, "draws": draws}
        return monte_carlo(self._module, graph, self.parametrisation, x1, x2, generator=generator, **options)

    def __repr__(self) -> str:
        return f"AnalyticKernel({type(self._module).__name__}, {self.parametrisation})"


def _kinds(kind: str | tuple[str, ...]) -> tuple[Kind, ...]:
    kinds = (kind,) if isinstance(kind, str) else tuple(kind)
    if not kinds or not set(kinds) <= {"ntk", "nngp"}:
        raise InputError(f'kind must be "ntk", "nngp" or a tuple of them; {kind!r} came.')
    return cast("tuple[Kind, ...]", kinds)


def _matrix(state: Covariance, kind: Kind) -> Tensor:
    """The output's covariance without its trivial position axes."""
    maps = state.nngp if kind == "nngp" else state.ntk
    if maps is None:
        raise ValueError("the recursion was run without the NTK")
    return maps[ORIGIN][..., 0, 0]


def _rows(v: recursion.Variances, rows: slice) -> dict[int, Tensor]:
    return {node: q[rows] for node, q in v.items()}


def _reported(tiles: list[tuple[slice, slice]], pairs: int, progress: Progress | None) -> Iterator[tuple[slice, slice]]:
    """The tiles, telling the share of pairs done after each."""
    done = 0
    for rows, columns in tiles:
        yield rows, columns
        done += (rows.stop - rows.start) * (columns.stop - columns.start)
        if progress:
            progress(done / pairs)


def analytic_kernel(
    module: nn.Module,
    w_std: Values = 2**0.5,
    b_std: Values = 0.1,
    *,
    parametrisation: str = "ntk",
    memory_limit: int = 1 << 30,
    engine: Engine = "auto",
) -> AnalyticKernel:
    """The infinite-width NTK and NNGP of a network in the NTK parameterisation.

    Args:
        module: a plain torch module; only its operations matter, not its weights.
        w_std: standard deviation of the weights before the 1/sqrt(fan_in): one value, one a layer by its dotted name, or a
            sequence in the order of the module's layers.
        b_std: standard deviation of the biases, likewise; layers without a bias have none.
        parametrisation: "ntk", or "standard" for the tangent kernel in torch's own parameterisation at the module's own
            width, in the mean over its draws.
        memory_limit: bytes of working memory beside the result.
        engine: "auto", or "reference" for the plain torch recursion alone.

    Raises:
        UnsupportedLayer: an operation has no infinite-width rule; the message says which, where and what to do.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> kernel = analytic_kernel(net, w_std=2**0.5, b_std=0.0)
        >>> kernel(torch.eye(4).reshape(4, 1, 2, 2)[:2])
        tensor([[1.0000, 0.1592],
                [0.1592, 1.0000]])
    """
    chosen = Parametrisation.of_module(module, w_std, b_std, parametrisation)
    return AnalyticKernel(module, chosen, memory_limit=memory_limit, engine=engine)
