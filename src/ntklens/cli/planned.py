"""What a kernel matrix takes, told on the command line before it is computed; then its tiles, with their own progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ntklens.linalg import StoreHome
from ntklens.linalg.tiles import Entries, Home, Layout, Plan, TiledMatrix
from ntklens.progress import Report


class PlannedHome(Home):
    """A home that tells what a matrix takes before it is computed, and then computes its tiles with their own progress.

    Args:
        home: where the tiles are kept.
        tell: takes the plan.
        progress: called with the share of the tiles that is there.

    Attributes:
        seconds: what the tiles took.
        told: the sentences of the plan; empty before.
    """

    def __init__(self, home: Home, tell: Callable[[Plan], None], progress: Report) -> None:
        self.home = home
        self.seconds = 0.0
        self.told = ""
        self._tell = tell
        self._progress = progress

    def plan(self, layout: Layout, entries: Entries | None = None) -> Plan:
        """Return what a matrix of this layout takes."""
        plan = self.home.plan(layout, entries)
        self.told = str(plan)
        return plan

    def matrix(self, layout: Layout, entries: Entries, identity: str) -> TiledMatrix:
        """Return the matrix with these entries, all of whose tiles are there.

        Raises:
            InputError: there is no room for it.
        """
        if isinstance(self.home, StoreHome) and (Path(self.home.path) / "zarr.json").exists():
            self.home.matrix(layout, entries, identity)  # which refuses the tiles of another matrix
        plan = self.plan(layout, entries)
        self._tell(plan)
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
