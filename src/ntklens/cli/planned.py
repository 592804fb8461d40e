"""What a kernel matrix takes, told on the command line before it is computed; then its tiles, with their own progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.linalg import MemoryHome, StoreHome
from ntklens.linalg.tiles import Entries, Home, Layout, TiledMatrix
from ntklens.linalg.tiles.cluster import ClusterHome
from ntklens.linalg.tiles.cluster_tasks import describe_worker
from ntklens.linalg.tiles.plan import ClusterPlan, Plan, cluster_plan, duration, entries_seconds, memory_plan
from ntklens.linalg.tiles.store_plan import StorePlan
from ntklens.progress import Report

Tell = Callable[[str, float | None, float | None], None]
"""Takes the sentence of a plan, and the seconds of the matrix and of its factor where they are known."""


class PlannedHome(Home):
    """A home that tells what a matrix takes before it is computed, and then computes its tiles with their own progress.

    Args:
        home: where the tiles are kept.
        tell: takes the plan.
        progress: called with the share of the tiles that is there.

    Attributes:
        seconds: what the tiles took.
        plan: the sentence that was told; empty before.
    """

    def __init__(self, home: Home, tell: Tell, progress: Report) -> None:
        self.home = home
        self.seconds = 0.0
        self.plan = ""
        self._tell = tell
        self._progress = progress

    def matrix(self, layout: Layout, entries: Entries, identity: str) -> TiledMatrix:
        """Return the matrix with these entries, all of whose tiles are there.

        Raises:
            InputError: there is no room for it.
        """
        if isinstance(self.home, StoreHome) and (Path(self.home.path) / "zarr.json").exists():
            self.home.matrix(layout, entries, identity)  # which refuses the tiles of another matrix
        plan, sentence, seconds = _planned(self.home, layout, entries)
        self.plan = sentence
        self._tell(sentence, seconds, plan.factor_seconds if isinstance(plan, Plan) else None)
        if not isinstance(plan, StorePlan):  # a store looks for room itself, and counts the tiles that are there
            plan.check()
        start = time.perf_counter()
        tiled: TiledMatrix = self.home.matrix(layout, entries, identity)
        tiled.write(self._progress)
        self.seconds += time.perf_counter() - start
        return tiled

    def apart(self, name: str) -> PlannedHome:
        """Take the place of a further matrix beside the first one."""
        self.home = self.home.apart(name)
        return self


def _planned(home: Home, layout: Layout, entries: Entries) -> tuple[Plan | StorePlan | ClusterPlan, str, float]:
    """Return the plan of a matrix, its sentence, and the seconds that its missing tiles take to compute."""
    seconds = entries_seconds(entries, layout)
    plan: Plan | StorePlan | ClusterPlan
    if isinstance(home, MemoryHome):
        plan = replace(memory_plan(layout, home.precision), matrix_seconds=seconds)
        return plan, str(plan), seconds
    if isinstance(home, StoreHome):
        present = tiles_there(Path(home.path), layout)
        seconds *= 1 - present / layout.count
        try:
            plan = home.plan(layout)
        except OSError as error:
            raise InputError(f"--store: {home.path} cannot be written: {first_line(error)}.") from error
        there = f" {present:,} of {layout.count:,} tiles are there;" if present else ""
        rest = (
            "none is computed." if present == layout.count else f"computing the tiles takes about {duration(seconds)}."
        )
        text = f"{there} {rest}" if there else f" {rest[0].upper()}{rest[1:]}"
        return plan, f"{plan}{text}", seconds
    assert isinstance(home, ClusterHome)
    limits = [int(worker["memory"] or 0) for worker in home.connect().run(describe_worker).values()]
    plan = cluster_plan(layout, limits, home.memory_limit, seconds)
    return plan, str(plan), plan.matrix_seconds or seconds


def tiles_there(folder: Path, layout: Layout) -> int:
    """Return how many tiles of a matrix are in the folder of a store."""
    return sum((folder / "c" / str(i) / str(j)).is_file() for i, j in layout.tiles())
