"""Packets are read as far as their flow, or refused with a reason."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dispatcher.packet import MAX_EXTENSIONS, FlowKey, Malformed, Packet, Shape, parse, reverse_key
from tests.dispatcher.build import CLIENT, CLIENT4, PLAIN, PLAIN4, datagram, echo, icmp_error, ip4, ip6, segment

ROUTER = 0x20010DB8 << 96 | 0xFE
TCP_HEAD = struct.pack("!HHIIBBHHH", 40_000, 80, 1, 0, 0x50, 2, 65535, 0, 0)


def key(protocol: int, source: int, destination: int, sport: int, dport: int) -> bytes:
    size = 4 if destination < 1 << 32 else 16
    return bytes([protocol]) + source.to_bytes(size, "big") + destination.to_bytes(size, "big") + struct.pack(
        "!HH", sport, dport
    )  # fmt: skip


def read(data: bytes) -> Packet:
    packet = parse(data)
    assert isinstance(packet, Packet), packet
    return packet


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (segment(PLAIN), key(6, CLIENT, PLAIN, 40_000, 80)),
        (segment(PLAIN4), key(6, CLIENT4, PLAIN4, 40_000, 80)),
        (datagram(PLAIN), key(17, CLIENT, PLAIN, 40_000, 443)),
        (datagram(PLAIN4), key(17, CLIENT4, PLAIN4, 40_000, 443)),
        (echo(PLAIN, 77), key(58, CLIENT, PLAIN, 77, 0)),
        (echo(CLIENT, 77, source=PLAIN, kind=129), key(58, PLAIN, CLIENT, 0, 77)),
        (ip4(CLIENT4, PLAIN4, 1, struct.pack("!BBHHH", 8, 0, 0, 77, 1)), key(1, CLIENT4, PLAIN4, 77, 0)),
    ],
)
def test_flow_key(data: bytes, expected: bytes) -> None:
    """TCP, UDP and echo of both IP versions name their flow."""
    packet = read(data)
    assert packet.key == expected
    assert packet.shape is Shape.FLOW
    assert not packet.fragment


def test_fields_of_a_packet() -> None:
    """The key's parts can be had as numbers."""
    for data, version, source, destination in (
        (segment(PLAIN), 6, CLIENT, PLAIN),
        (segment(PLAIN4), 4, CLIENT4, PLAIN4),
    ):
        packet = read(data)
        assert (packet.version, FlowKey(packet.key).protocol, packet.flags) == (version, 6, 2)
        assert (FlowKey(packet.key).source, FlowKey(packet.key).destination) == (source, destination)
        assert (FlowKey(packet.key).source_port, FlowKey(packet.key).destination_port) == (40_000, 80)
        assert packet.offset == len(data) - 20


def test_extension_headers_are_walked() -> None:
    """Hop-by-hop, destination options, a used-up routing header and an atomic fragment stand in no one's way."""
    chain = (
        bytes([60, 0]) + bytes(6)  # hop-by-hop, then destination options of 16 bytes
        + bytes([43, 1]) + bytes(14)
        + bytes([44, 0, 2, 0]) + bytes(4)  # routing, nothing left
        + bytes([6, 0]) + bytes(6)  # fragment: offset 0, no more
    )  # fmt: skip
    packet = read(ip6(CLIENT, PLAIN, 6, TCP_HEAD, chain, 0))
    assert packet.key == read(segment(PLAIN)).key
    assert packet.offset == 40 + len(chain)
    assert not packet.fragment


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Malformed.SHORT),
        (segment(PLAIN)[:39], Malformed.SHORT),
        (b"\x50" + bytes(59), Malformed.VERSION),
        (segment(PLAIN)[:-1], Malformed.LENGTH),
        (segment(PLAIN4)[:-1], Malformed.LENGTH),
        (b"\x44" + segment(PLAIN4)[1:], Malformed.LENGTH),  # header of 16 bytes
        (ip6(CLIENT, PLAIN, 6, TCP_HEAD[:19]), Malformed.SHORT),
        (ip6(CLIENT, PLAIN, 17, bytes(7)), Malformed.SHORT),
        (ip6(CLIENT, PLAIN, 58, bytes(7)), Malformed.SHORT),
        (ip6(CLIENT, PLAIN, 6, TCP_HEAD[:12] + b"\x40" + TCP_HEAD[13:]), Malformed.LENGTH),
        (ip6(CLIENT, PLAIN, 6, TCP_HEAD[:12] + b"\x60" + TCP_HEAD[13:]), Malformed.LENGTH),
        (ip6(CLIENT, PLAIN, 17, struct.pack("!HHHH", 1, 2, 7, 0)), Malformed.LENGTH),
        (ip6(CLIENT, PLAIN, 17, struct.pack("!HHHH", 1, 2, 9, 0)), Malformed.LENGTH),
        (segment(PLAIN, 0), Malformed.FLAGS),
        (segment(PLAIN, 3), Malformed.FLAGS),
        (segment(PLAIN, 6), Malformed.FLAGS),
        (ip6(CLIENT, PLAIN, 6, TCP_HEAD, bytes([6, 0, 0, 1]) + bytes(4), 43), Malformed.ROUTING),
        (ip6(CLIENT, PLAIN, 6, TCP_HEAD, bytes(8) + bytes([6] + [0] * 7), 60), Malformed.EXTENSIONS),
        (ip6(CLIENT, PLAIN, 6, b"", bytes([60, 0] + [0] * 6) * (MAX_EXTENSIONS + 1), 60), Malformed.EXTENSIONS),
        (ip6(CLIENT, PLAIN, 6, b"", bytes([6, 9]) + bytes(6), 60), Malformed.SHORT),
        (icmp_error(ROUTER, PLAIN, b""), Malformed.INNER),
        (icmp_error(ROUTER, PLAIN, segment(CLIENT, source=PLAIN)[:47]), Malformed.INNER),
        (icmp_error(ROUTER, PLAIN, segment(CLIENT, source=ROUTER)), Malformed.INNER),  # not sent by the receiver
        (icmp_error(ROUTER, PLAIN, icmp_error(PLAIN, CLIENT, segment(PLAIN))), Malformed.INNER),  # about an error
    ],
)  # fmt: skip
def test_malformed(data: bytes, kind: Malformed) -> None:
    """What cannot be read safely is refused by kind."""
    assert parse(data) is kind


def test_error_names_the_flow_inside() -> None:
    """An ICMP error to a VIP has the key of the client's packets, also when the inner packet is cut off."""
    for sent in (segment(CLIENT, 16, port=80, source=PLAIN, to=40_000), datagram(CLIENT, 443, PLAIN, 40_000)):
        packet = read(icmp_error(ROUTER, PLAIN, sent[:48]))
        assert packet.shape is Shape.ERROR
        assert (FlowKey(packet.key).source, FlowKey(packet.key).destination) == (CLIENT, PLAIN)
        assert FlowKey(packet.key).source_port == 40_000
    packet = read(icmp_error(ROUTER, PLAIN, echo(CLIENT, 77, source=PLAIN, kind=129)))
    assert packet.key == read(echo(PLAIN, 77)).key
    inner4 = segment(CLIENT4, 16, port=80, source=PLAIN4, to=40_000)[:28]
    packet = read(ip4(9, PLAIN4, 1, struct.pack("!BBHI", 3, 4, 0, 1300) + inner4))
    assert packet.key == read(segment(PLAIN4)).key


def test_fragments() -> None:
    """The first fragment names flow and packet, the later ones only the packet, and that alike."""

    def piece(offset: int, more: int, payload: bytes) -> bytes:
        return ip6(CLIENT, PLAIN, 6, payload, struct.pack("!BBHI", 6, 0, offset << 3 | more, 99), 44)

    first, later = read(piece(0, 1, TCP_HEAD + bytes(20))), read(piece(5, 0, b"rest"))
    assert first.shape is Shape.FLOW
    assert first.key == read(segment(PLAIN)).key
    assert later.shape is Shape.FRAGMENT
    assert first.fragment == later.fragment != b""
    assert parse(piece(0, 1, TCP_HEAD[:16])) is Malformed.SHORT  # RFC 7112
    first4 = read(ip4(CLIENT4, PLAIN4, 17, struct.pack("!HHHH", 1, 2, 900, 0), 0x2000))
    later4 = read(ip4(CLIENT4, PLAIN4, 17, b"rest", 1))
    assert (first4.shape, later4.shape) == (Shape.FLOW, Shape.FRAGMENT)
    assert first4.fragment == later4.fragment


def test_other_protocols_have_no_flow() -> None:
    """Protocols that are not dispatched are not malformed."""
    for data in (
        ip6(CLIENT, PLAIN, 132, b"sctp"),
        ip6(CLIENT, PLAIN, 58, bytes([135] + [0] * 7)),
        ip6(CLIENT, PLAIN, 59, b""),
    ):
        assert read(data).shape is Shape.OTHER


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x60", b"\x45"]))
def test_any_bytes(data: bytes, head: bytes) -> None:
    """Any bytes give a packet or a reason."""
    assert isinstance(parse(head + data), Packet | Malformed)


def test_reverse_key() -> None:
    """Turning a key round twice gives it back."""
    for data in (segment(PLAIN), segment(PLAIN4)):
        one = read(data).key
        assert reverse_key(reverse_key(one)) == one
    assert reverse_key(read(segment(PLAIN)).key) == key(6, PLAIN, CLIENT, 80, 40_000)
