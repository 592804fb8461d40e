"""What a run leaves behind: tables and arrays by stage, with where they came from. No torch, so that anyone can read it."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shutil
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

from ntklens.errors import InputError

SCHEMA = 1
FILE = "record.json"
_REPLACED = "replaced"
"""Marks the folder of a run that waits until the one which replaces it is done."""
_PACKAGES = ("ntklens", "torch", "numpy", "scipy", "scikit-learn", "matplotlib")

_PARTS: dict[str, type] = {"kind": str, "title": str, "spec": dict, "provenance": dict, "stages": list, "tables": dict}

Scalar = str | int | float | bool | None
Row = dict[str, Scalar]


@dataclass
class Record:
    """One run's folder: `record.json` (spec, provenance, tables) and `arrays/<stage>.npz`.

    Each stage is written whole before it counts as done, so a run that was killed keeps every stage it had finished, and
    goes on with the next. In tables, what is not finite is None.

    Attributes:
        folder: where it lives.
        kind: which sort of run.
        title: for people.
        spec: the experiment, as plain values.
        provenance: versions, machine, seed, data, command, seconds a stage.
        stages: finished stages, in order.
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
        """A new record in a new folder; one that is replaced waits beside it until `settle` or `put_back`.

        Raises:
            InputError: the folder exists (and, with `overwrite`, is not the folder of a record), or cannot be written.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            if not overwrite:
                raise InputError(f"{folder} exists; choose another --out, or pass --overwrite to replace that run.")
            if not (folder / FILE).is_file():
                raise InputError(
                    f"{folder} is not the folder of a run, so it is not overwritten; choose another --out."
                )
        record = cls(folder, kind, title, dict(spec), dict(provenance))
        try:
            if (folder / FILE).is_file():
                _set_aside(folder)
            folder.resolve().mkdir(parents=True, exist_ok=True)
            record._write()
        except OSError as error:
            if _waits(folder) and not folder.exists():
                _aside(folder).rename(folder.resolve())
            raise InputError(
                f"{folder} cannot be written ({error.strerror or error}); choose another --out."
            ) from error
        return record

    def settle(self) -> None:
        """Delete the run that this one has replaced."""
        if _waits(self.folder):
            shutil.rmtree(_aside(self.folder), ignore_errors=True)

    def put_back(self) -> Path | None:
        """Put the run that this one was to replace in its place again, where there is one.

        Returns:
            Where this run has been moved with what it had done; None where nothing was replaced.
        """
        if not _waits(self.folder):
            return None
        folder = self.folder.resolve()
        kept = next(k for i in range(1, 10**6) if not (k := folder.with_name(f"{folder.name}.failed-{i}")).exists())
        folder.rename(kept)
        self.folder = kept
        _aside(folder).rename(folder)
        (folder / _REPLACED).unlink(missing_ok=True)
        return kept

    @classmethod
    def open(cls, folder: str | Path) -> Record:
        """The record in a folder.

        Raises:
            InputError: no record there, or one that this version cannot read.
        """
        folder = Path(folder)
        path = folder / FILE
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; give the folder that a run was written to (its --out).") from None
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); give the folder of a run (its --out)."
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not readable as JSON ({error}); run the command again.") from None
        if not isinstance(held, dict) or held.get("schema") != SCHEMA:
            raise InputError(f"{path} is not a record of schema {SCHEMA}; run the command again with this version.")
        if missing := [name for name, kind in _PARTS.items() if not isinstance(held.get(name), kind)]:
            raise InputError(f"{path} lacks {', '.join(missing)}, or has it in another form; run the command again.")
        return cls(folder, **{name: held[name] for name in _PARTS})

    def done(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return stage in self.stages

    def add_stage(
        self,
        stage: str,
        *,
        tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        seconds: float | None = None,
    ) -> None:
        """Keep a finished stage: its arrays first, then, in one step, its tables and the fact that it is done."""
        if arrays:
            place = self.folder / "arrays"
            place.mkdir(exist_ok=True)
            part = place / f"{stage}.npz.part"
            with part.open("wb") as file:
                np.savez_compressed(file, **{name: np.asarray(a) for name, a in arrays.items()})  # type: ignore[arg-type]
            os.replace(part, place / f"{stage}.npz")
        for name, rows in (tables or {}).items():
            self.tables[name] = [{key: _plain(value) for key, value in row.items()} for row in rows]
        if seconds is not None:
            self.provenance.setdefault("seconds", {})[stage] = round(seconds, 2)
        if stage not in self.stages:
            self.stages.append(stage)
        self._write()

    def table(self, name: str) -> list[Row]:
        """Rows of a table; none when its stage was not run."""
        return self.tables.get(name, [])

    def has(self, name: str) -> bool:
        """Whether there is an array "stage/name"."""
        return self._load(name) is not None

    def array(self, name: str) -> NDArray[Any]:
        """The array "stage/name".

        Raises:
            InputError: there is none, or its file is damaged.
        """
        array = self._load(name)
        if array is None:
            raise InputError(f"{self.folder} has no array {name}; run the stage {name.partition('/')[0]} first.")
        return array

    def _load(self, name: str) -> NDArray[Any] | None:
        stage, _, key = name.partition("/")
        path = self.folder / "arrays" / f"{stage}.npz"
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                return file[key] if key in file.files else None
        except FileNotFoundError:
            return None
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path} is damaged ({error}); run the command again.") from error

    def _write(self) -> None:
        held = {
            "schema": SCHEMA,
            "kind": self.kind,
            "title": self.title,
            "spec": self.spec,
            "provenance": self.provenance,
            "stages": self.stages,
            "tables": self.tables,
        }
        part = self.folder / f"{FILE}.part"
        part.write_text(json.dumps(held, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, self.folder / FILE)


def _aside(folder: Path) -> Path:
    """Where the run that is replaced waits."""
    return folder.resolve().with_name(f"{folder.resolve().name}.before")


def _waits(folder: Path) -> bool:
    """Whether a run waits there that was put aside by us."""
    return (_aside(folder) / _REPLACED).is_file()


def _set_aside(folder: Path) -> None:
    """Move a run out of the way; where a finished one waits already, the unfinished one that came after it goes.

    Raises:
        InputError: something else stands in that place.
    """
    aside = _aside(folder)
    if _waits(folder):
        shutil.rmtree(folder.resolve())
        return
    if aside.exists():
        raise InputError(f"{aside} is where the run in {folder} would wait until the new one is done; move it away.")
    (folder / _REPLACED).touch()
    folder.resolve().rename(aside)


def provenance(*, seed: int, data: str) -> dict[str, Any]:
    """Where results come from: versions, machine, command and time, with the seed and the data's fingerprint."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
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
    """A JSON scalar; numbers that are not finite become None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"a table holds plain scalars; {type(value).__name__} came")
