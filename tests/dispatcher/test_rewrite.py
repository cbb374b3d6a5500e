"""Rewritten packets have the right checksums, by the sums of tests.dispatcher.build."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dispatcher.egress.rewrite import adjust, mark, to_client, to_server
from dnsvip.dispatcher.packet import Packet, parse
from tests.dispatcher.build import (
    CLIENT,
    PLAIN,
    PLAIN4,
    checksum,
    datagram,
    echo,
    icmp_error,
    ip6,
    segment,
    summed,
    valid,
)

SERVER = 0xFD00_0010 << 96 | 0x21
ROUTER = 0x2001_0DB8 << 96 | 0xFE
addresses = st.integers(1 << 64, (1 << 128) - 1)
ports = st.integers(0, 65535)


def read(data: bytes) -> Packet:
    packet = parse(data)
    assert isinstance(packet, Packet)
    return packet


@given(st.binary(min_size=2, max_size=40).filter(lambda data: len(data) % 2 == 0 and any(data)), st.data())
def test_adjust_is_the_sum_anew(data: bytes, draw: st.DataObject) -> None:
    """An updated checksum equals the sum over the changed bytes."""
    at = draw.draw(st.integers(0, len(data) // 2 - 1)) * 2
    new = draw.draw(st.binary(min_size=2, max_size=2))
    changed = data[:at] + new + data[at + 2 :]
    if any(changed):
        assert adjust(checksum(data), data[at : at + 2], new) == checksum(changed)


@given(st.integers(0, 63), st.integers(0, 3), st.integers(0, 0xFFFFF))
def test_mark_sets_only_dscp(dscp: int, ecn: int, label: int) -> None:
    """The mark leaves ECN, flow label and everything else alone; IPv4's header checksum stays right."""
    data = struct.pack("!I", 6 << 28 | ecn << 20 | label) + segment(PLAIN)[4:]
    out = mark(data, dscp)
    assert struct.unpack("!I", out[:4])[0] == 6 << 28 | (dscp << 2 | ecn) << 20 | label
    assert out[4:] == data[4:]
    data = segment(PLAIN4)
    head = data[:1] + bytes([ecn]) + data[2:10] + bytes(2) + data[12:20]
    data = head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + data[20:]
    out = mark(data, dscp)
    assert out[1] == dscp << 2 | ecn
    assert checksum(out[:20]) == 0
    assert out[2:10] + out[12:] == data[2:10] + data[12:]


@given(addresses, addresses, ports, st.binary(max_size=50))
def test_translation_and_back(vip: int, server: int, port: int, payload: bytes) -> None:
    """A packet to a server is the packet that the client would have sent there; the reply is the VIP's."""
    new_port = port.to_bytes(2, "big")
    for make in (segment, datagram):
        there = make(vip, data=payload)
        assert to_server(there, read(there), server.to_bytes(16, "big"), new_port) == make(
            server, port=port, data=payload
        )
        back = make(CLIENT, source=server, port=80, to=port, data=payload)
        expected = make(CLIENT, source=vip, port=80, to=40_000, data=payload)
        assert to_client(back, read(back), vip.to_bytes(16, "big"), (40_000).to_bytes(2, "big")) == expected
    there, back = echo(vip, 9), echo(CLIENT, port, source=server, kind=129)
    assert to_server(there, read(there), server.to_bytes(16, "big"), new_port) == echo(server, port)
    assert to_client(back, read(back), vip.to_bytes(16, "big"), b"\0\x09") == echo(CLIENT, 9, source=vip, kind=129)


@given(addresses, addresses, ports, ports)
def test_echo_of_the_server_keeps_its_identifier(vip: int, server: int, port: int, identity: int) -> None:
    """In an echo requested by the server the identifier is its own in both directions, also inside errors."""
    to_vip, to_us, new = vip.to_bytes(16, "big"), server.to_bytes(16, "big"), port.to_bytes(2, "big")
    asked, told = echo(CLIENT, identity, source=server), echo(CLIENT, identity, source=vip)
    assert to_client(asked, read(asked), to_vip, new) == told
    answer, brought = echo(vip, identity, kind=129), echo(server, identity, kind=129)
    assert to_server(answer, read(answer), to_us, new) == brought
    error = icmp_error(ROUTER, vip, told)
    assert to_server(error, read(error), to_us, new) == icmp_error(ROUTER, server, asked)
    error = icmp_error(server, CLIENT, brought)
    assert to_client(error, read(error), to_vip, new) == icmp_error(vip, CLIENT, answer)


@given(st.sampled_from([40, 48, 56, 60, 200]), st.sampled_from(["tcp", "udp", "echo"]))
def test_errors_are_translated_with_what_is_inside(cut: int, inside: str) -> None:
    """An error about a VIP's packet is translated to one about the server's and vice versa, also if truncated."""
    cut = max(cut, 48)
    vip, server = PLAIN.to_bytes(16, "big"), SERVER.to_bytes(16, "big")

    def sent(source: int, to: int, port: int, other: int) -> bytes:
        if inside == "echo":
            kind, identity = (129, other) if source in (PLAIN, SERVER) else (128, port)
            return echo(to, identity, source, kind)
        return (segment if inside == "tcp" else datagram)(to, port=port, source=source, to=other, **flags)  # type: ignore[operator]

    flags = {"data": b"x" * 100}
    error = icmp_error(ROUTER, PLAIN, sent(PLAIN, CLIENT, 80, 40_000)[:cut])
    out = to_server(error, read(error), server, (50_000).to_bytes(2, "big"))
    assert valid(out)
    assert out == icmp_error(ROUTER, SERVER, sent(SERVER, CLIENT, 80, 50_000)[:cut])
    error = icmp_error(SERVER, CLIENT, sent(CLIENT, SERVER, 50_000, 80)[:cut], kind=1, code=4, word=0)
    out = to_client(error, read(error), vip, (40_000).to_bytes(2, "big"))
    assert valid(out)
    assert out == icmp_error(PLAIN, CLIENT, sent(CLIENT, PLAIN, 40_000, 80)[:cut], kind=1, code=4, word=0)


def test_udp_checksums_that_are_special() -> None:
    """A zero checksum (none) is kept; a result of zero is sent as 0xffff (RFC 768)."""
    data = datagram(PLAIN)
    none = data[:46] + bytes(2) + data[48:]
    assert to_server(none, read(none), SERVER.to_bytes(16, "big"), b"\x9c\x40")[46:48] == bytes(2)
    payload = bytearray(summed(CLIENT, SERVER, 17, struct.pack("!HHHH", 40_000, 443, 10, 0) + bytes(2), 6))
    payload[8:10] = payload[6:8]  # now the sum over all but the checksum is 0xffff: the checksum would be 0
    wanted = ip6(CLIENT, SERVER, 17, summed(CLIENT, SERVER, 17, bytes(payload), 6))
    assert wanted[46:48] == b"\xff\xff"
    there = datagram(PLAIN, data=bytes(payload[8:10]))
    assert to_server(there, read(there), SERVER.to_bytes(16, "big"), b"\x9c\x40") == wanted


def test_later_fragments_change_their_address_only() -> None:
    """There is no port and no checksum in a later fragment."""
    later = ip6(CLIENT, PLAIN, 17, b"\x11" * 40, struct.pack("!BBHI", 17, 0, 1480, 99), 44)
    out = to_server(later, read(later), SERVER.to_bytes(16, "big"), b"\x01\x02")
    assert out == later[:24] + SERVER.to_bytes(16, "big") + later[40:]
