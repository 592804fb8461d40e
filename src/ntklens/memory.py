"""How much memory a process may still take, and whether the matrices of a fit find room in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ntklens.errors import InputError

_SMALL = 1 << 28
"""Bytes below which no fit is refused."""
_NO_LIMIT = 1 << 60
"""Limits from here on stand for none, as in control groups of version 1."""


def available_memory() -> int | None:
    """Return the bytes that this process may still take; None where the system does not tell.

    This is the least of what is free in the machine, what its control groups leave it (containers, batch systems), and what
    the limit of its address space leaves it (`ulimit -v`).
    """
    return min((*_of_the_machine(), *_of_control_groups(), *_of_the_process()), default=None)


def check_room(n: int, matrices: float) -> None:
    """Check that matrices of n inputs fit into memory, before any work on them is done.

    Args:
        n: number of inputs.
        matrices: how many float64 matrices (n, n) are held at once.

    Raises:
        InputError: they do not fit; the message has the largest number of inputs that does.
    """
    size = 8 * matrices * n * n
    room = available_memory() if size > _SMALL else None
    if room is not None and size > room:
        largest = int((room / 8 / matrices) ** 0.5)
        raise InputError(
            f"fitting on {n:,} inputs takes {size / 1e9:.1f} GB (the kernel matrix and {matrices - 1:.1f} times its size "
            f"beside it), and {room / 1e9:.1f} GB are available. Fit on at most {largest:,} inputs."
        )


def _of_the_machine() -> Iterator[int]:
    sizes: dict[str, int] = {}
    for line in _lines(Path("/proc/meminfo")):
        name, _, size = line.partition(":")
        if size.split()[1:] == ["kB"]:
            sizes[name] = 1024 * int(size.split()[0])
    if "MemAvailable" in sizes:
        yield sizes["MemAvailable"] + sizes.get("SwapFree", 0)


def _of_control_groups(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> Iterator[int]:
    """Yield what is left in each control group of the process and in those above it, of version 2 and of version 1."""
    for line in _lines(membership):
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = base / own.strip("/")
        # In a container the path is that of the host, and the group itself is mounted at the base.
        for folder in (group, *group.parents):
            yield from _left_in(folder, *names)
            if folder == base:
                break


def _left_in(folder: Path, limit_name: str, used_name: str, cache_name: str) -> Iterator[int]:
    limit, used = (
        next((int(line) for line in _lines(folder / f) if line.isdecimal()), None) for f in (limit_name, used_name)
    )
    if limit is None or used is None or limit >= _NO_LIMIT:
        return
    # Cached files count as used, and are dropped when memory is asked for.
    cache = next(
        (int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.startswith(f"{cache_name} ")), 0
    )
    yield max(0, limit - used + cache)


def _of_the_process() -> Iterator[int]:
    try:
        import resource  # Unix alone has it
    except ImportError:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = next((line.split() for line in _lines(Path("/proc/self/statm"))), None)
    if limit != resource.RLIM_INFINITY and pages:
        yield max(0, limit - int(pages[0]) * os.sysconf("SC_PAGE_SIZE"))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
