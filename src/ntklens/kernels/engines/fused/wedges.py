"""The series of two kinks in the half gap of two inputs, which `kinks` and `hardswish` have in common.

`ntklens.kernels.rules.piecewise` tells the formulas, and the names A, B, T, L_n and M_n.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.tails import exponential, scaled_tail
from ntklens.kernels.engines.fused.vectors import INLINE, full, maximum, minimum, sqrt
from ntklens.kernels.rules.piecewise import LARGEST_B, TERMS

_TERMS = {types.float32: 20, types.float64: TERMS}
"""Terms of the series: what is missing is below 2e-8 and 1e-15."""
_FLAGS = ("contract", "nsz", "nnan", "ninf")
_LARGEST = 80.0
"""The largest α: beyond it what the sums are multiplied by is below exp(-80)."""


@intrinsic
def _series(context: Any, b: Any, t: Any, twice: Any, end: Any, first: Any) -> Any:
    """Return Σ T^n L_n(B) times M_n, M_n - M_(n+1), and M_n - 2 M_(n+1) + M_(n+2), with all terms written out.

    Args:
        context: Numba's.
        b: B.
        t: T.
        twice: 2 α.
        end: exp(-α).
        first: M_0.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        b, t, twice, end, moment = args

        def number(value: float) -> Any:
            return ir.Constant(b.type, [ir.Constant(b.type.element, value)] * LANES)

        def times(x: Any, y: Any) -> Any:
            return builder.fmul(x, y, flags=_FLAGS)

        def plus(x: Any, y: Any) -> Any:
            return builder.fadd(x, y, flags=_FLAGS)

        def minus(x: Any, y: Any) -> Any:
            return builder.fsub(x, y, flags=_FLAGS)

        product, square = times(b, t), times(t, t)
        before, term = number(0.0), number(1.0)  # T^n L_n
        sums = [number(0.0)] * 3

        def next_moment(n: int, moment: Any) -> Any:
            return minus(times(end, number(1 / (2 * n + 3))), times(times(twice, number(1 / (2 * n + 3))), moment))

        following = next_moment(0, moment)
        for n in range(_TERMS[sig.args[0].dtype]):
            after = next_moment(n + 1, following)
            first, second = minus(moment, following), minus(following, after)
            parts = moment, first, minus(first, second)
            sums = [plus(total, times(term, part)) for total, part in zip(sums, parts, strict=True)]
            m = n + 1
            factor = minus(times(t, number(2 - 1.5 / m)), times(product, number(1 / m)))
            grown = minus(times(factor, term), times(times(square, number(1 - 1.5 / m)), before))
            before, term, moment, following = term, grown, following, after
        return context.make_tuple(builder, sig.return_type, sums)

    sums: Any = types.UniTuple(b, 3)  # type: ignore[no-untyped-call]
    return sums(b, b, b, b, b), generate


@njit(**INLINE)
@no_type_check
def wedge(near, far, t):
    """Return a factor and three sums from A, B and T; the factor times a sum is C, C' or C'', not yet bounded."""
    alpha = minimum(near / maximum(t, full(t, 1e-20)), full(t, _LARGEST))
    x = sqrt(alpha)
    end = exponential(-1.0 * alpha)
    first = end * (1.0 - math.sqrt(math.pi) * (x * scaled_tail(x)))
    sum0, sum1, sum2 = _series(minimum(far, full(t, LARGEST_B)), t, 2.0 * alpha, end, first)
    return (1.0 / math.pi) * (sqrt(t) * exponential(-1.0 * far)), sum0, sum1, sum2
