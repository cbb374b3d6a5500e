"""The straight way of fragments (pieces.h) does what the rest of the program does, to each of them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.site import Site
from tests.dispatcher.build import ACK, CLIENT, FIN, PLAIN, RST, SITE, SYN, address, ip6, segment
from tests.dispatcher.io.xdp.kernel import Kernel, frame_of
from tests.dispatcher.io.xdp.test_opening import sites, with_site
from tests.dispatcher.io.xdp.ways import START, TAG, both_ways, upper

LATER, FIRST, WHOLE = 6 << 3 | 1, 1, 0
"""Offset and M of a fragment header."""
REMEMBERED = 60
"""FRAGMENT_SECONDS."""


@pytest.fixture
def ready(kernel: None, program: Kernel) -> Kernel:
    """The program with empty tables and the site of the tests."""
    return with_site(program, SITE)


def tcp(flags: int = SYN, port: int = 40_000) -> bytes:
    return segment(PLAIN, flags, port)[40:].ljust(48, b"x")


def udp(length: int = 3000) -> bytes:
    return struct.pack("!HHHH", 5000, 443, length, 1) + bytes(40)


def piece(
    vip: int, word: int, data: bytes = tcp(), protocol: int = 6, identity: int = 7, source: int = CLIENT
) -> bytes:
    """A fragment of an IPv6 packet."""
    return ip6(source, vip, protocol, data, struct.pack("!BBHI", protocol, 0, word, identity), 44)


def packets_of(tier: str) -> Iterator[bytes]:
    """Fragments to an address of a tier, and to forged and other ones: usual and unusual, known and unknown."""
    vip = address(tier, 1001)
    elsewhere = vip ^ 1 << 90
    for wanted in (vip ^ 1, vip, PLAIN, elsewhere, vip ^ 3 << 56, address(tier, 1001, 5, expiry=0)):
        for identity, data, protocol in (
            *((n, tcp(flags), 6) for n, flags in enumerate((SYN, ACK, 0, SYN | FIN, SYN | RST, SYN | ACK, FIN))),
            (20, tcp()[:19], 6),
            (21, udp(), 17),
            (22, udp(7), 17),
            (23, udp()[:8], 17),
            (24, udp()[:7], 17),
            (25, udp(), 58),
            (26, udp(), 132),
        ):
            yield piece(wanted, LATER, data, protocol, identity)
            yield piece(wanted, FIRST, data, protocol, identity)
            yield piece(wanted, LATER, data, protocol, identity)
        yield piece(wanted, WHOLE)
        yield piece(wanted, WHOLE, udp(), 17)
        yield piece(wanted, 7 << 3)
        yield piece(wanted, LATER, b"", identity=30)
        yield piece(wanted, LATER, b"", identity=30)[:-1]
        yield piece(wanted, LATER, identity=31) + b"trailer"
        yield piece(wanted, LATER, identity=31)[:-1]
        for word in (FIRST, LATER):
            packet = piece(wanted, word, identity=32)
            for hops in (0, 1, 2):
                yield packet[:7] + bytes([hops]) + packet[8:]
            yield bytes([packet[0] | 1]) + packet[1:]
            yield bytes([0x50]) + packet[1:]
            yield piece(wanted, word, identity=33, source=wanted)
            yield piece(wanted, word, identity=33, source=1)
            head = struct.pack("!BBHI", 60, 0, word, 34) + bytes((6, 0)) + bytes(6)
            yield ip6(CLIENT, wanted, 6, tcp(), head, 44)
            yield ip6(CLIENT, wanted, 6, tcp(), bytes((44, 0)) + bytes(6) + struct.pack("!BBHI", 6, 0, word, 35), 60)


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("name", sites())
def test_the_straight_way_is_the_same(ready: Kernel, name: str, crowded: bool) -> None:
    """Action, bytes and counters are the same where packets are watched: none goes the straight way then."""
    site: Site = sites()[name]
    with_site(ready, site)
    for tier in ("gold", "tunnel", "silver", "standard"):
        straight, long = both_ways(ready, list(packets_of(tier)), SECOND // 1000, crowded=crowded)
        assert straight == long, tier


def test_dropped_fragments_go_the_straight_way(ready: Kernel) -> None:
    """A fragment that is dropped leaves no trace where the rest of the program notes how far it has parsed: a later one
    whose first is not known, and a first one to a forged address. Those of a known flow do."""
    vip = address("gold")
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    try:
        ready.run(frame_of(segment(PLAIN), TAG), START)
        for dropped in (piece(vip, LATER), piece(vip ^ 1, FIRST), piece(vip ^ 1, FIRST, udp(), 17)):
            ready.run(frame_of(dropped), START)
            assert upper(ready) == 58
        ready.run(frame_of(piece(vip, FIRST)), START)
        assert upper(ready) == 62
    finally:
        os.sched_setaffinity(0, processors)


def test_a_fragment_is_remembered_as_long_as_ever(ready: Kernel) -> None:
    """The mark of a fragmented packet lasts as long as what is remembered of it, whatever comes with the same mark, and
    a sweep renews one that is missing, such as after an upgrade."""
    vip, second = address("gold"), 10**9

    def reason(packet: bytes, after: int) -> str:
        return ready.see(packet, START + after * second).reason

    assert [reason(segment(vip, flags), 0) for flags in (SYN, ACK, ACK)] == ["issued", "known", "known"]
    assert reason(piece(vip, FIRST), 0) == "known"
    assert reason(piece(vip, LATER), REMEMBERED) == "fragment"
    assert reason(piece(vip, LATER), REMEMBERED + 1) == "fragment-without-first"
    assert reason(piece(vip, FIRST), 100) == "known"
    marks = ready.maps["fragment_marks"]
    marks.put_many(*_erased(marks.max_entries))
    assert reason(piece(vip, LATER), 101) == "fragment-without-first"
    ready.writer.sweep(START // second + 101)
    assert reason(piece(vip, LATER), 101) == "fragment"


def _erased(count: int) -> tuple[bytes, bytes]:
    return b"".join(number.to_bytes(4, "little") for number in range(count)), bytes(4 * count)
