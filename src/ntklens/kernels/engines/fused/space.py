"""Places in a work space."""

from __future__ import annotations

import bisect


class Space:
    """First-fit places for maps."""

    def __init__(self) -> None:
        self.free: list[tuple[int, int]] = []
        self.top = 0

    def take(self, size: int) -> int:
        """A free place of this size."""
        for i, (start, length) in enumerate(self.free):
            if length >= size:
                if length == size:
                    del self.free[i]
                else:
                    self.free[i] = (start + size, length - size)
                return start
        self.top += size
        return self.top - size

    def give(self, start: int, size: int) -> None:
        """Give a place back."""
        i = bisect.bisect_left(self.free, (start, size))
        self.free.insert(i, (start, size))
        if i + 1 < len(self.free) and start + size == self.free[i + 1][0]:
            self.free[i : i + 2] = [(start, size + self.free[i + 1][1])]
        if i > 0 and sum(self.free[i - 1]) == start:
            self.free[i - 1 : i + 1] = [(self.free[i - 1][0], self.free[i - 1][1] + self.free[i][1])]
