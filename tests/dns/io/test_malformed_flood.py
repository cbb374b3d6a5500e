"""Broken questions over real sockets: no worker stops, and every answer can be read by a resolver."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import dns.message
import pytest

from tests.dns.test_fuzz import corpus, mutated
from tests.long import long_or
from tests.node.serving import Node, node

SENT = long_or(60_000, long=1_000_000)
SORTS = 20_000
WINDOW = 100
LAST = dns.message.make_query("end-of-window.example.test", "A").to_wire()
"""A good question after each window: its answer says that the window has been dealt with."""

SEED = 9_112_026
OPCODE = 0x78
"""Cleared before reading: every answer is held to what a plain one looks like, as dig does."""
MAY_GROW = 64 << 20
"""Bytes: the bounded tables of names and clients fill up to this."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Node]:
    """A served example site."""
    with node(tmp_path) as one:
        one.apply()
        one.start("--token-file", "token")
        yield one


def _resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def _broken(rng: Random, good: list[bytes]) -> Iterator[bytes]:
    """Broken questions without end: many sorts of breakage, each with another bit flipped every time round."""
    sorts = list(islice(mutated(rng, good), SORTS))
    while True:
        places = rng.randbytes(2 * SORTS)
        for index, wire in enumerate(sorts):
            broken = bytearray(wire)
            if broken:
                broken[places[2 * index] % len(broken)] ^= 1 << (places[2 * index + 1] & 7)
            yield bytes(broken)


def _exchange(port: int, good: list[bytes]) -> set[bytes]:
    """Send them all, a window at a time, and collect what came back, each answer once whatever its id."""
    answers: set[bytes] = set()
    broken = _broken(Random(SEED), good)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)  # all of a window may come before one is read
        sock.connect(("127.0.0.1", port))
        sock.settimeout(10)
        for _ in range(0, SENT, WINDOW):
            for _ in range(WINDOW):
                sock.send(next(broken))
            sock.send(LAST)
            while (answer := sock.recv(65535))[12:28] != LAST[12:28]:
                answers.add(answer[2:])
    return answers


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_broken_questions(served: Node) -> None:
    """The worker lives, its memory does not grow with them, every message is counted, every answer can be read."""
    assert served.process is not None
    before = served.dig("AAAA", "www.example.test")
    memory = _resident(served.process.pid)
    answers = _exchange(served.dns, corpus())
    assert len(answers) > 1000
    for answer in answers:
        readable = b"\0\0" + bytes([answer[0] & ~OPCODE]) + answer[1:]
        dns.message.from_wire(readable, keyring=False)  # type: ignore[arg-type]
    assert served.process.poll() is None
    assert _resident(served.process.pid) - memory < MAY_GROW
    assert served.dig("AAAA", "www.example.test") == before
    assert "Traceback" not in served.log
    counters = json.loads(served.noun("status", "--json").stdout)["dns"]
    assert counters["transport"]["udp_messages"] == SENT + SENT // WINDOW + 2
    assert sum(counters["outcomes"].values()) == SENT + SENT // WINDOW + 2
