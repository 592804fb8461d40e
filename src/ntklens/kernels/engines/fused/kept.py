"""Whether what Numba compiles can be kept on disk for later processes."""

from __future__ import annotations

from numba import njit


def can_be_kept() -> bool:
    """Return whether there is a folder for compiled code: beside the sources, in the user's cache, or NUMBA_CACHE_DIR.

    In containers and on clusters there may be none, and Numba then refuses to define a function that is to be kept. All
    sources of this engine lie in one folder, so that the answer for one function is that for all.
    """
    try:
        njit(cache=True)(_nothing)
    except (RuntimeError, OSError):  # "cannot cache function ...: no locator available"
        return False
    return True


def _nothing() -> None:
    """Do nothing; this function stands for those of the engine, and is never compiled."""
