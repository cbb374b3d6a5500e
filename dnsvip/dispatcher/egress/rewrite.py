"""Rewrites packet headers: the DSCP, and network address translation in both directions.

Checksums are updated incrementally (RFC 1624), so a wrong one stays wrong and the receiver drops the packet.
"""

from __future__ import annotations

from dnsvip.dispatcher.packet import ICMP4, ICMP6, TCP, UDP, Packet, Shape, inner_place
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import Forward

_CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP4: 2, ICMP6: 2}
_ADDRESSES = {4: (12, 16), 6: (8, 24)}
"""Offsets of source and destination in the IP header, by IP version."""
_HEADER_CHECKSUM = 10
_ICMP = {4: ICMP4, 6: ICMP6}
_ASKED_BY_CLIENT = {(ICMP6, 0): 128, (ICMP6, 2): 129, (ICMP4, 0): 8, (ICMP4, 2): 0}
"""Echo types whose identifier is the client's, by protocol and the offset of its port: request to, reply from the
server."""


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
    if verdict.server is None:
        return data  # a verdict that forwards to a server has one
    return to_server(data, packet, verdict.server.address, verdict.port or packet.key[-4:-2])


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

    Addresses are 16 bytes, of IPv4 4; ports (or echo identifiers) 2.
    """
    source_at, destination_at = _ADDRESSES[packet.version]
    if packet.shape is Shape.ERROR:
        return _error(bytearray(data), packet, server, (destination_at, source_at), (2, port))
    return _plain(bytearray(data), packet, server, destination_at, (0, port))


def to_client(data: bytes, packet: Packet, vip: bytes, port: bytes) -> bytes:
    """A server's packet with the VIP as source and `port` as the client's port."""
    source_at, destination_at = _ADDRESSES[packet.version]
    if packet.shape is Shape.ERROR:
        return _error(bytearray(data), packet, vip, (source_at, destination_at), (0, port))
    return _plain(bytearray(data), packet, vip, source_at, (2, port))


def _plain(out: bytearray, packet: Packet, address: bytes, at: int, port: tuple[int, bytes]) -> bytes:
    difference, _ = _put_address(out, 0, at, address)
    if packet.shape is Shape.FRAGMENT:
        return bytes(out)  # the upper layer's checksum is in the first fragment
    protocol = packet.key[0]
    changed = _put_port(out, protocol, packet.offset, port) + _summed(protocol, difference)
    _settle(out, protocol, packet.offset, len(out), changed)
    return bytes(out)


def _error(out: bytearray, packet: Packet, address: bytes, places: tuple[int, int], port: tuple[int, bytes]) -> bytes:
    """Rewrite an ICMP error and the packet it quotes (RFC 5508 section 4.2, for both versions). `places` are the
    offsets of the address in the two IP headers."""
    outer, inner = places
    version, icmp, start = packet.version, _ICMP[packet.version], packet.offset + 8
    end = int.from_bytes(out[2:4], "big") if version == 4 else 40 + int.from_bytes(out[4:6], "big")
    difference = _summed(icmp, _put_address(out, 0, outer, address)[0])
    place = inner_place(bytes(out[start:end]), version)
    if place is not None:
        protocol, at = place
        inside, header = _put_address(out, start, inner, address)
        ports = _put_port(out, protocol, start + at, port)
        upper = _settle(out, protocol, start + at, end, _summed(protocol, inside) + ports)
        difference += header + ports + upper
    _settle(out, icmp, packet.offset, end, difference)
    return bytes(out)


def _summed(protocol: int, difference: int) -> int:
    """The part of an address's difference that is in the upper layer's checksum: of ICMP for IPv4 none, which has no
    pseudo-header (RFC 792)."""
    return 0 if protocol == ICMP4 else difference


def _put_address(out: bytearray, head: int, at: int, address: bytes) -> tuple[int, int]:
    """Write an address into the IP header at `head`, and the checksum of IPv4; returns old minus new of the address,
    and of the whole header."""
    difference = _put(out, head + at, address)
    if len(address) != 4:
        return difference, difference
    where = slice(head + _HEADER_CHECKSUM, head + _HEADER_CHECKSUM + 2)
    old = int.from_bytes(out[where], "big")
    new = (old + difference) % 65535
    out[where] = new.to_bytes(2, "big")
    return difference, difference + old - new


def _put_port(out: bytearray, protocol: int, at: int, port: tuple[int, bytes]) -> int:
    """Write the client's port at offset 0 (source) or 2 (destination) of the upper layer. In an echo that the client
    requested this is the identifier; in any other ICMP message nothing is written."""
    offset, new = port
    if protocol in (TCP, UDP):
        return _put(out, at + offset, new)
    return _put(out, at + 4, new) if out[at] == _ASKED_BY_CLIENT[protocol, offset] else 0


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
