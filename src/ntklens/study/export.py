"""What a finished experiment gives to others: its robust data set as a file."""

from __future__ import annotations

from pathlib import Path

import torch

from ntklens.errors import InputError
from ntklens.features import ProjectedData
from ntklens.record import Record
from ntklens.study.context import Context
from ntklens.study.spec import Spec


def export_robust_data(spec: Spec, record: Record, path: str | Path) -> Path:
    """Write the projected images, their labels and the test set of a run as an .npz for `--data`.

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
