"""Many nodes on PostgreSQL: the delay until a committed change is effective everywhere, and a million clients.

    python -m tests.bench.bench_nodes [--changes N] [--clients N] [--followers N]

Three DNS servers are queried continuously, two dispatchers report the generation that they use; each is a process,
the dispatchers in their own namespaces. Then a thousand followers are simulated (`bench_followers`).
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from dnsvip.demo.netns import World
from dnsvip.site import Client, Match, Site, Step
from dnsvip.site.plan import Change, plan
from dnsvip.store import KeyEncryptionKey, Store
from tests.bench.bench_followers import measure
from tests.bench.outcome import Result, conclude
from tests.network.fleet import Dispatcher, Fleet, Watch, decoded, delays
from tests.postgres import running
from tests.samples import make_site

BATCH = 50_000


def main() -> int:
    """Measure, print, and compare with the goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--followers", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if reason := World.available():
        print(f"bench nodes: {reason}", file=sys.stderr)
        return 2
    figures: dict[str, float] = {}
    with running() as server:
        figures |= asyncio.run(_effect(server.database(), options.changes))
        figures |= asyncio.run(_million(server.database(), options.clients))
    with running() as server:  # with settings of its own
        figures |= asyncio.run(measure(server, options.followers, options.changes // 5)).figures
    text = "\n".join(f"{name:28} {figure:10.3f}" for name, figure in figures.items())
    return conclude(Result("nodes", text, figures), options.json)


async def _effect(url: str, changes: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="dnsvip-") as folder, World() as world:
        fleet = await Fleet.start(Path(folder), url, world)
        try:
            taken: dict[str, list[tuple[float, int]]] = {dispatcher.name: [] for dispatcher in fleet.dispatchers}
            ended = threading.Event()
            threads = [threading.Thread(target=_follow, args=(d, taken[d.name], ended)) for d in fleet.dispatchers]
            for thread in threads:
                thread.start()
            committed: dict[int, float] = {}
            generations: dict[int, float] = {}
            with Watch(fleet, pause=0.005) as watch:
                for _ in range(changes):
                    seq = await fleet.change()
                    committed[seq] = time.monotonic()
                    generations[await fleet.store.generation()] = committed[seq]
                    await asyncio.sleep(0.05)
                await asyncio.sleep(2)
            ended.set()
            for thread in threads:
                thread.join()
            answers = decoded(watch.seen, await fleet.snapshot())
        finally:
            await fleet.stop()
    took = delays(committed, answers, [server.name for server in fleet.servers])
    for states in taken.values():
        took += [
            max(0.0, min(at for at, held in states if held >= generation) - start)
            for generation, start in generations.items()
        ]
    cuts = statistics.quantiles(took, n=100)
    return {"effect": cuts[98] * 1e3, "effect median": cuts[49] * 1e3, "effect worst": max(took) * 1e3}


def _follow(dispatcher: Dispatcher, states: list[tuple[float, int]], ended: threading.Event) -> None:
    while not ended.wait(0.005):
        generation = dispatcher.status()["generation"]
        states.append((time.monotonic(), generation))


async def _million(url: str, clients: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="dnsvip-") as folder:
        kek = KeyEncryptionKey.load(Path(folder) / "key", {})
        store = await Store.open(url, kek)
        await store.objects.apply(plan(Site(), make_site(), {}), "bench", "site")
        start = time.monotonic()
        for first in range(0, clients, BATCH):
            await store.objects.apply(
                [_client(number) for number in range(first, min(first + BATCH, clients))], "bench", "api"
            )
        stored = time.monotonic() - start
        before, start = _memory(), time.monotonic()
        followed = await store.snapshots.follow(None, None)
        loaded, used = time.monotonic() - start, _memory() - before
        took = []
        for number in range(20):
            client = followed.snapshot.site.clients[f"c{number}"]
            after = Client(client.name, client.id, "standard", client.match)
            await store.objects.apply([Change("client", client.name, "~", client, after)], "bench", "api")
            start = time.monotonic()
            followed = await store.snapshots.follow(followed.snapshot, followed.mark)
            took.append(time.monotonic() - start)
        await store.close()
    return {"stored": stored, "load": loaded, "bytes a client": used / clients, "difference": statistics.median(took)}


def _client(number: int) -> Change:
    place = Match(Step.SOURCE, f"2001:db8:{number >> 16 & 0xFFFF:x}:{number & 0xFFFF:x}::/64")
    name = f"c{number}"
    return Change("client", name, "+", None, Client(name, 10_000 + number, "gold", (place,)))


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
