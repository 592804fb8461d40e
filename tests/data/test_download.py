"""Downloads from a real server on this machine, cut off half-way and taken up again."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ntklens.data.download import fetch
from ntklens.errors import InputError

CONTENT = bytes(range(256)) * 4000
SHA = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves one file with ranges; closes the line early for as long as `cuts` is above 0."""

    cuts = 0
    ranges: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = CONTENT[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts > 0:
            self.server.cuts -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.ranges = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/file.bin"


def test_a_file_is_fetched_once_and_kept(server, tmp_path):
    path = fetch(url(server), SHA, tmp_path / "cache", "file.bin", "help")
    assert path.read_bytes() == CONTENT
    fetch(url(server), SHA, tmp_path / "cache", "file.bin", "help")
    assert len(server.ranges) == 1
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["file.bin"]


def test_a_download_cut_off_goes_on_where_it_was(server, tmp_path):
    server.cuts = 1
    with pytest.raises(InputError, match="run the command again to resume"):
        fetch(url(server), SHA, tmp_path, "file.bin", "help")
    have = (tmp_path / "file.bin.part").stat().st_size
    assert 0 < have < len(CONTENT)
    assert fetch(url(server), SHA, tmp_path, "file.bin", "help").read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={have}-"]


def test_another_file_than_the_published_one_is_refused(server, tmp_path):
    wrong = "sha256:" + "0" * 64
    with pytest.raises(InputError, match="not the published file"):
        fetch(url(server), wrong, tmp_path, "file.bin", "help")
    assert not (tmp_path / "file.bin").exists()


def test_without_a_network_it_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"could not be fetched from http://127\.0\.0\.1:9.*put the files"):
        fetch("http://127.0.0.1:9/file.bin", SHA, tmp_path, "file.bin", "put the files into a folder.")
