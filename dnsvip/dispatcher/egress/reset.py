"""TCP resets to senders to an expired address, so that they ask DNS again at once; and what gets an answer at all."""

from __future__ import annotations

from dnsvip.dispatcher.egress.icmp import HOP_LIMIT, checksum
from dnsvip.dispatcher.packet import ACK, FIN, RST, SYN, TCP, Packet, ip_length
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.site import Cluster, OnExpired

_HEAD = 20


def is_answered_expired(packet: Packet, address: AddressVerdict) -> bool:
    """Whether a packet to a rejected address gets an answer: the address has expired, its cluster's `on_expired` says
    so, and the packet is neither a reset (RFC 9293 section 3.10.7.1) nor a fragment of a segment, whose length is not
    known."""
    if address.reason is not AddressReason.EXPIRED or not isinstance(address.cluster, Cluster):
        return False
    if address.cluster.on_expired is not OnExpired.RESET:
        return False
    return not packet.flags & RST and not (packet.key[0] == TCP and packet.fragment)


def reset(data: bytes, packet: Packet) -> bytes:
    """The reset for a TCP segment over IPv6 (RFC 9293 section 3.10.7.1): with the sequence number that the sender
    acknowledges, or where it acknowledges nothing 0 and an ACK of all of the segment."""
    at = packet.offset
    ports = data[at + 2 : at + 4] + data[at : at + 2]
    if packet.flags & ACK:
        numbers, flags = data[at + 8 : at + 12] + bytes(4), RST
    else:
        length = ip_length(data) - at - (data[at + 12] >> 4) * 4
        length += bool(packet.flags & SYN) + bool(packet.flags & FIN)
        following = int.from_bytes(data[at + 4 : at + 8], "big") + length & 0xFFFFFFFF
        numbers, flags = bytes(4) + following.to_bytes(4, "big"), RST | ACK
    segment = ports + numbers + bytes((_HEAD // 4 << 4, flags)) + bytes(6)
    addresses = data[24:40] + data[8:24]
    check = checksum(addresses + bytes((0, 0, 0, _HEAD, 0, 0, 0, TCP)) + segment)
    head = b"\x60\0\0\0" + bytes((0, _HEAD, TCP, HOP_LIMIT))
    return head + addresses + segment[:16] + check + segment[18:]
