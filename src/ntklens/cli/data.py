"""`ntklens data`."""

from __future__ import annotations

from ntklens.cli import console
from ntklens.cli import options as o
from ntklens.data import SOURCES, find


def data(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """The data sets by name, and whether their files are at hand.

    Example: ntklens data --data-dir ~/datasets
    """
    rows = [
        {
            "name": name,
            "images": source.about,
            "licence": source.licence,
            "files": "with the package"
            if source.url is None
            else str(find(name, data_dir, strict=False) or "not here"),
        }
        for name, source in SOURCES.items()
    ]
    if json:
        console.as_json(rows)
    else:
        console.table("data sets", rows)
