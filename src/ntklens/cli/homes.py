"""Where a command keeps a kernel matrix: the options that say so, and how an interrupted command goes on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ntklens.cli import options as o
from ntklens.errors import InputError

if TYPE_CHECKING:
    from ntklens.linalg import ClusterHome, MemoryHome, StoreHome
    from ntklens.progress import Report

    AnyHome = MemoryHome | StoreHome | ClusterHome


def check_places(
    store: Path | None,
    scheduler: str | None = None,
    workers: int | None = None,
    memory_limit: str | None = None,
    precision: str | None = None,
) -> None:
    """Raise InputError for options of two places, or for one that its place does not have."""
    given = {"--store": store, "--scheduler": scheduler, "--workers": workers}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) > 1:
        raise InputError(f"{chosen[0]} and {chosen[1]} are two places for the kernel matrix; give one of them.")
    if store is not None and not str(store).strip("."):
        raise InputError(f'--store: expected a folder of its own; got "{store}".')
    if scheduler is not None and "://" not in scheduler:
        raise InputError(f'--scheduler: expected an address such as tcp://host:8786; got "{scheduler}".')
    if workers is not None and workers < 1:
        raise InputError(f"--workers: expected 1 or more processes; got {workers}.")
    if memory_limit is not None:
        o.size(memory_limit, "--memory-limit")
        if not chosen:
            raise InputError("--memory-limit needs a --store, a --scheduler or --workers; give one, or leave it out.")
    if precision is not None and precision not in ("auto", "float64", "float32"):
        raise InputError(f'--precision: expected auto, float64 or float32; got "{precision}".')
    if precision not in (None, "auto") and chosen:
        raise InputError(f"--precision is that of a matrix in memory; leave it out beside {chosen[0]}.")


def home_of(
    store: Path | None,
    scheduler: str | None = None,
    workers: int | None = None,
    memory_limit: str | None = None,
    precision: str | None = None,
) -> AnyHome | None:
    """Return the home of the tiles that the options describe; None where the library chooses."""
    from ntklens.linalg import ClusterHome, MemoryHome, StoreHome

    limit = 1 << 30 if memory_limit is None else o.size(memory_limit, "--memory-limit")
    if store is not None:
        return StoreHome(store, memory_limit=limit)
    if scheduler is not None or workers is not None:
        return ClusterHome(scheduler, workers=workers, memory_limit=limit)
    return None if precision in (None, "auto") else MemoryHome(precision or "auto")


def opened(home: AnyHome | None) -> AbstractContextManager[object]:
    """Return a context in which the cluster of a home is connected; for other homes it does nothing."""
    from ntklens.linalg import ClusterHome

    return home if isinstance(home, ClusterHome) else nullcontext()


def rescaled(report: Report) -> Report:
    """Return a report that begins at zero, whatever share is told first: what came before has its own progress."""
    first: list[float] = []

    def told(share: float) -> None:
        if not first:
            first.append(min(share, 0.999))
        report(1.0 if share >= 1 else max(0.0, (share - first[0]) / (1 - first[0])))

    return told


def how_to_go_on(store: Path | None) -> str:
    """Return what to do after an interruption."""
    if store is None:
        return "interrupted; nothing has been written. With --store FOLDER an interrupted command continues."
    return f"interrupted; what is in {store} is kept, and the same command continues from it."
