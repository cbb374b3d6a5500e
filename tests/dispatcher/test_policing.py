"""Policing: every packet of a tier's clients counts, whoever exceeds it loses or gets a mark."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.output import output_bytes
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.policing import marked
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import Client, Excess, Per, Policing, Site
from dnsvip.site.rules import check_site
from tests.dispatcher.build import ACK, CLIENT, CLIENTS, NOW_NS, PUSH, SITE, TIERS, address, segment, snapshot


class Dispatcher:
    """One whose tier gold is policed."""

    def __init__(self, policing: Policing | None, tier: str = "gold") -> None:
        self.flows, self.tier, self.now = Flows(10_000), tier, NOW_NS
        self.tables = DispatchTables(snapshot(self.site(policing)))

    def site(self, policing: Policing | None) -> Site:
        """The site with this policing, and client 1002 without proof."""
        tiers = {**TIERS, self.tier: replace(TIERS[self.tier], policing=policing)}
        return replace(SITE, tiers=tiers, clients={**CLIENTS, "once": Client("once", 1002, "gold")})

    def change(self, policing: Policing | None) -> None:
        """Another policing from now on."""
        self.tables = DispatchTables(snapshot(self.site(policing)), self.tables)

    def see(self, packet: bytes) -> Verdict:
        """The verdict on a packet."""
        return decide(packet, self.tables, self.flows, self.now)

    def open(self, client: int = 0, port: int = 1, source: int = CLIENT) -> bytes:
        """Establish a flow; returns a data segment of 1000 bytes of it."""
        vip = address(self.tier, client)
        self.see(segment(vip, port=port, source=source))
        return segment(vip, ACK | PUSH, port, source, data=bytes(940))

    def reasons(self, packet: bytes, count: int) -> Counter[str]:
        """What becomes of so many of these packets at once."""
        return Counter(self.see(packet).reason for _ in range(count))


@pytest.mark.parametrize("pool", ["fast", "translated", "encapsulated"])
def test_bytes(pool: str) -> None:
    """Known flows are held to the bytes of their tier, over all of its flows, whatever the mode of the pool."""
    dispatcher = Dispatcher(Policing(bytes=100_000, burst=0.1), tier="gold")
    tiers = {**TIERS, "gold": replace(TIERS["gold"], pool=pool, policing=Policing(bytes=100_000, burst=0.1))}
    dispatcher.tables = DispatchTables(snapshot(replace(SITE, tiers=tiers)))
    one, two = dispatcher.open(port=1), dispatcher.open(port=2)  # 120 bytes
    assert dispatcher.reasons(one, 5) + dispatcher.reasons(two, 6) == {"known": 9, "policed": 2}
    dispatcher.now += SECOND // 100
    assert dispatcher.reasons(two, 2) == {"known": 1, "policed": 1}


def test_packets() -> None:
    """Packets count as such, with or without a limit on bytes; one that is over takes nothing."""
    dispatcher = Dispatcher(Policing(bytes=1e9, packets=100, burst=0.1))
    packet = dispatcher.open()
    assert dispatcher.reasons(packet, 12) == {"known": 9, "policed": 3}


def test_one_bucket_short_takes_nothing_of_the_other() -> None:
    """A packet over the packet rate takes no bytes."""
    dispatcher = Dispatcher(Policing(bytes=100_000, packets=100, burst=0.1))
    packet = dispatcher.open()
    assert dispatcher.reasons(packet, 50) == {"known": 9, "policed": 41}
    full = dispatcher.flows.buckets.pair("gold policing")
    assert full[0] - NOW_NS == 9060 * 10_000
    assert full[1] - NOW_NS == 10 * 10_000_000


def test_per_client() -> None:
    """Each client has the limits for itself, in all of its flows; anonymous ones by source."""
    dispatcher = Dispatcher(Policing(bytes=100_000, burst=0.1, per=Per.CLIENT))
    acme, more, once = dispatcher.open(1001), dispatcher.open(1001, 2), dispatcher.open(1002)
    assert dispatcher.reasons(acme, 20)["known"] == 9
    assert dispatcher.reasons(more, 2) == {"policed": 2}
    assert dispatcher.reasons(once, 9) == {"known": 9}
    here, there = dispatcher.open(port=3), dispatcher.open(port=3, source=CLIENT + (1 << 64))
    assert dispatcher.reasons(here, 20)["known"] == 9
    assert dispatcher.reasons(there, 20)["known"] == 9


def test_change_acts_on_known_flows() -> None:
    """Policing that is set, changed or taken away holds for flows that are known already."""
    dispatcher = Dispatcher(None)
    packet = dispatcher.open()
    assert dispatcher.reasons(packet, 100) == {"known": 100}
    dispatcher.change(Policing(packets=100, burst=0.1))
    assert dispatcher.reasons(packet, 12) == {"known": 10, "policed": 2}
    dispatcher.change(None)
    assert dispatcher.reasons(packet, 12) == {"known": 12}


def test_first_packets_too() -> None:
    """A first packet counts, and one that is over opens no flow."""
    dispatcher = Dispatcher(Policing(packets=100, burst=0.1))
    packets = [segment(address("gold"), port=port) for port in range(1, 13)]
    assert Counter(dispatcher.see(packet).reason for packet in packets) == {"issued": 10, "policed": 2}
    assert len(dispatcher.flows) == 10


def test_mark() -> None:
    """Marked packets go on with a higher drop precedence; a new flow keeps the mark of its tier."""
    dispatcher = Dispatcher(Policing(packets=100, burst=0.1, over=Excess.MARK))
    packet = dispatcher.open()
    verdicts = [dispatcher.see(packet) for _ in range(12)]
    assert [verdict.reason for verdict in verdicts] == ["known"] * 9 + ["policed-marked"] * 3
    marks = [output_bytes(packet, verdict) for verdict in verdicts]
    assert [(data[0] & 15) << 2 | data[1] >> 6 for data in marks] == [34] * 9 + [38] * 3
    other = dispatcher.open(port=2)
    dispatcher.now += SECOND
    assert dispatcher.see(other).dscp == 34


def test_marks() -> None:
    """The mark keeps the class of Assured Forwarding (RFC 2597), and is else lower effort (RFC 8622)."""
    assert [marked(dscp) for dscp in (10, 12, 14, 34, 36, 38)] == [14, 14, 14, 38, 38, 38]
    assert {marked(dscp) for dscp in (None, 0, 1, 8, 11, 32, 40, 42, 46, 48, 63)} == {1}


def test_held_packets() -> None:
    """A held packet is dropped where it is over, and never marked."""
    for over, expected in ((Excess.DROP, {"policed": 5}), (Excess.MARK, {"held": 5})):
        dispatcher = Dispatcher(Policing(packets=1, burst=1, over=over), tier="held")
        for port in range(1, 6):
            dispatcher.see(segment(address("held"), port=port))
        packets = [segment(address("held"), port=port) for port in range(10, 15)]
        assert Counter(dispatcher.see(packet).reason for packet in packets) == expected


def test_rules() -> None:
    """Policing that limits nothing, or lets no packet pass, is refused, and says what would be right."""

    def problems(policing: Policing) -> list[str]:
        tiers = {**TIERS, "gold": replace(TIERS["gold"], policing=policing)}
        return [f"{p.where}: {p.message}" for p in check_site(replace(SITE, tiers=tiers)) if "policing" in p.where]

    assert problems(Policing(bytes=100_000, packets=100)) == []
    assert "limits nothing" in problems(Policing())[0]
    assert problems(Policing(bytes=3000, burst=0.1))[0].endswith("burst must be 0.5 or more")
    assert problems(Policing(packets=2, burst=0.1))[0].endswith("burst must be 0.5 or more")
