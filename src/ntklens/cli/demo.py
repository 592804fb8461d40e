"""`ntklens demo`."""

from __future__ import annotations

from pathlib import Path

from ntklens.cli import options as o


def demo(
    out: o.Out = Path("runs/demo"),
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Run every stage on images that come with the package.

    It takes a few minutes and ends with a report.

    Example: ntklens demo --out runs/demo
    """
    from ntklens.cli.experiment import execute
    from ntklens.study import Spec, demo_spec

    spec = Spec.parse(demo_spec().model_dump() | {"seed": seed, "device": device})
    execute(spec, out, overwrite=overwrite, resume=resume, json=json, tables=("claims",))
