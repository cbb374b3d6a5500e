"""A rate per client or source: who opens too many flows loses its own, and nobody else's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.token_bucket import Buckets
from dnsvip.site import Client, Over, Per, Rate
from tests.dispatcher.build import CLIENT, CLIENT4, CLIENTS, NOW_NS, PLAIN4, SITE, TIERS, address, segment, snapshot


class Dispatcher:
    """One with a rate of 10 flows a second, 5 at once, of tier limited."""

    def __init__(self, per: Per, over: Over = Over.DROP, buckets: int = 1024) -> None:
        tiers = {**TIERS, "limited": replace(TIERS["limited"], rate=Rate(10, 5, over, per))}
        clients = {f"c{n}": Client(f"c{n}", n, "limited") for n in range(1, 100)}
        clusters = {**SITE.clusters, "legacy": replace(SITE.clusters["legacy"], default_tier="limited")}
        site = replace(SITE, tiers=tiers, clients={**CLIENTS, **clients}, clusters=clusters)
        self.flows = Flows(10_000, Buckets(buckets))
        self._tables = DispatchTables(snapshot(site))

    def reasons(self, destination: int, count: int, source: int = CLIENT, first: int = 1) -> Counter[str]:
        """What becomes of so many new flows, with a port each from `first` on."""
        packets = [segment(destination, port=port, source=source) for port in range(first, first + count)]
        return Counter(decide(packet, self._tables, self.flows, NOW_NS).reason for packet in packets)


def test_per_client() -> None:
    """Each client has the whole rate, from wherever it comes."""
    dispatcher = Dispatcher(Per.CLIENT)
    assert dispatcher.reasons(address("limited", 1), 30) == {"issued": 5, "over-rate": 25}
    assert dispatcher.reasons(address("limited", 1, nonce=3), 5, CLIENT + (1 << 64)) == {"over-rate": 5}
    assert dispatcher.reasons(address("limited", 2), 5) == {"issued": 5}


def test_anonymous_per_client() -> None:
    """Anonymous clients have it by their source's /64 or /24."""
    dispatcher = Dispatcher(Per.CLIENT)
    vip = address("limited")
    assert dispatcher.reasons(vip, 6) == {"issued": 5, "over-rate": 1}
    assert dispatcher.reasons(vip, 6, CLIENT + 1) == {"over-rate": 6}
    assert dispatcher.reasons(vip, 6, CLIENT + (1 << 64)) == {"issued": 5, "over-rate": 1}
    assert dispatcher.reasons(PLAIN4, 6) == {"plain": 5, "over-rate": 1}
    assert dispatcher.reasons(PLAIN4, 6, CLIENT4 + 1) == {"over-rate": 6}
    assert dispatcher.reasons(PLAIN4, 6, CLIENT4 + 256) == {"plain": 5, "over-rate": 1}


def test_per_source() -> None:
    """Clients behind one /64 share the rate of a tier that counts per source."""
    dispatcher = Dispatcher(Per.SOURCE)
    assert dispatcher.reasons(address("limited", 1), 5) == {"issued": 5}
    assert dispatcher.reasons(address("limited", 2), 5) == {"over-rate": 5}
    assert dispatcher.reasons(address("limited", 2), 5, CLIENT + (1 << 64)) == {"issued": 5}


@pytest.mark.parametrize(
    ("over", "beyond"),
    [
        (Over.DROP, {"over-rate": 25}),
        (Over.PASS, {"over-rate-passed": 25}),
        (Over.HOLD, {"held": 10, "over-rate": 15}),
    ],
)
def test_over(over: Over, beyond: dict[str, int]) -> None:
    """What is over a client's rate is dropped, passed or held as it is over a tier's."""
    dispatcher = Dispatcher(Per.CLIENT, over)
    assert dispatcher.reasons(address("limited", 1), 30) == {"issued": 5, **beyond}
    assert dispatcher.reasons(address("limited", 2), 30) == {"issued": 5, **beyond}


def test_pressure() -> None:
    """Where the table of clients is full, new ones share the bucket of their tier; those that are in it keep theirs."""
    dispatcher = Dispatcher(Per.CLIENT, buckets=8)
    for client in range(1, 9):
        assert dispatcher.reasons(address("limited", client), 3) == {"issued": 3}
    assert dispatcher.reasons(address("limited", 9), 3) == {"issued": 3}
    assert dispatcher.reasons(address("limited", 10), 3) == {"issued": 2, "over-rate": 1}
    assert dispatcher.reasons(address("limited", 1), 3, first=4) == {"issued": 2, "over-rate": 1}
    status = dispatcher.flows.buckets.status(NOW_NS)
    assert status["clients"] == {"used": 8, "bound": 8, "shared": 6}
    assert status["sources"]["used"] == 0
