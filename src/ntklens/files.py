"""Files that are written whole or not at all, and the words of the errors that they raise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a partial file's path to write to; on success, move it to `path` in one step.

    A process that is killed in between leaves the earlier file as it was, and the partial one beside it.

    Args:
        path: the file to write.
    """
    partial = path.with_name(f"{path.name}.part")
    yield partial
    os.replace(partial, path)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
