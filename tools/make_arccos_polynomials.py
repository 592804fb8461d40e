"""Prints the polynomials of `ntklens.kernels.engines.fused.vm`: Chebyshev fits on [0, 1], in powers of 2 g - 1.

With g = 1 - |c| and θ = arccos|c|: θ = sqrt(g) P(g), and sqrt(1 - c²) - |c| θ = g sqrt(g) S(g). P and S are smooth on
[0, 1], so that the angle of two near inputs keeps its relative precision. Needs mpmath.
"""

import mpmath
import numpy as np
from numpy.polynomial import chebyshev

mpmath.mp.dps = 40


def angle(g: mpmath.mpf) -> mpmath.mpf:
    """P."""
    return mpmath.acos(1 - g) / mpmath.sqrt(g)


def excess(g: mpmath.mpf) -> mpmath.mpf:
    """S."""
    return (mpmath.sqrt(g * (2 - g)) - (1 - g) * mpmath.acos(1 - g)) / g ** mpmath.mpf(1.5)


def fit(function, degree: int) -> list[float]:
    """Interpolation at Chebyshev points."""
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    values = np.array([float(function(mpmath.mpf((t + 1) / 2))) for t in nodes])
    return [float(c) for c in chebyshev.cheb2poly(chebyshev.chebfit(nodes, values, degree))]


def error(function, coefficients: list[float]) -> float:
    """Worst relative error on a fine grid."""
    grid = np.linspace(1e-9, 1, 2001)
    truth = np.array([float(function(mpmath.mpf(g))) for g in grid])
    return float(np.abs(np.polyval(coefficients[::-1], 2 * grid - 1) / truth - 1).max())


for name, function in (("ANGLE", angle), ("EXCESS", excess)):
    for bits, degree in ((32, 7), (64, 17)):
        coefficients = fit(function, degree)
        print(f"# relative error {error(function, coefficients):.1e}\n{name}_{bits} = {tuple(coefficients)}")
