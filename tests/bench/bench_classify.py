"""Classification at scale: look-ups, memory, load and change among up to ten million client prefixes.

    python -m tests.bench.bench_classify [--json] [--largest 10000000] [--clients 1000000]

Look-up times are medians of several rounds over different addresses, in microseconds of CPU time. A change is
measured end to end: one SQLite transaction, read as a difference, compiled in a thread beside a loop that
answers queries continuously; its pause is the longest stall of that loop.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time
from typing import Any

import dns.edns
import dns.message
import sqlalchemy

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Classifier, Ecs, Requester
from dnsvip.node.runtime_tuning import shorten_gil_interval
from dnsvip.site import Client, Match, Snapshot, Step
from dnsvip.site.identity.prefixes import PrefixTable
from dnsvip.site.plain import SiteObject
from dnsvip.site.plan import Change
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database.tables import client, client_match
from dnsvip.store.objects.rows import match_rows, to_row
from tests.bench.goals import GOALS
from tests.samples import NOW, make_site, snapshot_of

SIZES = (10, 1_000, 100_000, 1_000_000, 10_000_000)
ROUNDS, ASKED = 5, 20_000
FLAT = next(goal.most for goal in GOALS if goal.figure == "flatness")

SITE = make_site({"client": {"acme": None, "newsreader": None}, "tsig": {"acme-key": None}})


def network(index: int) -> tuple[int, int]:
    """The address and length of one of 2^24 IPv6 prefixes: /56 customers, a thousand in each /40."""
    customer = index * 0x9E3779 & 0xFFFFFF  # odd, so that each occurs once, in scattered order
    if index % 1000 == 0:
        return (0x2A00 << 16 | index // 1000) << 96 >> 8 << 8, 40
    return 0x2A01 << 112 | customer << 72, 56


def address_near(random: Random, size: int) -> int:
    """An address within one of `size` prefixes."""
    address, length = network(random.randrange(size))
    return address | random.getrandbits(128 - length)


def per_item(call: Callable[[Any], object], batches: list[list[Any]]) -> float:
    """Median microseconds of CPU time per item over the batches."""
    times = []
    for batch in batches:
        start = process_time()
        for item in batch:
            call(item)
        times.append((process_time() - start) / len(batch) * 1e6)
    return median(times)


def with_table(size: int) -> Classifier:
    """A classifier whose ECS table holds `size` prefixes of one client, without creating as many clients."""
    prefix, length = network(0)
    one = Client("one", 1, "gold", (Match(Step.ECS, f"{IPv6Address(prefix)}/{length}"),))
    classifier = Classifier(snapshot_of(replace(SITE, clients={"one": one})))
    table = PrefixTable(((*network(i), 2) for i in range(size)), 128)
    tables = {**classifier._claims.prefixes[Step.ECS], 6: table}
    classifier._claims.prefixes = {**classifier._claims.prefixes, Step.ECS: tables}
    classifier._ecs = tables
    return classifier


def queries(random: Random, size: int) -> list[bytes]:
    """Queries with ECS, one per known prefix."""
    return [
        dns.message.make_query(
            "www.example.test",
            "AAAA",
            use_edns=0,
            options=[dns.edns.ECSOption(str(IPv6Address(address >> 72 << 72)), 56)],
        ).to_wire()
        for address in (address_near(random, size) for _ in range(2000))
    ]


def look_ups(size: int) -> dict[str, float]:
    """Look-up cost and memory with `size` prefixes."""
    start, random = process_time(), Random(size)
    classifier = with_table(size)
    table = classifier._ecs[6]
    built = process_time() - start
    batches = [[address_near(random, size) for _ in range(ASKED)] for _ in range(ROUNDS)]
    source = IPv4Address("127.0.0.1")
    requesters = [[Requester(source, ecs=Ecs(IPv6Address(each), 128)) for each in batch] for batch in batches]
    engine = Engine(snapshot_of(SITE))
    engine.tables = replace(engine.tables, classifier=classifier)
    asked = [queries(random, size) for _ in range(ROUNDS)]
    return {
        "prefixes": len(table),
        "build_seconds": built,
        "bytes": table.size / len(table),
        "owner_us": per_item(table.owner, batches),
        "match_us": per_item(lambda address: table.match(address, 128), batches),
        "classify_us": per_item(classifier.classify, requesters),
        "query_us": per_item(
            lambda wire: engine.decide(wire, source, Arrival("default", Transport.UDP), NOW).wire, asked
        ),
    }


def clients(number: int) -> Iterator[Client]:
    """Clients with one prefix each."""
    for i in range(number):
        address, length = network(i)
        yield Client(f"client-{i}", i + 1, "gold", (Match(Step.SOURCE, f"{IPv6Address(address)}/{length}"),))


async def filled(path: Path, kek: KeyEncryptionKey, number: int) -> Store:
    """A store with `number` clients, written without validation, which is not measured here."""
    store = await Store.open(f"sqlite:///{path}", kek)
    site = replace(SITE, clients={})
    parts: tuple[tuple[str, Mapping[str, SiteObject]], ...] = (
        ("pool", site.pools),
        ("tier", site.tiers),
        ("cluster", site.clusters),
        ("zone", site.zones),
        ("service", site.services),
    )
    await store.objects.apply(
        [Change(kind, n, "+", None, t) for kind, all_ in parts for n, t in all_.items()], "bench", "api"
    )
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        rows: list[dict[str, Any]] = []
        matches: list[dict[str, Any]] = []
        for each in clients(number):
            rows.append({**to_row("client", each.name, each, kek), "origin": "api", "generation": 1})
            matches += match_rows(each)
            if len(rows) == 10_000 or each.id == number:
                connection.execute(sqlalchemy.insert(client), rows)
                connection.execute(sqlalchemy.insert(client_match), matches)
                rows, matches = [], []
    engine.dispose()
    return store


class Answering:
    """A loop that answers continuously and records its longest stall."""

    def __init__(self, engine: Engine, wire: bytes, source: IPv6Address) -> None:
        self.engine, self._wire, self._source = engine, wire, source
        self.pauses: list[float] = []
        self.last: bytes | None = None

    async def run(self) -> None:
        last = perf_counter()
        while True:
            self.last = self.engine.decide(self._wire, self._source, Arrival("default", Transport.UDP), NOW).wire
            await asyncio.sleep(0)
            now = perf_counter()
            self.pauses.append(now - last)
            last = now


async def change(number: int, changes: int = 12) -> dict[str, float]:
    """Load `number` clients from SQLite, then change one repeatedly while answering."""
    with tempfile.TemporaryDirectory() as folder:
        kek = KeyEncryptionKey.load(Path(folder) / "key", {})
        store = await filled(Path(folder) / "bench.db", kek, number)
        gc.collect()
        start, busy = perf_counter(), process_time()
        snapshot = await store.snapshots.load()
        loaded = perf_counter() - start
        start = perf_counter()
        engine = Engine(snapshot)
        compiled, busy = perf_counter() - start, process_time() - busy
        gc.freeze()
        result = {"clients": number, "store_seconds": loaded, "engine_seconds": compiled}
        result |= {"load_seconds": loaded + compiled, "load_cpu_seconds": busy}
        result["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        writer = await Store.open(f"sqlite:///{folder}/bench.db", kek)
        result |= await _changes(store, writer, snapshot, engine, changes)
        await writer.close()
        await store.close()
    return result


async def _changes(store: Store, writer: Store, snapshot: Snapshot, engine: Engine, changes: int) -> dict[str, float]:
    one = snapshot.site.clients["client-5"]
    address, _ = network(5)
    wire = dns.message.make_query("www.example.test", "A").to_wire()
    answering = Answering(engine, wire, IPv6Address(address))
    task = asyncio.ensure_future(answering.run())
    await asyncio.sleep(0.5)
    idle = max(answering.pauses)
    effects, pauses = [], []
    for i in range(changes):
        new = replace(one, tier=("gold", "standard")[i % 2 == 0])
        if i % 3 == 2:  # the prefix too
            new = replace(new, match=(*one.match[:1], Match(Step.SOURCE, f"2a02:{i}::/32")))
        before = answering.last
        change_ = Change("client", one.name, "~", one, new)
        await writer.objects.apply([change_], "bench", "api")
        answering.pauses.clear()
        start = perf_counter()
        snapshot = await store.snapshots.refresh(snapshot)
        answering.engine = await asyncio.to_thread(Engine, snapshot, answering.engine)
        while new.tier != one.tier and answering.last == before:
            await asyncio.sleep(0)
        effects.append(perf_counter() - start)
        await asyncio.sleep(0.1)
        pauses.append(max(answering.pauses))
        one = new
    task.cancel()
    return {
        "idle_pause_ms": idle * 1e3,
        "effect_seconds": max(effects),
        "effect_median_seconds": median(effects),
        "pause_ms": max(pauses) * 1e3,
        "pause_median_ms": median(pauses) * 1e3,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--clients", type=int, default=1_000_000)
    options = parser.parse_args()
    shorten_gil_interval()
    changed = asyncio.run(change(options.clients)) if options.clients else {}
    measured = [look_ups(size) for size in SIZES if size <= options.largest]
    if options.json:
        print(json.dumps({"look_ups": measured, "change": changed}))
        return
    for row in [*measured, changed]:
        print("  ".join(f"{name} {value:,.2f}".replace(".00", "") for name, value in row.items()))
    if len(measured) > 1:
        for name in ("owner_us", "match_us", "classify_us", "query_us"):
            print(f"{name}: largest / smallest {measured[-1][name] / measured[0][name]:.2f} (goal {FLAT})")


if __name__ == "__main__":
    main()
