"""Translated IPv4 packets are what the other end would have sent, with the right checksums throughout: IP header, upper
layer, and both again inside ICMP errors. The sums are those of tests.dispatcher.build."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dispatcher.egress.rewrite import to_client, to_server
from dnsvip.dispatcher.packet import Packet, parse
from tests.dispatcher.build import CLIENT4, PLAIN4, checksum, datagram, ip4, pseudo, segment, summed

SERVER4, ROUTER4 = 0x0A000021, 0xCB00_71FE
VIP, SERVER = PLAIN4.to_bytes(4, "big"), SERVER4.to_bytes(4, "big")
addresses = st.integers(0x0100_0000, 0xDFFF_FFFF)
ports = st.integers(0, 65535)
payloads = st.binary(max_size=50)
options = st.integers(0, 10).map(lambda words: b"\1" * (4 * words))
"""No-operation options (RFC 791 section 3.1)."""


def read(data: bytes) -> Packet:
    packet = parse(data)
    assert isinstance(packet, Packet)
    return packet


def echo4(destination: int, identity: int, source: int, kind: int = 8, data: bytes = b"ping") -> bytes:
    """An ICMP echo request, or reply (0)."""
    body = struct.pack("!BBHHH", kind, 0, 0, identity, 1) + data
    return ip4(source, destination, 1, summed(source, destination, 1, body, 2, head=False))


def error4(source: int, destination: int, inner: bytes, kind: int = 3, code: int = 3) -> bytes:
    """An ICMP error about a packet that `destination` sent."""
    body = struct.pack("!BBHI", kind, code, 0, 0) + inner
    return ip4(source, destination, 1, summed(source, destination, 1, body, 2, head=False))


def with_options(data: bytes, more: bytes) -> bytes:
    """An IPv4 packet with options."""
    size = len(data) + len(more)
    head = bytes([0x45 + len(more) // 4]) + data[1:2] + struct.pack("!H", size) + data[4:10] + bytes(2) + data[12:20]
    head += more
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + data[20:]


def made(kind: str, source: int, to: int, port: int, other: int, data: bytes = b"x" * 9) -> bytes:
    """A packet of the client (`port`) to a service (`other`), or back: with `other` first."""
    if kind == "echo":
        asks = source == CLIENT4
        return echo4(to, port if asks else other, source, 8 if asks else 0, data)
    return (segment if kind == "tcp" else datagram)(to, port=port, source=source, to=other, data=data)


@given(st.sampled_from(["tcp", "udp", "echo"]), addresses, addresses, ports, ports, payloads, options)
def test_translation_and_back(
    kind: str, vip: int, server: int, port: int, new: int, payload: bytes, more: bytes
) -> None:
    """A packet to a server is the packet that the client would have sent there; the reply is the VIP's."""
    there, wanted = made(kind, CLIENT4, vip, port, 80, payload), made(kind, CLIENT4, server, new, 80, payload)
    there, wanted = with_options(there, more), with_options(wanted, more)
    assert to_server(there, read(there), server.to_bytes(4, "big"), new.to_bytes(2, "big")) == wanted
    back, wanted = made(kind, server, CLIENT4, 80, new, payload), made(kind, vip, CLIENT4, 80, port, payload)
    back, wanted = with_options(back, more), with_options(wanted, more)
    assert to_client(back, read(back), vip.to_bytes(4, "big"), port.to_bytes(2, "big")) == wanted


@given(st.sampled_from(["tcp", "udp", "echo"]), st.sampled_from([28, 30, 40, 48, 200]), options, options)
def test_errors_are_translated_with_what_is_inside(kind: str, cut: int, outer: bytes, inner: bytes) -> None:
    """An error about a VIP's packet is translated to one about the server's and vice versa, also if truncated, and with
    options in either header."""
    cut += len(inner)
    about = with_options(made(kind, PLAIN4, CLIENT4, 80, 40_000), inner)[:cut]
    wanted = with_options(made(kind, SERVER4, CLIENT4, 80, 50_000), inner)[:cut]
    error = with_options(error4(ROUTER4, PLAIN4, about), outer)
    assert to_server(error, read(error), SERVER, (50_000).to_bytes(2, "big")) == with_options(
        error4(ROUTER4, SERVER4, wanted), outer
    )
    about = with_options(made(kind, CLIENT4, SERVER4, 50_000, 80), inner)[:cut]
    wanted = with_options(made(kind, CLIENT4, PLAIN4, 40_000, 80), inner)[:cut]
    error = with_options(error4(SERVER4, CLIENT4, about), outer)
    assert to_client(error, read(error), VIP, (40_000).to_bytes(2, "big")) == with_options(
        error4(PLAIN4, CLIENT4, wanted), outer
    )


def test_echo_of_the_server_keeps_its_identifier() -> None:
    """In an echo requested by the server the identifier is its own in both directions."""
    asked, answer = echo4(CLIENT4, 9, SERVER4), echo4(PLAIN4, 9, CLIENT4, kind=0)
    assert to_client(asked, read(asked), VIP, b"\7\7") == echo4(CLIENT4, 9, PLAIN4)
    assert to_server(answer, read(answer), SERVER, b"\7\7") == echo4(SERVER4, 9, CLIENT4, kind=0)


def test_udp_without_a_checksum_stays_without() -> None:
    """A zero UDP checksum (none, RFC 768) is kept, and the header's is right; a result of zero is sent as 0xffff."""
    there = ip4(CLIENT4, PLAIN4, 17, struct.pack("!HHHH", 40_000, 443, 13, 0) + b"hello")
    out = to_server(there, read(there), SERVER, b"\1\2")
    assert out == ip4(CLIENT4, SERVER4, 17, struct.pack("!HHHH", 258, 443, 13, 0) + b"hello")
    other = next(n for n in range(65536) if udp_sum(SERVER4, n) == 0xFFFF)
    there = datagram(PLAIN4, data=other.to_bytes(2, "big"))
    assert to_server(there, read(there), SERVER, (40_000).to_bytes(2, "big"))[26:28] == b"\xff\xff"


def udp_sum(destination: int, number: int) -> int:
    """The checksum that a datagram with this number in it has on the wire."""
    data = datagram(destination, data=number.to_bytes(2, "big"))
    return int.from_bytes(data[26:28], "big")


@pytest.mark.parametrize("offset", [0, 100])
def test_fragments(offset: int) -> None:
    """A first fragment has port and checksum of the whole datagram changed, a later one its address only."""
    piece = 0x2000 | offset
    whole = segment(PLAIN4, 16, data=b"y" * 100)[20:]
    there = ip4(CLIENT4, PLAIN4, 6, whole[:64], piece)
    out = to_server(there, read(there), SERVER, b"\xc3\x50")
    wanted = segment(SERVER4, 16, port=0xC350, data=b"y" * 100)[20:] if not offset else whole
    assert out == ip4(CLIENT4, SERVER4, 6, wanted[:64], piece)


@given(st.binary(max_size=60), st.booleans())
def test_a_wrong_checksum_stays_wrong(payload: bytes, reply: bool) -> None:
    """What was damaged on the way is damaged behind us too, by the same difference."""
    data = bytearray(segment(PLAIN4, 16, data=payload))
    data[36] ^= 0x55
    data[10] ^= 0x33
    out = (to_client if reply else to_server)(bytes(data), read(bytes(data)), SERVER, b"\xc3\x50")
    assert checksum(out[:20]) != 0
    assert checksum(
        pseudo(int.from_bytes(out[12:16], "big"), int.from_bytes(out[16:20], "big"), 6, len(out) - 20) + out[20:]
    )
