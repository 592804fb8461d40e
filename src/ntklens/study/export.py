"""The robust data set of a finished run, as a file for other experiments."""

from __future__ import annotations

from pathlib import Path

import torch

from ntklens.errors import InputError
from ntklens.features import ProjectedData
from ntklens.record import Record
from ntklens.study.context import Context
from ntklens.study.spec import Spec


def export_robust_data(spec: Spec, record: Record, path: str | Path) -> Path:
    """Write the projected images, their labels and the test set of a run as an .npz file for `--data`.

    Args:
        spec: the experiment of the run.
        record: the run.
        path: the file; its suffix becomes .npz.

    Raises:
        InputError: the run has no such data, or the file cannot be written.
    """
    target = Path(path).with_suffix(".npz")
    context = Context(spec)
    images, targets, y = (torch.from_numpy(record.array(f"features/robust_{n}")) for n in ("images", "targets", "y"))
    try:
        ProjectedData(images, targets, y, 0, "images").save(target, context.test)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); choose another file.") from error
    return target
