"""Print the polynomials that the fused engine evaluates exponentials and tails of the normal distribution with.

    python tools/make_tail_polynomials.py

exp r for |r| <= log(2) / 2, in powers of r; and (x + 2) exp(x²) erfc(x) for x >= 0 in powers of y = (x - 2) / (x + 2),
which runs over [-1, 1) (Schonfelder 1978 uses such a variable). Both are Chebyshev interpolations, printed with their
relative error. Needs mpmath.
"""

import mpmath
from mpmath import mpf
from numpy.polynomial import chebyshev

mpmath.mp.dps = 60

_EDGE = mpmath.log(2) / 2


def exponential(y: mpf) -> mpf:
    """Compute exp r at r = y log(2) / 2."""
    return mpmath.exp(y * _EDGE)


def tail(y: mpf) -> mpf:
    """Compute (x + 2) exp(x²) erfc(x) at x = 2 (1 + y) / (1 - y)."""
    if y == 1:
        return 1 / mpmath.sqrt(mpmath.pi)
    x = 2 * (1 + y) / (1 - y)
    # exp(x²) erfc(x) = U(1/2, 1/2, x²) / sqrt(π), without an overflow far out.
    return (x + 2) * mpmath.hyperu(mpf(1) / 2, mpf(1) / 2, x * x) / mpmath.sqrt(mpmath.pi)


def fit(function, degree: int) -> list[mpf]:
    """Interpolate at Chebyshev points; return the coefficients of powers of y, the constant first."""
    n = degree + 1
    angles = [mpmath.pi * (2 * i + 1) / (2 * n) for i in range(n)]
    values = [function(mpmath.cos(angle)) for angle in angles]
    sums = [sum(v * mpmath.cos(j * a) for v, a in zip(values, angles, strict=True)) * 2 / n for j in range(n)]
    sums[0] /= 2
    powers = [mpf(0)] * n
    for j, share in enumerate(sums):
        for power, c in enumerate(chebyshev.cheb2poly([0] * j + [1])):
            powers[power] += share * int(c)
    return powers


def error(function, coefficients: list[float]) -> float:
    """Return the largest relative error on a grid, but for rounding."""
    grid = [mpf(i) / 500 for i in range(-500, 501)]
    return float(max(abs(mpmath.polyval(coefficients[::-1], y) / function(y) - 1) for y in grid))


for name, function, degrees in (("EXP", exponential, (6, 11)), ("TAIL", tail, (11, 24))):
    for bits, degree in zip((32, 64), degrees, strict=True):
        powers = fit(function, degree)
        scaled = [c / _EDGE**i for i, c in enumerate(powers)] if name == "EXP" else powers
        print(f"# relative error {error(function, powers):.1e}\n_{name}_{bits} = {tuple(float(c) for c in scaled)}")
