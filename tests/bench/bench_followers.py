"""A thousand nodes on one PostgreSQL: how long until a committed change is at all of them, and what that costs it.

    python -m tests.bench.bench_followers [--followers N] [--changes N]

Followers are simulated (`followers.py`), so that this machine has not to do the work of a thousand machines; what
PostgreSQL does for them is real. Its CPU time is that of all its processes.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import event

from dnsvip.site import Client, Site
from dnsvip.site.epochs import NodeReport
from dnsvip.site.plan import Change, plan
from dnsvip.store import KeyEncryptionKey, Store
from tests.bench.followers import Script, as_line, recorded
from tests.bench.outcome import Result, conclude
from tests.patroni import children
from tests.postgres import Postgres, running
from tests.samples import make_site

WARM_UP, SETTLE_SECONDS = 3, 1.0
"""Changes before those that are measured: a connection that is new to PostgreSQL reads its catalogue first."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds from the commit to a follower, the CPU of PostgreSQL, and its connections."""

    effects: list[float]
    idle_cpu: float
    change_cpu: float
    connections: int

    @property
    def figures(self) -> dict[str, float]:
        """The figures by name: milliseconds, CPU milliseconds a change, and CPUs in use between changes."""
        cuts = statistics.quantiles(self.effects, n=100)
        return {
            "followers effect": cuts[98],
            "followers effect median": cuts[49],
            "followers effect worst": max(self.effects),
            "followers CPU ms a change": self.change_cpu * 1e3,
            "followers CPUs when idle": self.idle_cpu,
            "followers connections": self.connections,
        }


def main() -> int:
    """Measure, print, and compare with the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--followers", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=40)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with running() as server:
        figures = asyncio.run(measure(server, options.followers, options.changes)).figures
    text = "\n".join(f"{name:28} {figure:10.2f}" for name, figure in figures.items())
    return conclude(Result("followers", text, figures), options.json)


async def measure(
    server: Postgres, followers: int, changes: int, pause: float = 1.0, idle_seconds: float = 5.0
) -> Measured:
    """Make changes while so many follow."""
    server.sql(f"ALTER SYSTEM SET max_connections = {2 * followers + 50}")
    server.stop()
    server.start()
    url = server.database()
    with tempfile.TemporaryDirectory(prefix="dnsvip-") as folder:
        store = await Store.open(url, KeyEncryptionKey.load(Path(folder) / "key", {}))
        await store.objects.apply(plan(Site(), make_site(), {}), "bench", "site")
        script = await script_of(store)
        name = url.partition("@/")[2].partition("?")[0]
        place = f"{server.folder}/.s.PGSQL.5432"
        argv = [sys.executable, "-m", "tests.bench.followers", place, name, "dnsvip", str(followers)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(as_line(script))
            process.stdin.flush()
            line = await asyncio.to_thread(process.stdout.readline)
            assert line == "ready\n", line
            committed, idle, busy = await _changes(server, store, changes, pause, idle_seconds)
            connections = len(children(server.pid)) - len(await asyncio.to_thread(_auxiliary, server))
            output, _ = await asyncio.to_thread(process.communicate)
        finally:
            process.kill()
            process.wait()
        await store.close()
    seen = [line.split() for line in output.splitlines()]
    effects = [
        (float(at) - committed[int(generation)]) * 1e3 for generation, at in seen if int(generation) in committed
    ]
    assert len(effects) == followers * changes, (len(effects), followers, changes)
    return Measured(effects, idle, busy, connections)


async def _changes(
    server: Postgres, store: Store, changes: int, pause: float, idle_seconds: float
) -> tuple[dict[int, float], float, float]:
    """When each generation was committed, the CPUs that reports alone take, and the CPU seconds of a change more."""
    for _ in range(WARM_UP):
        await change(store)
        await asyncio.sleep(SETTLE_SECONDS)
    start, before = time.monotonic(), cpu_seconds(server.pid)
    await asyncio.sleep(idle_seconds)
    idle = (cpu_seconds(server.pid) - before) / (time.monotonic() - start)
    committed = {}
    start, before = time.monotonic(), cpu_seconds(server.pid)
    for _ in range(changes):
        generation = await change(store)
        committed[generation] = time.monotonic()
        await asyncio.sleep(pause)
    spent, lasted = cpu_seconds(server.pid) - before, time.monotonic() - start
    await asyncio.sleep(1)
    return committed, idle, (spent - idle * lasted) / changes


async def change(store: Store) -> int:
    """Move a client to the other tier; the generation."""
    client = await store.objects.get("client", "acme")
    assert isinstance(client, Client)
    after = replace(client, tier="gold" if client.tier != "gold" else "standard")
    return await store.objects.apply([Change("client", "acme", "~", client, after)], "bench", "api")


async def script_of(store: Store) -> Script:
    """The statements of a real follower."""
    statements: list[tuple[str, tuple[object, ...]]] = []

    def note(_c: object, _d: object, text: str, parameters: tuple[object, ...], *_: object) -> None:
        statements.append((text, parameters))

    followed = await store.snapshots.follow(None, None)
    while followed.snapshot.generation < 40:  # so that a generation is no other parameter
        await change(store)
        followed = await store.snapshots.follow(followed.snapshot, followed.mark)
    engine, before = store._session.database.engine.sync_engine, followed.snapshot.generation
    after = await change(store)
    event.listen(engine, "before_cursor_execute", note)
    await store.snapshots.follow(followed.snapshot, followed.mark)
    prepare_read, read = recorded("r", statements, {before: "before", after: "after"})
    now = time.time() + 1e6  # its lease holds until the end
    own = NodeReport("NAME", frozenset({"dns"}), after, "1", now, 5.0, "instance", now, now, frozenset(), frozenset())
    for _ in range(2):  # the first removes old ones as well
        statements.clear()
        await store.nodes.report(own)
    event.remove(engine, "before_cursor_execute", note)
    prepare_report, report = recorded("w", statements, {"NAME": "name"})
    return Script(f"{prepare_read}; {prepare_report}", read, report)


def cpu_seconds(first: int) -> float:
    """The CPU time of the processes of a PostgreSQL, as the scheduler counts it."""
    return sum(_cpu(pid) for pid in (first, *children(first)))


def _cpu(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


def _auxiliary(server: Postgres) -> list[int]:
    """The processes that are no connection."""
    named = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(server.pid)}
    return [pid for pid, text in named.items() if b"dnsvip" not in text.partition(b"postgres: ")[2]]


if __name__ == "__main__":
    sys.exit(main())
