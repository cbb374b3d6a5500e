"""Which relayed flow keeps its place in a full table of new flows, in the kernel program and the reference alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.peers import Peers, widened
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.site import SelectRule, Server, Site
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENT4,
    CLIENTS,
    CLUSTER,
    NOW_NS,
    PLAIN4,
    POOLS,
    SITE,
    SYN,
    TIERS,
    address,
    segment,
    snapshot,
)
from tests.dispatcher.io.xdp.kernel import Kernel, Reference, Seen, loaded
from tests.long import long_or

FLOWS = 64
PEERS = Peers(IPv6Address("fd00:10::2").packed, (IPv6Address("fd00:10::3").packed,))
ACME = CLIENTS["acme"].id
LOW, HIGH = PLAIN4 + 7, PLAIN4 + 9
"""Addresses of the classes `gold` and `silver`."""


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    with loaded(FLOWS) as running:
        yield running


def site(rule: int | None = None, **priorities: int) -> Site:
    """Flows of all tiers but `standard` are under nat; a rule gives those of acme its priority."""
    tiers = {
        name: replace(tier, pool="slow" if name == "standard" else "translated", priority=priorities.get(name, 0))
        for name, tier in TIERS.items()
    }
    servers = (*POOLS["translated"].servers, Server("four", IPv4Address("10.0.0.33")))
    pools = {**POOLS, "translated": replace(POOLS["translated"], servers=servers)}
    select = () if rule is None else (SelectRule({"client": ("acme",)}, "translated", None, rule),)
    return replace(SITE, tiers=tiers, pools=pools, clusters={**SITE.clusters, "web": replace(CLUSTER, select=select)})


class Full:
    """Both with one small table; the other dispatcher owns some clients."""

    def __init__(self, program: Kernel, site: Site) -> None:
        tables = DispatchTables(snapshot(site), peers=PEERS)
        program.writer.apply(tables)
        program.forget()
        self._program, self.reference = program, Reference(tables, FLOWS, program.buckets())

    def __call__(self, data: bytes, now: int = NOW_NS) -> Seen:
        """The result for a packet."""
        expected = self.reference.see(data, now)
        assert self._program.see(data, now) == expected, data.hex()
        return expected

    def keeps(self, low: int, high: int, source: int) -> list[str]:
        """What the packets of two relayed flows of a client are, after more flows than there is room for."""
        for vip in (low, high):
            assert self(segment(vip, SYN, 5, source)).reason == "relayed"
        for port in range(3 * FLOWS):
            self(segment(address("standard", nonce=port % 60), SYN, 1000 + port))
        return [self(segment(vip, ACK, 5, source)).reason for vip in (low, high)]


def relayed_client(first: int, version: int) -> int:
    """A client's address that the other dispatcher owns."""
    size = 4 if version == 4 else 16
    return next(first + n for n in range(100) if PEERS.owner(widened((first + n).to_bytes(size, "big"))))


def test_the_priority_of_a_tier_keeps_a_relayed_flow(kernel: None, program: Kernel) -> None:
    """One of a higher priority than what comes stays known, one of a lower is relayed packet by packet: of both IP
    versions, where an IPv4 flow is recorded anew."""
    between = site(silver=7, standard=3)
    six, four = relayed_client(CLIENT, 6), relayed_client(CLIENT4, 4)
    assert Full(program, between).keeps(address("gold"), address("silver"), six) == ["relayed", "known"]
    assert Full(program, between).keeps(LOW, HIGH, four) == ["relayed", "known"]
    assert Full(program, site()).keeps(LOW, HIGH, four) == ["relayed", "relayed"]


def test_the_priority_of_a_rule_keeps_a_relayed_flow(kernel: None, program: Kernel) -> None:
    """It comes in place of the tier's, whichever is higher."""
    source = relayed_client(CLIENT, 6)
    mine, other = address("gold", ACME), address("gold", 1002)
    assert Full(program, site(7, standard=3)).keeps(other, mine, source) == ["relayed", "known"]
    assert Full(program, site(0, standard=3, gold=7)).keeps(mine, other, source) == ["relayed", "known"]


def test_random_relayed_flows_give_way_alike(kernel: None, program: Kernel) -> None:
    """Relayed flows and others, of tiers and rules of several priorities, in a full table: each packet has the same
    verdict in both."""
    both = Full(program, site(5, gold=7, silver=3, standard=3, limited=1))
    random, now, seen = Random(11), NOW_NS, Counter[str]()
    kept = program.writer.counters.auxiliary()["not-remembered"]
    for _ in range(long_or(4_000, long=40_000)):
        port, flags = 1000 + random.randrange(6), random.choice((SYN, SYN, ACK))
        if random.random() < 0.3:
            vip, source = random.choice((LOW, HIGH, PLAIN4)), CLIENT4 + random.randrange(4)
        else:
            tier = random.choice(("gold", "silver", "standard", "tunnel"))
            vip, source = address(tier, random.choice((0, ACME))), CLIENT + random.randrange(4)
        seen[both(segment(vip, flags, port, source), now).reason] += 1
        now += random.choice((0, 0, 1, SECOND // 10))
    flows = both.reference.flows
    assert program.writer.counters.auxiliary()["not-remembered"] - kept == flows.not_recorded > 0
    assert flows.evicted > 100
    assert min(seen["relayed"], seen["known"]) > 100, seen
