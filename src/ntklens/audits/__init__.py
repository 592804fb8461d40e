"""Audits of one's own training data: what bad images, or perturbed ones, could do to a machine."""

from ntklens.audits.backdoors import BackdoorAudit, backdoor_audit
from ntklens.audits.unlearnable import UnlearnableAudit, unlearnable_audit

__all__ = ["BackdoorAudit", "UnlearnableAudit", "backdoor_audit", "unlearnable_audit"]
