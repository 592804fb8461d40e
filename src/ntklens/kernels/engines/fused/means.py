"""Means over positions: how their sums divide a program into parts, which threads may run side by side.

A global pooling is a mean over the maps of all offsets. It has several pairs of sums (of K and of Θ), each over about as
many entries, and each is added up in turn. In a chain of layers before a pooling, the maps of one offset need no other's,
so no map is alive between one pair of sums and the next: there the code is cut. The number of pairs does not depend on
the call, so the rounding is the same whether one thread runs the whole code or several run the parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SUMS = 16
"""Most pairs of sums of a mean."""


@dataclass
class Mean:
    """The sums of one mean, while the code is written.

    Attributes:
        sums: their address in the work space of sums; the two sums of a pair, and all pairs, lie side by side.
        pairs: how many pairs of sums it has room for.
        entries: of all maps that are added.
        added: of the maps that have been added.
        begun: where in the code the work for each pair begins, and whether no other map is alive there.
        cut: the same for the place after the last map that was added.
    """

    sums: int
    pairs: int
    entries: int
    added: int = 0
    begun: list[tuple[int, bool]] = field(default_factory=list)
    cut: tuple[int, bool] = (0, True)

    def add(self, entries: int) -> tuple[int, bool]:
        """Return the pair of sums to which the next map is added, and whether it is the first of that pair."""
        begins = self.added * self.pairs >= len(self.begun) * self.entries
        if begins:
            self.begun.append(self.cut)
        self.added += entries
        return len(self.begun) - 1, begins

    @property
    def parts(self) -> tuple[int, ...]:
        """Return where the parts of the code begin, and then the rest; nothing where maps are alive between them."""
        if len(self.begun) == 1 or not all(alone for _, alone in [*self.begun, self.cut]):
            return ()
        return (*(place for place, _ in self.begun), self.cut[0])
