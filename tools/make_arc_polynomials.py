"""Print the polynomials that the fused engine evaluates arc functions with (`ANGLE_*`, `EXCESS_*` and `ARCTAN_*`).

    python tools/make_arc_polynomials.py

With g = 1 - |c| and θ = arccos|c|:  θ = sqrt(g) P(g)  and  sqrt(1 - c²) - |c| θ = g sqrt(g) S(g). P and S are smooth on
[0, 1], so that the angle of two near inputs keeps its relative precision. They are fitted by Chebyshev interpolation and
printed in powers of 2 g - 1, with their relative error.

arcsin c = 2 arctan t with t = c / (1 + sqrt(1 - c²)), which is at most 1, and arctan t = t T(g) with g = t². Needs mpmath.
"""

import mpmath
import numpy as np
from numpy.polynomial import chebyshev

mpmath.mp.dps = 40


def angle(g: mpmath.mpf) -> mpmath.mpf:
    """Compute P(g) = arccos(1 - g) / sqrt(g)."""
    return mpmath.acos(1 - g) / mpmath.sqrt(g)


def excess(g: mpmath.mpf) -> mpmath.mpf:
    """Compute S(g) = (sqrt(g (2 - g)) - (1 - g) arccos(1 - g)) / g^(3/2)."""
    return (mpmath.sqrt(g * (2 - g)) - (1 - g) * mpmath.acos(1 - g)) / g ** mpmath.mpf(1.5)


def arctan(g: mpmath.mpf) -> mpmath.mpf:
    """Compute T, the arc tangent of a root over the root."""
    root = mpmath.sqrt(g)
    return mpmath.atan(root) / root


def fit(function, degree: int) -> list[float]:
    """Interpolate at Chebyshev points; return the coefficients of powers of 2 g - 1, the constant first."""
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    values = np.array([float(function(mpmath.mpf((t + 1) / 2))) for t in nodes])
    return [float(c) for c in chebyshev.cheb2poly(chebyshev.chebfit(nodes, values, degree))]


def error(function, coefficients: list[float]) -> float:
    """Return the largest relative error on a fine grid."""
    grid = np.linspace(1e-9, 1, 2001)
    truth = np.array([float(function(mpmath.mpf(g))) for g in grid])
    return float(np.abs(np.polyval(coefficients[::-1], 2 * grid - 1) / truth - 1).max())


# These degrees reach the rounding of float32 and of float64.
for name, function, degrees in (("ANGLE", angle, (7, 17)), ("EXCESS", excess, (7, 17)), ("ARCTAN", arctan, (8, 20))):
    for bits, degree in zip((32, 64), degrees, strict=True):
        coefficients = fit(function, degree)
        print(f"# relative error {error(function, coefficients):.1e}\n{name}_{bits} = {tuple(coefficients)}")
