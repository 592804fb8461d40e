"""Addresses in a work space."""

from __future__ import annotations

import bisect


class Space:
    """Gives addresses to maps: each takes the first gap that is large enough, or the space grows.

    Attributes:
        gaps: address and size of each free stretch below the top, ascending and never adjacent.
        top: the size of the work space that has been needed so far.
    """

    def __init__(self) -> None:
        self.gaps: list[tuple[int, int]] = []
        self.top = 0

    def allocate(self, size: int) -> int:
        """Return the address of a stretch of this size, which is not free any more."""
        for i, (start, length) in enumerate(self.gaps):
            if length >= size:
                if length == size:
                    del self.gaps[i]
                else:
                    self.gaps[i] = (start + size, length - size)
                return start
        self.top += size
        return self.top - size

    def release(self, start: int, size: int) -> None:
        """Make a stretch free again, and join it to the gaps that it touches."""
        i = bisect.bisect_left(self.gaps, (start, size))
        self.gaps.insert(i, (start, size))
        if i + 1 < len(self.gaps) and start + size == self.gaps[i + 1][0]:
            self.gaps[i : i + 2] = [(start, size + self.gaps[i + 1][1])]
        if i > 0 and sum(self.gaps[i - 1]) == start:
            self.gaps[i - 1 : i + 1] = [(self.gaps[i - 1][0], self.gaps[i - 1][1] + self.gaps[i][1])]
