"""The kernel matrix of a machine's training inputs: whole for few of them, in tiles for many."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from ntklens.errors import InputError, NumericalFailure
from ntklens.kernels.base import Kernel
from ntklens.kernels.entries import KernelEntries
from ntklens.linalg import (
    Applied,
    CrossEntropy,
    Factorisation,
    Filter,
    Ridge,
    cross_entropy_flow,
    equal_rows,
    factor_seconds,
    inverts,
)
from ntklens.linalg.tiles import Home, MemoryHome, TiledFactorisation
from ntklens.memory import check_room
from ntklens.progress import FirstOfTwo, Report

DENSE = 4096
"""Training inputs up to which the matrix is kept whole; beyond, its lower triangle is kept in tiles."""
MATRICES = {True: 3.3, False: 4.5}
"""Matrices (n, n) that a fit holds at its peak, measured: by Cholesky for a ridge, by an eigendecomposition otherwise."""


def factored(
    kernel: Kernel, inputs: Tensor, g: Filter, home: Home | None, progress: Report | None = None
) -> Factorisation | TiledFactorisation:
    """Return Θ(X, X), ready to be factored.

    Args:
        kernel: Θ.
        inputs: X, (n, *shape).
        g: the filter that it is factored for.
        home: where its tiles are kept; None for the whole matrix where inputs are few, and tiles in memory where not.
        progress: called with the share of the time that is over, of the whole matrix and its factor. Tiles are computed
            when they are needed, and are not told of here.

    Raises:
        InputError: it does not fit into memory, or the kernel has several values per pair.
        NumericalFailure: a kernel value is not finite.
    """
    n = len(inputs)
    if home is None and (n <= DENSE or inputs.device.type != "cpu"):
        if progress is not None:
            progress = FirstOfTwo(progress, factor_seconds(n, by_cholesky=isinstance(g, Ridge) or inverts(g)))
        return Factorisation(_whole(kernel, inputs.to(torch.float64), g, progress))
    if inputs.device.type != "cpu":
        raise InputError(f"expected inputs on the cpu, where tiles are kept; got {inputs.device}.")
    groups = equal_rows(inputs.flatten(1))
    return TiledFactorisation(
        MemoryHome() if home is None else home, KernelEntries(kernel, inputs), groups, identity(kernel, inputs)
    )


def identity(kernel: Kernel, inputs: Tensor) -> str:
    """Return a text that the matrix of another kernel, or of other inputs, does not have.

    Kernels of networks with other weights have the same name, so that a few values are part of it.
    """
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, len(inputs), 1024):
        digest.update(inputs[start : start + 1024].detach().cpu().contiguous().numpy().data)
    spread = torch.linspace(0, len(inputs) - 1, min(8, len(inputs))).long()
    values = kernel(inputs[spread].to(torch.float64)).flatten().tolist()
    return f"{kernel.identity()} of {len(inputs)} inputs {digest.hexdigest()}, {' '.join(f'{v:.10g}' for v in values)}"


def check_home(home: object) -> None:
    """Raise InputError unless this is a home of tiles, or None."""
    if home is not None and not isinstance(home, Home):
        raise InputError(
            f"expected home as nl.MemoryHome(), nl.StoreHome(folder) or nl.ClusterHome(address); got {home!r}."
        )


def _whole(kernel: Kernel, inputs: Tensor, g: Filter, progress: Report | None) -> Tensor:
    """Compute Θ(X, X), (n, n) in float64, if there is room for it and for its factors."""
    n = len(inputs)
    if inputs.device.type == "cpu":
        check_room(n, MATRICES[isinstance(g, Ridge)])
    try:
        theta = kernel.gram(inputs, progress)
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise InputError(
            f"the kernel matrix of {n:,} training inputs takes {8e-9 * n * n:.1f} GB, more memory than is available. "
            "Fit on fewer inputs."
        ) from error
    if theta.shape != (n, n):
        raise InputError(
            f"expected a kernel with one value per pair of inputs, ({n}, {n}); got {tuple(theta.shape)}. An empirical "
            'kernel takes outputs="trace" or "pseudo".'
        )
    if not math.isfinite(float(theta.sum())) and not bool(theta.isfinite().all()):
        i, j = (~theta.isfinite()).nonzero()[0].tolist()
        raise NumericalFailure(
            f"the kernel of the training inputs {i} and {j} is {float(theta[i, j])}, not a finite number. Are the "
            "network's weights finite?"
        )
    return theta


def trained_on_cross_entropy(
    factors: Factorisation | TiledFactorisation, g: CrossEntropy, targets: Tensor, progress: Report | None = None
) -> Tensor:
    """Return the coefficients of gradient flow on the cross-entropy, (n, O).

    Raises:
        InputError: the targets are no classes.
    """
    is_class = (targets.abs() == 1) if targets.shape[1] == 1 else (targets.sum(1, keepdim=True) == 1) & (targets >= 0)
    if not bool(is_class.all()) or (targets.shape[1] > 1 and not bool(((targets == 0) | (targets == 1)).all())):
        raise InputError(
            "expected y as class indices, on which a cross-entropy is defined; got float targets. Fit with y.long(), or "
            "use GradientFlow."
        )
    if isinstance(factors, TiledFactorisation):
        tiles = factors

        def multiply(a: Tensor) -> Tensor:
            return tiles.groups.spread(tiles.tiled.multiply(tiles.groups.merged(a)))
    else:
        theta = factors.matrix

        def multiply(a: Tensor) -> Tensor:
            return theta @ a

    a, error, products = cross_entropy_flow(multiply, targets, factors.largest, g.learning_rate * g.time, progress)
    factors.last = Applied(a, f"gradient flow {g.how}", error=error, iterations=products)
    return a


def merged_groups(factors: Factorisation, inputs: Tensor) -> Tensor:
    """Return which inputs are equal pixel by pixel, or else for the kernel to rounding: (n,) numbers of distinct ones."""
    groups = equal_rows(inputs.flatten(1))
    if int(groups.max()) + 1 < len(groups):
        return groups
    return factors.equal_to_rounding().to(inputs.device)
