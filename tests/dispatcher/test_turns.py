"""The turns before addresses are verified: who waits, for how long, in which order, and who has to go."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.packet import Packet, parse
from dnsvip.dispatcher.reason import Action
from dnsvip.dispatcher.turns import MOST, Turns, Waiting, overloaded
from dnsvip.dispatcher.verdict import Verdict
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLUSTER,
    FIN,
    NOW_NS,
    PLAIN4,
    SITE,
    SYN,
    address,
    bare,
    datagram,
    echo,
    established,
    icmp_error,
    ip6,
    segment,
    snapshot,
)
from tests.dispatcher.test_fuzz import mutated, seeds

TABLES = DispatchTables(snapshot())
GREEDY, OTHER = 0x2001_0DB8_0066_0001 << 64 | 1, 0x2001_0DB8_0099_0001 << 64 | 1
VIP = address("gold")


class Waiters(Turns):
    """Turns that packets are put into as bytes."""

    def offer(self, data: bytes, tables: DispatchTables = TABLES) -> bool:
        """Whether a packet waits now."""
        packet = parse(data)
        assert isinstance(packet, Packet)
        waits = self.waits(data, packet, tables)
        if waits:
            self.put(data, packet)
        return waits

    def all(self) -> list[bytes]:
        """Take everything, in order."""
        taken = []
        while (one := self.take()) is not None:
            taken.append(one.data)
        return taken


def fragments(source: int, identity: int = 9) -> tuple[bytes, bytes]:
    """A datagram in two pieces."""
    whole = datagram(VIP, source=source, data=bytes(64))[40:]
    heads = (struct.pack("!BBHI", 17, 0, word, identity) for word in (1, 32))
    first, later = (
        ip6(source, VIP, 17, piece, head, 44) for piece, head in zip((whole[:32], whole[32:]), heads, strict=True)
    )
    return first, later


def test_known_flows_pass() -> None:
    """What needs no address verified is handled as it comes: packets of known flows, their errors, replies under nat,
    and what is for somebody else."""
    flows = Flows(100)
    turns = Waiters(flows)
    known = established(TABLES, flows, "gold", 5000)
    established(TABLES, flows, "silver", 5001)
    (reply,) = flows.translations.back
    server, client = (int.from_bytes(reply[n : n + 16], "big") for n in (1, 17))
    assert not turns.offer(known)
    assert not turns.offer(segment(client, SYN | ACK, 80, server, to=5001))
    assert not turns.offer(icmp_error(OTHER, VIP, segment(CLIENT, ACK, 80, VIP, to=5000)))
    assert not turns.offer(segment(OTHER, source=GREEDY))
    assert not turns.offer(ip6(CLIENT, VIP, 99, bytes(8)))
    assert not turns


@pytest.mark.parametrize(
    "data",
    [
        segment(VIP),
        segment(VIP ^ 1),
        segment(VIP, ACK, 7777),
        segment(VIP, port=5000),
        segment(PLAIN4),
        datagram(VIP),
        echo(VIP),
        icmp_error(OTHER, VIP, segment(CLIENT, ACK, 80, VIP, to=7777)),
        fragments(CLIENT)[0],
    ],
)
def test_what_would_be_verified_waits(data: bytes) -> None:
    """New flows wait, whatever their protocol; so do SYNs of known ones and errors about flows that are not known."""
    flows = Flows(100)
    established(TABLES, flows, "gold", 5000)
    assert Waiters(flows).offer(data)


def test_a_resumed_datagram_waits() -> None:
    """A datagram that is judged anew each time, of a flow that was taken over, waits; QUIC that goes on does not."""
    flows = Flows(100)
    running = datagram(VIP, data=b"\x40 short header")
    site = replace(SITE, clusters={**SITE.clusters, "web": replace(CLUSTER, resume_rate=100)})
    tables = DispatchTables(snapshot(site))
    assert decide(running, tables, flows, NOW_NS).reason == "resumed"
    turns = Waiters(flows)
    assert not turns.offer(running, tables)
    assert turns.offer(datagram(VIP, data=b"\xc0 long header"), tables)


def test_each_network_in_its_turn() -> None:
    """Whoever waits in front with many packets, another network's first is next but one; and so within a network."""
    turns = Waiters(Flows(100))
    greedy = [segment(VIP, port=port, source=GREEDY) for port in range(1000, 1010)]
    neighbour = segment(VIP, source=GREEDY + (1 << 64))
    other = segment(VIP, source=OTHER)
    assert all(map(turns.offer, [*greedy, neighbour, other]))
    assert turns.all() == [greedy[0], other, neighbour, *greedy[1:]]


def test_the_greedy_make_room() -> None:
    """Where there is no room the oldest packets of the network with most go, and nobody else's."""
    turns = Waiters(Flows(100))
    some = [segment(VIP, source=OTHER + n) for n in range(5)]
    assert all(map(turns.offer, some))
    gone: list[Waiting] = []
    for number in range(3 * MOST):
        data = segment(VIP, port=number % 60_000, source=GREEDY)
        packet = parse(data)
        assert isinstance(packet, Packet)
        gone += turns.put(data, packet)
        assert len(turns) <= MOST
    assert {one.data[8:24] for one in gone} == {GREEDY.to_bytes(16, "big")}
    assert len(gone) + len(turns) == 3 * MOST + 5
    assert set(some) <= set(turns.all())
    assert not turns._names
    verdict = overloaded(gone[0].packet)
    assert (verdict.action, verdict.reason) == (Action.DROP, "overload")


@pytest.mark.parametrize("vip", [VIP, PLAIN4])
def test_first_segments_refused_by_their_bytes(vip: int) -> None:
    """Where there is no room, a first segment of the part of a network that has most is refused unseen. Nothing else
    is: of others, of known flows, of other protocols, fragments, or what is no segment."""
    greedy, other = (0x0A00_0101, 0x0A00_0102) if vip == PLAIN4 else (GREEDY, GREEDY + (1 << 64))
    turns = Waiters(Flows(100))
    first = segment(vip, source=greedy)
    for port in range(MOST):
        assert not turns.refuses(segment(vip, port=port, source=greedy))
        assert turns.offer(segment(vip, port=port, source=greedy))
    assert turns.offer(first)
    assert turns.refuses(first)
    at = 33 if vip == PLAIN4 else 53
    for flags in (SYN | ACK, ACK, FIN | ACK, 4):
        assert not turns.refuses(segment(vip, flags, source=greedy))
    assert turns.refuses(first[:at] + bytes([0xC2]) + first[at + 1 :]), "with ECN"
    for passes in (segment(vip, source=other), datagram(vip, source=greedy), *(first[:size] for size in range(40))):
        assert not turns.refuses(passes)
    if vip == PLAIN4:
        assert not turns.refuses(first[:6] + b"\x20\x00" + first[8:]), "a fragment"
        assert not turns.refuses(b"\x46" + first[1:]), "with options"
    assert turns.crowded


def test_a_flow_stays_in_order() -> None:
    """What follows a packet that waits does so behind it: of its flow, and of its datagram."""
    turns = Waiters(Flows(100))
    first, later = fragments(OTHER)
    opened = [segment(VIP, source=OTHER), segment(VIP, ACK, source=OTHER), first, later]
    assert all(map(turns.offer, [segment(VIP, source=GREEDY), *opened]))
    assert turns.all() == [segment(VIP, source=GREEDY), *opened]


def test_nothing_of_a_known_flow_waits_for_a_forged_syn() -> None:
    """Packets of a known flow pass, also while somebody's SYNs with its addresses and ports wait."""
    flows = Flows(100)
    known = established(TABLES, flows, "gold", 5000)
    turns = Waiters(flows)
    assert all(turns.offer(segment(VIP, port=5000)) for _ in range(3))
    assert not turns.offer(known)
    assert len(turns.all()) == 3
    assert not turns._names


def test_the_same_verdicts() -> None:
    """Of random flows from many networks each packet has the verdict that it would have had as it came."""
    random = Random(7)
    flows, waited = Flows(10_000), Flows(10_000)
    turns = Waiters(waited)
    expected: dict[bytes, list[Verdict]] = {}
    found: dict[bytes, list[Verdict]] = {}
    begun: set[tuple[int, int, int]] = set()

    def handle(data: bytes) -> None:
        found.setdefault(data, []).append(bare(decide(data, TABLES, waited, NOW_NS)))

    for _ in range(6000):
        source = random.choice((GREEDY, OTHER)) + (random.randrange(4) << random.choice((0, 64)))
        port, vip = random.randrange(3000, 3040), address(random.choice(("gold", "standard", "tunnel")))
        flags = random.choice((ACK, ACK, ACK | FIN)) if (source, port, vip) in begun else SYN
        begun.add((source, port, vip))
        data = random.choice([segment(vip, flags, port, source), datagram(vip, port, source), *fragments(source)])
        expected.setdefault(data, []).append(bare(decide(data, TABLES, flows, NOW_NS)))
        if not turns.offer(data):
            handle(data)
        for _ in range(random.randrange(3)):
            if (one := turns.take()) is not None:
                handle(one.data)
    for data in turns.all():
        handle(data)
    assert found == expected
    assert flows.established.slots.keys() == waited.established.slots.keys()


def test_any_packet_waits_or_passes() -> None:
    """Mutated packets of every kind: none makes the turns fail, each waits or is handled once, and nothing stays."""
    flows = Flows(500)
    turns = Turns(flows, 64)
    read, counted = 0, Counter[str]()
    for data in islice(mutated(Random(20_261_201), seeds()), 8000):
        packet = parse(data)
        read += 1
        if isinstance(packet, Packet) and turns.waits(data, packet, TABLES):
            counted["overload"] += len(turns.put(data, packet))
        else:
            counted[decide(data, TABLES, flows, NOW_NS, 0, packet).reason] += 1
        if read % 20 == 0 and (one := turns.take()):
            counted[decide(one.data, TABLES, flows, NOW_NS, one.step, one.packet).reason] += 1
    assert counted["overload"]
    assert counted["known"]
    assert counted.total() + len(turns) == read
    while turns.take():
        pass
    assert not turns._names


def test_only_what_would_wait_is_refused() -> None:
    """Of mutated packets of every kind, those that are refused by their bytes would have waited, or are damaged, or for
    nobody here."""
    turns = Turns(Flows(500), 64)
    refused = 0
    for data in islice(mutated(Random(20_261_202), seeds()), 20_000):
        packet = parse(data)
        waits = isinstance(packet, Packet) and turns.waits(data, packet, TABLES)
        if turns.refuses(data):
            refused += 1
            assert waits or not isinstance(packet, Packet) or not TABLES.cluster_of(data)
        elif waits:
            assert isinstance(packet, Packet)
            turns.put(data, packet)
    assert refused > 100
