"""What a program is made of: its instructions, its work space, and the numbers about single inputs that it reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.coefficients.hermite import Smooth
from ntklens.kernels.rules.duals import GELU, Erf
from ntklens.kernels.rules.graph import Node
from ntklens.kernels.rules.hardswish import Hardswish
from ntklens.kernels.rules.operations import Activation, Normalise
from ntklens.kernels.rules.piecewise import PiecewiseLinear

FLAT_WIDTH = 32
"""Columns of the one map of a network without positions, so that a run of an instruction takes 32 blocks of lanes at once.

A network with positions spends long enough on a map to hide the cost of decoding an instruction; a single number would not.
"""

Marginal = tuple[int, Normalise | Smooth | PiecewiseLinear | Erf | GELU | Hardswish | None]
"""What an instruction reads about one input alone: a node's standard deviations sqrt(K(x, x)) at all positions.

For a normalisation, which is then the second entry, they are the factors 1 / sqrt(K(x, x) + ε) that it multiplies by. For
an activation that is computed by its Hermite series, the second entry is that activation: its tables have an entry for each
of these standard deviations. Such marginals come first.

For a piecewise linear activation, Hardswish, erf and GELU, the second entry is that activation, too, and the standard
deviations are followed by what `numbers` gives, one number after the other at all positions.
"""
_READS_MORE = (Smooth, PiecewiseLinear, Hardswish, Erf, GELU)
"""Activations that read more of an input than its standard deviations."""


def marginal_of(node: Node) -> Marginal:
    """Return what a node reads of an input, which is an activation or a normalisation."""
    operation = node.operation
    if isinstance(operation, Activation):
        return node.inputs[0], operation.dual if isinstance(operation.dual, _READS_MORE) else None
    return node.inputs[0], operation if isinstance(operation, Normalise) else None


def has_tables(marginal: Marginal) -> bool:
    """Return whether it has entries in the tables of Hermite coefficients."""
    return isinstance(marginal[1], Smooth)


@dataclass(frozen=True)
class Program:
    """A program for the machine, written in the language of `codes`; `print` lists its instructions.

    Attributes:
        code: (n, COLUMNS) int64, one instruction per row.
        constants: (n, CONSTANTS) float64, the constants of each instruction.
        factors: (m,) float64: factors of positions for SCALE, hinges for KINKS, or coefficients for ZONAL.
        size: positions of the work space.
        marginals: the marginals that are read, with the index of each one's first entry among all marginals of an input.
        marginal_size: number of all marginals of an input.
        table_size: how many of them, from the first on, have entries in the tables of Hermite coefficients.
        width: positions of the output map.
        parts: where parts of the code begin that share nothing but what they leave in `sums`, then the rest that needs all
            of them; empty where the code is one piece.
        sums: address of the parts' pairs of sums in the work space of sums, side by side.
        sums_size: vectors of the work space of sums.
        is_smooth: whether erf and GELU are its only activations, so that K may be float32 (see `two_precisions`).
    """

    code: NDArray[np.int64]
    constants: NDArray[np.float64]
    factors: NDArray[np.float64]
    size: int
    marginals: dict[Marginal, int]
    marginal_size: int
    table_size: int
    width: int
    parts: tuple[int, ...] = ()
    sums: int = 0
    sums_size: int = 0
    is_smooth: bool = False

    def __str__(self) -> str:
        return "\n".join(map(_line, self.code.tolist(), self.constants.tolist()))


def instruction(op: int, constants: tuple[float, ...] = (), /, **columns: int) -> tuple[list[int], list[float]]:
    """Return the row of columns and the row of constants of one instruction; what is not given is zero.

    Args:
        op: the operation.
        constants: its constants, in order.
        columns: its columns by their names in lower case.

    Raises:
        KeyError: the operation has no column of such a name.
    """
    row = [0] * codes.COLUMNS
    row[codes.OP] = op
    for name, value in columns.items():
        if name.upper() not in codes.INSTRUCTIONS[op].columns:
            raise KeyError(f"expected a column of {codes.INSTRUCTIONS[op].name}; got {name!r}")
        row[getattr(codes, name.upper())] = int(value)
    return row, [*constants, *[0.0] * (codes.CONSTANTS - len(constants))]


def _line(row: list[int], constants: list[float]) -> str:
    """Return an instruction as a line: the operation, its addresses, and all other columns and constants but zeros."""
    name, _, _, columns, constant_names = codes.INSTRUCTIONS[row[codes.OP]]
    values = {column: row[getattr(codes, column)] for column in columns}
    values = {column: value for column, value in values.items() if value or column in ("DST", "SRC", "SRC2", "VALUE")}
    numbers = {constant: constants[getattr(codes, constant)] for constant in constant_names}
    words = [f"{column.lower()}={value}" for column, value in values.items()]
    words += [f"{constant.lower()}={value:.4g}" for constant, value in numbers.items() if value]
    return " ".join([name, *words])
