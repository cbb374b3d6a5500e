"""A client with a stopwatch: fetches a page again and again, each time over new connections.

Run as `python -m dnsvip.demo.probe SECONDS COUNT WORKERS URL...`: until that many seconds have passed or pages have
come, from so many threads, of several URLs in turns, so that what disturbs one disturbs all. Prints a JSON array with
an object for each page: its `url`, when it was asked for (`at`, by the machine's monotonic clock), the `seconds` until
its first byte, the `connections` that took, its first line (`server`), its second (`client`), or what went wrong
(`error`). Redirects are followed.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 2.0
PAUSE_SECONDS = 0.02
MOST_CONNECTIONS = 5


def fetch(url: str) -> dict[str, Any]:
    """One page, and what it took."""
    began, connections = time.monotonic(), 0
    said: dict[str, Any] = {"url": url, "at": began}
    try:
        while connections < MOST_CONNECTIONS:
            connections += 1
            first, head, body = _exchange(url)
            location = next((line[10:] for line in head.split("\r\n") if line.lower().startswith("location: ")), None)
            if location is None:
                break
            url = location
    except OSError as error:
        return said | {"error": type(error).__name__}
    lines = [*body.splitlines(), "", ""]
    page = {"server": lines[0], "client": lines[1].rpartition(" ")[2]}
    return said | {"seconds": first - began, "connections": connections, **page}


def _exchange(url: str) -> tuple[float, str, str]:
    """The moment of the first byte of an answer, its head and its body."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), TIMEOUT_SECONDS) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        path = parts.path or "/"
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: www.example.test\r\nConnection: close\r\n\r\n".encode())
        data = connection.recv(1 << 16)
        first = time.monotonic()
        while more := connection.recv(1 << 16):
            data += more
    if not data:
        raise ConnectionResetError
    head, _, body = data.decode().partition("\r\n\r\n")
    return first, head, body


def run(seconds: float, count: int, workers: int, urls: Sequence[str]) -> list[dict[str, Any]]:
    """All pages, in the order in which they were asked for."""
    end = time.monotonic() + seconds

    def work(share: int) -> list[dict[str, Any]]:
        pages: list[dict[str, Any]] = []
        while len(pages) < share and time.monotonic() < end:
            pages.append(fetch(urls[len(pages) % len(urls)]))
            time.sleep(PAUSE_SECONDS)
        return pages

    with ThreadPoolExecutor(workers) as pool:
        every = pool.map(work, [-(-count // workers)] * workers)
        return sorted((page for pages in every for page in pages), key=lambda page: float(page["at"]))


if __name__ == "__main__":
    print(json.dumps(run(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])))  # noqa: T201
