"""The straight way of established flows (established.h) does what the rest of the program does, to each packet; what
goes to no cluster is passed on before any table is read, but where a flow goes there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.io.xdp.table import LEAST_DECODED, records, sizes
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.site import Excess, Per, Policing, Site
from dnsvip.xdp.objects import XDP_REDIRECT, XDP_TX
from dnsvip.xdp.structs import u32
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    FIN,
    NOW,
    PUSH,
    SITE,
    SYN,
    TIERS,
    address,
    datagram,
    segment,
    snapshot,
)
from tests.dispatcher.io.xdp.kernel import Kernel, Reference, frame_of
from tests.dispatcher.io.xdp.ways import START, both_ways, last_port

ONWARD = ("gold", "tunnel", "standard", "silver")
"""Tiers of pools that are direct with a DSCP, encap, direct without, and nat."""


POLICINGS = (
    None,
    *(Policing(packets=3, burst=1, per=per, over=over) for per in Per for over in Excess),
    Policing(bytes=500, packets=4, burst=3, per=Per.CLIENT),
    Policing(bytes=500, burst=3),
)
"""Limits that some of `packets_of` are over, and those before and after are not."""


def policed(policing: Policing | None) -> Site:
    """The site whose tiers have this policing."""
    return replace(SITE, tiers={name: replace(tier, policing=policing) for name, tier in TIERS.items()})


@pytest.fixture
def ready(kernel: None, program: Kernel) -> Kernel:
    """The program with empty tables and the site of the tests."""
    program.writer.apply(DispatchTables(snapshot()))
    program.forget()
    return program


def packets_of(tier: str) -> Iterator[bytes]:
    """Packets of a flow of TCP and one of UDP: those that open and establish them, then usual and unusual ones."""
    vip, data = address(tier, 1001), b"x" * 100
    yield segment(vip)
    yield segment(vip, ACK)
    yield segment(vip, ACK | PUSH, data=data)
    yield bytes((0x6A, 0xD1)) + segment(vip, ACK | PUSH, data=data)[2:]  # its own DSCP and ECN
    for hops in (0, 1, 2):
        packet = segment(vip, ACK, data=data)
        yield packet[:7] + bytes([hops]) + packet[8:]
    yield segment(vip, ACK, data=bytes(1441))  # more than the path MTU
    yield segment(vip, ACK, data=data) + b"trailer"
    yield segment(vip, ACK, data=data)[:-1]  # shorter than it says
    yield segment(vip, ACK | SYN)
    yield segment(vip, ACK, port=40_001)  # of no flow
    for _ in range(3):
        yield datagram(vip)
    yield datagram(vip, data=b"\x40" + data)
    yield segment(vip, ACK | FIN)
    yield segment(vip, ACK)
    yield segment(vip)


@pytest.mark.parametrize("policing", POLICINGS)
@pytest.mark.parametrize("tier", ONWARD)
def test_the_straight_way_is_the_same(ready: Kernel, tier: str, policing: Policing | None) -> None:
    """Action, bytes, counters, what was policed, and the client's and the server's usage are the same where packets are
    watched: none goes the straight way then."""
    ready.writer.apply(DispatchTables(snapshot(policed(policing))))
    straight, long = both_ways(ready, [packet for packet in packets_of(tier) for _ in range(2)], SECOND // 4)
    assert straight == long


@pytest.mark.parametrize("per", [None, *Per])
def test_established_flows_go_the_straight_way(ready: Kernel, per: Per | None) -> None:
    """A packet of an established flow leaves no trace in the working memory of the rest of the program, also where its
    tier is policed, unless it is over the limit."""
    policing = Policing(packets=4, burst=1, per=per) if per else None
    ready.writer.apply(DispatchTables(snapshot(policed(policing))))
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    try:
        ports = (45_000, 45_000, 40_000, 45_000, 45_000)
        seen = [last_port(ready, segment(address("gold", 1001), ACK, port)) for port in ports]
    finally:
        os.sched_setaffinity(0, processors)
    assert seen == [45_000, 45_000, 40_000, 40_000, 45_000 if policing else 40_000]


@pytest.mark.parametrize("tier", ["gold", "tunnel"])
@pytest.mark.parametrize("back", [0, 1])
def test_interface_of_the_next_hop(ready: Kernel, tier: str, back: int) -> None:
    """A packet goes back out of the interface that it came from, or is redirected to the server's, on each way."""
    hops, hop = ready.maps["hops"], TYPES.struct("hop")
    before = [hops.get(u32(number)) or b"" for number in range(hops.max_entries)]
    for number, value in enumerate(before):
        hops.put(u32(number), hop.pack(**hop.unpack(value) | {"back": back}))
    try:
        frames = [frame_of(segment(address(tier, 1001), flags, 46_000)) for flags in (SYN, ACK, ACK, ACK | FIN)]
        actions = {ready.run(frame, START)[0] for frame in frames}
    finally:
        for number, value in enumerate(before):
            hops.put(u32(number), value)
    assert actions == {XDP_TX if back else XDP_REDIRECT}


def test_flow_of_a_removed_cluster_goes_on(ready: Kernel) -> None:
    """A flow goes on although its cluster has gone, before and after the next sweep; what is of no flow is not ours."""
    reference = Reference(DispatchTables(snapshot()))
    packet, other = segment(address("gold"), ACK), segment(address("gold"), ACK, port=41_000)
    for now in (START, START + SECOND):
        assert ready.see(packet, now) == reference.see(packet, now)
    assert ready.writer.sweep(int(NOW)) == 0
    assert ready.writer.settings()["enclosed"] == 1
    without = DispatchTables(
        replace(snapshot(replace(SITE, clusters={"legacy": SITE.clusters["legacy"]})), keyrings={})
    )
    ready.writer.apply(without)
    reference.change(without)
    for _ in range(2):
        assert ready.see(packet, START + SECOND) == reference.see(packet, START + SECOND)
        assert ready.see(packet, START + SECOND).reason == "known"
        assert ready.see(other, START + SECOND).reason == "not-ours"
        ready.writer.sweep(int(NOW))
        assert ready.writer.settings()["enclosed"] == 0
    ready.writer.sweep(0, everything=True)
    assert ready.writer.settings()["enclosed"] == 1
    assert ready.see(packet, START + SECOND).reason == "not-ours"


@pytest.mark.parametrize("ticks", [True, False])
def test_clock(ready: Kernel, ticks: bool) -> None:
    """The program's clock is unix time, by the ticks of the kernel and without them."""
    ready.writer.settings(now=0)
    if not ticks:
        offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        config = TYPES.struct("config")
        before = config.unpack(ready.maps["config"].get(u32(0)) or b"")
        ready.maps["config"].put(u32(0), config.pack_sparse(**before | {"tick": 0, "clock_offset": offset}))
    first = time.time() - 0.02
    assert ready.run(frame_of(segment(address("gold"), source=CLIENT + 77)))[0] == 3
    last = time.time() + 0.02
    (seen,) = {TYPES.struct("flow").unpack(record)["seen"] for record in records(ready.maps["flows"])}
    assert int(first) <= seen <= int(last)


def test_decode_cache_grows_with_the_table() -> None:
    """There is room for as many addresses as flows, and never for less than the least."""
    assert sizes(1 << 20)["decoded"] == 1 << 20
    assert sizes(1000)["decoded"] == LEAST_DECODED
