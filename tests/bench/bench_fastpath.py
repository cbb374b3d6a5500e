"""CPU time of one DNS worker per answered query: a DnsServer on loopback, queried by dnsperf.

    python -m tests.bench.bench_fastpath [--seconds 5] [--rounds 3]

Microseconds, user and system, medians of the rounds: for one query, with ECS over 10,000 known prefixes, with
unseen ECS (anonymous, encoded), and for names that do not exist. Another bench compares with other servers; this
one shows the effect of a change to the fast path.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random
from statistics import median

import uvloop

from dnsvip.dns.engine import Engine
from dnsvip.dns.io.server import DnsServer
from dnsvip.site.node_dns import DnsSettings, Listener
from tests.samples import make_snapshot

KNOWN = 10_000
QUESTION = b"\3www\7example\4test\0\0\x1c\0\1"
RANDOM, NEWS = Random(1), count(16 << 16)


def plain() -> bytes:
    """One query without EDNS."""
    return b"\0\0\1\0\0\1\0\0\0\0\0\0" + QUESTION


def with_ecs(network: int) -> bytes:
    """The query with a /24, given as its first 24 bits."""
    opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0b\0\x08\0\x07\0\1\x18\0" + network.to_bytes(3, "big")
    return b"\0\0\1\0\0\1\0\0\0\0\0\1" + QUESTION + opt


def missing() -> bytes:
    """A query for a name that does not exist."""
    label = b"x%07x" % RANDOM.randrange(1 << 28)
    return b"\0\0\1\0\0\1\0\0\0\0\0\0\x08" + label + QUESTION[4:]


CASES: dict[str, Callable[[], bytes]] = {
    "plain": plain,
    "ECS of 10,000 known prefixes": lambda: with_ecs((10 << 16) + RANDOM.randrange(KNOWN)),
    "new ECS each time": lambda: with_ecs(next(NEWS)),
    "names that do not exist": missing,
}


def main() -> None:
    """Run all cases and print them."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, worker() as (pid, port):
        for name, make in CASES.items():
            ask(port, write(Path(folder), make, 60_000), 1)
            figures = [
                measure(pid, port, write(Path(folder), make, 400_000), chosen.seconds) for _ in range(chosen.rounds)
            ]
            cpu, rate = (median(column) for column in zip(*figures, strict=True))
            print(f"{name:32} {cpu:6.2f} us/query {rate:9.0f} queries/s")


def write(folder: Path, make: Callable[[], bytes], number: int) -> Path:
    """Write queries to a file for dnsperf -B."""
    path = folder / "questions"
    wires = (make() for _ in range(number))
    path.write_bytes(b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires))
    return path


def measure(pid: int, port: int, questions: Path, seconds: float) -> tuple[float, float]:
    """CPU microseconds per answer, and answers per second."""
    before = cpu_seconds(pid)
    answered, rate = ask(port, questions, seconds)
    return (cpu_seconds(pid) - before) * 1e6 / answered, rate


def ask(port: int, questions: Path, seconds: float) -> tuple[int, float]:
    """Have dnsperf send each query of a file at most once, for some seconds."""
    bounds = ["-l", str(seconds), "-n", "1"] if questions.stat().st_size > 1 << 22 else ["-l", str(seconds)]
    where = ["-s", "127.0.0.1", "-p", str(port), "-d", str(questions), "-B", "-q", "200", "-c", "4", *bounds]
    done = subprocess.run(["dnsperf", *where], capture_output=True, text=True, check=True)
    matches = [re.search(rf"{key}: +([\d.]+)", done.stdout) for key in ("Queries completed", "Queries per second")]
    numbers = [float(match[1]) for match in matches if match]
    return int(numbers[0]), numbers[1]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


@contextmanager
def worker() -> Iterator[tuple[int, int]]:
    """A process with a server whose clients are the known prefixes, and its port."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        uvloop.run(serve(writing))
        sys.exit()
    try:
        yield pid, int(os.read(reading, 16))
    finally:
        os.kill(pid, 15)
        os.waitpid(pid, 0)


async def serve(ready: int) -> None:
    """Answer until killed."""
    match = {
        f"known-{n}": {"id": n + 1, "tier": "gold", "match": [{"ecs": f"10.{n >> 8}.{n & 255}.0/24"}]}
        for n in range(KNOWN)
    }
    changes = {"cluster": {"web": {"anonymous": "encoded"}}, "client": {"acme": None, "newsreader": None, **match}}
    snapshot = make_snapshot(changes)
    server = DnsServer(DnsSettings(listen=(Listener("127.0.0.1:0"),)), Engine(snapshot))
    await server.start()
    gc.freeze()
    os.write(ready, str(server.endpoints[0].port).encode())
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
