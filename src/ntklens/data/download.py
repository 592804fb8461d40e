"""Verified, resumable downloads into the cache."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pooch

from ntklens.errors import InputError

_CHUNK = 1 << 16


class ResumingDownloader:
    """A pooch downloader that keeps what has come in a `.part` file and asks for the rest the next time."""

    def __init__(self, part: Path, timeout: float = 30.0) -> None:
        self.part = part
        self.timeout = timeout

    def __call__(self, url: str, output_file: Any, pooch_instance: Any, check_only: bool = False) -> bool | None:
        """Fetch `url` into `output_file`, which pooch then verifies."""
        if check_only:
            return True
        have = self.part.stat().st_size if self.part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=self.timeout) as response:
            whole = response.status != 206
            expected = int(response.headers.get("Content-Length", 0)) + (0 if whole else have)
            with self.part.open("wb" if whole else "ab") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
        if self.part.stat().st_size < expected:
            raise ConnectionError(f"the connection closed after {self.part.stat().st_size} of {expected} bytes")
        shutil.copyfile(self.part, str(output_file))
        self.part.unlink()
        return None


def fetch(url: str, known_hash: str, folder: Path, name: str, remedy: str) -> Path:
    """The file in the folder, downloaded when it is not there or not intact.

    Args:
        url: where the authors publish it.
        known_hash: "sha256:…" or "md5:…".
        folder: cache folder, made when missing.
        name: file name in it.
        remedy: what to do without a network, for the error message.

    Raises:
        InputError: no connection, or a file other than the published one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    downloader = ResumingDownloader(folder / f"{name}.part")
    try:
        return Path(pooch.retrieve(url, known_hash, fname=name, path=folder, downloader=downloader))
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise InputError(f"{name} could not be fetched from {url} ({error}); {_again(folder, name)}{remedy}") from error
    except ValueError as error:
        raise InputError(f"{name} from {url} is not the published file (its hash differs); {remedy}") from error


def _again(folder: Path, name: str) -> str:
    """What to do about a part that has come."""
    return "run the command again to go on where it stopped; " if (folder / f"{name}.part").exists() else ""
