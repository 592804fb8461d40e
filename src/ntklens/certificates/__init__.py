"""Proofs beside attacks: certificates of kernel machines against changed images and changed labels."""

from ntklens.certificates.evasion import certify
from ntklens.certificates.labels import CollectiveFlips, LabelFlips, collective_flips, label_flips
from ntklens.certificates.result import Certificates

__all__ = ["Certificates", "CollectiveFlips", "LabelFlips", "certify", "collective_flips", "label_flips"]
