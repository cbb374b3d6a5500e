"""The program gives what the server gives: generated questions through both, byte by byte and number by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.site import DnssecAlgorithm, Snapshot, Zone
from tests.dns.dnssec.signed import P256, signed
from tests.dns.hotpath import test_fastpath
from tests.dns.hotpath.test_fastpath import BIG, JAR, Requesters, changed, decided, moments, names_of, numbers
from tests.dns.io.xdp.kernel import Kernel, loaded
from tests.dns.world import world_snapshot
from tests.long import long_or
from tests.samples import NOW

SOURCES = [
    ip_address(text)
    for text in ("192.0.2.1", "192.0.2.3", "203.0.113.9", "2001:db8:53::1", "2001:db8:77::5", "2001:db8::1")
]
TRUSTED = (ip_network("192.0.2.1/32"), ip_network("2001:db8:53::1/128"))
COOKIES = [
    cookie
    for source in SOURCES
    for cookie in (bytes(8), *(JAR.check(bytes(8), source.packed, NOW + at).answer for at in (0, 3000, -2000, -3600)))
]
"""Client cookies, and server cookies of all sources: current, of the future, to be renewed."""

ROUNDS, BATCH, BATCHES = 6, 50, long_or(60, long=3400)
"""6 times 3400 times 50 are more than a million questions, a sample is a fiftieth of them."""


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    world = replace(world_snapshot(), cookie_secrets=(bytes(range(16)), bytes(16)))
    zones = {**world.site.zones, "big.test": Zone("big.test", BIG)}
    classify = replace(world.site.classify, trust_ecs_from=TRUSTED)
    return replace(world, site=replace(world.site, zones=zones, classify=classify))


@pytest.mark.usefixtures("kernel")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("zones", "batches"), [({}, BATCHES), ({"example.test": P256}, BATCHES // 3)])
def test_the_program_gives_what_the_server_gives(
    monkeypatch: pytest.MonkeyPatch, snapshot: Snapshot, zones: Mapping[str, DnssecAlgorithm], batches: int
) -> None:
    """Whatever is asked, the program gives the server's bytes and counts, or leaves the packet untouched."""
    monkeypatch.setattr(test_fastpath, "COOKIES", COOKIES)
    snapshot = signed(snapshot, zones)
    plain, behind = Engine(snapshot), Engine(snapshot)
    requesters, times = Requesters(names_of(plain), sorted(plain.tables.services), 11), moments(11)
    answered = 0
    fast = FastPath(behind)
    with loaded(fast) as kernel:
        for round_ in range(ROUNDS):
            plain, behind = Engine(changed(snapshot, round_), plain), Engine(changed(snapshot, round_), behind)
            fast = FastPath(behind, fast)
            kernel.feeder.use(fast)
            for _ in range(batches):
                kernel.at(next(times))
                answered += _ask(kernel, plain, behind, requesters)
        assert kernel.feeder.collect(behind.counters) == answered
        assert kernel.feeder.reasons()["answered"] == answered
        assert numbers(plain) == numbers(behind)
    assert answered > ROUNDS * BATCH * batches // (20 if zones else 10)


def _ask(kernel: Kernel, plain: Engine, behind: Engine, requesters: Requesters) -> int:
    """Ask a batch of both; how many questions the program has answered."""
    answered = 0
    listener = requesters.random.choice(("public", "six"))
    for _ in range(BATCH):
        wire, source = requesters.message(), requesters.random.choice(SOURCES)
        right = decided(plain, wire, source, listener, kernel.now)
        got = kernel.ask(wire, source, listener)
        if got is None:
            decided(behind, wire, source, listener, kernel.now)
        else:
            answered += 1
            assert got == right, (wire, source, listener, kernel.now)
    kernel.learn()
    return answered
