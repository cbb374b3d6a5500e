"""The bytes that leave: tunnels, marks and ICMP errors, bit by bit against packets built from scratch."""

from __future__ import annotations

import struct

import pytest

from dnsvip.dispatcher.egress.encap import DISCARD
from dnsvip.dispatcher.egress.output import output_bytes
from dnsvip.dispatcher.reason import Action, PacketReason
from dnsvip.dispatcher.verdict import Target, Verdict
from dnsvip.site import Forward
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENT4,
    PLAIN,
    PLAIN4,
    checksum,
    datagram,
    ip4,
    ip6,
    segment,
    summed,
    valid,
)

SERVER = bytes.fromhex("fd000010000000000000000000000011")
FLOW = 0x0123_4567_89AB_CDEF
TUNNEL = Verdict(
    Action.FORWARD, "known", Target(1, "p", "s", SERVER, Forward.ENCAP), mode=Forward.ENCAP, flow_hash=FLOW
)  # fmt: skip


def with_class(data: bytes, traffic_class: int) -> bytes:
    """An IPv6 packet with another traffic class."""
    return bytes((0x60 | traffic_class >> 4, traffic_class << 4 & 0xF0)) + data[2:]


@pytest.mark.parametrize(
    ("inner", "mark", "outer"),
    [(0, None, 0), (0b101110_01, None, 0b101110_01), (0b101110_11, 34, 34 << 2 | 3), (2, 0, 2)],
)
def test_encap_of_ipv6(inner: int, mark: int | None, outer: int) -> None:
    """The outer header carries the mark or else the inner DSCP, the inner ECN and the flow's hash."""
    data = with_class(segment(PLAIN, ACK, data=b"x" * 33), inner)
    head = struct.pack("!IHBB", 6 << 28 | outer << 20 | 0xBCDEF, len(data), 41, 64)
    expected = head + DISCARD + FLOW.to_bytes(8, "big") + SERVER + data
    assert output_bytes(data, TUNNEL._replace(dscp=mark)) == expected


def test_encap_of_ipv4() -> None:
    """An IPv4 packet is next header 4, its TOS and length are the outer ones; another outer prefix may be set."""
    data = bytearray(segment(PLAIN4))
    data[1] = 0b101110_10
    prefix = bytes.fromhex("20010db8000000aa")
    out = output_bytes(bytes(data) + b"padding", TUNNEL, prefix)
    head = struct.pack("!IHBB", 6 << 28 | 0b101110_10 << 20 | 0xBCDEF, len(data), 4, 64)
    assert out == head + prefix + FLOW.to_bytes(8, "big") + SERVER + bytes(data) + b"padding"


def test_packet_too_big() -> None:
    """It comes from the VIP, tells the MTU, and quotes as much as 1280 bytes hold (RFC 4443 section 3.2)."""
    data = segment(PLAIN, ACK, data=b"x" * 1400)
    out = output_bytes(data, Verdict(Action.ANSWER, PacketReason.TOO_BIG, mtu=1440))
    assert len(out) == 1280
    body = struct.pack("!BBHI", 2, 0, 0, 1440) + data[:1232]
    assert out == ip6(PLAIN, CLIENT, 58, summed(PLAIN, CLIENT, 58, body, 2))
    assert valid(out)


@pytest.mark.parametrize("data", [segment(PLAIN), datagram(PLAIN, data=b"odd")])
def test_address_unreachable(data: bytes) -> None:
    """A short packet is quoted whole, without the bytes after its stated length."""
    out = output_bytes(data + b"trailer", Verdict(Action.ANSWER, PacketReason.NO_SERVER))
    body = struct.pack("!BBHI", 1, 3, 0, 0) + data
    assert out == ip6(PLAIN, CLIENT, 58, summed(PLAIN, CLIENT, 58, body, 2))


@pytest.mark.parametrize(
    ("reason", "code", "mtu", "size"), [(PacketReason.TOO_BIG, 4, 1400, 1460), (PacketReason.NO_SERVER, 1, 0, 21)]
)
def test_icmpv4_errors(reason: PacketReason, code: int, mtu: int, size: int) -> None:
    """Fragmentation needed tells the MTU (RFC 1191), host unreachable does not; both quote up to 576 bytes in all."""
    data = segment(PLAIN4, data=b"y" * size)
    out = output_bytes(data, Verdict(Action.ANSWER, reason, mtu=mtu))
    assert out[:10] == struct.pack("!BBHHHBB", 0x45, 0, min(576, 28 + len(data)), 0, 0x4000, 64, 1)
    assert out[12:20] == PLAIN4.to_bytes(4, "big") + CLIENT4.to_bytes(4, "big")
    assert out[20:22] + out[24:] == struct.pack("!BBHH", 3, code, 0, mtu) + data[: 576 - 28]
    assert checksum(out[:20]) == 0
    assert checksum(out[20:]) == 0


def test_drop_and_pass() -> None:
    """A dropped packet gives no bytes, and one that is not ours is sent unchanged."""
    data = ip4(CLIENT4, 1, 17, bytes(8))
    assert output_bytes(data, Verdict(Action.DROP, "bad-tag")) == b""
    assert output_bytes(data, Verdict(Action.PASS, "not-ours")) == data
