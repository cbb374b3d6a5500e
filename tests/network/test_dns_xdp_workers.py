"""`[dns] xdp` with several workers: one feeds the kernel, which answers and leaves questions to all of them."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.network.dispatching import wait_until
from tests.network.field import kernel_world
from tests.network.hosted import start_on
from tests.network.test_dns_xdp import FOUR, NODE, Pair

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

CALM, FLOWS = 6.5, 3
"""Seconds without a flood after which there is no budget; floods, each of which goes to one worker or the other."""

FLOOD = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.connect(("{FOUR}", 53))
    for number in range(100_000):
        sock.send(b"\\xab\\xcd\\1\\0\\0\\1" + bytes(6) + b"\\x08%08d\\7example\\4test\\0\\0\\1\\0\\1" % number)
"""


class Working(Pair):
    """A pair with two workers."""

    def flood(self) -> None:
        """Ask for names that do not exist, more than one worker has time for, from one port."""
        self.client.run(sys.executable, "-c", FLOOD, timeout=60)

    @property
    def feeding(self) -> int | None:
        """The process that feeds the program: it has the lock."""
        [lock] = (path for path in self.pins.rglob("*-lock"))
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, access, pid, where, *_ = line.split()
            if (kind, access) == ("FLOCK", "WRITE") and int(where.split(":")[-1]) == lock.stat().st_ino:
                return int(pid)
        return None

    def settled(self) -> dict[str, int]:
        """The metrics once the workers have reported all, each within a quarter of a second."""
        time.sleep(1)
        return self.metrics()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Working]:
    with kernel_world() as world:
        made = Working(world, tmp_path_factory.mktemp("workers"))
        made.node.write_text(NODE.replace("PINS", str(made.pins)).replace("xdp =", "workers = 2\nxdp ="))
        made.serve()
        yield made


def test_totals_and_watching(pair: Working) -> None:
    """Each question is counted and shown once, whoever answers it."""
    queries, seen = pair.folder / "queries", pair.folder / "seen"
    queries.write_text("plain.example.test A\nwww.example.test AAAA\nversion.example.test TXT\nnone.example.test A\n")
    for words in (["plain.example.test", "A"], ["www.example.test", "AAAA"], ["version.example.test", "TXT"]):
        pair.until_known(lambda words=words: pair.dig(*words, "+noedns"))  # type: ignore[misc]
    before = pair.settled()
    pair.client.run("dnsperf", "-s", FOUR, "-d", str(queries), "-n", "1000", "-q", "20", "-c", "8", timeout=60)
    after = pair.settled()
    assert {name: after[name] - before[name] for name in ("messages", "responses", "queries", "transport")} == (
        dict.fromkeys(("messages", "responses", "queries", "transport"), 4000)
    )
    assert after["answered"] - before["answered"] > 2500
    words = ("watch", "--questions", "example.test", "--count", "8", "--json", "--config", pair.node)
    watcher = start_on(pair.server, *words, log=seen)
    wait_until(lambda: "watching" in seen.read_text())
    for _ in range(4):
        pair.dig("plain.example.test", "A", "+noedns")
        pair.dig("plain.example.test", "A", "+nsid")
    watcher.wait(20)
    rows = [json.loads(line) for line in seen.read_text().splitlines() if line.startswith("{")]
    assert sorted(row["in_kernel"] for row in rows) == [False] * 4 + [True] * 4


def test_a_flood_at_any_worker(pair: Working) -> None:
    """Whichever worker cannot keep up, the kernel drops what is too much; all that comes to the server is counted."""
    for _ in range(FLOWS):
        before = pair.settled()
        pair.flood()
        after = pair.settled()
        assert after["busy"] > before["busy"]
        assert after["messages"] == after["transport"] >= after["queries"] + after["busy"]
        time.sleep(CALM)
    before = pair.metrics()
    for number in range(20):
        assert pair.dig(f"calm{number}.example.test", "A", "+noedns")
    assert pair.settled()["busy"] == before["busy"]


def test_the_feeding_worker_ends_amid_a_flood(pair: Working) -> None:
    """The other one takes over, and lets up what there is time for."""
    before, feeding = pair.settled(), pair.feeding
    assert feeding
    log = pair.log.count("answering in the kernel")
    flooding = pair.client.start(sys.executable, "-c", FLOOD, log=pair.folder / "flooding")
    time.sleep(0.2)
    with suppress(ProcessLookupError):
        os.kill(feeding, signal.SIGKILL)
    flooding.wait(60)
    wait_until(lambda: pair.log.count("answering in the kernel") > log, 30)
    assert pair.feeding not in (None, feeding)
    pair.until_known(lambda: pair.dig("plain.example.test", "A", "+noedns"))
    pair.flood()
    after = pair.settled()
    assert after["busy"] > before["busy"]
    assert after["messages"] == after["transport"]
