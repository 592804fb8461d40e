"""The stages of an experiment, in the order of the data flow."""

from ntklens.study.stages.attack import attack_stage
from ntklens.study.stages.checks import check
from ntklens.study.stages.data import data_stage
from ntklens.study.stages.dynamics import dynamics_stage
from ntklens.study.stages.features import features_stage
from ntklens.study.stages.lazy import lazy_stage
from ntklens.study.stages.transfer import transfer_stage
from ntklens.study.stages.victim import victim_stage
from ntklens.study.stages.victim_model import victim_fingerprint

__all__ = [
    "attack_stage",
    "check",
    "data_stage",
    "dynamics_stage",
    "features_stage",
    "lazy_stage",
    "transfer_stage",
    "victim_fingerprint",
    "victim_stage",
]
