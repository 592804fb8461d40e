"""The section on finite networks of growing width under the kernel's images (claim C2)."""

from __future__ import annotations

from ntklens.record import Record
from ntklens.report.figures import lazy
from ntklens.report.sections.base import Plate, Section, numbers, only_row, plate_of, rows_of
from ntklens.wording import pixels


def lazy_section(record: Record) -> Section:
    """Return the accuracy of finite networks on images attacked elsewhere: by width, over training, by kind of training."""
    rows = rows_of(record, "lazy")
    meta = only_row(record, "lazy_meta")
    eps = pixels(max(row["eps"] for row in rows))
    text = (
        f"Finite networks of the kernel's architecture, {meta['seeds']} of each width, were "
        f"trained by {meta['steps']} steps of full-batch gradient descent and shown one-step "
        f"examples (ε = {eps}) made elsewhere."
    )
    tables = numbers(
        record,
        {
            "lazy": "accuracy of each network",
            "lazy_effect": "differences of accuracy between sources, averaged over networks",
            "lazy_cost": "cost of each source",
            "lazy_steps": "over training",
            "lazy_regimes": "kinds of training",
        },
    )
    plates = [*_by_width(record), *_over_training(record), *_regimes(record)]
    return Section("lazy", "From the kernel to finite networks", text, plates, tables)


def _by_width(record: Record) -> list[Plate]:
    rows = rows_of(record, "lazy")
    with_cosine = [row for row in rows if "cosine" in row]
    return [
        *plate_of(
            rows,
            lazy.accuracy_by_width,
            "The lower a line, the stronger the attack. The question is whether the kernel's "
            "examples, made at the networks' own training time, and the networks' own (white "
            "box) come together towards the right, where the networks are lazy. Small points are "
            "single networks with 95 % Wilson intervals; lines join their means; sources stand "
            "side by side at each width.",
            "Line plot of the accuracy of finite networks against their width, one line per source of images.",
        ),
        *plate_of(
            rows,
            lazy.at_largest_width,
            "The widest networks alone, with 95 % Wilson intervals. The controls are noise, "
            "which shows the effect of any perturbation of this size, and a surrogate network "
            "trained from another initialisation.",
            "Dot plot of the accuracy of the widest networks under each source, with intervals.",
        ),
        *plate_of(
            with_cosine,
            lazy.cosine_by_width,
            "The cosine between the input gradients of a network and of each model that attacks "
            "it from outside, averaged over the test images; 1 is the same direction. In the "
            "lazy regime, the cosine of the kernel machine at the networks' own time tends to 1 "
            "with the width. Small points are single networks with 95 % intervals.",
            "Line plot of the cosine of the input gradients against the width of the network, one line per source.",
        ),
    ]


def _over_training(record: Record) -> list[Plate]:
    rows = rows_of(record, "lazy_steps")
    if not rows:
        return []
    return plate_of(
        rows,
        lazy.over_steps,
        f"The networks of width {rows[0]['width']} while they train; means over the seeds. Left: "
        "how near the kernel's examples at the network's own time stay to the white box. Right: "
        "the cosine between the input gradients of the kernel machine and of the network, "
        "averaged over the test images; 1 is the same direction.",
        "Two line plots against the training step: accuracy by source of images, and cosine of the gradients.",
    )


def _regimes(record: Record) -> list[Plate]:
    rows = rows_of(record, "lazy_regimes")
    if not rows:
        return []
    return plate_of(
        rows,
        lazy.regimes,
        f"Networks of width {rows[0]['width']} trained in several ways. The grey bar is the gap "
        "between the kernel's examples and the white box, in points of accuracy, with its 95 % "
        "interval over the images. The kernel's training time is searched for from a hundred "
        "outputs of the network. Where the bar is short, the kernel describes the network.",
        "Dot plot of accuracy under four sources of images, one row per kind of training, with the gap written in.",
    )
