"""Audits of one's own training data: what bad images, or perturbed ones, could do to a machine and to networks.

- `backdoors`: how many bad training images plant a trigger.
- `unlearnable`: what is lost if every training image is perturbed.
- `patch`: a trigger, or an attribute, to audit with.
- `finite`: what the same training images do to finite networks.
"""

from ntklens.audits.backdoors import BackdoorAudit, backdoor_audit
from ntklens.audits.finite import difference_over_seeds, share_over_seeds, trained_predictions
from ntklens.audits.patch import CORNERS, Patch
from ntklens.audits.unlearnable import UnlearnableAudit, unlearnable_audit

__all__ = [
    "CORNERS",
    "BackdoorAudit",
    "Patch",
    "UnlearnableAudit",
    "backdoor_audit",
    "difference_over_seeds",
    "share_over_seeds",
    "trained_predictions",
    "unlearnable_audit",
]
