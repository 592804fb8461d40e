"""The part of an experiment's description that names its images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, field_validator

from ntklens.study.spec_part import Part


class DataSpec(Part):
    """The images of the experiment, as in `ntklens.data.load_dataset`."""

    name: str = "fashion-mnist-mini"
    data_dir: Path | None = None
    classes: tuple[int | str, ...] | None = None
    """A text is a name where there is such a class, and otherwise an index; a number is an index."""
    train: int | None = Field(default=None, ge=2)
    test: int | None = Field(default=None, ge=1)
    size: int | None = Field(default=None, ge=1)
    """Pixels of each side, to which all images are resized by Pillow's bilinear filter; files of mixed modes become RGB."""
    mode: Literal["grey", "rgb"] | None = None
    """What all images are converted to."""
    outputs: tuple[NonNegativeInt, ...] | None = None
    """The output of each class, for given networks with more outputs than classes; None where their number tells."""

    @field_validator("outputs")
    @classmethod
    def _different(cls, outputs: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if outputs is not None and len(set(outputs)) < len(outputs):
            raise ValueError("expected a different output for each class")
        return outputs
