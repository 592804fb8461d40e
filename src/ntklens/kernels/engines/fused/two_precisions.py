"""Networks whose only activations are erf and GELU, none after a pooling: float32 covariances for inputs that allow it.

K is float64 because a kink takes the angle of two inputs from what their covariance lacks to their variances. A smooth
activation does not: with variances q, a rounding of K is multiplied by at most q in the NTK of a layer of erf, and by less
in that of GELU. So where no variance is above 4, K in float32 costs no more digits than the rounding of Θ, and takes half
the time.

Whether an input allows it depends on that input alone, and every pair is computed by the one or by the other, so that a
result is the same to the last bit whatever the other inputs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels.engines.base import Kind
from ntklens.kernels.engines.fused.layout import Side
from ntklens.kernels.engines.fused.program import Program
from ntklens.kernels.rules.operations import Normalise
from ntklens.progress import Progress

_LEAST, _MOST = 1e-12, 2.0
"""Standard deviations between which K may be float32, which then stays far above the smallest float32."""

Fill = Callable[[Side, Side, dict[Kind, Tensor], bool, Progress], None]
"""Fills the matrices of two batches: x, z, the matrices, whether they are of one batch with itself, and progress."""


def fill(
    program: Program,
    x: Side,
    z: Side,
    targets: dict[Kind, Tensor],
    is_symmetric: bool,
    progress: Progress,
    fill_pairs: Fill,
) -> None:
    """Fill the matrices by `fill_pairs`, which computes K in the dtype of the marginals that it is given."""
    fits1, fits2 = fits(program, x), fits(program, z)
    if fits1.all() and fits2.all():
        rounded = single(x)
        fill_pairs(rounded, rounded if z is x else single(z), targets, is_symmetric, progress)
        return
    if not fits1.any() or not fits2.any():
        fill_pairs(x, z, targets, is_symmetric, progress)
        return
    done = 0.0
    for rows in (fits1, ~fits1):
        for columns in (fits2, ~fits2):
            share = float(rows.mean() * columns.mean())
            if share == 0:
                continue
            side1, side2 = Side(x.pixels[rows], x.marginals[rows]), Side(z.pixels[columns], z.marginals[columns])
            if rows is fits1 and columns is fits2:
                side1, side2 = single(side1), single(side2)
            parts = {kind: target.new_empty(len(side1.pixels), len(side2.pixels)) for kind, target in targets.items()}
            is_of_one = is_symmetric and bool((rows == columns).all())
            fill_pairs(side1, side2, parts, is_of_one, progress.part(done, min(share, 1 - done)))
            places = torch.from_numpy(rows.nonzero()[0])[:, None], torch.from_numpy(columns.nonzero()[0])
            for kind, target in targets.items():
                target[places] = parts[kind]
            done += share


def single(side: Side) -> Side:
    """Return a side whose pairs are computed with K in float32."""
    return Side(side.pixels, side.marginals.astype(np.float32))


def fits(program: Program, side: Side) -> NDArray[np.bool_]:
    """Return which inputs (n,) allow K in float32."""
    allowed = np.ones(len(side.marginals), bool)
    starts = sorted(program.marginals.values())
    for (_, norm), first in program.marginals.items():
        stop = next((start for start in starts if start > first), program.marginal_size)
        if isinstance(norm, Normalise):  # inverse standard deviations
            inverse = side.marginals[:, first:stop]
            allowed &= ((inverse == 0) | ((inverse >= _LEAST) & (inverse <= 1 / _LEAST))).all(1)
        else:  # the standard deviations, and then a root for each
            std = side.marginals[:, first : (first + stop) // 2]
            allowed &= std.max(1, initial=0.0) <= _MOST
            # Zero is allowed, as K is exactly zero there; only inputs with a tiny number are searched for any other.
            low = std.min(1, initial=_MOST) < _LEAST
            allowed[low] &= ((std[low] == 0) | (std[low] >= _LEAST)).all(1)
    return allowed
