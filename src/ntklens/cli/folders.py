"""The folder of a command that writes one result and files beside it."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ntklens.errors import InputError
from ntklens.files import first_line


def check_export(path: Path, *, overwrite: bool) -> None:
    """Raise InputError if an export to this .npz file would fail; called before the run, so that no work is lost."""
    target = path.with_suffix(".npz")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists; choose another --export, or pass --overwrite to replace it.")
    if target.is_dir() or not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise InputError(
            f"{target} cannot be written, because {target.parent} is not a writable folder; choose another --export."
        )


@contextmanager
def folder_of(out: Path, result: str, beside: set[str], what: str, *, overwrite: bool) -> Iterator[None]:
    """Make the folder of a command; if nothing is written to it, remove it again.

    Args:
        out: the folder.
        result: name of the file that is written last, and makes the folder that of a finished run.
        beside: names of what may stand beside it, or may be left by a run that was killed.
        what: what the folder is of, such as "fit".
        overwrite: replace an earlier result.

    Raises:
        InputError: it holds a finished run that is not to be replaced, or something else, or cannot be written.
    """
    if (out / result).is_file() and not overwrite:
        raise InputError(f"{out} holds a finished {what}; choose another --out, or pass --overwrite to replace it.")
    article = "an" if what[0] in "aeiou" else "a"
    if out.is_file() or (out.is_dir() and {path.name for path in out.iterdir()} - beside - {result}):
        raise InputError(
            f"{out} is not the folder of {article} {what}, so nothing is written to it; choose another --out."
        )
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror or error}); choose another --out.") from error
    try:
        yield
    finally:
        with suppress(OSError):  # a folder that is not empty stays
            for folder in made:
                folder.rmdir()


def write_together(out: Path, texts: Mapping[str, str], result: str, beside: Iterable[str]) -> None:
    """Write the files of a run; an earlier run stays as it is until all of it is written beside it.

    Args:
        out: the folder.
        texts: the content of each file but the last.
        result: name of the file that makes the folder that of a finished run, which is one of the texts and put there last.
        beside: names of files that a run may have, which are removed where this one has none.

    Raises:
        InputError: a file cannot be written.
    """
    names = [*(name for name in texts if name != result), result]
    try:
        for name in names:
            (out / f"{name}.part").write_text(texts[name], encoding="utf-8", newline="")
        for name in (result, *beside):
            (out / name).unlink(missing_ok=True)
        for name in names:
            os.replace(out / f"{name}.part", out / name)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {first_line(error)}.") from error


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV, with a column for each key that one of them has; nothing where there are none."""
    if not rows:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
