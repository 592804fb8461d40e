"""The record of a run: tables and arrays by stage, with their provenance. Reading one needs no torch."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import sys
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntklens.backup import Backup
from ntklens.errors import InputError
from ntklens.files import written_whole

SCHEMA = 3
FILE = "record.json"
"""Name of the file that makes a folder the folder of a run."""

_PACKAGES = ("ntklens", "torch", "numpy", "scipy", "scikit-learn", "matplotlib")
"""Packages whose versions are part of the provenance."""

_FIELDS: dict[str, type] = {"kind": str, "title": str, "spec": dict, "provenance": dict, "stages": list, "tables": dict}
"""Fields of record.json, each with its JSON type."""

Scalar = str | int | float | bool | None
Row = dict[str, Scalar]


@dataclass
class Record:
    """The folder of one run: `record.json` (spec, provenance, tables) and `arrays/<stage>.npz`.

    A stage counts as done only once all of it is on disk, so a run that is killed keeps every stage it has finished, and
    can be resumed with the next one. Numbers in tables that are not finite are stored as None.

    Attributes:
        folder: the folder of the run.
        kind: the kind of experiment, such as "attack".
        title: heading of the report.
        spec: the experiment, as plain values.
        provenance: versions, machine, seed, data, command, and seconds per stage.
        stages: names of the finished stages, in order.
        tables: rows by table name.
    """

    folder: Path
    kind: str
    title: str
    spec: dict[str, Any]
    provenance: dict[str, Any]
    stages: list[str] = field(default_factory=list)
    tables: dict[str, list[Row]] = field(default_factory=dict)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        kind: str,
        title: str,
        spec: Mapping[str, Any],
        provenance: Mapping[str, Any],
        *,
        overwrite: bool = False,
    ) -> Record:
        """Create a record in a new folder.

        With `overwrite`, the earlier run in that folder is kept as a backup beside it until `discard_backup` deletes it or
        `restore_backup` puts it in its place again (see `ntklens.backup`).

        Args:
            folder: the folder of the run; it must be new or empty, unless `overwrite` replaces an earlier run.
            kind: the kind of experiment.
            title: heading of the report.
            spec: the experiment, as plain values.
            provenance: versions, machine, seed and data, as from the function `provenance`.
            overwrite: replace an earlier run in that folder.

        Raises:
            InputError: the folder exists (and, with `overwrite`, is not the folder of a run), or cannot be written.
        """
        folder = Path(folder)
        check_folder(folder, overwrite=overwrite)
        record = cls(folder, kind, title, dict(spec), dict(provenance))
        backup = Backup(folder)
        try:
            if (folder / FILE).is_file():
                backup.take()
            folder.resolve().mkdir(parents=True, exist_ok=True)
            record._write()
        except OSError as error:
            # The earlier run returns to its place; the folder there, if any, holds no more than an unfinished record.json.
            backup.restore(keep_failed=False)
            raise InputError(
                f"{folder} cannot be written ({error.strerror or error}); choose another --out."
            ) from error
        return record

    def discard_backup(self) -> None:
        """Delete the run that this one has replaced, if any."""
        Backup(self.folder).discard()

    def restore_backup(self) -> Path | None:
        """Put the run that this one was to replace in its place again, if any.

        Returns:
            The folder to which this run has moved, with the stages it has finished; None if it replaces no run.
        """
        moved_to = Backup(self.folder).restore()
        if moved_to is not None:
            self.folder = moved_to
        return moved_to

    @classmethod
    def open(cls, folder: str | Path) -> Record:
        """Read the record in a folder.

        Raises:
            InputError: the folder holds no record, or one that this version cannot read.
        """
        folder = Path(folder)
        path = folder / FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; give the folder that a run was written to (its --out).") from None
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); give the folder of a run (its --out)."
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not readable as JSON ({error}); run the command again.") from None
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise InputError(f"{path} is not a record of schema {SCHEMA}; run the command again with this version.")
        if missing := [name for name, kind in _FIELDS.items() if not isinstance(values.get(name), kind)]:
            raise InputError(
                f"{path} lacks {', '.join(missing)}, or has a value of another type there; run the command again."
            )
        return cls(folder, **{name: values[name] for name in _FIELDS})

    def done(self, stage: str) -> bool:
        """Return whether a stage is finished."""
        return stage in self.stages

    def add_stage(
        self,
        stage: str,
        *,
        tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        seconds: float | None = None,
        cost: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Write a finished stage to disk.

        Args:
            stage: name of the stage.
            tables: rows by table name, each row a mapping from column to a plain scalar.
            arrays: arrays by name; `array` reads them as "stage/name".
            seconds: duration of the stage.
            cost: estimated and taken seconds of its parts, a row each, for the provenance.

        Raises:
            TypeError: a table holds something else than plain scalars.
        """
        # The arrays come first: record.json, which lists the stage as done, is replaced in one step after they are on disk.
        if arrays:
            path = self._array_file(stage)
            path.parent.mkdir(exist_ok=True)
            with written_whole(path) as partial, partial.open("wb") as file:
                np.savez_compressed(file, **{name: np.asarray(a) for name, a in arrays.items()})  # type: ignore[arg-type]
        for name, rows in (tables or {}).items():
            self.tables[name] = [{key: _plain(value) for key, value in row.items()} for row in rows]
        if seconds is not None:
            self.provenance.setdefault("seconds", {})[stage] = round(seconds, 2)
        if cost:
            rounded = [{key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()} for row in cost]
            self.provenance["cost"] = [*self.provenance.get("cost", []), *rounded]
        if stage not in self.stages:
            self.stages.append(stage)
        self._write()

    def table(self, name: str) -> list[Row]:
        """Return the rows of a table; an empty list where its stage was not run."""
        return self.tables.get(name, [])

    def has(self, name: str) -> bool:
        """Return whether there is an array "stage/name"."""
        return self._load(name) is not None

    def array(self, name: str) -> NDArray[Any]:
        """Read the array "stage/name".

        Raises:
            InputError: there is no such array, or its file is damaged.
        """
        array = self._load(name)
        if array is None:
            raise InputError(f"{self.folder} has no array {name}; run the stage {name.partition('/')[0]} first.")
        return array

    def _array_file(self, stage: str) -> Path:
        """Return the path of the file that holds a stage's arrays."""
        return self.folder / "arrays" / f"{stage}.npz"

    def _load(self, name: str) -> NDArray[Any] | None:
        """Read the array "stage/name"; None where there is none."""
        stage, _, key = name.partition("/")
        path = self._array_file(stage)
        try:
            # Unpickling an array of objects could run code, so such an array is refused like a damaged file.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                return file[key] if key in file.files else None
        except FileNotFoundError:
            return None
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path} is damaged ({error}); run the command again.") from error

    def _write(self) -> None:
        """Replace record.json by the present state of the record."""
        values = {"schema": SCHEMA} | {name: getattr(self, name) for name in _FIELDS}
        text = json.dumps(values, indent=1, allow_nan=False) + "\n"
        with written_whole(self.folder / FILE) as partial:
            partial.write_text(text, encoding="utf-8")


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise InputError for a folder that a new run cannot take: one that is there, unless `overwrite` replaces its run."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not overwrite:
            raise InputError(f"{folder} exists; choose another --out, or pass --overwrite to replace that run.")
        if not (folder / FILE).is_file():
            raise InputError(f"{folder} is not the folder of a run, so it is not overwritten; choose another --out.")


def provenance(*, seed: int, data: str, victim: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return where results come from: versions, machine, command and time, with the seed and the data's fingerprint.

    Args:
        seed: seed of the experiment.
        data: fingerprint of the data set.
        victim: SHA-256 sums of the user's network that is attacked: of its files, and of its weights.
    """
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    network = {} if victim is None else {"victim": dict(victim)}
    return network | {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "seed": seed,
        "data": data,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _plain(value: Any) -> Scalar:
    """Return a value as a JSON scalar; numbers that are not finite become None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"expected plain scalars in a table; got {type(value).__name__}")
