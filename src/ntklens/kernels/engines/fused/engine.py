"""The fused engine: a graph compiled for processors, and its kernel matrices and gradients in threads."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from graphlib import CycleError
from pathlib import Path

import torch
from numba.core.event import Event, Listener, register
from torch import Tensor

from ntklens.kernels.allocation import large
from ntklens.kernels.engines.base import Kind, outside_inference_mode
from ntklens.kernels.engines.fused import vm
from ntklens.kernels.engines.fused.coefficients.entries import octave_of
from ntklens.kernels.engines.fused.compiler import supported
from ntklens.kernels.engines.fused.dense import DensePairs
from ntklens.kernels.engines.fused.images import ImagePairs
from ntklens.kernels.engines.fused.inner_products import InnerProducts
from ntklens.kernels.engines.fused.layout import Beyond
from ntklens.kernels.engines.fused.threads import in_threads, own_threads
from ntklens.kernels.engines.reference import ReferenceEngine
from ntklens.kernels.rules.graph import Graph
from ntklens.progress import Progress

_MOST_MAPS = 64
"""Above this many maps, recomputing the diagonal costs as much as the matrix, so it is skipped.

In an image with itself the angle is exactly 0 only in the map at offset 0; of more than 64 maps, that one contributes so
little that the rounding of its angle does not show.
"""

_log = logging.getLogger("ntklens")
_lock = threading.Lock()


class FusedEngine:
    """The whole recursion of sixteen pairs at a time in the processor's cache, compiled once by Numba.

    Args:
        graph: the traced network; see `supports`.
        memory_limit: bytes of working memory beside the result.
    """

    def __init__(self, graph: Graph, memory_limit: int) -> None:
        self.graph = graph
        self.memory_limit = memory_limit
        # The two ways to compute pairs have the same methods: `fill` and `gradient`.
        self._dense = DensePairs(graph) if graph.input.flat else None
        self._pairs = self._dense or ImagePairs(graph, memory_limit)
        self._reference = ReferenceEngine(graph, memory_limit)

    @classmethod
    def supports(cls, graph: Graph, device: torch.device, *, differentiable: bool) -> bool:
        """Return whether every operation has an instruction and the inputs are on the processor, without autograd."""
        return device.type == "cpu" and not differentiable and supported(graph)

    @outside_inference_mode
    @torch.no_grad()
    def matrices(
        self,
        x1: Tensor,
        x2: Tensor | None,
        kinds: tuple[Kind, ...],
        progress: Progress,
        products: InnerProducts | None = None,
    ) -> dict[Kind, Tensor]:
        """Compute the kernel matrices (n1, n2), with Θ's arithmetic in the dtype of x1; see `Engine.matrices`."""
        x1, x2 = x1.detach(), None if x2 is None else x2.detach()
        matrices, beyond = self._filled(x1, x2, kinds, progress, products)
        if beyond:
            self._replace(x1, x2, matrices, beyond)
        if x2 is None and self._dense is None and self.graph.maps() <= _MOST_MAPS:
            for kind, diagonal in self._reference.exact_diagonal(x1, kinds).items():
                matrices[kind].diagonal().copy_(diagonal)
        return matrices

    @own_threads()
    def _filled(
        self,
        x1: Tensor,
        x2: Tensor | None,
        kinds: tuple[Kind, ...],
        progress: Progress,
        products: InnerProducts | None,
    ) -> tuple[dict[Kind, Tensor], Beyond]:
        """Return the matrices as the compiled program gives them, the lower triangle as a mirror of the upper."""
        _prepare()
        columns = len(x1 if x2 is None else x2)
        matrices: dict[Kind, Tensor] = {kind: large(len(x1), columns, x1.dtype) for kind in kinds}
        beyond = self._pairs.fill(x1, x2, matrices, progress, products)
        if x2 is None:
            for matrix in matrices.values():
                _mirror(matrix)
        return matrices, beyond

    def _replace(self, x1: Tensor, x2: Tensor | None, matrices: dict[Kind, Tensor], beyond: Beyond) -> None:
        """Replace the pairs that have no Hermite series short enough by what the reference engine computes."""
        kinds = tuple(matrices)
        if bool(beyond.first.any()):
            rows = self._reference.matrices(x1[beyond.first], x1 if x2 is None else x2, kinds, Progress())
            for kind, matrix in matrices.items():
                matrix[beyond.first] = rows[kind]
            if x2 is None:  # symmetric to the last bit, with an exact diagonal
                places = beyond.first.nonzero()[:, 0]
                diagonals = self._reference.diagonal(x1[beyond.first], kinds)
                for kind, matrix in matrices.items():
                    matrix[:, places] = rows[kind].T
                    inner = rows[kind][:, places]
                    matrix[places[:, None], places] = torch.triu(inner) + torch.triu(inner, 1).T
                    matrix[places, places] = diagonals[kind]
        known = ~beyond.first
        if x2 is not None and bool(beyond.second.any()) and bool(known.any()):
            columns = self._reference.matrices(x1[known], x2[beyond.second], kinds, Progress())
            for kind, matrix in matrices.items():
                matrix[known.nonzero(), beyond.second.nonzero()[:, 0]] = columns[kind]

    @outside_inference_mode
    @torch.no_grad()
    def gradient(
        self,
        x1: Tensor,
        x2: Tensor,
        weights: Tensor,
        kind: Kind,
        progress: Progress,
        products: InnerProducts | None = None,
    ) -> Tensor:
        """Compute d/dx1 of sum(weights * K(x1, x2)), in the shape and dtype of x1; see `Engine.gradient`."""
        x1, x2, weights = x1.detach(), x2.detach(), weights.detach()
        try:
            with own_threads():
                _prepare()
                gradient, beyond = self._pairs.gradient(x1, x2, weights, kind, progress, products)
                if not beyond:
                    return gradient.to(x1.dtype)
        except CycleError:  # see `has_adjoint`
            return self._reference.gradient(x1, x2, weights, kind, progress)
        # The reference engine has threads of torch's own.
        known, others = ~beyond.first, beyond.second
        if bool(beyond.first.any()):
            rest = self._reference.gradient(x1[beyond.first], x2, weights[beyond.first], kind, Progress())
            gradient[beyond.first] = rest.to(gradient.dtype)
        if bool(others.any()) and bool(known.any()):
            rest = self._reference.gradient(x1[known], x2[others], weights[known][:, others], kind, Progress())
            gradient[known] += rest
        return gradient.to(x1.dtype)

    def diagonal(self, x: Tensor, kinds: tuple[Kind, ...]) -> dict[Kind, Tensor]:
        """Compute K(x_i, x_i) by the reference engine, in time linear in n; see `Engine.diagonal`."""
        return self._reference.diagonal(x, kinds)

    @outside_inference_mode
    @torch.no_grad()
    @own_threads()
    def products(self, x1: Tensor, x2: Tensor) -> InnerProducts | None:
        """Compute the inner products of two batches without positions, where they fit the memory limit."""
        bytes_per_pair = 4 if x1.dtype == x2.dtype == torch.float32 else 8
        if self._dense is None or bytes_per_pair * len(x1) * len(x2) > self.memory_limit:
            return None
        return self._dense.products(x1.detach(), x2.detach())


def _mirror(matrix: Tensor, side: int = 256) -> None:
    """Fill the lower triangle from the upper, by tiles that fit the cache."""
    n = len(matrix)

    def band(i: int) -> None:
        tile = matrix[i : i + side, i : i + side]
        tile.copy_(torch.triu(tile) + torch.triu(tile, 1).T)
        for j in range(i + side, n, side):
            matrix[j : j + side, i : i + side] = matrix[i : i + side, j : j + side].T

    in_threads([(n - i, functools.partial(band, i)) for i in range(0, n, side)])


def _prepare() -> None:
    """Call `_prepare_once`, in one thread at a time."""
    with _lock:
        _prepare_once()


@functools.cache
def _prepare_once() -> None:
    """Delete what was compiled from older sources, and have it said when there is a wait; once per process.

    Numba compares the date of one source file only, and the engine's code is in several.
    """
    if vm.run.stats.cache_path is None:
        _log.warning(
            "compiling the fast kernels, in every process anew: about twenty seconds. They cannot be kept, because "
            "neither the package's folder nor the user's cache can be written to, or their disk is full; set "
            "NUMBA_CACHE_DIR to a folder that can."
        )
        return
    newest = max(file.stat().st_mtime for file in Path(__file__).parent.rglob("*.py"))
    folders = [Path(function.stats.cache_path) for function in (vm.run, octave_of)]
    for compiled in [file for folder in folders for file in folder.glob("*.nb[ic]")]:
        with contextlib.suppress(FileNotFoundError):  # another process has deleted it in the meantime
            if compiled.stat().st_mtime < newest:
                compiled.unlink()
    register("numba:compile", _Announcement())  # type: ignore[no-untyped-call]


class _Announcement(Listener):
    """Says when there is a wait: the machine is compiled at the first call for each combination of precisions."""

    def on_start(self, event: Event) -> None:
        """Say so when Numba begins to compile the machine, and not one of the functions in it."""
        if event.data["dispatcher"] in (vm.run, vm.run_adjoint):
            _log.warning(
                "compiling the fast kernels for such inputs, once on this machine: about twenty seconds (kept in %s)",
                vm.run.stats.cache_path,
            )

    def on_end(self, event: Event) -> None:
        """Say nothing."""
