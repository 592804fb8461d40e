"""Downloads into the cache, which are verified and can be resumed."""

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
    """A downloader for pooch that keeps an interrupted download and asks for the rest of it the next time.

    Args:
        part: the file that the received bytes are kept in.
        timeout: seconds without an answer after which the download fails.
    """

    def __init__(self, part: Path, timeout: float = 30.0) -> None:
        self.part = part
        self.timeout = timeout

    def __call__(self, url: str, output_file: Any, pooch_instance: Any, check_only: bool = False) -> bool | None:
        """Fetch `url` into `output_file`, which pooch then verifies."""
        if check_only:
            return True
        received = self.part.stat().st_size if self.part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={received}-"} if received else {})
        with urllib.request.urlopen(request, timeout=self.timeout) as response:
            # A server that knows no ranges answers with the whole file, and not with 206 (partial content).
            is_whole = response.status != 206
            expected = int(response.headers.get("Content-Length", 0)) + (0 if is_whole else received)
            with self.part.open("wb" if is_whole else "ab") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
        if self.part.stat().st_size < expected:
            raise ConnectionError(f"the connection closed after {self.part.stat().st_size} of {expected} bytes")
        shutil.copyfile(self.part, str(output_file))
        self.part.unlink()
        return None


def fetch(url: str, known_hash: str, folder: Path, name: str, remedy: str) -> Path:
    """Return the path of a file in the cache, which is downloaded when it is missing or damaged.

    Args:
        url: where the authors publish the file.
        known_hash: "sha256:…" or "md5:…".
        folder: cache folder, which is created when it is missing.
        name: name of the file in the folder.
        remedy: what to do without a network, for the error message.

    Raises:
        InputError: no connection, or a file other than the published one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    downloader = ResumingDownloader(folder / f"{name}.part")
    try:
        return Path(pooch.retrieve(url, known_hash, fname=name, path=folder, downloader=downloader))
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise InputError(
            f"{name} could not be fetched from {url} ({error}); {_how_to_resume(folder, name)}{remedy}"
        ) from error
    except ValueError as error:
        raise InputError(f"{name} from {url} is not the published file (its hash differs); {remedy}") from error


def _how_to_resume(folder: Path, name: str) -> str:
    """Return what to do about an interrupted download, and nothing where there is none."""
    return "run the command again to resume the download; " if (folder / f"{name}.part").exists() else ""
