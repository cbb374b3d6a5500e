"""Sizing of a DNS node: memory, disk and start time by number of clients and workers. Nothing is judged.

python -m tests.bench.bench_sizing [--clients N ...] [--workers N ...] [--quick] [--record]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from dnsvip.store import KeyEncryptionKey
from tests.bench.bench_classify import filled
from tests.bench.outcome import README, write_between
from tests.bench.processes import cpu_seconds, memory_bytes
from tests.ports import free_port

NODE = """\
database = "sqlite:///site.db"
[[dns.listen]]
address = "127.0.0.1:{port}"
[dns]
workers = {workers}
"""
READY_SECONDS = 600.0
MIB = 1 << 20


def main() -> None:
    """Measure, print, and with --record write the result to the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="small numbers only")
    parser.add_argument("--record", action="store_true", help="put the result into README.md")
    options = parser.parse_args()
    if options.quick:
        options.clients = [1_000]
    text = "\n".join([head(), "", *nodes(options.clients, options.workers)])
    print(text)
    if options.record:
        write_between(README, "sizing", text)


def head() -> str:
    """The date and the machine."""
    machine = f"{os.cpu_count()} processors, Linux {platform.release()}, Python {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {machine}, load {os.getloadavg()[0]:.1f}."


def nodes(clients: list[int], workers: list[int]) -> Iterator[str]:
    """The table of DNS nodes: memory is the PSS of all processes, CPU is counted until all are ready."""
    yield "| clients | workers | memory MiB | ready after s | CPU s until ready | database MiB | snapshot MiB |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for number in clients:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            asyncio.run(_fill(folder, number))
            for count in workers:
                yield _node(folder, number, count)


async def _fill(folder: Path, number: int) -> None:
    kek = KeyEncryptionKey.load(folder / "dnsvip.key", {})
    store = await filled(folder / "site.db", kek, number)
    await store.close()


def _node(folder: Path, number: int, workers: int) -> str:
    (folder / "node.toml").write_text(NODE.format(port=free_port(), workers=workers))
    log = folder / "log"
    start = time.monotonic()
    with log.open("wb") as out:
        argv = [sys.executable, "-m", "dnsvip", "serve", "node.toml"]
        process = subprocess.Popen(argv, cwd=folder, stdout=out, stderr=out)
    try:
        while b"ready" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > start + READY_SECONDS:
                raise SystemExit(f"bench: the node did not get ready: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        took, used = time.monotonic() - start, cpu_seconds(process.pid)
        snapshot = _saved(folder / "state" / "snapshot.jsonl")
        memory = memory_bytes(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(READY_SECONDS)
    disk = sum(file.stat().st_size for file in folder.glob("site.db*"))
    sizes = f"{disk / MIB:.1f} | {snapshot / MIB:.1f}"
    return f"| {number:,} | {workers} | {memory / MIB:.0f} | {took:.1f} | {used:.1f} | {sizes} |"


def _saved(file: Path) -> int:
    """Wait for the last good snapshot and return its size."""
    end = time.monotonic() + READY_SECONDS
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.1)
    return file.stat().st_size if file.exists() else 0


if __name__ == "__main__":
    main()
