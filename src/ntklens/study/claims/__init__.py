"""The claims C1 to C8 and L1, each judged from the tables of a record alone.

C1 to C6 are statements after Tsilivis & Kempe 2022; C7, C8 and L1 after Loo et al. 2022. A claim is "seen" when its rule
holds; the docstring of a rule says which of its comparisons take the 95 % interval into account. The rule of a claim is
the function of its name: `c1` and `c2` in `kernel`, `c3` to `c6` in `features`, `c7`, `c8` and `l1` in
`dynamics`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ntklens.record import Record
from ntklens.study.claims.base import Verdict
from ntklens.study.claims.dynamics import c7, c8, l1
from ntklens.study.claims.features import c3, c4, c5, c6
from ntklens.study.claims.kernel import c1, c2
from ntklens.study.context import Rows
from ntklens.vocabulary import NOT_MEASURED, NOT_SEEN, SEEN

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


_FEATURES = ("features", "features_meta", "bands")

_CLAIMS = {
    "C1": _Claim("Adversarial examples made from the kernel alone fool the kernel machine.", ("attack_effect",), c1),
    "C2": _Claim("They transfer to finite networks in the lazy regime, better with width.", ("lazy_effect",), c2),
    "C3": _Claim("Features split into robust and useful non-robust ones, which can be pictured.", _FEATURES, c3),
    "C4": _Claim("Features are consistent across architectures.", ("consistency",), c4),
    "C5": _Claim("Robust features have the largest eigenvalues and are learned early.", _FEATURES, c5),
    "C6": _Claim(
        "The standard classifier relies on both kinds: the robustness-accuracy trade-off.", ("top_k", *_FEATURES), c6
    ),
    "C7": _Claim("Under adversarial training the kernel becomes lazy earlier.", ("lazy_epochs", "dynamics_meta"), c7),
    "C8": _Claim("Under adversarial training the kernel concentrates more.", ("dynamics", "dynamics_meta"), c8),
    "L1": _Claim(
        "The kernel of an adversarially trained network is robust even when fitted on clean images.",
        ("kernel_machines",),
        l1,
    ),
}


def claims(record: Record) -> Rows:
    """Return the table "claims": one row per claim with its statement, its verdict, and the figure that decides."""
    rows: Rows = []
    for name, claim in _CLAIMS.items():
        verdict = claim.rule(record) if all(record.table(table) for table in claim.tables) else None
        row = {"claim": name, "statement": claim.statement}
        if verdict is None:
            rows.append(row | {"verdict": NOT_MEASURED, "figure": ""})
        else:
            rows.append(row | {"verdict": SEEN if verdict.seen else NOT_SEEN, "figure": verdict.figure})
    return rows
