"""The instruction set: the language in which `compiler` writes programs and which the machine in `vm` runs.

A program is a list of instructions on maps. A map is the covariance of two inputs for one node of the graph and one
offset Δ: its entry p belongs to position p of x and position p + Δ of z. The machine holds a map for LANES inputs z at
once, as vectors of LANES numbers: rows, then columns, then lanes. Every map is stored twice at the same address: K in
one work space, mostly float64, and Θ in another, in the dtype of the inputs. In the program of a gradient, an address may
also hold the cotangents of a map: K̄ and Θ̄ in the places of K and Θ.

An instruction is a row of COLUMNS integers and a row of CONSTANTS floating-point numbers. INSTRUCTIONS below is the
whole language: for each operation, what it reads and writes, and which columns and constants it uses. All other columns
of the row are zero. Addresses count positions: a map at address a starts at element a * LANES of its work space.
"""

from __future__ import annotations

from typing import NamedTuple

LANES = 16
"""Inputs z of a block: with AVX-512 two registers of float64, or one of float32."""

# Operations. Programs of gradients use all of them, programs of values only the first eighteen.

(
    GRAM,
    WINDOW,
    AFFINE,
    RELU,
    ERF,
    GELU,
    HERMITE,
    CORNER,
    KINKS,
    HARDSWISH,
    SUM,
    REDUCE,
    MEAN,
    NORMALISE,
    ZERO,
    LOAD,
    SCALE,
    ZONAL,
) = range(18)
(
    SEED,
    FILL,
    AFFINE_ADJOINT,
    WINDOW_ADJOINT,
    BOX_ADJOINT,
    RELU_ADJOINT,
    ERF_ADJOINT,
    GELU_ADJOINT,
    HERMITE_ADJOINT,
    CORNER_ADJOINT,
    KINKS_ADJOINT,
    HARDSWISH_ADJOINT,
    NORMALISE_ADJOINT,
    GRAM_ADJOINT,
    LOAD_ADJOINT,
    ZONAL_ADJOINT,
) = range(18, 34)

ADJOINTS = {
    RELU: RELU_ADJOINT,
    ERF: ERF_ADJOINT,
    GELU: GELU_ADJOINT,
    HERMITE: HERMITE_ADJOINT,
    CORNER: CORNER_ADJOINT,
    KINKS: KINKS_ADJOINT,
    HARDSWISH: HARDSWISH_ADJOINT,
    NORMALISE: NORMALISE_ADJOINT,
}
"""The adjoint of each operation that changes K and Θ of each position by its marginals."""
ACTIVATIONS, ACTIVATION_ADJOINTS = tuple(ADJOINTS), tuple(ADJOINTS.values())
"""These operations, and their adjoints."""

LEAD = 3
"""Numbers of an entry in a table of coefficients before the coefficients themselves; see `hermite` and `corner`."""

PER_DISTANCE = 4
"""Numbers of an input for each distance of hinges from zero; see `kinks`."""

# Columns.

(
    OP,  # the operation
    DST,  # address of the map that is written
    SRC,  # address of the map that is read
    SRC2,  # address of a second map that is read
    H,  # rows of the map
    W,  # columns of the map; in flat programs FLAT_WIDTH blocks of lanes side by side
    IN_H,  # rows of the map at the other end of a window or a mean
    IN_W,  # columns of that map
    KERNEL_H,  # rows of the window; for a pooling with a shift, those on which both of its ends are in the kernel
    KERNEL_W,  # columns of the window, likewise
    START_H,  # row of the input map that the first row of the output reads first; negative in the padding
    START_W,  # column of the input map that the first column of the output reads first
    STRIDE_H,  # rows from one window to the next
    STRIDE_W,  # columns from one window to the next
    DILATION_H,  # rows from one place of the window to the next
    DILATION_W,  # columns from one place of the window to the next
    ADDS,  # 1: add to what DST holds; 0: overwrite it
    IS_BOX,  # 1: a window of 3 x 3 with stride 1 that keeps the map's size, for which there is a faster loop
    X_START,  # where the map's first position lies in the pixels, or in the marginals, of x
    Z_START,  # where it lies in the pixels, or in the marginals, of z
    ROW_STEP,  # pixels, or marginals, from one row of the image to the next
    POSITION_STEP,  # marginals of x from one position to the next: 1, or 0 where all positions share one
    IN_FLOAT64,  # 1: take the corrections of an activation in the precision of K although Θ is float32
    FUSED,  # 1: the next instruction is run row by row within this one
    COLUMNS,
) = range(25)

# Other names of columns whose meaning depends on the operation.

VALUE = SRC2
"""Address of the values of the map, before the activation, to whose cotangents an adjoint operation is applied."""
FACTORS = SRC2
"""SCALE: index of the map's first factor in the program's `factors`."""
NNGP_TERMS, NNGP_DRIFT_TERMS, NTK_TERMS, NTK_DRIFT_TERMS = KERNEL_H, START_H, KERNEL_W, START_W
"""ZONAL: lengths of the series for K and Θ, and of the series for their drift. `factors` holds them one after another:
K, drift of K, Θ, drift of Θ. A length of 0 means that the series is not wanted."""
HINGES = KERNEL_W
"""KINKS and its adjoint: index of the activation's hinges in the program's `factors`."""
NUMBER_STEP = KERNEL_H
"""KINKS, HARDSWISH and their adjoints: marginals of x from one number of a position to the next."""
TERMS = KERNEL_W
"""ZONAL_ADJOINT: length of the series. `factors` holds the series and then, equally long, that of its slope."""

# Constants.

WEIGHT, BIAS, WEIGHT_SHARE, BIAS_SHARE, CONSTANTS = range(5)
"""The affine rule: K <- WEIGHT K + BIAS and Θ <- WEIGHT_SHARE K + BIAS_SHARE + WEIGHT Θ."""
FACTOR = 0
"""MEAN and FILL: 1 over the number of pairs of positions of which the mean is taken."""
SLOPE, ORIGIN = 0, 1
"""RELU and KINKS: the activation's slope for negative arguments, next to zero; KINKS: its value at zero."""
PARITY = 0
"""HERMITE: which coefficients vanish, as `hermite` tells it."""
SHARP = 0
"""CORNER: 1 where the activation's slope jumps at zero, else 0."""
INVERSE_SQUARE = 0
"""ZONAL: 1 over the |x|² / d that all inputs share but for rounding."""


class Instruction(NamedTuple):
    """One line of the table.

    Attributes:
        name: the name of the constant for the operation.
        reads: what it reads, beside its columns and constants.
        writes: what it writes, and by which formula.
        columns: names of the columns that it uses, without OP.
        constants: names of the constants that it uses.
    """

    name: str
    reads: str
    writes: str
    columns: tuple[str, ...]
    constants: tuple[str, ...] = ()


_MAP = ("H", "W")
_PIXELS = ("X_START", "Z_START", "ROW_STEP")
_MARGINALS = (*_PIXELS, "POSITION_STEP")
_WINDOW = (
    *("IN_H", "IN_W", "KERNEL_H", "KERNEL_W", "START_H", "START_W"),
    *("STRIDE_H", "STRIDE_W", "DILATION_H", "DILATION_W"),
)
_AFFINE = ("WEIGHT", "BIAS", "WEIGHT_SHARE", "BIAS_SHARE")
_AFFINE_ADJOINT = ("WEIGHT", "WEIGHT_SHARE")


_DEVIATIONS = "the standard deviations of x and z"
_TABLES = "the tables of coefficients of x and z, with an entry for each marginal"
_ROOTS = f"{_DEVIATIONS}, and 1 / sqrt(1 + 2 s²) or 1 / sqrt(1 + s²) for each"
_AT_KINKS = "the numbers of x and z for the kinks"
_HINGES = "the numbers of x and z for each distance of hinges, and the hinges in `factors`"


def _activation(name: str, function: str, given: str, *constants: str, columns: tuple[str, ...] = ()) -> Instruction:
    """Return the line of an activation."""
    return Instruction(
        name,
        reads=f"SRC, and {given}",
        writes=f"DST: K <- E[φ(u) φ(v)], Θ <- Θ E[φ'(u) φ'(v)] for {function}",
        columns=("DST", "SRC", *_MAP, *_MARGINALS, "IN_FLOAT64", *columns),
        constants=constants,
    )


def _activation_adjoint(name: str, given: str, *constants: str, columns: tuple[str, ...] = ()) -> Instruction:
    """Return the line of the way back through an activation."""
    return Instruction(
        f"{name}_ADJOINT",
        reads=f"DST, VALUE, and {given}",
        writes="DST in place, and adds to the cotangents of the logarithms of x's standard deviations",
        columns=("DST", "VALUE", *_MAP, *_MARGINALS, "IN_FLOAT64", *columns),
        constants=constants,
    )


INSTRUCTIONS: dict[int, Instruction] = {
    # Inputs
    GRAM: Instruction(
        "GRAM",
        reads="the pixels of x and z",
        writes="DST: K <- mean over channels of x(p) z(p + Δ), Θ <- 0",
        columns=("DST", *_MAP, *_PIXELS),
    ),
    LOAD: Instruction(
        "LOAD",
        reads="the panel: covariances of inputs without positions, computed beforehand as a matrix product",
        writes="DST: K <- the panel, Θ <- 0",
        columns=("DST", *_MAP),
    ),
    # Layers
    AFFINE: Instruction(
        "AFFINE",
        reads="SRC",
        writes="DST: the affine rule of SRC, of a dense layer or a multiplication",
        columns=("DST", "SRC", *_MAP),
        constants=_AFFINE,
    ),
    WINDOW: Instruction(
        "WINDOW",
        reads="SRC, of IN_H x IN_W positions; outside the map it is zero",
        writes="DST: the affine rule of sums over a window of SRC; with ADDS, DST plus these sums",
        columns=("DST", "SRC", *_MAP, *_WINDOW, "ADDS", "IS_BOX", "FUSED"),
        constants=_AFFINE,
    ),
    RELU: _activation("RELU", "φ with a kink at zero", _DEVIATIONS, "SLOPE"),
    ERF: _activation("ERF", "φ = erf", _ROOTS, columns=("NUMBER_STEP",)),
    GELU: _activation("GELU", "the exact GELU", _ROOTS, columns=("NUMBER_STEP",)),
    HERMITE: _activation("HERMITE", "any smooth φ", _TABLES, "PARITY"),
    CORNER: _activation("CORNER", "φ smooth but at zero", f"{_DEVIATIONS}, {_TABLES}", "SHARP"),
    KINKS: _activation("KINKS", "φ with kinks anywhere", _HINGES, "SLOPE", "ORIGIN", columns=("HINGES", "NUMBER_STEP")),
    HARDSWISH: _activation("HARDSWISH", "φ = Hardswish", _AT_KINKS, columns=("NUMBER_STEP",)),
    NORMALISE: Instruction(
        "NORMALISE",
        reads="SRC, and the inverse standard deviations of x and z",
        writes="DST: K and Θ of SRC times the product of the two",
        columns=("DST", "SRC", *_MAP, *_MARGINALS),
    ),
    SUM: Instruction(
        "SUM",
        reads="SRC and SRC2",
        writes="DST: SRC + SRC2",
        columns=("DST", "SRC", "SRC2", *_MAP),
    ),
    # Poolings and means
    ZERO: Instruction("ZERO", reads="nothing", writes="DST: K <- 0, Θ <- 0", columns=("DST", *_MAP)),
    SCALE: Instruction(
        "SCALE",
        reads="DST, and one factor for each position",
        writes="DST: K and Θ times the factors",
        columns=("DST", "FACTORS", *_MAP),
    ),
    REDUCE: Instruction(
        "REDUCE",
        reads="SRC, of IN_H x IN_W positions",
        writes="DST in the work space of sums: those over all positions of K and, one vector further, of Θ",
        columns=("DST", "SRC", "IN_H", "IN_W", "ADDS"),
    ),
    MEAN: Instruction(
        "MEAN",
        reads="SRC in the work space of sums: IN_H pairs side by side, as REDUCE has left them",
        writes="DST: a map of one position, FACTOR times the two totals",
        columns=("DST", "SRC", *_MAP, "IN_H"),
        constants=("FACTOR",),
    ),
    # A whole network at once
    ZONAL: Instruction(
        "ZONAL",
        reads="DST: the covariance of the inputs, their standard deviations, and coefficients in `factors`",
        writes="DST: K and Θ of a network that depends on norms and angle alone, as Chebyshev series in the angle",
        columns=("DST", *_MAP, "NNGP_TERMS", "NNGP_DRIFT_TERMS", "NTK_TERMS", "NTK_DRIFT_TERMS"),
        constants=("INVERSE_SQUARE",),
    ),
    # Gradients: DST and SRC hold cotangents, VALUE holds values.
    SEED: Instruction(
        "SEED",
        reads="the weights of the output's entries",
        writes="DST: Θ̄ <- weights, K̄ <- 0, or the other way round",
        columns=("DST", *_MAP),
    ),
    FILL: Instruction(
        "FILL",
        reads="SRC, of one position",
        writes="DST: FACTOR times SRC at every position; the adjoint of REDUCE and MEAN together",
        columns=("DST", "SRC", *_MAP),
        constants=("FACTOR",),
    ),
    AFFINE_ADJOINT: Instruction(
        "AFFINE_ADJOINT",
        reads="DST",
        writes="DST: K̄ <- WEIGHT K̄ + WEIGHT_SHARE Θ̄, Θ̄ <- WEIGHT Θ̄",
        columns=("DST", *_MAP),
        constants=_AFFINE_ADJOINT,
    ),
    WINDOW_ADJOINT: Instruction(
        "WINDOW_ADJOINT",
        reads="SRC, of H x W positions: the output's side of the window",
        writes="DST, of IN_H x IN_W positions: each entry of SRC is added to all entries that its window read",
        columns=("DST", "SRC", *_MAP, *_WINDOW),
    ),
    BOX_ADJOINT: Instruction(
        "BOX_ADJOINT",
        reads="SRC",
        writes="DST: the adjoint of a WINDOW with IS_BOX, affine rule included",
        columns=("DST", "SRC", *_MAP, *_WINDOW, "IS_BOX", "FUSED"),
        constants=_AFFINE_ADJOINT,
    ),
    RELU_ADJOINT: _activation_adjoint("RELU", _DEVIATIONS, "SLOPE"),
    ERF_ADJOINT: _activation_adjoint("ERF", _ROOTS, columns=("NUMBER_STEP",)),
    GELU_ADJOINT: _activation_adjoint("GELU", _ROOTS, columns=("NUMBER_STEP",)),
    HERMITE_ADJOINT: _activation_adjoint("HERMITE", _TABLES, "PARITY"),
    CORNER_ADJOINT: _activation_adjoint("CORNER", f"{_DEVIATIONS}, {_TABLES}", "SHARP"),
    KINKS_ADJOINT: _activation_adjoint("KINKS", _HINGES, "SLOPE", "ORIGIN", columns=("HINGES", "NUMBER_STEP")),
    HARDSWISH_ADJOINT: _activation_adjoint("HARDSWISH", _AT_KINKS, columns=("NUMBER_STEP",)),
    NORMALISE_ADJOINT: Instruction(
        "NORMALISE_ADJOINT",
        reads="DST, VALUE, and the inverse standard deviations of x and z",
        writes="DST in place, and adds to the cotangents of the logarithms of x's inverse standard deviations",
        columns=("DST", "VALUE", *_MAP, *_MARGINALS),
    ),
    GRAM_ADJOINT: Instruction(
        "GRAM_ADJOINT",
        reads="SRC, and the pixels of z",
        writes="adds to the cotangents of x's pixels",
        columns=("SRC", *_MAP, *_PIXELS),
    ),
    LOAD_ADJOINT: Instruction(
        "LOAD_ADJOINT",
        reads="SRC",
        writes="the cotangents of the panel",
        columns=("SRC", *_MAP),
    ),
    ZONAL_ADJOINT: Instruction(
        "ZONAL_ADJOINT",
        reads="DST, VALUE: the covariance of the inputs, their standard deviations, and coefficients in `factors`",
        writes="DST: K̄ of the inputs, and adds to the cotangents of the logarithms of x's standard deviations",
        columns=("DST", "VALUE", *_MAP, "TERMS"),
    ),
}
"""The language, by operation."""
