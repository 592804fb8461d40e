"""Checks of an experiment before its run begins."""

from __future__ import annotations

from collections.abc import Iterable

from ntklens.errors import InputError
from ntklens.networks import network_source
from ntklens.study.context import Context
from ntklens.study.networks import check_kernel, check_transfer, initial_network
from ntklens.study.stages.dynamics import check_dynamics
from ntklens.study.stages.features import check_features
from ntklens.study.stages.surrogate import check_victim_surrogates
from ntklens.study.stages.victim_model import checked_victim


def check(context: Context) -> None:
    """Raise InputError for what would fail in the middle of a run: a network or a field that does not fit the images.

    Raises:
        InputError: a network that is not known or takes no such images, a victim that does not load, or a field that asks
            for more than the images give.
        UnsupportedLayer: a network without an infinite-width kernel.
    """
    spec = context.spec
    if len(context.data.classes) < 2:
        raise InputError(
            "expected data with images of two or more classes; got one class, which leaves nothing to predict."
        )
    if spec.victim is not None:
        checked_victim(context, spec.victim)
        check_victim_surrogates(context, spec.victim)
    else:
        check_kernel(context, context.network)
    if spec.lazy is not None and (context.network.kind != "architecture" or spec.kernel.kind != "analytic"):
        raise InputError(
            f"the width study builds networks of several widths; expected an architecture with its analytic kernel, such "
            f"as fc3; got {context.kernel_label}."
        )
    if spec.transfer is not None:
        check_transfer(context, spec.transfer)
    if spec.features is not None:
        check_features(context, spec.features)
        for name in spec.features.compare:
            check_kernel(context, network_source(name))
        _check_trainable(context, spec.features.robust_networks, outputs=context.outputs)
    if spec.dynamics is not None:
        check_dynamics(context, spec.dynamics)


def _check_trainable(context: Context, names: Iterable[str], *, outputs: int) -> None:
    for name in names:
        initial_network(context, network_source(name), 0, width=1, outputs=outputs)
