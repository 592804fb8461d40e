"""Whether what Numba compiles can be kept on disk for later processes."""

from __future__ import annotations

import shutil
from pathlib import Path

from numba import njit

_ROOM = 64 * 2**20
"""Bytes that all compiled functions of the engine take at most."""


def can_be_kept() -> bool:
    """Return whether there is a folder for compiled code: beside the sources, in the user's cache, or NUMBA_CACHE_DIR.

    In containers and on clusters there may be none, and Numba then refuses to define a function that is to be kept. All
    sources of this engine lie in one folder, so that the answer for one function is that for all.
    """
    try:
        folder = Path(njit(cache=True)(_nothing).stats.cache_path or ".")
    except (RuntimeError, OSError):  # "cannot cache function ...: no locator available"
        return False
    # On a full disk Numba would fail in the middle of a computation; what is there already needs no room.
    return any(folder.glob("vm.run-*.nbi")) or _free(folder) > _ROOM


def _free(folder: Path) -> int:
    """Return the bytes that are free on the disk of a folder."""
    return shutil.disk_usage(folder).free


def _nothing() -> None:
    """Do nothing; this function stands for those of the engine, and is never compiled."""
