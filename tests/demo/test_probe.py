"""The stopwatch measures what a client waits for, follows redirects, and says what went wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from dnsvip.demo.growth import growth_of
from dnsvip.demo.probe import fetch, run
from tests.ports import free_port

WAIT = 0.15


class Handler(BaseHTTPRequestHandler):
    """Answers late; `/moved` sends elsewhere."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(302 if self.path == "/moved" else 200)
        if self.path == "/moved":
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/")
        else:
            time.sleep(WAIT)
        self.end_headers()
        self.wfile.write(b"one\nyou are 192.0.2.1\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def server() -> Iterator[str]:
    """The address of a web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_pages_are_timed() -> None:
    """The time is that to the first byte, and a redirect is a second connection."""
    with server() as url:
        page, moved = fetch(f"{url}/"), fetch(f"{url}/moved")
    assert page["seconds"] >= WAIT
    assert (page["connections"], page["server"], page["client"]) == (1, "one", "192.0.2.1")
    assert (moved["connections"], moved["server"]) == (2, "one")


def test_several_are_fetched_in_turns() -> None:
    """As many pages as asked for, of each URL alike; one that cannot be reached is an error."""
    with server() as url:
        dead = f"http://127.0.0.1:{free_port()}/"
        pages = run(30, 4, 1, [f"{url}/", dead])
    assert [page["url"] for page in pages] == [f"{url}/", dead] * 2
    assert ["error" in page for page in pages] == [False, True] * 2


def test_a_file_grows(tmp_path: Path) -> None:
    """Samples begin with nothing and end with all."""
    file = tmp_path / "file"
    with growth_of(file) as growth:
        time.sleep(0.12)
        file.write_bytes(b"x" * 10)
    assert growth.samples[0][1] == 0
    assert growth.samples[-1][1] == 10
