"""The result of an attack for programs: rows by name, the lowest accuracy, and the gate that it has to pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ntklens.wording import percent, share

if TYPE_CHECKING:
    from ntklens.record import Record


@dataclass(frozen=True)
class Gate:
    """The lowest robust accuracy that was measured, and the least that is asked for.

    Attributes:
        fail_under: the least accuracy, from 0 to 1; None where nothing is asked for.
        source: what the images of the lowest accuracy were made on.
        row: its row, with the accuracy and its interval.
    """

    fail_under: float | None
    source: str
    row: dict[str, Any]

    @property
    def passed(self) -> bool | None:
        """Whether the lowest accuracy is no less than is asked for; the estimate decides, not its interval."""
        return None if self.fail_under is None else bool(self.row["accuracy"] >= self.fail_under)

    @property
    def sentence(self) -> str:
        """What the gate says."""
        measured = f"the lowest robust accuracy is {share(self.row)}, under {self.source}"
        if self.fail_under is None:
            return f"no gate: {measured}."
        verdict = "passed" if self.passed else "failed"
        relation = "no less than" if self.passed else "less than"
        return f"gate {verdict}: {measured}, {relation} --fail-under {percent(self.fail_under)}."

    def values(self) -> dict[str, Any]:
        """Return the gate as plain values."""
        low, high = self.row["accuracy_low"], self.row["accuracy_high"]
        return {
            "fail_under": self.fail_under,
            "lowest": self.row["accuracy"],
            "lowest_low": low,
            "lowest_high": high,
            "source": self.source,
            "passed": self.passed,
        }


def attacks_of(record: Record) -> dict[str, dict[str, Any]]:
    """Return the rows of an attack by their names: the sources against a victim, the attacks on a kernel machine."""
    if rows := record.table("victim"):
        return {str(row["source"]): dict(row) for row in rows}
    curve = record.table("attack_curve")
    largest = max((row["eps"] for row in curve), default=0.0)  # type: ignore[type-var]
    named = {str(row["attack"]): dict(row) for row in curve if row["eps"] == largest}
    clean = next((dict(row) for row in curve if row["eps"] == 0), None)
    return named if clean is None else {"clean": clean} | named


def gate_of(attacks: dict[str, dict[str, Any]], fail_under: float | None) -> Gate:
    """Return the gate at the lowest accuracy of all rows, the first of equals among attacks before clean and noise."""
    names = sorted(attacks, key=lambda name: name in ("clean", "noise"))
    source = min(names, key=lambda name: float(attacks[name]["accuracy"]))
    return Gate(fail_under, source, attacks[source])
