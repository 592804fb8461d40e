"""What activations read of an input beside its standard deviations, and what programs hold for them.

erf and GELU read 1 / sqrt(1 + 2 s²) and 1 / sqrt(1 + s²), so that `smooth` takes no root for a pair. A piecewise linear
activation is a line and hinges, and `kinks` reads tails of the normal distribution at these; `hardswish` reads such tails
at its own kinks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ntklens.kernels.engines.fused.codes import PER_DISTANCE
from ntklens.kernels.rules.duals import GELU, Erf
from ntklens.kernels.rules.hardswish import Hardswish, Side, side
from ntklens.kernels.rules.piecewise import PiecewiseLinear, tail_of


def count(dual: object) -> int:
    """Return how many numbers an activation reads of an input at each position, its standard deviation among them."""
    if isinstance(dual, (Erf, GELU)):
        return 2
    if isinstance(dual, Hardswish):
        return len(Side._fields)
    return 1 + PER_DISTANCE * len(dual.hinges.distances) if isinstance(dual, PiecewiseLinear) else 1


def beside(dual: object, std: Tensor) -> list[Tensor]:
    """Return what an activation reads of an input beside its standard deviation; hinges a, Q(a), s n(a) and a n(a) each.

    Hardswish reads the numbers of `Side`.

    The way back takes them as functions of the standard deviation, which alone has a cotangent.
    """
    if isinstance(dual, (Erf, GELU)):
        return [(1 + (2 if isinstance(dual, Erf) else 1) * std.detach().square()).rsqrt()]
    if isinstance(dual, Hardswish):
        return list(side(std)[1:])
    found: list[Tensor] = []
    for distance in dual.hinges.distances if isinstance(dual, PiecewiseLinear) else ():
        far, tail, density = tail_of(distance, std.detach())
        found += [far, tail, density, far * torch.exp(-far * far / 2) / math.sqrt(2 * math.pi)]
    return found


def factors(dual: PiecewiseLinear) -> tuple[float, ...]:
    """Return the hinges of an activation as KINKS reads them in a program's `factors`."""
    line = dual.hinges
    size = len(line.distances)
    single = [number for hinge in zip(line.distances, line.jumps, line.turns, strict=True) for number in hinge]
    double = [weight for p in range(size) for q in range(size) for weight in line.pairs[p, q]]
    # The slopes far out say whether hinges cancel there.
    is_open = max(abs(dual.slopes[0]), abs(dual.slopes[-1])) >= 0.5 * max(map(abs, dual.slopes))
    reach = 1e300 if is_open or not size else 2 * line.distances[-1]
    return (float(size), reach, *single, *double)


def columns(dual: object, positions: int, known: dict[PiecewiseLinear, int], program: list[float]) -> dict[str, int]:
    """Return the columns that say where what an activation reads of an input lies, and its hinges; none for others.

    Args:
        dual: what the marginals belong to.
        positions: of a node, which is the step from one number of an input to the next.
        known: where the hinges of activations begin, added to.
        program: the `factors` of the program, likewise.
    """
    if isinstance(dual, (Erf, GELU, Hardswish)):
        return {"number_step": positions}
    if not isinstance(dual, PiecewiseLinear):
        return {}
    if dual not in known:
        known[dual] = len(program)
        program += factors(dual)
    return {"hinges": known[dual], "number_step": positions}
