"""Answers counted by zone: each where datagrams come alone and by streams, an estimate where they come in batches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.hotpath.hits import Miss
from dnsvip.dns.hotpath.keys import WIDTH, key_of
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.protocol.names import Labels
from dnsvip.site import Zone
from tests.dns.hotpath.test_fastpath import SOURCES, question
from tests.dns.world import world_snapshot
from tests.samples import NOW

SOURCE = next(source for source in SOURCES if source.version == 4)
UDP = Arrival("public", Transport.UDP)
EXAMPLE, OTHER = (b"example", b"test"), (b"other", b"test")
NAMES = {"www.example.test": EXAMPLE, "nothing.example.test": EXAMPLE, "sub.example.test": EXAMPLE, "other.test": OTHER}


@pytest.fixture
def fast() -> FastPath:
    """The fast path of the world's zones."""
    return FastPath(Engine(world_snapshot()))


def counted(engine: Engine, most: int = 1000) -> dict[Labels, int]:
    """Answers by zone."""
    return dict(engine.counters.zones(engine.zones.by_apex, most))


def ask(fast: FastPath, *names: str) -> None:
    """Have datagrams answered that come together, by the engine what the fast path does not."""
    wires = [question(name) for name in names]
    _, misses = fast.answers([key_of(SOURCE.packed, wire) for wire in wires], bytearray(), "public", WIDTH[4], NOW)
    for miss in misses:
        fast.engine.count(fast.engine.decide(wires[miss.place], SOURCE, UDP, NOW))


def test_alone(fast: FastPath) -> None:
    """Each answer counts, whoever gives it, for the zone that its data are from; one from no zone does not."""
    for _ in range(10):
        for name in (*NAMES, "elsewhere.invalid"):
            ask(fast, name)
    assert counted(fast.engine) == {EXAMPLE: 30, OTHER: 10}
    assert sum(fast.engine.counters.outcomes.values()) == 50


def test_by_streams(fast: FastPath) -> None:
    """The same by streams."""
    arrival = Arrival("public", Transport.TCP)
    for _ in range(10):
        for name in NAMES:
            wire = question(name)
            if isinstance(fast.stream(wire, SOURCE, arrival, NOW), Miss):
                fast.engine.count(fast.engine.decide(wire, SOURCE, arrival, NOW), Transport.TCP)
    assert counted(fast.engine) == {EXAMPLE: 30, OTHER: 10}


def test_in_batches(fast: FastPath) -> None:
    """The estimate of many batches is near the truth, also where these have a rhythm, and over new snapshots."""
    right = dict.fromkeys((EXAMPLE, OTHER), 0)
    for number in range(20_000):
        names = ("www.example.test", "other.test") if number % 2 else ("www.example.test",) * 3
        ask(fast, *names)
        for name in names:
            right[NAMES[name]] += 1
        if number % 5000 == 0:
            fast = FastPath(Engine(world_snapshot(), fast.engine), fast)
    estimate = counted(fast.engine)
    assert estimate.keys() == right.keys()
    assert all(abs(estimate[zone] / number - 1) < 0.3 for zone, number in right.items()), (estimate, right)


def test_bounds(fast: FastPath) -> None:
    """The zones with the most answers are told, and one that is gone is forgotten."""
    ask(fast, "other.test")
    for _ in range(3):
        ask(fast, "www.example.test")
    assert counted(fast.engine, 1) == {EXAMPLE: 3}
    world = world_snapshot()
    zones = {name: zone for name, zone in world.site.zones.items() if name != "other.test"}
    services = {name: item for name, item in world.site.services.items() if not name.endswith("other.test")}
    without = Engine(replace(world, site=replace(world.site, zones=zones, services=services)), fast.engine)
    assert counted(without) == {EXAMPLE: 3}
    again = {**zones, "other.test": Zone("other.test", "@ 60 SOA a b 1 1 1 1 1\n@ 60 NS a.example.org.\n")}
    assert counted(Engine(replace(world, site=replace(world.site, zones=again, services=services)), without)) == {
        EXAMPLE: 3
    }
