"""Smooth functions of a variance, interpolated: on each octave of q, from 2^k to 2^(k+1), by a Chebyshev series.

The nearest singularity of an expectation under a centred Gaussian is at q = 0, three half-widths from the middle of every
octave. So the terms fall like 5.8^-j, and RESOLUTION of them reach the rounding of float64.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

RESOLUTION = 20
"""Variances of an octave at which a function is computed."""
LOWEST, HIGHEST = -60, 20
"""Octaves k that are told apart: variances below 2^LOWEST count as of the first, those from 2^HIGHEST on as of the last."""


def octaves(q: Tensor) -> Tensor:
    """Return k of each variance, int64; HIGHEST for what is no number."""
    # frexp gives q = f 2^e with f from 1/2 to 1: it is exact, where a logarithm may round across a power of two.
    exponents = torch.frexp(q.detach().nan_to_num(nan=2.0**HIGHEST, posinf=2.0**HIGHEST))[1].long() - 1
    return torch.where(q > 0, exponents, torch.where(q.isnan(), HIGHEST, LOWEST)).clamp(LOWEST, HIGHEST)


def nodes(k: int) -> Tensor:
    """Return the variances of an octave at which a function has to be known: (RESOLUTION,), float64."""
    return (1.5 + torch.cos(_angles()) / 2) * 2.0**k


def series(values: Tensor) -> Tensor:
    """Return the Chebyshev coefficients (RESOLUTION, ...) of a function from its values at the nodes."""
    return _interpolation() @ values


def logarithmic_slope(terms: Tensor) -> Tensor:
    """Return the series of s df/ds, s² = q, on an octave from that of f there, (RESOLUTION, ...)."""
    # With q = 2^k (3 + t) / 2, it is 2 q df/dq = 2 (3 + t) df/dt, whatever the octave.
    slopes = np.zeros(terms.shape)
    slopes[:-1] = np.polynomial.chebyshev.chebder(terms.numpy())
    shifted = np.zeros(terms.shape)  # t times the slope: t T_0 = T_1, t T_j = (T_(j-1) + T_(j+1)) / 2
    shifted[1:] = slopes[:-1] / 2
    shifted[1] += slopes[0] / 2
    shifted[:-1] += slopes[1:] / 2
    return torch.from_numpy(6 * slopes + 2 * shifted)


def basis(q: Tensor, k: int) -> Tensor:
    """Return the Chebyshev polynomials at variances (n,) of an octave: (n, RESOLUTION); autograd follows q."""
    t = _place(q, k)
    terms = [torch.ones_like(t), t]
    for _ in range(2, RESOLUTION):
        terms.append(2 * t * terms[-1] - terms[-2])
    return torch.stack(terms, 1)


def interpolated(q: Tensor, function: Callable[[int], Tensor]) -> Tensor:
    """Return a function of variances of any shape, in it; autograd follows q.

    Args:
        q: variances, from 2^LOWEST to 2^HIGHEST.
        function: the octave k -> its series (RESOLUTION,), float64.
    """
    flat = q.flatten()
    of = octaves(flat)
    present = torch.unique(of).tolist()
    if len(present) == 1:
        return _sum(function(present[0]), flat, present[0]).reshape(q.shape)
    result = torch.zeros_like(flat)
    for k in present:
        (places,) = (of == k).nonzero(as_tuple=True)
        result = result.index_put((places,), _sum(function(k), flat[places], k))
    return result.reshape(q.shape)


def _sum(terms: Tensor, q: Tensor, k: int) -> Tensor:
    """Return a Chebyshev series at variances of an octave, by Clenshaw's recurrence."""
    t = _place(q, k)
    twice = 2 * t
    last, before = torch.zeros_like(t), torch.zeros_like(t)
    first, *rest = terms.tolist()
    for term in reversed(rest):
        last, before = torch.addcmul(term - before, twice, last), last
    return torch.addcmul(first - before, t, last)


def _place(q: Tensor, k: int) -> Tensor:
    """Return where variances lie in their octave, from -1 to 1."""
    return (q * (2.0 * 2.0**-k) - 3).clamp(-1, 1)


def _angles() -> Tensor:
    return (torch.arange(RESOLUTION, dtype=torch.float64) + 0.5) * (math.pi / RESOLUTION)


@functools.lru_cache(maxsize=1)
def _interpolation() -> Tensor:
    """Compute the matrix from values at the nodes to coefficients."""
    matrix = torch.cos(torch.arange(RESOLUTION, dtype=torch.float64)[:, None] * _angles()) * (2 / RESOLUTION)
    matrix[0] /= 2
    return matrix
