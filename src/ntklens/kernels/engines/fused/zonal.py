"""Programs whose time does not grow with depth: a kernel of norms and angle alone is a series in the angle.

Without biases a network of dense layers and piecewise linear activations is homogeneous, so that K and Θ are
|x| |z| / d N(θ); with biases, or normalisations, they are so on inputs of one norm. N is smooth on [0, π] in θ (not in
cos θ), and its Chebyshev series is short: for ten layers 18 terms in float32 and 37 in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from ntklens.kernels.engines.fused.program import FLAT_WIDTH, Marginal, Program
from ntklens.kernels.rules.duals import LeakyReLU
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
_TERMS_A_LAYER = 16
"""A longer series than this takes as much time as the layers themselves."""
_ONE = 1 << 100
_MOST_KEPT = 12
"""Series that a graph keeps, three for each norm."""
_FEWEST_LAYERS = 2
"""A single layer is faster by its formula, which also keeps the relative precision where K vanishes, at θ = π."""
_SMALL = {torch.float32: 2.0**-26, torch.float64: 2.0**-54}
"""What the terms left out may sum to, relative to the largest value."""


_SPREAD = {torch.float32: 4e-6, torch.float64: 1e-13}
"""Relative differences of |x|² up to which inputs have one norm: what rounding leaves of normalised inputs, and more."""
_BITS = {torch.float32: 20, torch.float64: 45}
"""To which that norm is rounded, so that batches of one data set have the same."""


def one_norm(square: Tensor, dtype: torch.dtype) -> float | None:
    """The |x|² / d that all these inputs have, if they have one."""
    mantissa, exponent = math.frexp(float(square.mean()))
    norm = math.ldexp(round(math.ldexp(mantissa, _BITS[dtype])), exponent - _BITS[dtype])
    return norm if norm > 0 and bool(of_norm(square, norm, dtype).all()) else None


def of_norm(square: Tensor, norm: float, dtype: torch.dtype) -> Tensor:
    """Which of the inputs have it."""
    return (square - norm).abs() <= _SPREAD[dtype] * norm


def homogeneous(graph: Graph) -> bool:
    """Whether K and Θ grow with the product of the inputs' norms."""
    return all(_keeps_degree(node.operation) for node in graph.nodes)


def _keeps_degree(operation: Operation) -> bool:
    if isinstance(operation, Dense):
        return operation.scales.b_std == 0 and operation.scales.bias_share == 0
    return isinstance(operation, (Input, Sum, Scale, Flatten, GlobalPool)) or _is_relu(operation)


def _is_relu(operation: Operation) -> bool:
    return isinstance(operation, Activation) and isinstance(operation.dual, LeakyReLU)


class AngleSeries:
    """The Chebyshev series of a graph's kernels in the angle, and the programs that evaluate them.

    A series costs an interpolation in many digits, so the last few are kept, one for each norm of the inputs.

    Args:
        graph: a network without positions, of dense layers, piecewise linear activations, normalisations and sums.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.homogeneous = homogeneous(graph)
        self._layers = sum(_is_relu(node.operation) for node in graph.nodes)
        self._series: dict[float, dict[str, NDArray[Any]]] = {}

    def forward(self, kinds: tuple[str, ...], dtype: torch.dtype, norm: float | None) -> Program | None:
        """Return a program for inputs of this |x|² / d (any, if the graph is homogeneous); None where layers are faster."""
        coefficients: list[float] = []
        counts: dict[str, int] = {}
        for kind, n, m in (("nngp", "nngp_terms", "nngp_drift_terms"), ("ntk", "ntk_terms", "ntk_drift_terms")):
            if kind not in kinds:
                continue
            series = self._coefficients(kind, dtype, norm or 1.0)
            if series is None:
                return None
            drift = [] if norm is None else self._drift(kind, norm)
            counts |= {n: len(series), m: len(drift)}
            coefficients += [*series, *drift]
        rows = [_row(codes.LOAD, 0), _row(codes.ZONAL, 0, **counts)]
        return _program(rows, coefficients, 1, 1.0 / (norm or 1.0))

    def adjoint(self, kind: str, dtype: torch.dtype) -> Program | None:
        """Return the gradient's program for a homogeneous graph; None where layers are faster."""
        series = self._coefficients(kind, dtype, 1.0, slopes=True)
        if series is None:
            return None
        slopes = [*(chebyshev.chebder(series) * (2 / np.pi)).tolist(), 0.0]  # by θ; the series is in 2 θ / π - 1
        rows = [
            _row(codes.LOAD, 0),
            _row(codes.SEED, FLAT_WIDTH),
            _row(codes.ZONAL_ADJOINT, FLAT_WIDTH, value=0, terms=len(series)),
            _row(codes.LOAD_ADJOINT, 0, src=FLAT_WIDTH),
        ]
        return _program(rows, [*series, *slopes], 2)

    def _coefficients(
        self, kind: str, dtype: torch.dtype, square: float, *, slopes: bool = False
    ) -> list[float] | None:
        """Return the series that the dtype needs, also for its slopes; None where layers are faster."""
        if self._layers < _FEWEST_LAYERS or square <= 0:
            return None
        series = self._full_series(square)[kind]
        largest = np.abs(series) * (np.arange(len(series)) ** 2 if slopes else 1)  # |T_j'| <= j²
        short = _short(series, largest, _SMALL[dtype])
        return None if short is None or len(short) > _TERMS_A_LAYER * self._layers else short

    def _drift(self, kind: str, norm: float) -> list[float]:
        """Return what the kernel gains per relative growth of the norms' product, beside its proportional share.

        It is multiplied by differences of the size of rounding, so a few terms are enough.
        """
        step = 2.0**-12
        more, less = (self._full_series(norm * factor)[kind] * factor for factor in (1 + step, 1 - step))
        series = norm * ((more - less) / (2 * step) - self._full_series(norm)[kind])
        return _short(series, np.abs(series), 2.0**-9) or series.tolist()

    def _full_series(self, square: float) -> dict[str, NDArray[Any]]:
        """All coefficients for inputs of this |x|² / d, from memory where they are among the last few."""
        if square not in self._series:
            if len(self._series) > _MOST_KEPT:
                self._series.pop(next(iter(self._series)))
            # Double the number of terms until the last ones vanish, or until the layers themselves are faster.
            for terms in (32, 64, 128):
                self._series[square] = _series(self.graph, square, terms)
                complete = all(_is_complete(series) for series in self._series[square].values())
                if complete or terms >= _TERMS_A_LAYER * self._layers:
                    break
        return self._series[square]


def _row(op: int, dst: int, **columns: int) -> list[int]:
    row = [0] * codes.COLUMNS
    row[codes.OP], row[codes.DST], row[codes.H], row[codes.W] = op, dst, 1, FLAT_WIDTH
    for name, value in columns.items():
        row[getattr(codes, name.upper())] = value
    return row


def _program(rows: list[list[int]], coefficients: Sequence[float], maps: int, constant: float = 0.0) -> Program:
    constants = np.full((len(rows), codes.CONSTANTS), constant)
    marginals: dict[Marginal, int] = {(0, None): 0}
    return Program(
        np.array(rows, np.int64), constants, np.array(coefficients), maps * FLAT_WIDTH, marginals, 1, FLAT_WIDTH
    )


def _short(series: NDArray[Any], largest: NDArray[Any], small: float) -> list[float] | None:
    """The first terms, when those left out are small beside the whole; None when none may be left out."""
    left_out = np.cumsum(largest[::-1])[::-1]
    enough = np.flatnonzero(left_out <= small * np.abs(series).max())
    return series[: max(int(enough[0]), 1)].tolist() if len(enough) else None


def _is_complete(series: NDArray[Any]) -> bool:
    """Whether the last terms, whose multiples interpolation adds to the first, are below rounding."""
    return bool(np.abs(series[-4:]).max() <= 2.0**-57 * np.abs(series).max())


def _series(graph: Graph, square: float, terms: int) -> dict[str, NDArray[Any]]:
    """Chebyshev coefficients of both kernels over `square`, by interpolation at the zeros of T_terms."""
    with mpmath.workdps(_DIGITS):
        cosines = [mpmath.cos(mpmath.pi * i / (2 * terms)) for i in range(4 * terms)]
        nodes = np.arange(1, 2 * terms, 2)
        pairs = [_values(graph, mpmath.pi * (cosines[i] + 1) / 2, mpf(square)) for i in nodes]
        values = np.array([[_fixed(v / square) for v in pair] for pair in pairs], object)
        table = np.array([_fixed(c) for c in cosines], object)
    sums = table[np.outer(np.arange(terms), nodes) % (4 * terms)] @ values
    series = np.array([[float(Fraction(int(s), _ONE * _ONE)) for s in row] for row in sums]) * (2 / terms)
    series[0] /= 2
    return {"nngp": series[:, 0], "ntk": series[:, 1]}


def _fixed(v: mpf) -> int:
    """A number in units of 1 / _ONE: sums of integers lose nothing and take no time."""
    return int(mpmath.nint(v * _ONE))


def _values(graph: Graph, theta: mpf, square: mpf) -> tuple[mpf, mpf]:
    """K and Θ at an angle between two inputs of one norm, in `_DIGITS` digits: the recursion in its plainest form."""
    states: list[tuple[mpf, mpf, mpf]] = []  # K, Θ, and K of an input with itself
    for node in graph.nodes:
        operation = node.operation
        k, t, q = states[node.inputs[0]] if node.inputs else (square * mpmath.cos(theta), mpf(0), square)
        if isinstance(operation, Dense):
            s = operation.scales
            w, b = mpf(s.w_std) ** 2, mpf(s.b_std) ** 2
            t = s.weight_share * k + s.bias_share + w * t
            k, q = w * k + b, w * q + b
        elif isinstance(operation, Activation) and isinstance(operation.dual, LeakyReLU):
            a = mpf(operation.dual.slope)
            c = max(-1, min(1, k / q))
            apart = mpmath.pi - mpmath.acos(c)
            both = (1 - a) ** 2 / (2 * mpmath.pi)
            t *= both * apart + a
            k, q = both * q * (mpmath.sqrt(1 - c * c) + apart * c) + a * k, (1 + a * a) / 2 * q
        elif isinstance(operation, Normalise):
            share = 1 / (q + mpf(operation.eps))
            k, t, q = k * share, t * share, q * share
        elif isinstance(operation, Sum):
            k, t, q = (sum(column) for column in zip(*(states[i] for i in node.inputs), strict=True))
        elif isinstance(operation, Scale):
            square_of = mpf(operation.factor) ** 2
            k, t, q = k * square_of, t * square_of, q * square_of
        states.append((k, t, q))
    return states[-1][:2]
