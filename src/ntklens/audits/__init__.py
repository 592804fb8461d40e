"""Audits of one's own training data: what a few bad images among them could do to a machine."""

from ntklens.audits.backdoors import BackdoorAudit, backdoor_audit

__all__ = ["BackdoorAudit", "backdoor_audit"]
