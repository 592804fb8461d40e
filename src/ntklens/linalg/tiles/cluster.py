"""Tiles on a cluster, in the memory of Dask's workers, for matrices that are larger than one machine's."""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.arguments import as_count
from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.linalg.spectrum import Spectrum
from ntklens.linalg.tiles import cluster_tasks as tasks
from ntklens.linalg.tiles.base import Entries, Home, Solution, TiledMatrix
from ntklens.linalg.tiles.iterative import preconditioner_of, rank_for, solve_by_products
from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.leading import leading_pairs
from ntklens.linalg.tiles.pivoted_cholesky import Preconditioner
from ntklens.linalg.tiles.plan import WORKER_SHARE
from ntklens.linalg.tiles.products import as_rows
from ntklens.progress import Parts, Progress, Report

_GROUPS = 256
"""Groups of tiles at most. A product has one task per group, and the scheduler takes about a millisecond per task."""
_FAN = 8
"""Sums that are added at once."""
_ATTEMPTS = 6
"""How often a computation is started again after workers were lost together with what cannot be computed from the rest."""
_POLL = 0.2
"""Seconds between two looks at what is done, and before a computation is started again."""

T = TypeVar("T")


class ClusterHome(Home):
    """Tiles on the workers of a Dask cluster; use it in a `with` statement, or call `close`.

    Args:
        address: of the scheduler, such as "tcp://host:8786"; None starts a cluster of processes on this machine. A script
            that does so needs the guard `if __name__ == "__main__":`, because the processes import it.
        workers: number of processes of a cluster on this machine; as many as torch has threads by default.
        memory_limit: bytes that a solution takes in this process beside the vectors that it is given and returns.
        timeout: seconds to wait for the scheduler, for workers, and for those that were lost to come back.

    Raises:
        InputError: Dask is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        memory_limit: int = 1 << 30,
        timeout: float = 60.0,
    ) -> None:
        if address is not None and workers is not None:
            raise InputError(f"expected an address or a number of workers; got {address!r} and {workers!r}.")
        self.address = address
        self.workers = None if workers is None else as_count(workers, "workers")
        self.memory_limit = as_count(memory_limit, "memory_limit")
        self.timeout = timeout
        self._client: Any = None
        self._cluster: Any = None

    def __repr__(self) -> str:
        return f"ClusterHome({self.address or 'processes on this machine'})"

    def __enter__(self) -> ClusterHome:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> Any:
        """Return the client of the cluster, which is started or looked for at the first call.

        Raises:
            InputError: Dask is not installed, the scheduler cannot be reached, or the workers have other versions.
        """
        if self._client is not None:
            return self._client
        try:
            distributed: Any = importlib.import_module("distributed")
        except ImportError as error:
            raise InputError(
                "a kernel matrix on a cluster needs Dask, which is not installed. Run pip install 'ntklens[distributed]'."
            ) from error
        try:
            if self.address is None:
                self._cluster = distributed.LocalCluster(
                    n_workers=self.workers or torch.get_num_threads(),
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address="127.0.0.1:0",
                    silence_logs="CRITICAL",  # lost workers are expected, and are made up for
                )
            self._client = distributed.Client(self._cluster or self.address, timeout=self.timeout, set_as_default=False)
            self._check_workers()
        except (OSError, ValueError) as error:
            # InputError is a ValueError, and says more than this.
            self.close()
            if isinstance(error, InputError):
                raise
            place = "the cluster on this machine" if self.address is None else f"the scheduler at {self.address}"
            raise InputError(
                f"{place} cannot be reached, or has no workers ({first_line(error)}). Start dask scheduler and dask "
                "worker, and give the address that the scheduler prints."
            ) from error
        except BaseException:
            self.close()
            raise
        return self._client

    def close(self) -> None:
        """Leave the cluster, and end the processes of one that was started here."""
        client, cluster, self._client, self._cluster = self._client, self._cluster, None, None
        if client is not None:
            client.close()
        if cluster is not None:
            cluster.close()

    def matrix(self, layout: Layout, entries: Entries, identity: str) -> ClusterMatrix:
        """Return the matrix with these entries; no tile is computed yet.

        Raises:
            InputError: the cluster cannot be reached, or its workers have too little memory.
        """
        del identity  # nothing is kept beyond this matrix
        limits = [worker["memory"] for worker in self._described().values()]
        needed, room = 8 * layout.entries, WORKER_SHARE * sum(limits)
        if all(limits) and needed > room:
            raise InputError(
                f"the lower triangle of the kernel matrix takes {needed / 1e9:.2f} GB, and {len(limits)} workers can hold "
                f"{room / 1e9:.2f} GB of tiles, {WORKER_SHARE:.0%} of their memory. Start more workers, or keep the matrix "
                "in a store on disk."
            )
        return ClusterMatrix(self, layout, entries)

    def addresses(self) -> list[str]:
        """Return the workers, each as often as it has threads."""
        threads = self.connect().nthreads()
        return [address for address in sorted(threads) for _ in range(threads[address])]

    def _described(self) -> dict[str, Any]:
        client, found = self.connect(), {}
        for attempt in range(_ATTEMPTS):
            try:
                client.wait_for_workers(1, timeout=self.timeout)
                found = client.run(tasks.describe_worker)
                break
            except ImportError as error:
                raise InputError(
                    f"the workers of the cluster cannot import ntklens ({first_line(error)}). Install the same version "
                    "on all."
                ) from error
            except OSError:
                # A worker that has just been lost does not answer.
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_POLL)
        return found

    def _check_workers(self) -> None:
        here = tasks.versions()
        for address, worker in self._described().items():
            for name, version in here.items():
                if worker["versions"][name] != version:
                    raise InputError(
                        f"the worker {address} has {name} {worker['versions'][name]}, and this process {version}. Install "
                        "the same versions on all machines."
                    )


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
                distributed.wait(futures, timeout=_POLL)
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
        for _ in range(_ATTEMPTS):
            try:
                return work()
            except (CancelledError, KilledWorker, OSError) as error:
                lost = error
                self._sent = None
                time.sleep(_POLL)
        raise InputError(
            f"the cluster lost its workers {_ATTEMPTS} times in a row ({first_line(lost or OSError())}). Have they enough "
            "memory? Look into their logs."
        ) from lost
