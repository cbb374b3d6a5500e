"""The program gives what the server gives: generated questions through both, byte by byte and number by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.protocol.names import flat_name
from dnsvip.dns.reply import DnsOutcome
from dnsvip.site import DnssecAlgorithm, DnssecDenial, Snapshot, Zone
from tests.dns.dnssec.signed import ED25519, P256, signed
from tests.dns.hotpath import test_fastpath
from tests.dns.hotpath.test_fastpath import BIG, ECS, JAR, Requesters, changed, decided, moments, names_of, numbers, opt
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

SIGNATURE = b"\0\x2e\0\x01"
"""Type and class of an RRSIG record."""

SIGNED = {DnsOutcome.ANSWER, DnsOutcome.NODATA, DnsOutcome.NXDOMAIN, DnsOutcome.REFERRAL, DnsOutcome.SERVICE}
"""What the program answers with signatures."""

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
@pytest.mark.parametrize(
    ("zones", "batches", "denial"),
    [
        ({}, BATCHES, DnssecDenial.COMPACT),
        ({"example.test": P256, "big.test": ED25519}, BATCHES // 3, DnssecDenial.COMPACT),
        ({"example.test": P256, "big.test": ED25519}, BATCHES // 6, DnssecDenial.NSEC),
        ({"example.test": P256, "big.test": ED25519}, BATCHES // 6, DnssecDenial.NSEC3),
    ],
)
def test_the_program_gives_what_the_server_gives(
    monkeypatch: pytest.MonkeyPatch,
    snapshot: Snapshot,
    zones: Mapping[str, DnssecAlgorithm],
    batches: int,
    denial: DnssecDenial,
) -> None:
    """Whatever is asked, the program gives the server's bytes and counts, or leaves the packet untouched."""
    monkeypatch.setattr(test_fastpath, "COOKIES", COOKIES)
    snapshot = signed(snapshot, zones, denial)
    plain, behind = Engine(snapshot), Engine(snapshot)
    behind._signatures = behind.signer.signatures = plain._signatures  # of which no two are equal
    requesters, times = Requesters(names_of(plain), sorted(plain.tables.services), 11), moments(11)
    often = wanting(requesters) if zones else []
    kinds: Counter[tuple[DnsOutcome, bool]] = Counter()
    fast = FastPath(behind)
    with loaded(fast) as kernel:
        for round_ in range(ROUNDS):
            plain, behind = Engine(changed(snapshot, round_), plain), Engine(changed(snapshot, round_), behind)
            fast = FastPath(behind, fast)
            kernel.feeder.use(fast)
            for _ in range(batches):
                kernel.at(next(times))
                kinds += _ask(kernel, plain, behind, requesters, often)
        answered = kinds.total()
        if zones:
            assert {outcome for outcome, is_signed in kinds if is_signed} == SIGNED
        assert kernel.feeder.collect(behind.counters) == answered
        assert kernel.feeder.reasons()["answered"] == answered
        assert numbers(plain) == numbers(behind)
    assert answered > ROUNDS * BATCH * batches // (20 if zones else 10)


def wanting(requesters: Requesters) -> list[bytes]:
    """Questions of validators, which are asked often: names that exist and do not, with DO, some with ECS."""
    pick, options = requesters.random, (b"", b"", ECS + bytes((198, 51, 100)), ECS + bytes((10, 1, 2)))
    names = [(*extra, *name) for name in requesters.popular for extra in ((), (), (b"none",), (b"q", b"foo"))]
    names += requesters.services * (len(names) // len(requesters.services))
    return [
        b"\0\0\1\0\0\1\0\0\0\0\0\1"
        + flat_name(pick.choice(names))
        + pick.choice((1, 28, 28, 65, 6, 15, 16, 43, 48)).to_bytes(2, "big")
        + b"\0\1"
        + opt(pick.choice(options), 0x80)
        for _ in range(150)
    ]


def _ask(
    kernel: Kernel, plain: Engine, behind: Engine, requesters: Requesters, often: list[bytes]
) -> Counter[tuple[DnsOutcome, bool]]:
    """Ask a batch of both; how many questions the program has answered, by outcome and whether with signatures."""
    kinds: Counter[tuple[DnsOutcome, bool]] = Counter()
    listener = requesters.random.choice(("public", "six"))
    for _ in range(BATCH):
        wire, source = requesters.message(), requesters.random.choice(SOURCES)
        if often and requesters.random.random() < 0.6:
            wire = requesters.random.choice(often)
        reply = plain.decide(wire, source, Arrival(listener, Transport.UDP), kernel.now)
        plain.counters.count(reply)
        got = kernel.ask(wire, source, listener)
        if got is None:
            decided(behind, wire, source, listener, kernel.now)
        else:
            kinds[reply.outcome, SIGNATURE in got] += 1
            assert got == reply.wire, (wire, source, listener, kernel.now)
    kernel.learn()
    return kinds
