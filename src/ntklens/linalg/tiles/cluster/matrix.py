"""Tiles on a cluster, in the memory of Dask's workers, for matrices that are larger than one machine's."""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.linalg.spectrum import Spectrum
from ntklens.linalg.tiles.base import Entries, Solution, TiledMatrix
from ntklens.linalg.tiles.cluster import tasks
from ntklens.linalg.tiles.iterative.leading import leading_pairs
from ntklens.linalg.tiles.iterative.pivoted_cholesky import Preconditioner
from ntklens.linalg.tiles.iterative.solve import preconditioner_of, rank_for, solve_by_products
from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.products import as_rows
from ntklens.progress import Parts, Progress, Report

if TYPE_CHECKING:
    from ntklens.linalg.tiles.cluster.home import ClusterHome

_GROUPS = 256
"""Groups of tiles at most. A product has one task per group, and the scheduler takes about a millisecond per task."""
_FAN = 8
"""Sums that are added at once."""
ATTEMPTS = 6
"""How often a computation is started again after workers were lost together with what cannot be computed from the rest."""
POLL = 0.2
"""Seconds between two looks at what is done, and before a computation is started again."""

T = TypeVar("T")


class ClusterMatrix(TiledMatrix):
    """A matrix whose tiles are held by the workers of a cluster, in groups that follow one another row by row.

    The scheduler computes tiles again whose worker is lost. Groups and the order of sums depend on the layout alone, so
    that the bits of a product do not depend on the number of workers.

    Args:
        home: the cluster.
        layout: where it is cut.
        entries: what computes its entries, in float64; it is sent to every worker once.
    """

    def __init__(self, home: ClusterHome, layout: Layout, entries: Entries) -> None:
        self.layout = layout
        self.entries = entries
        self._home = home
        places = list(layout.tiles())
        size = -(-len(places) // _GROUPS)
        self._groups = [places[start : start + size] for start in range(0, len(places), size)]
        self._sent: Any = None
        self._tiles: list[Any] = []
        self._preconditioner: Preconditioner | None = None

    def __repr__(self) -> str:
        return f"ClusterMatrix({self.layout.n} x {self.layout.n} on {self._home!r})"

    def write(self, progress: Report | None = None) -> None:
        """Compute the tiles that no worker holds."""
        whole = Progress(progress)

        def work() -> None:
            self._submit_tiles()
            self._wait(self._tiles, whole)

        self._with_recovery(work)
        whole(1.0)

    def multiply(self, y: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Compute Θ y in float64: one task per group of tiles, and a tree of sums."""
        rows = as_rows(y).numpy()
        return self._whole(self._with_recovery(lambda: self._product(rows))).T.contiguous()

    def solve(self, rho: float, y: Float[Tensor, "n O"], progress: Report | None = None) -> Solution:
        """Compute (Θ + ρ I)⁻¹ y by conjugate gradients, whose vectors are in this process."""
        parts = Parts(Progress(progress), {"tiles": 1.0, "solution": 3.0})
        with parts("tiles") as part:
            self.write(part)
        if self._preconditioner is None:
            rank = rank_for(self.layout.n, self._home.memory_limit)
            self._preconditioner = preconditioner_of(self._rows, self._diagonal(), rank)
        with parts("solution") as part:
            return solve_by_products(self.multiply, self._preconditioner, rho, y.to(torch.float64), progress=part)

    def leading(self, count: int, progress: Report | None = None) -> Spectrum:
        """Return the `count` largest eigenvalues and their eigenvectors, by block Lanczos."""
        return leading_pairs(self.multiply, self.layout.n, count, progress=progress)[0]

    def dense(self) -> Float[Tensor, "n n"]:
        """Return the whole matrix in float64; its tiles come from the workers group by group."""
        self.write()
        whole = torch.empty(self.layout.n, self.layout.n, dtype=torch.float64)
        for g, places in enumerate(self._groups):
            tiles = self._with_recovery(partial(self._group, g))
            for (i, j), tile in zip(places, tiles, strict=True):
                whole[self.layout.span(i), self.layout.span(j)] = torch.from_numpy(tile.copy())
                whole[self.layout.span(j), self.layout.span(i)] = torch.from_numpy(tile.T.copy())
        return whole

    def release(self) -> None:
        """Let the workers forget the tiles, which are computed again when they are needed."""
        self._sent, self._tiles, self._preconditioner = None, [], None

    def _group(self, g: int) -> list[Any]:
        self._submit_tiles()
        self._wait(self._tiles[g : g + 1])
        tiles: list[Any] = self._tiles[g].result(timeout=self._home.timeout)
        return tiles

    def _submit_tiles(self) -> None:
        """Ask for the groups of tiles that are not there; the scheduler computes those again that it can."""
        client = self._home.connect()
        if self._sent is None or self._sent.status != "finished":
            self._sent = self._send(self.entries)
        token, addresses = uuid.uuid4().hex, self._home.addresses()
        if not self._tiles:
            self._tiles = [None] * len(self._groups)
        for g, places in enumerate(self._groups):
            if self._tiles[g] is not None and self._tiles[g].status in ("pending", "finished"):
                continue
            self._tiles[g] = client.submit(
                tasks.compute_tiles,
                self._sent,
                self.layout,
                places,
                key=f"tiles-{token}-{g}",
                # Neighbours share a worker, so that their sums need not travel. If it is lost, any other one will do.
                workers=[addresses[g * len(addresses) // len(self._groups)]] if addresses else None,
                allow_other_workers=bool(addresses),
                retries=2,
            )

    def _send(self, value: Any) -> Any:
        """Send a value to every worker once."""
        try:
            return self._home.connect().scatter(value, broadcast=True, hash=False, timeout=self._home.timeout)
        except TypeError as error:
            raise InputError(
                f"the kernel cannot be sent to the workers of a cluster ({first_line(error)}). Define its functions in a "
                "module that the workers can import."
            ) from error

    def _product(self, y: Any) -> tasks.Block:
        client = self._home.connect()
        self._submit_tiles()
        sent, token = self._send(y), uuid.uuid4().hex
        level = [
            client.submit(tasks.multiply_group, self.layout, places, tiles, sent, key=f"product-{token}-{g}", retries=2)
            for g, (places, tiles) in enumerate(zip(self._groups, self._tiles, strict=True))
        ]
        depth = 0
        while len(level) > 1:
            depth += 1
            level = [
                client.submit(tasks.add, level[start : start + _FAN], key=f"sum-{token}-{depth}-{start}", retries=2)
                for start in range(0, len(level), _FAN)
            ]
        self._wait(level)
        result: tasks.Block = level[0].result(timeout=self._home.timeout)
        return result

    def _diagonal(self) -> Float[Tensor, " n"]:
        def work() -> tasks.Block:
            client = self._home.connect()
            self._submit_tiles()
            parts = [
                client.submit(tasks.diagonals, places, tiles, pure=False, retries=2)
                for places, tiles in zip(self._groups, self._tiles, strict=True)
            ]
            self._wait(parts)
            return tasks.add(client.gather(parts))

        return self._whole(self._with_recovery(work))[0]

    def _whole(self, blocks: tasks.Block) -> Float[Tensor, "k n"]:
        return torch.from_numpy(np.concatenate([blocks[i] for i in range(self.layout.blocks)], axis=1))

    def _rows(self, rows: slice | Tensor, columns: slice | Tensor) -> Tensor:
        """Compute whole rows on the workers, each a part of them; small blocks are computed here."""
        if not (isinstance(rows, Tensor) and isinstance(columns, slice)):
            return self.entries(rows, columns)

        def work() -> list[Any]:
            client = self._home.connect()
            self._submit_tiles()
            n, parts = self.layout.n, max(1, len(self._home.addresses()))
            edges = [n * part // parts for part in range(parts + 1)]
            futures = [
                client.submit(tasks.rows_of, self._sent, rows.numpy(), start, stop, pure=False, retries=2)
                for start, stop in pairwise(edges)
            ]
            self._wait(futures)
            gathered: list[Any] = client.gather(futures)
            return gathered

        return torch.from_numpy(np.concatenate(self._with_recovery(work), axis=1))[:, columns]

    def _wait(self, futures: Sequence[Any], progress: Report | None = None) -> None:
        """Wait until all are computed; raise the error of one that failed.

        Raises:
            InputError: there has been no worker for as long as the timeout.
        """
        distributed: Any = importlib.import_module("distributed")
        seen = time.monotonic()
        while True:
            with suppress(TimeoutError), self._home.connect().as_current():
                distributed.wait(futures, timeout=POLL)
            states = [future.status for future in futures]
            for future, state in zip(futures, states, strict=True):
                if state not in ("pending", "finished"):
                    future.result(timeout=self._home.timeout)
            if progress is not None:
                progress(states.count("finished") / len(states))
            if "pending" not in states:
                return
            if self._home.connect().nthreads():
                seen = time.monotonic()
            elif time.monotonic() - seen > self._home.timeout:
                raise InputError(
                    f"the cluster has had no worker for {self._home.timeout:.0f} s. Start workers, and call again."
                )

    def _with_recovery(self, work: Callable[[], T]) -> T:
        """Run some work, again where workers were lost with something that the scheduler cannot compute from the rest."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        lost: BaseException | None = None
        for _ in range(ATTEMPTS):
            try:
                return work()
            except (CancelledError, KilledWorker, OSError) as error:
                lost = error
                self._sent = None
                time.sleep(POLL)
        raise InputError(
            f"the cluster lost its workers {ATTEMPTS} times in a row ({first_line(lost or OSError())}). Have they enough "
            "memory? Look into their logs."
        ) from lost
