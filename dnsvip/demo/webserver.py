"""A small web server that reports its name and both addresses of a connection.

Run as `python -m dnsvip.demo.webserver NAME`: any address, port 80. Every request is a line on standard output.
It stands for the operator's own servers and knows nothing of dnsvip.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

CHUNK = 16 * 1024


class Server(ThreadingHTTPServer):
    """One named web server on all IPv6 addresses of its host."""

    address_family = socket.AF_INET6
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, name: str, port: int = 80) -> None:
        self.name = name
        super().__init__(("::", port), Page)

    def server_bind(self) -> None:
        """Bind without resolving the host's name, which the library does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.name, self.server_address[1]


class Page(BaseHTTPRequestHandler):
    """`/` names the server and both ends of the connection, `/download?bytes=N&seconds=S` sends slowly,
    with `&until=FILE` only while there is no such file."""

    server: Server

    def do_GET(self) -> None:
        """Answer by path."""
        url = urlsplit(self.path)
        if url.path == "/download":
            asked = {key: values[0] for key, values in parse_qs(url.query).items()}
            self._download(int(asked["bytes"]), float(asked["seconds"]), asked.get("until"))
        else:
            here, there = self.connection.getsockname()[0], self.client_address[0]
            self._head(body := f"{self.server.name}\nyou are {there}\nyou asked {here}\n".encode())
            self.wfile.write(body)

    def _head(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()

    def _download(self, size: int, seconds: float, until: str | None) -> None:
        self._head(body := content(size))
        chunks = list(_chunks(body))
        for chunk in chunks:
            self.wfile.write(chunk)
            if until is None or not Path(until).exists():
                time.sleep(seconds / len(chunks))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """One line on standard output: source, destination, request."""
        print(self.client_address[0], self.connection.getsockname()[0], format % args, flush=True)  # noqa: T201


def content(size: int) -> bytes:
    """Bytes that reveal misplaced, lost or duplicated pieces: eight-byte counters."""
    return b"".join(struct.pack(">Q", number) for number in range(-(-size // 8)))[:size]


def _chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]


if __name__ == "__main__":
    Server(sys.argv[1]).serve_forever()
