"""The backup of a folder while another one replaces it.

A run that replaces an earlier one cannot lose it:

1. `take` marks the earlier folder RUN with a file and renames it to RUN.before. Both are on one file system, so the rename
   is a single step: at every moment the earlier run is whole, in RUN or in RUN.before.
2. The new run writes to RUN.
3. If it finishes, `discard` deletes RUN.before.
4. If it fails, `restore` moves what it did to RUN.failed-1 (or -2, ...), and RUN.before back to RUN.
5. If its process is killed, RUN.before stays. The next `take` finds it: the backup holds the last finished run, so it is
   kept, and the unfinished run in RUN is deleted instead.

The marker tells a backup from a folder of the user's that happens to be called RUN.before; that one is never touched.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from ntklens.errors import InputError

_MARKER = "replaced"
"""Name of the empty file that marks a folder as a backup."""


class Backup:
    """The earlier content of a folder, beside it, until it is discarded or restored.

    Args:
        folder: the folder that is replaced; its backup has the same name with ".before" appended.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.path = self.folder.with_name(f"{self.folder.name}.before")

    @property
    def exists(self) -> bool:
        """Whether there is a backup of this folder."""
        return (self.path / _MARKER).is_file()

    def take(self) -> None:
        """Move the folder out of the way, or delete it where a backup of a finished run exists already.

        Raises:
            InputError: the backup's place is taken by a folder that is no backup.
        """
        if self.exists:
            shutil.rmtree(self.folder)
            return
        if self.path.exists():
            raise InputError(
                f"{self.path} is in the way: it is where the run in {self.folder} is kept until the new one is done; "
                "move it away."
            )
        (self.folder / _MARKER).touch()
        self.folder.rename(self.path)

    def discard(self) -> None:
        """Delete the backup where there is one."""
        if self.exists:
            shutil.rmtree(self.path, ignore_errors=True)

    def restore(self, *, keep_failed: bool = True) -> Path | None:
        """Put the backup in its place again, where there is one.

        Args:
            keep_failed: move the folder that stands in its place to RUN.failed-1 (or -2, ...); otherwise delete it.

        Returns:
            The folder to which the failed run has moved; None if there is no backup, or no failed run.
        """
        if not self.exists:
            return None
        if not keep_failed:
            shutil.rmtree(self.folder, ignore_errors=True)
        moved_to = None
        if self.folder.exists():
            moved_to = self._unused_name()
            self.folder.rename(moved_to)
        self.path.rename(self.folder)
        (self.folder / _MARKER).unlink(missing_ok=True)
        return moved_to

    def _unused_name(self) -> Path:
        """Return the first of RUN.failed-1, RUN.failed-2, ... that does not exist."""
        names = (self.folder.with_name(f"{self.folder.name}.failed-{i}") for i in itertools.count(1))
        return next(name for name in names if not name.exists())
