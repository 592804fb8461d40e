"""The folder of a command that writes one result and files beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ntklens.errors import InputError


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
