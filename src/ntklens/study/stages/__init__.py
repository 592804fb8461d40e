"""The stages of an experiment, in the order of the data flow."""

from ntklens.networks import build
from ntklens.study.context import Context
from ntklens.study.stages.attack import attack_stage
from ntklens.study.stages.data import data_stage
from ntklens.study.stages.dynamics import check_dynamics, dynamics_stage
from ntklens.study.stages.features import check_features, features_stage
from ntklens.study.stages.lazy import lazy_stage
from ntklens.study.stages.transfer import transfer_stage
from ntklens.study.stages.victim import check_surrogate_of, checked_victim, victim_stage


def check(context: Context) -> None:
    """Refuse, before a folder is made, what would fail in the middle of a run: networks that do not fit the images.

    Raises:
        InputError: an architecture that is not known or takes no such images, or a victim that does not load.
    """
    spec, shape = context.spec, context.data.shape
    context.kernel()
    if spec.victim is not None:
        checked_victim(context, spec.victim)
        check_surrogate_of(context, spec.victim)
    names = [] if spec.transfer is None else [*spec.transfer.victims]
    for name in [] if spec.transfer is None else spec.transfer.surrogates:
        kind, _, architecture = name.partition("+")[0].partition(":")
        names += [architecture] if kind in ("ntk", "net") else []
    if spec.features is not None:
        check_features(context, spec.features)
        names += spec.features.robust_networks
    if spec.dynamics is not None:
        check_dynamics(context, spec.dynamics)
        names += [] if spec.dynamics.watch else [spec.dynamics.architecture]
    for name in names:
        build(name, shape, context.outputs, width=1)


__all__ = [
    "attack_stage",
    "check",
    "data_stage",
    "dynamics_stage",
    "features_stage",
    "lazy_stage",
    "transfer_stage",
    "victim_stage",
]
