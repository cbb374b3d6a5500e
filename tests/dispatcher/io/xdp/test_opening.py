"""The straight way of first packets (opening.h) does what the rest of the program does, to each packet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.site import OnInvalid, Per, Policing, Rate, Site
from tests.dispatcher.build import ACK, CLUSTER, FIN, PLAIN, SITE, SYN, TIERS, address, segment, snapshot
from tests.dispatcher.io.xdp.kernel import Kernel, frame_of
from tests.dispatcher.io.xdp.ways import START, TAG, both_ways, upper

TIER_NAMES = ("gold", "tunnel", "standard", "silver", "limited", "held", "counted", "sticky", "empty", "blocked")
LIMITED = {
    "gold": Rate(5, 2, per=Per.CLIENT),
    "standard": Rate(5, 2, per=Per.SOURCE),
}


@pytest.fixture
def ready(kernel: None, program: Kernel) -> Kernel:
    """The program with empty tables and the site of the tests."""
    return with_site(program, SITE)


def with_site(program: Kernel, site: Site) -> Kernel:
    program.writer.apply(DispatchTables(snapshot(site)))
    program.forget()
    return program


def packets_of(tier: str) -> Iterator[bytes]:
    """First packets of flows to addresses of a tier: not seen, seen, forged, sent again; and unusual
    ones."""
    vips = [address(tier, client, nonce) for client in (1001, 7, 0) for nonce in range(2)]
    for port in (40_000, 40_001):
        for vip in vips:
            yield segment(vip, port=port)
            yield segment(vip, ACK | SYN, port=port + 100)
            yield segment(vip ^ 1, port=port)
            yield segment(vip, port=port)
            yield segment(vip, ACK, port=port)
            yield segment(vip, port=port)
    for vip in (address(tier, 1001, 5, expiry=0), address(tier, 1002, 5), address(tier, 1003, 5)):
        yield segment(vip, port=40_020)  # expired; of a client that has to prove itself, of one without a record
        yield segment(vip, port=40_021)
    vip = vips[0]
    yield segment(PLAIN)
    yield segment(vip, FIN | SYN)
    yield segment(vip, port=40_002)[:-1]
    yield segment(vip, port=40_003) + b"trailer"
    yield segment(vip, port=40_004, data=bytes(1441))
    for hops in (0, 1, 2):
        packet = segment(vip, port=40_005 + hops)
        yield packet[:7] + bytes([hops]) + packet[8:]
    yield bytes((0x6A, 0xD1)) + segment(vip, port=40_010)[2:]
    yield segment(vip, port=40_011, source=vip)


def sites() -> dict[str, Site]:
    """The site of the tests, one of other limits, and one whose forged addresses get the default tier."""
    limited = {name: replace(TIERS[name], rate=rate) for name, rate in LIMITED.items()}
    policed = replace(TIERS["tunnel"], policing=Policing(packets=3, burst=1, per=Per.CLIENT))
    policings = dict(zip(("gold", "standard", "tunnel", "limited"), map(_policing, (*Per, Per.TIER)), strict=True))
    lenient = replace(CLUSTER, on_invalid=OnInvalid.DEFAULT_TIER)
    return {
        "usual": SITE,
        "limited": replace(SITE, tiers={**TIERS, **limited, "tunnel": policed}),
        "policed": replace(SITE, tiers={**TIERS, **{n: replace(TIERS[n], policing=p) for n, p in policings.items()}}),
        "ranked": replace(SITE, tiers={**TIERS, "gold": replace(TIERS["gold"], priority=5)}),
        "lenient": replace(SITE, clusters={**SITE.clusters, "web": lenient}),
    }


def _policing(per: Per) -> Policing:
    return Policing(packets=3, burst=2, per=per)


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("name", sites())
def test_the_straight_way_is_the_same(ready: Kernel, name: str, crowded: bool) -> None:
    """Action, bytes, counters, and the clients' and servers' usage are the same where packets are watched: none goes
    the straight way then."""
    with_site(ready, sites()[name])
    for tier in TIER_NAMES:
        straight, long = both_ways(ready, list(packets_of(tier)), SECOND // 8, crowded=crowded)
        assert straight == long, tier


@pytest.mark.parametrize("per", [None, *Per])
def test_first_packets_go_the_straight_way(ready: Kernel, per: Per | None) -> None:
    """A usual first packet leaves no trace where the rest of the program notes how far it has parsed: to an address
    that was not seen, to one that was, and to a forged one. One that is tagged does. Where the tier is policed, the
    first packet of the client gives it a bucket."""
    gold = replace(TIERS["gold"], policing=_policing(per) if per else None)
    with_site(ready, replace(SITE, tiers={**TIERS, "gold": gold}))
    vip = address("gold", 1001)
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    try:
        ready.run(frame_of(segment(address("gold", 1001, 1)), TAG), START)
        assert upper(ready) == 58
        for n, wanted in enumerate((vip, vip, vip ^ 1)):
            ready.run(frame_of(segment(wanted, port=41_000 + n)), START)
            assert upper(ready) == 58
        ready.run(frame_of(segment(vip, port=42_000), TAG * 2), START)
        assert upper(ready) == 62
    finally:
        os.sched_setaffinity(0, processors)
