"""What a run takes, before it begins: each stage's units of work are counted, and a unit's cost is measured.

`rates` measures, `timing` extrapolates, and a file per stage counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ntklens.study.context import Context
from ntklens.study.costs.dynamics import dynamics_parts
from ntklens.study.costs.features import features_parts
from ntklens.study.costs.lazy import lazy_parts
from ntklens.study.costs.machine import attack_parts
from ntklens.study.costs.rates import Rates
from ntklens.study.costs.transfer import transfer_parts
from ntklens.study.costs.victim import victim_parts
from ntklens.study.parts import WORTH_TELLING, Part, total

__all__ = ["estimate"]

_STAGES: dict[str, Callable[[Context, Any, Rates], list[Part]]] = {
    "attack": attack_parts,
    "victim": victim_parts,
    "lazy": lazy_parts,
    "transfer": transfer_parts,
    "features": features_parts,
    "dynamics": dynamics_parts,
}
_CRUDE, _CAREFUL = 0.01, 0.15
"""Seconds of a measurement: at first, and where the run then seems to be long."""

_log = logging.getLogger(__name__)


def estimate(context: Context, stages: Sequence[str]) -> dict[str, list[Part]]:
    """Estimate the seconds of each part of the stages.

    A first measurement takes a few hundredths of a second, and errs on the long side because small pieces of work are
    slower. Where it says that the run may take ten seconds, a better one follows, of about two seconds in all.

    Args:
        context: the experiment.
        stages: those that are to be run, in their order; the first one that uses the experiment's machine fits it.

    Returns:
        The parts by stage; a stage is left out that cannot be estimated, which never keeps it from running.
    """
    rates = Rates(context, _CRUDE)
    crude = _estimate(context, stages, rates)
    if total(crude) < WORTH_TELLING:
        return crude
    return _estimate(context, stages, Rates(context, _CAREFUL, rates))


def _estimate(context: Context, stages: Sequence[str], rates: Rates) -> dict[str, list[Part]]:
    result: dict[str, list[Part]] = {}
    for stage in stages:
        if stage not in _STAGES:
            continue
        try:
            result[stage] = _STAGES[stage](context, getattr(context.spec, stage), rates)
        except Exception as error:  # a user's network may raise anything, and the run itself will say what is wrong
            _log.debug("the stage %s cannot be estimated: %s", stage, error)
    return result
