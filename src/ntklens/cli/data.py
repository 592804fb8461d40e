"""`ntklens data`."""

from __future__ import annotations

from ntklens.cli import options as o


def data(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """List the data sets that have a name, and where their files are.

    Example: ntklens data --data-dir ~/datasets
    """
    from ntklens.cli import console
    from ntklens.data import SOURCES, find

    rows = []
    for name, source in SOURCES.items():
        folder = find(name, data_dir, strict=False)
        files = "with the package" if source.url is None else str(folder or "not found")
        rows.append({"name": name, "images": source.about, "licence": source.licence, "files": files})
    if json:
        console.as_json(rows)
    else:
        console.table("data sets", rows)
