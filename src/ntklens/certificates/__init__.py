"""Proofs beside attacks: certificates of kernel machines against changed images and changed labels."""

from ntklens.certificates.adversarial import adversarial_flow, adversarial_ridge
from ntklens.certificates.collective import CollectiveFlips, collective_flips
from ntklens.certificates.evasion import ATTACK_STEPS, certify
from ntklens.certificates.labels import LabelFlips, label_flips
from ntklens.certificates.result import Certificates
from ntklens.certificates.selection import FilterChoice, choose_filter
from ntklens.certificates.smoothing import Smoothed, smooth
from ntklens.certificates.training import certified_fit

__all__ = [
    "ATTACK_STEPS",
    "Certificates",
    "CollectiveFlips",
    "FilterChoice",
    "LabelFlips",
    "Smoothed",
    "adversarial_flow",
    "adversarial_ridge",
    "certified_fit",
    "certify",
    "choose_filter",
    "collective_flips",
    "label_flips",
    "smooth",
]
