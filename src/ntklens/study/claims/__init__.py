"""The claims C1 to C8, L1 and N1, each judged from the tables of a record alone.

C1 to C6 are statements after Tsilivis & Kempe 2022; C7, C8 and L1 after Loo et al. 2022; N1 is a claim of ntklens. `base`
says how a verdict follows from estimates, intervals and margins, and `more` how many more images or seeds would decide.
The rule of a claim is the function of its name: `c1` and `c2` in `kernel`, `c3`, `c5`, `c6` and `n1` in `features`, `c4` in
`consistency`, `c7`, `c8` and `l1` in `dynamics`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ntklens.record import Record
from ntklens.study.claims.base import Verdict
from ntklens.study.claims.consistency import c4
from ntklens.study.claims.dynamics import c7, c8, l1
from ntklens.study.claims.features import c3, c5, c6, n1
from ntklens.study.claims.kernel import c1, c2
from ntklens.study.context import Rows
from ntklens.vocabulary import NOT_MEASURED

__all__ = ["claims"]


@dataclass(frozen=True)
class _Claim:
    """A claim of a paper.

    Attributes:
        statement: what is claimed.
        tables: tables without which the claim cannot be judged.
        rule: from a record to a verdict, or to None where the tables do not decide.
    """

    statement: str
    tables: tuple[str, ...]
    rule: Callable[[Record], Verdict | None]


_FEATURES = ("features", "head_tail", "head_tail_meta", "head_tail_effect")

_CLAIMS = {
    "C1": _Claim("Adversarial examples made from the kernel alone fool the kernel machine.", ("attack_effect",), c1),
    "C2": _Claim("They transfer to finite networks in the lazy regime, better with width.", ("lazy_effect",), c2),
    "C3": _Claim("Features split into robust and useful non-robust ones, which can be pictured.", _FEATURES, c3),
    "C4": _Claim("Features are consistent across architectures.", ("consistency",), c4),
    "C5": _Claim("Robust features have the largest eigenvalues and are learned early.", _FEATURES, c5),
    "C6": _Claim("The standard classifier relies on both kinds: the robustness-accuracy trade-off.", _FEATURES, c6),
    "C7": _Claim("Under adversarial training the kernel becomes lazy earlier.", ("settling", "dynamics_meta"), c7),
    "C8": _Claim("Under adversarial training the kernel concentrates more.", ("settling", "dynamics_meta"), c8),
    "L1": _Claim(
        "The kernel of an adversarially trained network is robust even when fitted on clean images.",
        ("kernel_machines", "kernel_machines_effect"),
        l1,
    ),
    "N1": _Claim(
        "Robust features are provably robust, fragile ones provably are not.",
        (*_FEATURES, "certified", "certified_meta"),
        n1,
    ),
}


def claims(record: Record) -> dict[str, Rows]:
    """Judge all claims by the tables of a record.

    Returns:
        The tables "claims" (one row per claim with its statement, its verdict, the estimate, interval and margin that
        decide, and what would decide where nobody can tell) and "claim_parts" (one row per part of a claim of several).
    """
    rows: Rows = []
    parts: Rows = []
    for name, claim in _CLAIMS.items():
        verdict = claim.rule(record) if all(record.table(table) for table in claim.tables) else None
        if verdict is None:
            verdict = Verdict(NOT_MEASURED, "", None)
        rows.append({"claim": name, "statement": claim.statement} | verdict.row())
        parts += [{"claim": name} | row for row in verdict.part_rows()]
    return {"claims": rows, "claim_parts": parts}
