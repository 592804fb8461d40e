"""`ntklens demo`."""

from __future__ import annotations

from pathlib import Path

from ntklens.cli import options as o
from ntklens.cli.experiment import execute
from ntklens.study import demo_spec


def demo(
    out: o.Out = Path("runs/demo"),
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Every stage on real images, in a few minutes, with a report at the end.

    Example: ntklens demo --out runs/demo
    """
    spec = demo_spec().model_copy(update={"seed": seed, "device": device})
    execute(spec, out, overwrite=overwrite, resume=resume, json=json, tables=("claims",))
