"""Tables of the coefficients that programs read, with an entry for each position of each input."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.codes import LEAD
from ntklens.kernels.engines.fused.coefficients.corner import CornerTables
from ntklens.kernels.engines.fused.coefficients.entries import fill_entries, octaves_in, take_half_of_rest
from ntklens.kernels.engines.fused.coefficients.hermite import HermiteTables, Smooth, has_series
from ntklens.kernels.engines.fused.layout import Array, Side
from ntklens.kernels.engines.fused.program import Program
from ntklens.kernels.engines.fused.threads import Task, in_threads
from ntklens.kernels.rules import octaves
from ntklens.kernels.rules.series import Series

_INPUTS_AT_A_TIME = 64
"""Inputs whose coefficients are computed at a time."""


class Room(NamedTuple):
    """How many numbers an entry of x, and one of z, has room for after the first LEAD, without their derivatives."""

    x: int = 0
    z: int = 0


@runtime_checkable
class Tables(Protocol):
    """The coefficients of one activation, as smooth functions of a standard deviation."""

    @property
    def limit(self) -> float:
        """The largest standard deviation at which the coefficients are right."""
        ...

    def length(self, k: int) -> int:
        """Return how many terms two variances of an octave take; -1 where they have no series."""
        ...

    def room(self, length: int) -> tuple[int, int]:
        """Return how many numbers an entry of x, and one of z, of a series of this length has."""
        ...

    def series(self, present: list[int], room: int, *, of_x: bool) -> tuple[Array, Array, Array]:
        """Return the Chebyshev series of some octaves that have coefficients.

        Args:
            present: the octaves.
            room: numbers for which an entry has room.
            of_x: whether the entries are of x.

        Returns:
            Of the coefficients and of their derivatives (octaves, RESOLUTION, room), and of the number that stands first
            (octaves, RESOLUTION).
        """
        ...

    def products(self, *, of_x: bool) -> tuple[int, int, int]:
        """Return which numbers of an entry, and how many, multiply which to give what the first is diminished by."""
        ...


_SHARP = tuple(code for op in (codes.RELU, codes.KINKS, codes.HARDSWISH) for code in (op, codes.ADJOINTS[op]))
"""Activations whose slope jumps, and their adjoints."""


def tables_of(program: Program, dtype: torch.dtype) -> list[tuple[Tables, int, int]]:
    """Return the tables of a program, each with the first of the marginals that have an entry in it and the one after."""
    single = dtype == torch.float32
    # A kink takes the angle from what the covariance lacks to its variances, so a Hermite series before it needs every
    # digit. What a corner's covariance lacks keeps its digits, but for maps that a pooling mixes.
    ops, in_float64 = program.code[:, codes.OP], program.code[:, codes.IN_FLOAT64]
    is_corner = np.isin(ops, (codes.CORNER, codes.CORNER_ADJOINT))
    kinks = np.isin(ops, _SHARP).any() or (program.constants[is_corner, codes.SHARP] > 0).any()
    single_of = {False: single and not in_float64[is_corner].any(), True: single and not kinks}
    firsts = [*program.marginals.values(), program.marginal_size]
    found: list[tuple[Tables, int, int]] = []
    for (_, dual), first, following in zip(program.marginals, firsts, firsts[1:], strict=False):
        if not isinstance(dual, Smooth):
            continue
        if has_series(dual):
            found.append((HermiteTables(dual, single_of[True]), first, following))
        else:
            assert isinstance(dual, Series)
            found.append((CornerTables(dual, single_of[False]), first, following))
    return found


def room_of(program: Program, marginals: Array, dtype: torch.dtype) -> Room:
    """Return how much room a table's entries need, so that each of an input's fits."""
    rooms = [
        tables.room(max([tables.length(k) for k in octaves_in(marginals, first, last).tolist()], default=-1))
        for tables, first, last in tables_of(program, dtype)
    ]
    return larger(*rooms)


def larger(*rooms: tuple[int, int]) -> Room:
    """Return room for entries that need each of these."""
    return Room(*(max(numbers) for numbers in zip((0, 0), *rooms, strict=True)))


def with_table(
    program: Program, side: Side, dtype: torch.dtype, room: Room, lanes: int = 1, *, of_x: bool, grows: bool = False
) -> Side:
    """Return one side of the pairs with the coefficients that a program reads.

    Args:
        program: a program.
        side: its pixels and marginals, in rows.
        dtype: of the inputs.
        room: the larger `room_of` of both sides of the pairs.
        lanes: inputs of a block of the table, 1 for rows.
        of_x: whether the side is x, else it is z.
        grows: whether the coefficients' derivatives are wanted, too, as for x in a gradient.
    """
    if not program.table_size:
        return side
    n, size = len(side.marginals), program.table_size
    numbers = room.x if of_x else room.z
    entry, blocks = LEAD + numbers * (2 if grows else 1), -(-n // lanes)
    table = np.zeros(blocks * size * entry * lanes)
    beyond = np.zeros(n, bool)
    tasks: list[Task] = []
    for tables, first, last in tables_of(program, dtype):
        known = [k for k in octaves_in(side.marginals, first, last).tolist() if tables.length(k) >= 0]
        places = np.full(octaves.HIGHEST - octaves.LOWEST + 1, -1)
        places[np.array(known, np.int64) - octaves.LOWEST] = range(len(known))
        lengths = np.array([tables.length(k) for k in known], np.int64)
        series = tables.series(known, numbers, of_x=of_x)
        given = side.marginals, first, last, tables.limit, places, lengths, *series
        products = tables.products(of_x=of_x)
        for start in range(0, n, _INPUTS_AT_A_TIME):
            rows = start, min(start + _INPUTS_AT_A_TIME, n), lanes, size, entry
            task = partial(_fill, table, rows, numbers, given, products, grows, beyond)
            tasks.append((last - first, task))
    in_threads(tasks)
    if not beyond.any():
        return Side(side.pixels, side.marginals, table.reshape(blocks, size, entry * lanes))
    # Zeros for these, so that no number of theirs is infinite: their pairs are computed elsewhere.
    by_input = table.reshape(blocks, size, entry, lanes).transpose(0, 3, 1, 2)
    by_input[np.pad(beyond, (0, -n % lanes)).reshape(-1, lanes)] = 0
    return Side(side.pixels, side.marginals, table.reshape(blocks, size, entry * lanes), beyond)


def _fill(
    table: Array,
    rows: tuple[int, int, int, int, int],
    room: int,
    given: tuple[Any, ...],
    products: tuple[int, int, int],
    grows: bool,
    beyond: NDArray[np.bool_],
) -> None:
    """Write the entries of some inputs for one activation."""
    fill_entries(table, *rows, room, *given, grows, beyond)
    if products[2]:
        take_half_of_rest(table, *rows, *given[1:3], *products)
