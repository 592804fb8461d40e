"""Programs whose time does not grow with depth: a kernel of norms and angle alone is a series in the angle.

Without biases, a network of dense layers and piecewise linear activations is homogeneous: K and Θ are |x| |z| / d N(θ)
for one function N of the angle. With biases, normalisations, erf or GELU this holds for inputs that share one norm. N is
smooth in θ on [0, π], though not in cos θ, which has kinks at both ends. So its Chebyshev series in 2 θ / π - 1 converges
geometrically, and what a shortened series lacks is at most the sum of the absolute values of its missing coefficients.
For ten layers of ReLU, 18 terms are enough in float32 and 37 in float64.

The coefficients are computed once for a network, by interpolation of the recursion in many digits. In float64, rounding
would hide the small coefficients at which a series is cut.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import torch
from mpmath import mpf
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.program import FLAT_WIDTH, Program, instruction
from ntklens.kernels.rules.duals import GELU, Dual, Erf, LeakyReLU
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import (
    Activation,
    Dense,
    Flatten,
    GlobalPool,
    Input,
    Normalise,
    Operation,
    Scale,
    Sum,
)

_DIGITS = 30
"""Decimal digits of the recursion from which the series are interpolated."""
_ONE = 1 << 100
"""The number 1 in the fixed-point arithmetic of the interpolation."""
_TERMS_PER_LAYER = 16
"""A series with more terms than this per layer takes as much time as the layers themselves."""
_FEWEST_LAYERS = 2
"""A single layer is faster by its formula, which also keeps the relative precision where K vanishes, at θ = π."""
_CAPACITY = 12
"""Series that are remembered for a network: three for each of the last norms."""
_NEGLIGIBLE = {torch.float32: 2.0**-26, torch.float64: 2.0**-54}
"""What the missing terms may sum to, relative to the largest coefficient."""
_SPREAD = {torch.float32: 4e-6, torch.float64: 1e-13}
"""Relative difference of |x|² up to which inputs share one norm: more than rounding leaves of normalised inputs."""
_BITS = {torch.float32: 20, torch.float64: 45}
"""Bits to which the shared norm is rounded, so that batches of one data set find the same one."""


def common_square(squares: Tensor, dtype: torch.dtype) -> float | None:
    """Return the |x|² / d that all these inputs share, or None if they do not share one, or are one.

    Args:
        squares: |x|² / d of each input, (n,).
        dtype: the dtype of the inputs, which says how far they may differ by rounding.
    """
    mantissa, exponent = math.frexp(float(squares.mean()))
    square = math.ldexp(round(math.ldexp(mantissa, _BITS[dtype])), exponent - _BITS[dtype])
    if (
        len(squares) == 1
    ):  # one input shares its norm with nobody, and must not be computed in another way than among others
        return None
    return square if square > 0 and bool(shares_square(squares, square, dtype).all()) else None


def shares_square(squares: Tensor, square: float, dtype: torch.dtype) -> Tensor:
    """Return which of the inputs have this |x|² / d but for rounding: (n,) bool."""
    return (squares - square).abs() <= _SPREAD[dtype] * square


def homogeneous(graph: Graph) -> bool:
    """Return whether K and Θ are proportional to the product of the inputs' norms."""
    return all(_keeps_degree(node.operation) for node in graph.nodes)


def _keeps_degree(operation: Operation) -> bool:
    if isinstance(operation, Dense):
        return operation.scales.b_std == 0 and operation.scales.bias_share == 0
    return isinstance(operation, (Input, Sum, Scale, Flatten, GlobalPool)) or _is_relu(operation)


def _is_relu(operation: Operation) -> bool:
    return isinstance(operation, Activation) and isinstance(operation.dual, LeakyReLU)


_DUALS = (LeakyReLU, Erf, GELU)
"""The activations of which `_activated` knows the formulas."""


class AngleSeries:
    """The Chebyshev series of a graph's kernels in the angle, and the programs that evaluate them.

    A series costs an interpolation in many digits, so the last few are kept, one for each norm of the inputs.

    Args:
        graph: a network without positions. A series is made where its activations are piecewise linear, erf or GELU.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.homogeneous = homogeneous(graph)
        activations = [node.operation for node in graph.nodes if isinstance(node.operation, Activation)]
        # Without a formula in many digits for each of them, there is no layer to make a series of.
        self._layers = len(activations) if all(isinstance(a.dual, _DUALS) for a in activations) else 0
        self._series: dict[float, dict[str, NDArray[Any]]] = {}

    def forward(self, kinds: tuple[str, ...], dtype: torch.dtype, square: float | None) -> Program | None:
        """Return a program for the kernels, or None where the layers themselves are faster.

        Args:
            kinds: "nngp", "ntk" or both.
            dtype: the dtype of the inputs, whose precision the series has.
            square: |x|² / d of the inputs; None if the graph is homogeneous, which fits all of them.
        """
        coefficients: list[float] = []
        columns: dict[str, int] = {}
        for kind in [kind for kind in ("nngp", "ntk") if kind in kinds]:
            series = self._coefficients(kind, dtype, square or 1.0)
            if series is None:
                return None
            drift = [] if square is None else self._drift(kind, square)
            columns |= {f"{kind}_terms": len(series), f"{kind}_drift_terms": len(drift)}
            coefficients += [*series, *drift]
        inverse_square = 1.0 / (square or 1.0)
        return _program(
            [
                instruction(codes.LOAD, dst=0, **_EXTENT),
                instruction(codes.ZONAL, (inverse_square,), dst=0, **columns, **_EXTENT),
            ],
            coefficients,
        )

    def adjoint(self, kind: str, dtype: torch.dtype) -> Program | None:
        """Return the program of a homogeneous kernel's gradient, or None where the layers themselves are faster."""
        series = self._coefficients(kind, dtype, 1.0, slopes=True)
        if series is None:
            return None
        # The derivative by θ of a series in y = 2 θ / π - 1, with a zero that makes it as long as the series.
        slopes = [*(chebyshev.chebder(series) * (2 / np.pi)).tolist(), 0.0]
        values, cotangents = 0, FLAT_WIDTH  # addresses
        return _program(
            [
                instruction(codes.LOAD, dst=values, **_EXTENT),
                instruction(codes.SEED, dst=cotangents, **_EXTENT),
                instruction(codes.ZONAL_ADJOINT, dst=cotangents, value=values, terms=len(series), **_EXTENT),
                instruction(codes.LOAD_ADJOINT, src=cotangents, **_EXTENT),
            ],
            [*series, *slopes],
        )

    def _coefficients(
        self, kind: str, dtype: torch.dtype, square: float, *, slopes: bool = False
    ) -> list[float] | None:
        """Return the series that the dtype needs, also for its slopes; None where layers are faster."""
        if self._layers < _FEWEST_LAYERS or square <= 0:
            return None
        series = self._full_series(square)[kind]
        # Bounds of the terms on [-1, 1]: |T_j| <= 1, and |T_j'| <= j².
        bounds = np.abs(series) * (np.arange(len(series)) ** 2 if slopes else 1)
        short = _shortened(series, bounds, _NEGLIGIBLE[dtype])
        return None if short is None or len(short) > _TERMS_PER_LAYER * self._layers else short

    def _drift(self, kind: str, square: float) -> list[float]:
        """Return the series of what the kernel gains per relative growth of |x| |z|, beside its proportional share.

        With q = |x| |z| / d and the kernel q N_q(θ), that is M = d(q N_q) / d(log q) - q N_q, by a central difference.
        It is multiplied by differences of the size of rounding, so a few terms are enough.
        """
        step = 2.0**-12
        larger = self._full_series(square * (1 + step))[kind] * (1 + step)
        smaller = self._full_series(square * (1 - step))[kind] * (1 - step)
        series = square * ((larger - smaller) / (2 * step) - self._full_series(square)[kind])
        return _shortened(series, np.abs(series), 2.0**-9) or series.tolist()

    def _full_series(self, square: float) -> dict[str, NDArray[Any]]:
        """Return all coefficients for inputs of this |x|² / d, from memory where they are among the last few."""
        if square not in self._series:
            if len(self._series) > _CAPACITY:
                self._series.pop(next(iter(self._series)))
            # Double the number of terms until the last ones vanish, or until the layers themselves are faster.
            for terms in (32, 64, 128):
                self._series[square] = _series(self.graph, square, terms)
                complete = all(_is_complete(series) for series in self._series[square].values())
                if complete or terms >= _TERMS_PER_LAYER * self._layers:
                    break
        return self._series[square]


_EXTENT = {"h": 1, "w": FLAT_WIDTH}
"""Rows and columns of the one map of inputs without positions."""


def _program(instructions: list[tuple[list[int], list[float]]], coefficients: list[float]) -> Program:
    code = np.array([row for row, _ in instructions], np.int64)
    return Program(
        code=code,
        constants=np.array([numbers for _, numbers in instructions]),
        factors=np.array(coefficients),
        size=int(code[:, codes.DST].max()) + FLAT_WIDTH,
        marginals={(0, None): 0},  # the standard deviations of the inputs themselves
        marginal_size=1,
        table_size=0,
        width=FLAT_WIDTH,
    )


def _shortened(series: NDArray[Any], bounds: NDArray[Any], negligible: float) -> list[float] | None:
    """Return the first terms, such that the missing ones are negligible; None if every term is needed.

    Args:
        series: coefficients.
        bounds: of each term, the largest absolute value.
        negligible: what the missing terms may sum to, relative to the largest coefficient.
    """
    missing = np.cumsum(bounds[::-1])[::-1]  # the sum of this bound and all later ones
    enough = np.flatnonzero(missing <= negligible * np.abs(series).max())
    return series[: max(int(enough[0]), 1)].tolist() if len(enough) else None


def _is_complete(series: NDArray[Any]) -> bool:
    """Return whether the last terms are below rounding.

    Interpolation adds to each coefficient those of higher terms that agree with its own at the nodes. Where the last
    coefficients vanish, so do those beyond them.
    """
    return bool(np.abs(series[-4:]).max() <= 2.0**-57 * np.abs(series).max())


def _series(graph: Graph, square: float, terms: int) -> dict[str, NDArray[Any]]:
    """Compute the Chebyshev coefficients of both kernels over `square`, by interpolation at the zeros of T_n.

    With n terms and nodes y_m = cos(π m / 2n) for m = 1, 3, ..., 2n - 1, where T_j(y_m) = cos(π j m / 2n),

        c_j = 2/n Σ_m f(y_m) cos(π j m / 2n) for j >= 1, and half of that for j = 0.
    """
    with mpmath.workdps(_DIGITS):
        # cos(π i / 2n) has period 4n in i.
        cosines = [mpmath.cos(mpmath.pi * i / (2 * terms)) for i in range(4 * terms)]
        nodes = np.arange(1, 2 * terms, 2)
        pairs = [_values(graph, mpmath.pi * (cosines[m] + 1) / 2, mpf(square)) for m in nodes]
        # Arrays of whole numbers: their products and sums lose no digits, and take less time than mpmath's.
        values = np.array([[_fixed(v / square) for v in pair] for pair in pairs], object)
        table = np.array([_fixed(c) for c in cosines], object)
    sums = table[np.outer(np.arange(terms), nodes) % (4 * terms)] @ values
    series = np.array([[float(Fraction(int(s), _ONE * _ONE)) for s in row] for row in sums]) * (2 / terms)
    series[0] /= 2
    return {"nngp": series[:, 0], "ntk": series[:, 1]}


def _fixed(v: mpf) -> int:
    """Return a number in units of 1 / _ONE."""
    return int(mpmath.nint(v * _ONE))


def _values(graph: Graph, angle: mpf, square: mpf) -> tuple[mpf, mpf]:
    """Compute K and Θ at an angle between two inputs of one |x|² / d, in `_DIGITS` digits.

    This is the recursion in its plainest form. Both inputs have one norm, and so have their images in every layer:
    one variance q stands for both, and K / q is the cosine of the angle.
    """
    states: list[tuple[mpf, mpf, mpf]] = []  # K, Θ and q of each node
    for node in graph.nodes:
        operation = node.operation
        k, theta, q = states[node.inputs[0]] if node.inputs else (square * mpmath.cos(angle), mpf(0), square)
        if isinstance(operation, Dense):
            scales = operation.scales
            w, b = mpf(scales.w_std) ** 2, mpf(scales.b_std) ** 2
            theta = scales.weight_share * k + scales.bias_share + w * theta
            k, q = w * k + b, w * q + b
        elif isinstance(operation, Activation):
            k, slope, q = _activated(operation.dual, k, q)
            theta *= slope
        elif isinstance(operation, Normalise):
            factor = 1 / (q + mpf(operation.eps))
            k, theta, q = k * factor, theta * factor, q * factor
        elif isinstance(operation, Sum):
            k, theta, q = (sum(column) for column in zip(*(states[i] for i in node.inputs), strict=True))
        elif isinstance(operation, Scale):
            factor = mpf(operation.factor) ** 2
            k, theta, q = k * factor, theta * factor, q * factor
        states.append((k, theta, q))
    return states[-1][:2]


def _activated(dual: Dual, k: mpf, q: mpf) -> tuple[mpf, mpf, mpf]:
    """Return E[φ(u) φ(v)], E[φ'(u) φ'(v)] and E[φ(u)²] for a covariance k and the variance q of both."""
    if isinstance(dual, LeakyReLU):
        # Cho & Saul 2009, for the slope a; the formulas are told in `relu`.
        a = mpf(dual.slope)
        c = max(-1, min(1, k / q))
        apart = mpmath.pi - mpmath.acos(c)
        both = (1 - a) ** 2 / (2 * mpmath.pi)
        return both * q * (mpmath.sqrt(1 - c * c) + apart * c) + a * k, both * apart + a, (1 + a * a) / 2 * q
    if isinstance(dual, Erf):
        (value, slope), (variance, _) = (_erf_expectations(v, q) for v in (k, q))
        return value, slope, variance
    if isinstance(dual, GELU):
        (value, slope), (variance, _) = (_gelu_expectations(v, q) for v in (k, q))
        return value, slope, variance
    raise TypeError(f"no formula for {dual}")


def _erf_expectations(k: mpf, q: mpf) -> tuple[mpf, mpf]:
    """Return E[φφ] and E[φ'φ'] of erf; the formulas are told in `smooth`."""
    a = 1 + 2 * q
    return 2 / mpmath.pi * mpmath.asin(2 * k / a), 4 / mpmath.pi / mpmath.sqrt(a * a - 4 * k * k)


def _gelu_expectations(k: mpf, q: mpf) -> tuple[mpf, mpf]:
    """Return E[φφ] and E[φ'φ'] of GELU; the formulas are told in `smooth`."""
    a = 1 + q
    gap = a * a - k * k
    level, density, e = (
        mpf(1) / 4 + mpmath.asin(k / a) / (2 * mpmath.pi),
        1 / (2 * mpmath.pi * mpmath.sqrt(gap)),
        2 / a - 1,
    )
    mixed = q * q + e * k * k
    return k * level + density * mixed, level + k * density * (1 + e + 1 / gap)
