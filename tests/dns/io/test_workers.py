"""What a worker tells its parent arrives whole, however long it is and however slowly it is read."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from dnsvip.dns.io.workers import Workers

TELLING = """
import sys, time
from dnsvip.dns.io.workers import Parent
parent = Parent()
parent.report(ready=[["public", "127.0.0.1", 53]])
tiers = {f"a-tier-with-a-long-name-{n}": n for n in range(20000)}
for round in range(40):
    parent.report(counters={"tiers": tiers, "rounds": {"n": round}})
    time.sleep(0.01)
sys.stdin.read()
"""


async def test_long_counters() -> None:
    """Counters many times longer than a pipe's buffer reach the parent as they are."""
    workers = Workers([sys.executable, "-c", TELLING], 1)
    await workers.start()
    try:
        async with asyncio.timeout(20):
            while not workers.counters().get("tiers"):
                await asyncio.sleep(0.02)
        assert len(workers.counters()["tiers"]) == 20_000
        assert [pid for pid in workers.pids if pid]
    finally:
        await workers.stop()


def test_a_slow_reader() -> None:
    """A parent that does not read for a while gets whole lines afterwards, none of them torn."""
    with subprocess.Popen([sys.executable, "-c", TELLING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.stdin.close()
        assert "ready" in lines[0]
        assert len(lines[1]["counters"]["tiers"]) == 20_000
