"""Rewrites packet headers: the DSCP, and network address translation of IPv6 in both directions.

Checksums are updated incrementally (RFC 1624), so a wrong one stays wrong and the receiver drops the packet.
"""

from __future__ import annotations

from dnsvip.dispatcher.packet import ICMP6, TCP, UDP, Packet, Shape, inner_place
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import Forward

_CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP6: 2}
_SOURCE, _DESTINATION = 8, 24
_ASKED_BY_CLIENT = {0: 128, 2: 129}
"""ICMPv6 echo types whose identifier is the client's, by the offset of its port: request to, reply from the server."""


def rewrite(data: bytes, verdict: Verdict) -> bytes:
    """The bytes to send for a packet and its FORWARD verdict."""
    if verdict.mode is Forward.NAT:
        data = _translate(data, verdict)
    return data if verdict.dscp is None else mark(data, verdict.dscp)


def _translate(data: bytes, verdict: Verdict) -> bytes:
    packet = verdict.packet
    if packet is None:
        return data  # malformed packets never have a FORWARD verdict
    if verdict.vip:
        return to_client(data, packet, verdict.vip, verdict.port)
    address = verdict.server.address if verdict.server else data[24:40]
    return to_server(data, packet, address, verdict.port or packet.key[-4:-2])


def adjust(checksum: int, old: bytes, new: bytes) -> int:
    """The checksum after 16-bit words `old` are replaced by `new` (RFC 1624 equation 3, as arithmetic modulo 65535)."""
    return (checksum + int.from_bytes(old, "big") - int.from_bytes(new, "big")) % 65535


def mark(data: bytes, dscp: int) -> bytes:
    """The packet with its DSCP (RFC 2474) set, 0 to 63; the ECN bits (RFC 3168) are kept."""
    out = bytearray(data)
    if out[0] >> 4 == 6:
        traffic_class = dscp << 2 | out[1] >> 4 & 3
        out[0] = 0x60 | traffic_class >> 4
        out[1] = (traffic_class & 15) << 4 | out[1] & 15
        return bytes(out)
    out[1] = dscp << 2 | out[1] & 3
    check = adjust(int.from_bytes(data[10:12], "big"), data[:2], bytes(out[:2]))
    out[10:12] = check.to_bytes(2, "big")
    return bytes(out)


def to_server(data: bytes, packet: Packet, server: bytes, port: bytes) -> bytes:
    """A client's packet with the server's address as destination and `port` as the client's port.

    Addresses are 16 bytes, ports (or echo identifiers) 2.
    """
    out = bytearray(data)
    if packet.shape is Shape.ERROR:
        inner = packet.offset + 8
        return _error(out, packet, ((_DESTINATION, server),), ((inner + _SOURCE, server),), (2, port))
    return _plain(out, packet, _DESTINATION, server, (0, port))


def to_client(data: bytes, packet: Packet, vip: bytes, port: bytes) -> bytes:
    """A server's packet with the VIP as source and `port` as the client's port."""
    out = bytearray(data)
    if packet.shape is Shape.ERROR:
        inner = packet.offset + 8
        return _error(out, packet, ((_SOURCE, vip),), ((inner + _DESTINATION, vip),), (0, port))
    return _plain(out, packet, _SOURCE, vip, (2, port))


def _plain(out: bytearray, packet: Packet, address_at: int, address: bytes, port: tuple[int, bytes]) -> bytes:
    difference = _put(out, address_at, address)
    if packet.shape is Shape.FRAGMENT:
        return bytes(out)  # the checksum is in the first fragment
    difference += _put_port(out, packet.key[0], packet.offset, port)
    _settle(out, packet.key[0], packet.offset, len(out), difference)
    return bytes(out)


def _error(
    out: bytearray,
    packet: Packet,
    outer: tuple[tuple[int, bytes], ...],
    inner: tuple[tuple[int, bytes], ...],
    port: tuple[int, bytes],
) -> bytes:
    """Rewrite an ICMPv6 error and the packet it quotes (RFC 5508 section 4.2, for IPv6)."""
    end = 40 + int.from_bytes(out[4:6], "big")
    start = packet.offset + 8
    difference = sum(_put(out, at, address) for at, address in outer)
    place = inner_place(bytes(out[start:end]), 6)
    if place is not None:
        protocol, at = place
        inside = sum(_put(out, place_of, address) for place_of, address in inner)
        inside += _put_port(out, protocol, start + at, port)
        difference += inside + _settle(out, protocol, start + at, end, inside)
    _settle(out, ICMP6, packet.offset, end, difference)
    return bytes(out)


def _put_port(out: bytearray, protocol: int, at: int, port: tuple[int, bytes]) -> int:
    """Write the client's port at offset 0 (source) or 2 (destination) of the upper layer. In an echo that the client
    requested this is the identifier; in any other ICMPv6 message nothing is written."""
    offset, new = port
    if protocol != ICMP6:
        return _put(out, at + offset, new)
    return _put(out, at + 4, new) if out[at] == _ASKED_BY_CLIENT[offset] else 0


def _put(out: bytearray, at: int, new: bytes) -> int:
    """Write whole 16-bit words; returns old minus new, which is the change of a checksum over them."""
    old = out[at : at + len(new)]
    out[at : at + len(new)] = new
    return int.from_bytes(old, "big") - int.from_bytes(new, "big")


def _settle(out: bytearray, protocol: int, at: int, end: int, difference: int) -> int:
    """Apply a difference to the upper layer's checksum; returns the change of the field itself.

    A truncated checksum is left alone, and so is UDP's zero (no checksum).
    """
    where = at + _CHECKSUM_AT[protocol]
    if where + 2 > end:
        return 0
    old = int.from_bytes(out[where : where + 2], "big")
    if protocol == UDP and not old:
        return 0
    new = (old + difference) % 65535
    if protocol == UDP and not new:
        new = 65535  # RFC 768: zero would say "none"
    out[where : where + 2] = new.to_bytes(2, "big")
    return old - new
