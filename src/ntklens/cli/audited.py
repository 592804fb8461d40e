"""What an audit has found, in sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ntklens.cli import console

Facts = Mapping[str, Any]
ABOUT = "The audit is of a kernel machine, the mean of infinitely wide trained networks."


def tell(facts: Facts) -> None:
    """Print the figures of an audit for people.

    Args:
        facts: what audit.json holds.
    """
    {"shortcut": _shortcut, "backdoor": _backdoor, "unlearnable": _unlearnable}[facts["kind"]](facts)
    if facts["networks"]:
        seeds = "one seed" if facts["seeds"] == 1 else f"{facts['seeds']} seeds"
        console.table(f"finite networks, {seeds}, {facts['epochs']} epochs", _without_cost(facts["networks"]))
        if facts["kind"] == "unlearnable":
            _networks_beside_noise(facts)
    if facts.get("export"):
        console.say(f"perturbed training images: {facts['export']}")
    console.say(ABOUT if facts["networks"] else f"{ABOUT} --networks trains finite ones.")


def _patch(facts: Facts) -> str:
    size = facts["patch"]
    return (
        f"a patch of {size} x {size} pixels and brightness {facts['brightness']:g} in the {facts['corner']} corner, "
        f"which stands for {facts['target']}"
    )


def _shortcut(facts: Facts) -> None:
    from ntklens.wording import percent, share

    console.say(f"{facts['n']:,} training images, {facts['test']:,} test images with and without {_patch(facts)}.")
    if facts["planted"] is None:
        console.say("Nothing is planted: the machine is trained on the images as they are.")
    else:
        console.say(
            f"The patch is planted in memory: it agrees with the class in {percent(facts['planted'])} of the training "
            "images."
        )
    console.say(f"  right where the patch agrees with the class      {share(facts, 'aligned')}")
    console.say(f"  right where the patch conflicts with the class   {share(facts, 'conflicting')}")
    gap = f"{facts['gap']:.3g} [{facts['gap_low']:.3g}, {facts['gap_high']:.3g}]"
    if not facts["has_gap"]:
        console.say(
            f"The margins differ by {gap}, an interval with 0 in it: that the machine relies on the patch is not shown, "
            "and no feature has a share."
        )
        return
    against = ", against the class: the patch makes the machine lean to the others" if facts["gap"] < 0 else ""
    console.say(f"The margins differ by {gap}{against}. Each feature has an exact share of it:")
    console.table("features of the largest shares", facts["rows"])
    if "without" in facts:
        named = ", ".join(map(str, facts["without"]))
        console.say(
            f"Without the features {named}, which held-out images have chosen, the machine is right on "
            f"{share(facts, 'repaired_aligned')} where the patch agrees and on {share(facts, 'repaired_conflicting')} "
            "where it conflicts."
        )
    else:
        console.say("On the held-out images the gap is not shown, so that no features are chosen to leave out.")


def _backdoor(facts: Facts) -> None:
    from ntklens.wording import share

    rows = facts["rows"]
    console.say(f"{facts['n']:,} training images, {facts['test']:,} test images; {_patch(facts)}.")
    console.table(f"predicted as {facts['target']} with the patch, and accuracy without it", rows)
    most = len(rows) - 1
    needed = facts["needed"]
    if needed is None:
        console.say(
            f"{_images(most)} of {facts['n'] + most:,}, chosen one after the other, {'is' if most == 1 else 'are'} not "
            "enough for 90 % of the triggered test images of other classes; others may do with fewer."
        )
        return
    row = rows[needed]
    what = f"the trigger succeeds on {share(row, 'success')} of the test images of other classes"
    if needed == 0:
        console.say(f"Without any bad image {what}: the machine takes the patch for {facts['target']} as it is.")
        return
    doubt = "" if row["success_low"] >= 0.9 else ", an interval that reaches below 90 %"
    console.say(
        f"With {_images(needed)} of {facts['n'] + needed:,} {what}{doubt}; without any, on {share(rows[0], 'success')}."
    )


def _images(count: int) -> str:
    return "1 bad training image" if count == 1 else f"{count:,} bad training images"


def _unlearnable(facts: Facts) -> None:
    from ntklens.wording import pixels

    console.say(
        f"{facts['n']:,} training images, each pixel changed by at most {pixels(facts['eps'])}, guided by "
        f"{facts['held_out']:,} held-out images; accuracy on {facts['test']:,} test images that have guided nothing:"
    )
    console.table("machines fitted on clean, noisy and perturbed images", _without_cost(facts["rows"]))
    for row in facts["rows"]:
        console.say(f"{row['machine']}: {_beside_noise(row)}")


def _without_cost(rows: Sequence[Facts]) -> list[dict[str, Any]]:
    """Return the rows without what a sentence says."""
    return [{key: value for key, value in row.items() if not key.startswith("cost")} for row in rows]


def _networks_beside_noise(facts: Facts) -> None:
    for row in facts["networks"]:
        if row.get("cost") is not None:
            console.say(f"{row['network']}: {_beside_noise(row)}")


def _beside_noise(row: Facts) -> str:
    points = f"{100 * row['cost']:.1f} points [{100 * row['cost_low']:.1f}, {100 * row['cost_high']:.1f}]"
    if row["cost_low"] > 0:
        return f"the perturbation costs {points} more than noise of the same size."
    return f"that the perturbation costs more than noise of the same size is not shown: {points}."
