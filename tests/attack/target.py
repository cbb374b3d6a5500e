"""A real node under attack: what it held before, and whether it is unharmed afterwards."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode

from tests.node.serving import NODE, PLAIN, Node, node, within

MAY_GROW = 64 << 20
"""Bytes of memory that an attack may add: the bounded tables fill up to this."""
MAY_OPEN = 32
"""Descriptors that may be left open after an attack: the pool of database connections grows up to this."""
AT_ONCE = 5.0
"""Seconds in which a good client is answered right after an attack, on a loaded machine."""
AGAIN = 1.0
"""Seconds after which it asks again over UDP."""
SETTLE = 20.0
"""Seconds in which what an attack has left open ends: the longest is the time for a head, 10 s."""


@dataclass(frozen=True)
class Held:
    """What a process holds: bytes of memory, descriptors."""

    memory: int
    files: int


class Target:
    """A served example site, with a token."""

    def __init__(self, one: Node) -> None:
        self.node = one
        self.dns, self.api, self.token = one.dns, one.api, one.token

    @property
    def pid(self) -> int:
        """The process."""
        assert self.node.process is not None
        return self.node.process.pid

    def held(self) -> Held:
        """What it holds now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return Held(pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{self.pid}/fd")))

    def seconds(self) -> float:
        """Processor time that it has taken."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body of a good client's GET."""
        head = {
            "Host": f"127.0.0.1:{self.api}",
            "Authorization": f"Bearer {self.token}",
            "Connection": "close",
        } | headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return answer_of(self.raw(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()))

    def raw(self, request: bytes, seconds: float = 60.0) -> bytes:
        """All that comes back on a connection to the API, until it ends."""
        with socket.create_connection(("127.0.0.1", self.api), seconds) as connection:
            connection.settimeout(seconds)
            received = b""
            with suppress(OSError):  # refused before all was sent: the answer is there all the same
                connection.sendall(request)
            with suppress(OSError):
                while chunk := connection.recv(65_536):
                    received += chunk
            return received

    def counters(self) -> dict[str, dict[str, int]]:
        """The groups of DNS counters."""
        found: dict[str, dict[str, int]] = json.loads(self.get("/api/v1/status")[1])["dns"]
        return found

    def ask(self, *, tcp: bool = False) -> None:
        """A good client's question, answered at once."""
        query = dns.message.make_query("www.example.test", "AAAA")
        reply = dns.query.tcp(query, "127.0.0.1", AT_ONCE, port=self.dns) if tcp else self._datagram(query)
        assert reply.rcode() == dns.rcode.NOERROR
        assert str(reply.answer[0][0]) == PLAIN

    def _datagram(self, query: dns.message.Message) -> dns.message.Message:
        """The answer to a datagram that is sent again each second: the first may find a socket full of an attack."""
        end = time.monotonic() + AT_ONCE
        while True:
            try:  # its port may be one that an attack has used, whose answers are still under way
                return dns.query.udp(query, "127.0.0.1", AGAIN, port=self.dns, ignore_errors=True)
            except dns.exception.Timeout:
                if time.monotonic() > end:
                    raise


@contextmanager
def unharmed(target: Target) -> Iterator[None]:
    """Around an attack: afterwards a good client is answered at once by DNS and API, the site is as it was, memory and
    descriptors are within bounds, every message read has one outcome, and nothing has failed."""
    before, site = target.held(), target.get("/api/v1/status")[1]
    failed, logged = target.counters()["outcomes"].get("failed", 0), len(target.node.log)
    yield
    start = time.monotonic()
    target.ask()
    target.ask(tcp=True)
    status, after = target.get("/api/v1/status")
    assert status == 200
    assert time.monotonic() - start < 3 * AT_ONCE
    assert json.loads(after)["generation"] == json.loads(site)["generation"]
    within(SETTLE, lambda: target.held().files <= before.files + MAY_OPEN)
    assert target.held().memory - before.memory < MAY_GROW
    within(SETTLE, lambda: _waiting(target.counters()) == 0)
    assert target.counters()["outcomes"].get("failed", 0) == failed, target.node.log[-2000:]
    log = target.node.log[logged:]
    assert target.token not in log
    assert "Traceback" not in log, log[max(log.find("Traceback") - 500, 0) :][:4000]


def _waiting(counters: dict[str, dict[str, int]]) -> int:
    """Messages that have been read and have no outcome yet, as they wait for their turn."""
    transport = counters["transport"]
    read = transport.get("udp_messages", 0) + transport.get("tcp_messages", 0)
    return read - sum(counters["outcomes"].values())


def answer_of(received: bytes) -> tuple[int, bytes]:
    """Status (0 where nothing came) and body of an HTTP answer."""
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body


@contextmanager
def attacked(folder: Path, text: str = NODE, **files: Any) -> Iterator[Target]:
    """A node to attack."""
    with node(folder) as one:
        one.write_node(text)
        one.apply()
        one.start("--token-file", "token", **files)
        target = Target(one)
        target.ask()
        yield target
