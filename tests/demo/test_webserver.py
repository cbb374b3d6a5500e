"""The demo's web server sends slowly, until it need not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from dnsvip.demo.webserver import CHUNK, Server, content

SIZE = 4 * CHUNK
DAY = 86_400


@pytest.fixture
def server() -> Iterator[HTTPConnection]:
    """A connection to a running server."""
    with Server("fast-1", port=0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        connection = HTTPConnection("::1", running.socket.getsockname()[1], timeout=30)
        yield connection
        connection.close()
        running.shutdown()


def download(server: HTTPConnection, seconds: float, until: str = "") -> bytes:
    """What a download delivers."""
    server.request("GET", f"/download?bytes={SIZE}&seconds={seconds}{until}")
    return server.getresponse().read()


def test_a_download_takes_its_time(server: HTTPConnection) -> None:
    """All bytes come, and not before their time."""
    begun = time.monotonic()
    assert download(server, 0.4) == content(SIZE)
    assert time.monotonic() - begun > 0.25


def test_a_download_is_slow_only_until_a_file_is_there(server: HTTPConnection, tmp_path: Path) -> None:
    """Without the file it takes a day; with it the rest comes at once."""
    file = tmp_path / "moved"
    file.touch()
    assert download(server, DAY, f"&until={file}") == content(SIZE)
    server.close()
    server.timeout = 1
    with pytest.raises(TimeoutError):
        download(server, DAY, f"&until={file}.not")
