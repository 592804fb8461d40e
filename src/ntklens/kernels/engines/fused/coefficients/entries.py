"""Tables of coefficients, written entry by entry in the layout that a program reads."""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ntklens.kernels.engines.fused.codes import LEAD
from ntklens.kernels.engines.fused.kept import can_be_kept
from ntklens.kernels.rules.octaves import HIGHEST, LOWEST, RESOLUTION

_OPTIONS: Any = {"nogil": True, "cache": can_be_kept(), "error_model": "numpy", "fastmath": {"contract", "reassoc"}}


@njit(**_OPTIONS)
@no_type_check
def octave_of(s):
    """Return the octave of a standard deviation's square; HIGHEST for what is no number."""
    q = s * s
    if not q < 2.0**HIGHEST:
        return HIGHEST
    if q < 2.0**LOWEST:
        return LOWEST
    return math.frexp(q)[1] - 1


@njit(**_OPTIONS)
@no_type_check
def mark_octaves(marginals, first, last, present):
    """Set `present` (HIGHEST - LOWEST + 1,) at the octaves, from LOWEST on, of columns of standard deviations (n, m)."""
    for i in range(len(marginals)):
        for s in marginals[i, first:last]:
            present[octave_of(s) - LOWEST] = True


@njit(**_OPTIONS)
@no_type_check
def fill_entries(
    table, start, stop, lanes, size, entry, room, marginals, first, last, limit,
    places, lengths, terms, growth, alone, grows, beyond,
):  # fmt: skip
    """Write the entries of some inputs for one activation.

    Args:
        table: (blocks * size * entry * lanes,), zeros: of each block, entries; of an entry, numbers; of a number, lanes.
        start: the first input.
        stop: the input after the last.
        lanes: inputs of a block: 1 where the table is in rows.
        size: entries of an input.
        entry: numbers of an entry.
        room: coefficients for which an entry has room.
        marginals: (n, m) standard deviations.
        first: the first of those with an entry here.
        last: the one after the last.
        limit: the largest standard deviation at which the coefficients are right.
        places: (HIGHEST - LOWEST + 1,) where an octave stands in the next four, or -1 for one without coefficients.
        lengths: (octaves,) how many terms two variances take.
        terms: (octaves, RESOLUTION, room) Chebyshev coefficients, see `coefficients.hermite`.
        growth: the same of the growth.
        alone: (octaves, RESOLUTION), of the number that stands first.
        grows: whether to write the growth, too.
        beyond: (n,) set to true where a standard deviation has no coefficients.
    """
    basis, sums = np.empty(RESOLUTION), np.empty(room)
    for i in range(start, stop):
        of_input = (i // lanes) * size * entry * lanes + i % lanes
        for p in range(first, last):
            s = marginals[i, p]
            k = octave_of(s)
            place = places[k - LOWEST]
            if place < 0 or not s <= limit:
                beyond[i] = True
                continue
            at = of_input + p * entry * lanes
            # A variance of 0 counts as 2^-60, at which φ is linear to the last digit.
            s = max(s, 2.0 ** (LOWEST / 2))
            t = min(max(s * s * (2.0 * 2.0**-k) - 3.0, -1.0), 1.0)
            basis[0], basis[1] = 1.0, t
            for j in range(2, RESOLUTION):
                basis[j] = 2.0 * t * basis[j - 1] - basis[j - 2]
            single = 0.0
            for j in range(RESOLUTION):
                single += basis[j] * alone[place, j]
            table[at], table[at + lanes], table[at + 2 * lanes] = single, 1.0 / s, lengths[place]
            for series in range(2 if grows else 1):
                sums[:] = 0.0
                coefficients = growth if series else terms
                for j in range(RESOLUTION):
                    factor = basis[j]
                    for c in range(room):
                        sums[c] += factor * coefficients[place, j, c]
                to = at + (LEAD + series * room) * lanes
                for c in range(room):
                    table[to + c * lanes] = sums[c]


@njit(**_OPTIONS)
@no_type_check
def take_half_of_rest(table, start, stop, lanes, size, entry, first, last, one, other, count):
    """Replace the first number of entries by half of what a sum of products of their numbers lacks to it.

    Args:
        table: as in `fill_entries`.
        start: as in `fill_entries`.
        stop: as in `fill_entries`.
        lanes: as in `fill_entries`.
        size: as in `fill_entries`.
        entry: as in `fill_entries`.
        first: as in `fill_entries`.
        last: as in `fill_entries`.
        one: the place after the first LEAD numbers of the first factor of the first product.
        other: that of its second factor.
        count: how many products there are.
    """
    for i in range(start, stop):
        for p in range(first, last):
            at = ((i // lanes) * size + p) * entry * lanes + i % lanes
            total = 0.0
            for a in range(count):
                total += table[at + (LEAD + one + a) * lanes] * table[at + (LEAD + other + a) * lanes]
            table[at] = 0.5 * (table[at] - total)


def octaves_in(marginals: NDArray[np.float64], first: int, last: int) -> NDArray[np.int64]:
    """Return the octaves that some columns of standard deviations (n, m) have, ascending."""
    present = np.zeros(HIGHEST - LOWEST + 1, bool)
    mark_octaves(marginals, first, last, present)
    return np.flatnonzero(present) + LOWEST
