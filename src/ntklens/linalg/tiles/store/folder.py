"""Tiles in a folder: a Zarr array in which every tile is a chunk of its own, with a checksum.

The array has the shape of the whole matrix, (n, n); its upper tiles are not written, and read as NaN by other programs. A
tile is a file that is written under another name and then renamed, so that it is there whole or not at all, and a process
that is killed loses the tile that it was writing. Damage on the disk shows in the size of the file or in its checksum.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.linalg.tiles.layout import Layout

FORMAT = 1
"""Version of what is in a folder. A change of the layout of files takes a new one."""
_CHECKSUM = 4
"""Bytes that the checksum adds to a tile."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The errors of a disk, a quota or a file size that is exhausted."""


class TileFolder:
    """The tiles of one matrix in a folder, which is made if it is not there.

    Args:
        path: the folder.
        layout: of the tiles.
        identity: a text that no other matrix has.

    Raises:
        InputError: the folder holds the tiles of another matrix, or something else; or it cannot be written.
    """

    def __init__(self, path: Path, layout: Layout, identity: str) -> None:
        self.path = path
        self.layout = layout
        self._array = self._open({"format": FORMAT, "n": layout.n, "side": layout.side, "identity": identity})

    def _open(self, description: dict[str, Any]) -> Any:
        try:
            import zarr
            from zarr.codecs import Crc32cCodec
        except ImportError as error:
            raise InputError(
                "a kernel matrix in a store on disk needs Zarr, which is not installed. Run pip install "
                "'ntklens[distributed]'."
            ) from error
        n, side = self.layout.n, self.layout.side
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "zarr.json").exists():
                if any(self.path.iterdir()):
                    raise InputError(
                        f"expected a new folder, or one with the tiles of a kernel matrix; got {self.path}, which holds "
                        "other files. Give another folder."
                    )
                return zarr.create_array(
                    str(self.path),
                    shape=(n, n),
                    chunks=(side, side),
                    dtype="float64",
                    compressors=Crc32cCodec(),
                    fill_value=float("nan"),
                    attributes={"ntklens": description},
                )
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {first_line(error)}.") from error
        try:
            array = zarr.open_array(str(self.path), mode="r+")
            found: Any = array.attrs["ntklens"]
        except Exception as error:
            # Zarr raises errors of many kinds for a description that is damaged.
            raise InputError(
                f"{self.path} holds no kernel matrix that can be read ({first_line(error)}). Give another folder, or "
                "delete this one."
            ) from error
        for key, what in (
            ("format", "another version of the format"),
            ("identity", "the kernel matrix of another kernel or of other training inputs"),
            ("n", "a kernel matrix of another size"),
            ("side", "tiles of another size"),
        ):
            if not isinstance(found, dict) or found.get(key) != description[key]:
                raise InputError(f"{self.path} holds {what}. Give another folder, or delete this one.")
        return array

    def file(self, i: int, j: int) -> Path:
        """Return the file of a tile."""
        return self.path / "c" / str(i) / str(j)

    @property
    def bytes_per_tile(self) -> int:
        """Size of the file of a tile; those at the edge are filled up to it."""
        return 8 * self.layout.side**2 + _CHECKSUM

    def missing(self) -> tuple[list[tuple[int, int]], int]:
        """Return the tiles that are to be computed, and how many of them are files of a wrong size."""
        places, damaged = [], 0
        for i, j in self.layout.tiles():
            try:
                size = self.file(i, j).stat().st_size
            except OSError:
                places.append((i, j))
                continue
            if size != self.bytes_per_tile:
                places.append((i, j))
                damaged += 1
        return places, damaged

    def read(self, i: int, j: int) -> Tensor | None:
        """Return a tile in float64; None where it is missing or damaged."""
        try:
            if self.file(i, j).stat().st_size != self.bytes_per_tile:
                return None
            return torch.from_numpy(self._array[self.layout.span(i), self.layout.span(j)])
        except MemoryError:
            raise
        except Exception:
            # A checksum that does not match is a ValueError; other damage has other errors, such as those of the disk.
            return None

    def write(self, i: int, j: int, tile: Tensor) -> None:
        """Write a tile, whole or not at all.

        Raises:
            InputError: the disk is full, or cannot be written to.
        """
        rows, columns = self.layout.span(i), self.layout.span(j)
        try:
            if self.layout.shape(i, j) != (self.layout.side, self.layout.side):
                # Zarr would read a tile at the edge before it writes to it, and stumble over damage.
                self.file(i, j).unlink(missing_ok=True)
            self._array[rows, columns] = tile.contiguous().numpy()
        except OSError as error:
            if error.errno in _FULL:
                places, _ = self.missing()
                raise self._full(len(places), "the disk is full") from error
            raise InputError(f"the tile ({i}, {j}) cannot be written to {self.path}: {first_line(error)}.") from error

    def check_space(self, tiles: int) -> None:
        """Raise InputError unless the disk has room for this many tiles."""
        if tiles * self.bytes_per_tile > shutil.disk_usage(self.path).free:
            raise self._full(tiles, "the disk has too little room")

    def _full(self, tiles: int, reason: str) -> InputError:
        needed, free = tiles * self.bytes_per_tile, shutil.disk_usage(self.path).free
        return InputError(
            f"{reason}: the {tiles:,} tiles of the kernel matrix that are missing in {self.path} take {needed:,} bytes, "
            f"and {free:,} are free. Make room, or give a folder on another disk; what has been written is kept, and the "
            "same call continues from it."
        )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other processes from writing to the folder, and remove what a killed one left half written.

        Raises:
            InputError: another process writes to it.
        """
        try:
            lock = (self.path / ".lock").open("a")
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {first_line(error)}.") from error
        with lock:
            try:
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system opens it again when the process ends
            except ImportError:  # Windows has no such locks
                pass
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    raise InputError(
                        f"another process is writing to {self.path}. Wait until it has finished, or give another folder."
                    ) from error
                # Some file systems have no locks. Two processes then do the same work twice, and none is damaged.
            for partial in self.path.glob("c/*/*.partial"):
                partial.unlink(missing_ok=True)
            yield
