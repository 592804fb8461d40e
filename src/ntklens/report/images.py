"""Attacked images as files of 8 bits, under the names of the files that they were made from, with a list of them."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ntklens.files import written_whole
from ntklens.record import Record

LIST = "files.csv"
"""Name of the list beside the images."""
_COLUMNS = ("file", "source_file", "index", "attack", "label", "prediction", "adversarial_prediction")


def write_images(record: Record, folder: str | Path) -> Path:
    """Write the images of the strongest attack as PNG, rounded to 8 bits, and a list of them.

    An image has the path of the file that it was made from, below `folder` and with the suffix .png; images without files
    are numbered. The predictions in the list are those of the images before rounding.

    Args:
        record: the run.
        folder: where to write.

    Returns:
        The list, a CSV file.
    """
    folder = Path(folder)
    meta = record.table("victim_meta")[0]
    names = ("x_adv", "files", "classes", "y", "clean_predictions", "predictions")
    x, files, classes, *labels = (record.array(f"victim/{name}") for name in names)
    rows, written = [], set()
    for index, (image, file) in enumerate(zip(x, files, strict=True)):
        path = PurePosixPath(str(file)).with_suffix(".png")
        if path in written:  # of two files with one name and two suffixes
            path = PurePosixPath(f"{file}.png")
        written.add(path)
        pixels = np.round(255 * image).astype(np.uint8)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(folder / path)
        source = str(file) if meta["files"] else ""
        rows.append([path, source, index, meta["strongest"], *(_name(classes, int(of[index])) for of in labels)])
    with written_whole(folder / LIST) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([_COLUMNS, *rows])
    return folder / LIST


def _name(classes: NDArray[Any], index: int) -> str:
    """Return the name of a class; a victim may know more classes than the data have."""
    return str(classes[index]) if index < len(classes) else f"class {index}"
