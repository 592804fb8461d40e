"""The rules on the features of the kernel: C3, C5, C6 and N1, by head and tail.

The head are the first k features, those of the largest eigenvalues, and the tail are all others. The number k was chosen
on one half of the test images, as the one whose features keep most under attack; every figure here is of the other half,
with the head, the tail and all features each attacked on their own. So nothing is judged on what chose it, and a part
that is carried by hundreds of features is judged by their sum, where no single one could be shown to be useful.

Labels without meaning are the null of these rules: head and tail are then at the rate of the majority class, and no claim
is seen (`benchmarks/false_alarms.py` counts how often chance does it).
"""

from __future__ import annotations

import math
from typing import Any

from ntklens.record import Record
from ntklens.statistics import rank_correlation
from ntklens.study.claims.base import Measure, Verdict, cannot_tell, estimate_of, judge, only_row, rows_of
from ntklens.vocabulary import ALL, CONTRADICTED, DIFFERENCE, HEAD, NUMBER, TAIL
from ntklens.wording import norm_sign, pixels, points, share

_SURVIVING = 0.5
"""Share of what a set of features gets right on clean images that must survive the attack where it counts as robust."""


class _HeadAndTail:
    """The measures of head, tail and all features, as parts of claims.

    Args:
        record: with the tables "head_tail", "head_tail_effect" and "head_tail_meta".
    """

    def __init__(self, record: Record) -> None:
        self.meta = only_row(record, "head_tail_meta")
        self._sets = {str(row["features"]): row for row in rows_of(record, "head_tail")}
        self._effects = {(str(r["first"]), str(r["second"]), bool(r["attacked"])): r for r in self._rows(record)}
        # Test images of both halves per image of the half that scores.
        self._each = (self.meta["n_chosen"] + self.meta["n"]) / self.meta["n"]

    @staticmethod
    def _rows(record: Record) -> list[dict[str, Any]]:
        return rows_of(record, "head_tail_effect")

    def robust(self, name: str) -> Measure:
        """Return whether a set is right under attack more often than the majority class is."""
        return self._above_majority(name, "robust_accuracy", f"the accuracy of {_named(name)} under attack")

    def useful(self, name: str) -> Measure:
        """Return whether a set is right on clean images more often than the majority class is."""
        return self._above_majority(name, "accuracy", f"the accuracy of {_named(name)} on clean images")

    def _above_majority(self, name: str, column: str, what: str) -> Measure:
        return Measure(what, estimate_of(self._sets[name], column), self.meta["majority"], each=self._each)

    def fragile(self, name: str) -> tuple[Measure, Measure]:
        """Return whether a set loses more than half of its accuracy, and falls below the majority class, under attack."""
        row = self._sets[name]
        right = round(row["accuracy"] * row["n"])
        survives = estimate_of(row, "survives", n=right)
        of_right = self._each * row["n"] / max(right, 1)
        what = f"the share of what {_named(name)} gets right on clean images that survives the attack"
        below = estimate_of(row, "robust_accuracy")
        return (
            Measure(what, survives, _SURVIVING, "below", each=of_right),
            Measure(
                f"the accuracy of {_named(name)} under attack", below, self.meta["majority"], "below", each=self._each
            ),
        )

    def difference(self, first: str, second: str, *, attacked: bool, side: str = "above") -> Measure:
        """Return the accuracy of one set minus that of another on the same images."""
        where = "under attack" if attacked else "on clean images"
        return Measure(
            f"the accuracy of {_named(first)} minus that of {_named(second)}, {where},",
            estimate_of(self._effects[first, second, attacked]),
            0.0,
            "above" if side == "above" else "below",
            DIFFERENCE,
            each=self._each,
        )

    def told(self, *names: str) -> str:
        """Return the accuracies of sets of features as a sentence."""
        k, rank = self.meta["k"], self.meta["rank"]
        which = {
            HEAD: f"the head (feature{'s' * (k > 1)} 0{f' to {k - 1}' * (k > 1)})",
            TAIL: f"the tail ({k} to {rank - 1})",
            ALL: f"all {rank} features",
        }
        parts = [
            f"{which[name]} {'are' if name == ALL else 'is'} right on {share(self._sets[name])} clean and "
            f"{share(self._sets[name], 'robust_accuracy')} under attack"
            for name in names
        ]
        return (
            f"On {self.meta['n']} test images that did not choose the head, {'; '.join(parts)}; the majority class is "
            f"{100 * self.meta['majority']:.1f} %."
        )


def _named(name: str) -> str:
    return {HEAD: "the head", TAIL: "the tail", ALL: "all features"}[name]


def c3(record: Record) -> Verdict | None:
    """Judge C3: seen when the head is useful and robust, and the tail is useful and not robust.

    The parts: the head's accuracy under attack is above the rate of the majority class; the tail's on clean images is above
    it; under attack the tail keeps less than half of what it gets right, and is below that rate.
    """
    found = _HeadAndTail(record)
    return judge(found.told(HEAD, TAIL), found.robust(HEAD), found.useful(TAIL), *found.fragile(TAIL))


def c5(record: Record) -> Verdict | None:
    """Judge C5: seen when the head is useful and robust, and more accurate under attack than the tail.

    The order in which a finite network learns the features informs, and does not decide. The robustness of single features
    falls with their place for random labels too, because functions of large eigenvalues are smooth; so that correlation is
    told, and only the head and the tail are judged, of which the head has to be useful.
    """
    found = _HeadAndTail(record)
    figure = found.told(HEAD, TAIL)
    rows = rows_of(record, "features")
    rho = rank_correlation([r["index"] for r in rows], [r["robustness"] for r in rows])
    if not math.isnan(rho.value):
        figure += (
            f" Rank correlation of robustness with the place, single features: {rho.value:.2f} "
            f"[{rho.low:.2f}, {rho.high:.2f}]; it falls with any labels."
        )
    order = [row for row in rows_of(record, "learning_meta") if row["value"] is not None]
    if not order:
        figure += " By construction, training of the kernel learns the features in the order of their places."
    aside = [
        Measure(
            f"the rank correlation of a feature's place with the step at which a network of width {row['width']} has "
            "learned half of it",
            estimate_of(row),
            0.0,
            unit=NUMBER,
            of="features",
        )
        for row in order
    ]
    for measure in aside:
        low, high = measure.estimate.low, measure.estimate.high
        figure += (
            f" {measure.what[0].upper()}{measure.what[1:]} is {measure.estimate.value:.2f} [{low:.2f}, {high:.2f}]."
        )
    return judge(figure, found.robust(HEAD), found.difference(HEAD, TAIL, attacked=True), aside=aside)


def c6(record: Record) -> Verdict | None:
    """Judge C6: seen when the head is useful and robust, the tail useful, and all features are less robust than the head.

    What all features gain over the head on clean images informs, and does not decide: it takes more images than the rest.
    """
    found = _HeadAndTail(record)
    less_robust = found.difference(ALL, HEAD, attacked=True, side="below")
    gain = found.difference(ALL, HEAD, attacked=False)
    figure = (
        f"{found.told(ALL, HEAD, TAIL)} All features minus the head: {points(less_robust.estimate.row())} under attack, "
        f"{points(gain.estimate.row())} on clean images."
    )
    return judge(figure, found.robust(HEAD), found.useful(TAIL), less_robust, aside=[gain])


def n1(record: Record) -> Verdict | None:
    """Judge N1, a claim of ntklens: seen when the head is provably robust, and the tail is useful and provably is not.

    The head has to be *proved* right in the whole ball on more images than the majority class has. What is not proved is
    not refuted: the claim is contradicted only where an attack leaves the head fewer than that, and where the share lies
    between the two nobody can tell. For the tail an attack is the proof: each image that it fools is a counterexample.
    Under it the tail keeps less than half of what it gets right, and falls below the majority class, as in C3.
    """
    found = _HeadAndTail(record)
    meta = only_row(record, "certified_meta")
    row = next(row for row in rows_of(record, "certified") if row["machine"] == HEAD and row["eps"] == meta["eps"])
    proved, attacked = (
        Measure(
            f"the share of images on which the head is {what}",
            estimate_of(row, column),
            meta["majority"],
            of="certified test images",
        )
        for column, what in (
            ("certified_accuracy", "proved right in the whole ball"),
            ("robust_accuracy", "right under PGD"),
        )
    )
    figure = (
        f"At ε = {pixels(meta['eps'])} in {norm_sign(meta['norm'])} the head is proved right on "
        f"{share(row, 'certified_accuracy')} of {meta['n']} test images, and right under PGD of {meta['steps']} steps on "
        f"{share(row, 'robust_accuracy')}. {found.told(TAIL)} {meta['about']}"
    )
    tail = (found.useful(TAIL), *found.fragile(TAIL))
    if attacked.verdict == CONTRADICTED:
        return judge(figure, attacked, *tail)
    if proved.verdict == CONTRADICTED:
        of_tail = judge(figure, *tail)
        if of_tail.verdict != CONTRADICTED:
            return cannot_tell(f"{figure} What is not proved of the head is not refuted.", "a sharper bound", proved)
        return of_tail
    return judge(figure, proved, *tail)
