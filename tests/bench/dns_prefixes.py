"""What it costs the DNS program to identify requesters by prefix (`[dns] xdp`, `prefixes`): nanoseconds of a question
with ECS of a prefix that was never asked for, of a client and of nobody, in units of E as `dns_program` measures; bytes
a prefix; seconds until the program has all of them, and milliseconds for one that changes.

    python -m tests.bench.dns_prefixes [PREFIXES ...]

Each prefix is a /48 (of few: a /24) of a client of its own; 1,024 clients stand for all of them, as so many do not fit
into memory.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from dataclasses import replace
from ipaddress import ip_address, ip_network
from random import Random

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Classifier
from dnsvip.dns.io.xdp.pages import pages_for
from dnsvip.dns.io.xdp.records import records_for
from dnsvip.site import Anonymous, Client, Cluster, Match, Snapshot, Step
from dnsvip.site.identity.claims import PAGE
from dnsvip.site.identity.prefixes import PrefixTable
from dnsvip.xdp.objects import Object
from tests.bench.program import Frames, Runner, counting
from tests.dns.hotpath.test_fastpath import opt, question
from tests.dns.io.xdp.kernel import HOSTS, Kernel, frame, loaded, packet
from tests.dns.world import world_snapshot

SIZES = (10, 100_000, 10_000_000)
ROUNDS, PACKETS = 9, 2000
RESOLVER = "192.0.2.1"
TOP = 1 << 125
FEW = 1000
"""Prefixes that are long enough for each question to be of another /56."""


def snapshot() -> Snapshot:
    """A site with PAGE clients, each with one network, and one trusted resolver."""
    world = world_snapshot()
    web = world.site.clusters["web"]
    assert isinstance(web, Cluster)
    tiers = ("gold", "standard")
    clients = [
        Client(f"c{n}", 10_000 + n, tiers[n % 2], (Match(Step.ECS, f"2001:db8:{n:x}::/48"),)) for n in range(PAGE)
    ]
    site = replace(
        world.site,
        classify=replace(world.site.classify, trust_ecs_from=(ip_network(f"{RESOLVER}/32"),)),
        clusters={**world.site.clusters, "web": replace(web, anonymous=Anonymous.ENCODED)},
        clients={client.name: client for client in clients},
    )
    return replace(world, site=site)


def start_of(number: int, count: int) -> int:
    """Where a prefix starts; they are apart."""
    return TOP + (number * ((1 << 45) // count) << 80 >> 128 - length_of(count) << 128 - length_of(count))


def length_of(count: int) -> int:
    """Bits of each."""
    return 48 if count > FEW else 24


def engine_of(site: Snapshot, count: int, table: PrefixTable, before: Engine | None = None) -> Engine:
    """An engine with this table for ECS, of clients that follow one another."""
    engine = Engine(site, before)
    classifier = Classifier(site)
    claims = classifier.claims
    if before is None:
        page = [client for page in claims.pages for client in page if client]
        claims._pages = [page] * (-(-(count + 2) // PAGE))
    else:
        claims._pages = before.tables.classifier.claims._pages
    claims._used = count + 2
    tables = {**claims.prefixes[Step.ECS], 6: table}
    claims.prefixes = {**claims.prefixes, Step.ECS: tables}
    classifier._ecs = tables
    engine.tables = replace(engine.tables, classifier=classifier)
    return engine


def asked(high: int) -> bytes:
    """A question with a /56."""
    return question("www.example.test", 28, opt(b"\0\x08\0\x0b\0\2\x38\0" + high.to_bytes(16, "big")[:7]))


def frames_of(random: Random, count: int, *, known: bool) -> Frames:
    """Questions of prefixes in no order: of clients, or of nobody."""
    highs = [
        start_of(random.randrange(count), count) + (random.getrandbits(56 - length_of(count)) << 72)
        if known
        else (0x3FFF << 112) + (random.getrandbits(40) << 72)
        for _ in range(PACKETS)
    ]
    return Frames(frame(packet(RESOLVER, HOSTS["public"][4], asked(high))) for high in highs)


def follow(kernel: Kernel) -> tuple[float, float]:
    """Seconds until the program has all that has changed, and those of the longest step."""
    gc.collect()
    gc.freeze()  # as the server does
    began, longest = time.process_time(), 0.0
    while kernel.feeder.prefixes.is_busy:
        step = time.process_time()
        kernel.feeder.work(time.monotonic() + 1e-6)
        longest = max(longest, time.process_time() - step)
    return time.process_time() - began, longest


def learn_name(kernel: Kernel) -> None:
    """Have the program know the name, and so what is to be made."""
    for _ in range(3):
        kernel.ask(asked(0x3FFE << 112), RESOLVER)
        kernel.feed()


def learn(kernel: Kernel) -> None:
    """Have the program know the resolver."""
    for _ in range(40):  # what others have asked for may be in its place
        if kernel.ask(asked(0x3FFE << 112), RESOLVER) is not None:
            return
        kernel.learn()
    raise AssertionError(kernel.feeder.reasons())


def check(kernel: Kernel, engine: Engine, random: Random, count: int) -> None:
    """The program answers as the engine does."""
    for _ in range(200):
        wire = asked(start_of(random.randrange(count), count))
        right = engine.decide(wire, ip_address(RESOLVER), Arrival("public", Transport.UDP), kernel.now)
        assert kernel.ask(wire, ip_address(RESOLVER)) == right.wire


def measure(count: int) -> dict[str, float]:
    """The figures by name."""
    random, site = Random(count), snapshot()
    prefixes = ((start_of(n, count), length_of(count), n + 2) for n in range(count))
    table = PrefixTable(prefixes, 128)
    engine = engine_of(site, count, table)
    fast = FastPath(engine)
    room = {"pages": pages_for(count), "records": records_for(count)}
    times: dict[str, list[float]] = {"of a client": [], "of nobody": [], "E": []}
    with loaded(fast, **room) as kernel, Object.open("empty") as empty, counting():
        empty.load()
        nothing, runner = Runner(empty.program(empty.programs[0])), Runner(kernel.program)
        learn_name(kernel)
        built, longest = follow(kernel)
        learn(kernel)
        check(kernel, engine, random, count)
        before = kernel.feeder.reasons()["answered"]
        for _ in range(ROUNDS):
            for name, known in (("of a client", True), ("of nobody", False)):
                frames = frames_of(random, count, known=known)
                times[name].append(runner.cold(frames))
                times["E"].append(nothing.cold(frames))
        share = (kernel.feeder.reasons()["answered"] - before) / (2 * ROUNDS * PACKETS)
        assert share > 0.999, share
        size = kernel.feeder.prefixes.memory
        address = start_of(count // 2, count)
        changed = engine_of(site, count, table.changed([(address, length_of(count))], []), engine)
        kernel.feeder.use(FastPath(changed, fast))
        kernel.at(kernel.now)
        spent, most = follow(kernel)
        learn(kernel)
    figures = {name: statistics.median(values) for name, values in times.items()}
    return figures | {
        "bytes a prefix": size / count,
        "s to have all": built,
        "ms of the longest step": longest * 1e3,
        "ms for one changed": spent * 1e3,
        "ms of its longest step": most * 1e3,
    }


def main() -> None:
    """Print the figures."""
    for size in [int(word) for word in sys.argv[1:]] or SIZES:
        figures = measure(size)
        e = figures.pop("E")
        sys.stdout.write(f"{size:,} prefixes, E = {e:.1f} ns\n")
        for name, figure in figures.items():
            is_time = name.startswith("of ")
            sys.stdout.write(f"  {name:24} {figure:10,.1f}" + (f" ns = {figure / e:.1f} E\n" if is_time else "\n"))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
