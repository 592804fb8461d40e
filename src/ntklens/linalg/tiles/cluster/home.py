"""The workers of a Dask cluster, as a place for tiles."""

from __future__ import annotations

import importlib
import time
from types import TracebackType
from typing import Any

import torch

from ntklens.arguments import as_count
from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.linalg.tiles.base import Entries, Home
from ntklens.linalg.tiles.cluster import tasks
from ntklens.linalg.tiles.cluster.matrix import ATTEMPTS, POLL, ClusterMatrix
from ntklens.linalg.tiles.cluster.plan import ClusterPlan, cluster_plan
from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.plan import entries_seconds


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
        except (OSError, ValueError, RuntimeError) as error:
            # InputError is a ValueError, and says more than this.
            self.close()
            if isinstance(error, InputError):
                raise
            if self.address is None and isinstance(error, RuntimeError):
                raise InputError(
                    "the processes of a cluster on this machine do not start. A script that starts one needs the guard "
                    '`if __name__ == "__main__":` around it, because the processes import the script.'
                ) from error
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
        self.plan(layout).check()
        return ClusterMatrix(self, layout, entries)

    def plan(self, layout: Layout, entries: Entries | None = None) -> ClusterPlan:
        """Return what a matrix of this layout takes on the workers and here; a block of it is timed in this process."""
        limits = [int(worker["memory"] or 0) for worker in self._described().values()]
        seconds = None if entries is None else entries_seconds(entries, layout)
        return cluster_plan(layout, limits, self.memory_limit, seconds)

    def addresses(self) -> list[str]:
        """Return the workers, each as often as it has threads."""
        threads = self.connect().nthreads()
        return [address for address in sorted(threads) for _ in range(threads[address])]

    def _described(self) -> dict[str, Any]:
        client, found = self.connect(), {}
        for attempt in range(ATTEMPTS):
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
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(POLL)
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
