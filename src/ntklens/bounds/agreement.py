"""Every proof against an attack: no bound may lie above what an attack finds."""

from __future__ import annotations

from torch import Tensor

from ntklens.errors import NumericalFailure

_SLACK = 1e-9
"""By how much a bound may be above an attack's value v, over 1 + |v|, for rounding."""


def check_sound(bound: Tensor, attacked: Tensor) -> None:
    """Check lower bounds against values that attacks find in the same balls; both in the same shape.

    Args:
        bound: the bounds.
        attacked: the values; infinite where there is none.

    Raises:
        NumericalFailure: a bound is above a value, beyond rounding.
    """
    above = bound - attacked
    if bool((above > _SLACK * (1 + attacked.abs())).any()):
        raise NumericalFailure(
            f"a lower bound is {float(above.max()):.1e} above what an attack finds, so that no bound of this call can be "
            "trusted. Please report this machine."
        )
