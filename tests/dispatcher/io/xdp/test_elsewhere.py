"""Packets to no cluster, and to another cluster than that of the packet before, go the straight ways too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Network

import pytest

from dnsvip.address.keyring import Keyring
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.site import Forward
from tests.dispatcher.build import (
    ACK,
    CLUSTER,
    EPOCH,
    MASTER,
    SYN,
    TIERS,
    address,
    datagram,
    segment,
    snapshot,
    with_pool,
)
from tests.dispatcher.io.xdp.kernel import FLOWS, Kernel, frame_of, loaded
from tests.dispatcher.io.xdp.ways import START, TAG, both_ways, gone, last_port, upper

PREFIX = IPv6Network("2001:db8:a:2::/64")
OTHER = replace(CLUSTER, name="other", prefix=PREFIX, plain=PREFIX[1])
KEYRING = Keyring(OTHER.address_layout, [EPOCH])
ELSEWHERE = 1 << 80
"""The bit of an address of a cluster that is none in one that goes to no cluster."""


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    """The program with two clusters and no pool that is, or was, under nat: its servers' answers go to no cluster."""
    direct = with_pool("translated", forward=Forward.DIRECT)
    site = snapshot(replace(direct, clusters={**direct.clusters, OTHER.name: OTHER}))
    keyrings, masters = {**site.keyrings, OTHER.name: KEYRING}, {**site.masters, OTHER.name: MASTER}
    with loaded(FLOWS) as running:
        running.writer.apply(DispatchTables(replace(site, keyrings=keyrings, masters=masters)))
        yield running


@pytest.fixture
def ready(kernel: None, program: Kernel) -> Iterator[Kernel]:
    """The program without flows, on one processor."""
    program.forget()
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    yield program
    os.sched_setaffinity(0, processors)


def vips(nonce: int = 0) -> tuple[int, int]:
    """An address of each cluster."""
    assert KEYRING.active
    values = {"tier": TIERS["gold"].code, "client": 1001, "expiry": 127, "nonce": nonce}
    return address("gold", 1001, nonce), KEYRING.active[1].encode(values)


def test_established_flows(ready: Kernel) -> None:
    """Neither packets of flows of two clusters in turn nor those between them to no cluster leave a trace in the memory
    of the rest of the program."""
    for vip in vips() * 2:
        ready.run(frame_of(segment(vip, ACK, 45_000)), START)
    assert last_port(ready, segment(vips()[0], ACK, 40_000)) == 40_000
    before = ready.writer.counters.by_reason()
    for vip in vips() * 2:
        assert last_port(ready, segment(vip, ACK, 45_000)) == 40_000
        assert last_port(ready, segment(vip ^ ELSEWHERE, ACK, 46_000)) == 40_000
    counted = gone(before, ready.writer.counters.by_reason())
    assert isinstance(counted, dict)
    assert {reason: count for reason, count in counted.items() if count} == {"known": 4, "not-ours": 4}


def test_first_packets(ready: Kernel) -> None:
    """Nor do first packets: of two clusters in turn, and to none."""
    ready.run(frame_of(segment(vips()[0]), TAG), START)
    assert upper(ready) == 58
    for nonce in range(1, 4):
        for vip in vips(nonce):
            for wanted in (vip, vip ^ 1, vip ^ ELSEWHERE):
                ready.run(frame_of(segment(wanted)), START)
                assert upper(ready) == 58


def test_the_straight_way_is_the_same(ready: Kernel) -> None:
    """Action, bytes and counters are the same where packets are watched: none goes the straight way then."""
    packets = [
        make(vip ^ bit)
        for vip in vips() * 3
        for bit in (0, ELSEWHERE)
        for make in (segment, lambda to: segment(to, ACK), lambda to: segment(to, SYN | ACK), datagram)
    ]
    straight, long = both_ways(ready, packets)
    assert straight == long
