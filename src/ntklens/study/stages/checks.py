"""Checks of an experiment before its run begins."""

from __future__ import annotations

from ntklens.networks import build
from ntklens.study.context import Context
from ntklens.study.spec import TransferSpec
from ntklens.study.stages.dynamics import check_dynamics
from ntklens.study.stages.features import check_features
from ntklens.study.stages.surrogate import check_victim_surrogates
from ntklens.study.stages.victim_model import checked_victim


def check(context: Context) -> None:
    """Raise InputError for what would fail in the middle of a run: a network or a field that does not fit the images.

    Raises:
        InputError: an architecture that is not known or takes no such images, a victim that does not load, or a field that
            asks for more than the images give.
    """
    spec = context.spec
    context.kernel()
    architectures: list[str] = []
    if spec.victim is not None:
        checked_victim(context, spec.victim)
        check_victim_surrogates(context, spec.victim)
    if spec.transfer is not None:
        architectures += _architectures_of(spec.transfer)
    if spec.features is not None:
        check_features(context, spec.features)
        architectures += spec.features.robust_networks
    if spec.dynamics is not None:
        check_dynamics(context, spec.dynamics)
        if spec.dynamics.watch is None:
            architectures.append(spec.dynamics.architecture)
    for name in architectures:
        build(name, context.data.shape, context.outputs, width=1)


def _architectures_of(spec: TransferSpec) -> list[str]:
    """Return the architectures of the victims and of the surrogates that have one."""
    names = [*spec.victims]
    for surrogate in spec.surrogates:
        kind, _, architecture = surrogate.partition("+")[0].partition(":")
        if kind in ("ntk", "net"):
            names.append(architecture)
    return names
