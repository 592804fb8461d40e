"""Tiles from a disk, of which some are read while others are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

Places = Sequence[tuple[int, int]]
"""Which tiles, in the order in which they are wanted."""


def read_ahead(
    read: Callable[[int, int], Tensor | None], places: Places, ahead: int, repair: Callable[[int, int], Tensor]
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield tiles in the order of their places.

    Args:
        read: reads a tile; None where it is missing or damaged.
        places: of the tiles.
        ahead: how many are read ahead at most.
        repair: computes a tile that is missing or damaged.
    """
    with ThreadPoolExecutor(min(2, ahead)) as reader:
        queue: deque[tuple[int, int, Future[Tensor | None]]] = deque()
        coming = iter(places)
        for i, j in coming:
            queue.append((i, j, reader.submit(read, i, j)))
            if len(queue) == ahead:
                break
        while queue:
            i, j, future = queue.popleft()
            tile = future.result()
            del future
            if tile is None:
                tile = repair(i, j)
            following = next(coming, None)
            if following is not None:
                queue.append((*following, reader.submit(read, *following)))
            yield i, j, tile
