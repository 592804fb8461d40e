"""Exponentials and tails of the normal distribution on vectors.

exp x = 2^n exp r with the integer n nearest to x / log 2 and |r| <= log(2) / 2. The tail is Q(z) = exp(-x²) E(x) / 2 with
x = z / sqrt(2) and E(x) = exp(x²) erfc(x), which is smooth: (x + 2) E(x) is a polynomial in (x - 2) / (x + 2).
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import INLINE, absolute, full, maximum, polynomial, select

# Printed by tools/make_tail_polynomials.py.
_EXP_32 = (
    1.0, 1.000000037716214, 0.5000000047117757, 0.16666415514653277, 0.04166635289677516, 0.008375126398153335,
    0.0013941108433972674,
)  # fmt: skip
_EXP_64 = (
    1.0, 1.0, 0.5000000000000019, 0.1666666666666668, 0.0416666666664881, 0.008333333333319601, 0.0013888888952314775,
    0.00019841269890047113, 2.4801485482328494e-05, 2.755724091857897e-06, 2.763263963904103e-07, 2.5110037605963777e-08,
)  # fmt: skip
_TAIL_32 = (
    1.0215827141123146, -0.6871606810631262, 0.27947145288706066, -0.03644247403365148, -0.021503138549792564,
    0.006482091847823684, 0.0030579946453932524, -0.0008503942134569863, -0.0005983993387524499, 6.229687412065206e-05,
    8.41757491682028e-05, 3.954668570762427e-06,
)  # fmt: skip
_TAIL_64 = (
    1.021582705242023, -0.6871606844138132, 0.2794720925560509, -0.03644223150661309, -0.021510661889086805,
    0.0064791850596462915, 0.003090612047047431, -0.00083729594910694, -0.0006630733344214594, 3.437055409921287e-05,
    0.00014446940306012078, 3.4153092552195884e-05, -2.1689660957160787e-05, -1.6133737897718684e-05,
    -1.1465494066088844e-06, 3.6693527432903766e-06, 2.047343518995146e-06, -3.055120306157248e-08, -6.380976152588791e-07,
    -3.000474633974813e-07, 6.247579905692851e-08, 1.0315803085323175e-07, 1.6662796605977078e-08, -1.3237095475233435e-08,
    -4.4249307570099696e-09,
)  # fmt: skip

_exp_of_rest = polynomial(_EXP_32, _EXP_64)
_tail_of_place = polynomial(_TAIL_32, _TAIL_64)

# For float32 and float64: 1.5 · 2^(bits of the mantissa), bits of the mantissa, integers of the same size, and log 2 in two
# parts, the first of which has so few bits that its product with n is exact.
_FORMATS = {
    types.float32: (1.5 * 2.0**23, 23, ir.IntType(32), (0.693359375, -2.12194440054690583e-04)),
    types.float64: (1.5 * 2.0**52, 52, ir.IntType(64), (0.6931471803691238, 1.9082149292705877e-10)),
}
_LOWEST = {types.float32: -87.0, types.float64: -708.0}
_FLAGS = ("contract", "nsz", "nnan", "ninf")


def _constant(kind: Any, number: float) -> Any:
    return ir.Constant(kind, [ir.Constant(kind.element, number)] * LANES)


@intrinsic
def _shifted(context: Any, x: Any) -> Any:
    """Return x / log 2 + 1.5 · 2^m, whose last bits are the integer nearest to x / log 2: m bits have no place for more."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, magic = args[0].type, _FORMATS[sig.args[0].dtype][0]
        product = builder.fmul(args[0], _constant(kind, 1 / math.log(2)), flags=_FLAGS)
        return builder.fadd(product, _constant(kind, magic), flags=_FLAGS)

    return x(x), generate


@intrinsic
def _rest(context: Any, x: Any, shifted: Any) -> Any:
    """Return x - n log 2."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, (magic, _, _, parts) = args[0].type, _FORMATS[sig.args[0].dtype]
        rest, n = args[0], builder.fsub(args[1], _constant(kind, magic), flags=_FLAGS)
        for part in parts:
            rest = builder.fsub(rest, builder.fmul(n, _constant(kind, part), flags=_FLAGS), flags=_FLAGS)
        return rest

    return x(x, x), generate


@intrinsic
def _scaled(context: Any, v: Any, shifted: Any) -> Any:
    """Return 2^n v: the integer is added to the exponent, which stands before the bits of the mantissa."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, bits, integer, _ = _FORMATS[sig.args[0].dtype]
        kind = ir.VectorType(integer, LANES)
        places = ir.Constant(kind, [ir.Constant(integer, bits)] * LANES)
        exponents = builder.shl(builder.bitcast(args[1], kind), places)
        return builder.bitcast(builder.add(builder.bitcast(args[0], kind), exponents), args[0].type)

    return v(v, v), generate


@intrinsic
def _lowest(context: Any, like: Any) -> Any:
    """Return the lowest argument of `exponential`, in every lane."""
    return like(like), lambda context, builder, sig, args: _constant(args[0].type, _LOWEST[sig.args[0].dtype])


@njit(**INLINE)
@no_type_check
def exponential(x):
    """Return exp x for x <= 0; below about -87 in float32, and -708 in float64, what it is there, which is tiny."""
    x = maximum(x, _lowest(x))
    shifted = _shifted(x)
    return _scaled(_exp_of_rest(_rest(x, shifted)), shifted)


@njit(**INLINE)
@no_type_check
def scaled_tail(x):
    """Return exp(x²) erfc(x) for x >= 0."""
    inverse = 1.0 / (x + 2.0)
    return inverse * _tail_of_place(1.0 - 4.0 * inverse)


@njit(**INLINE)
@no_type_check
def tail(z):
    """Return Q(z), the probability that a standard Gaussian is larger, to the rounding of the larger of Q(z) and Q(-z)."""
    x = math.sqrt(0.5) * absolute(z)
    small = 0.5 * (exponential(-1.0 * (x * x)) * scaled_tail(x))
    return select(z < 0.0, full(z, 1.0) - small, small)
