"""ICMP errors: which packets get one, and its bytes.

The source of an error is the VIP that the packet was sent to, the one address that the client knows.
"""

from __future__ import annotations

from dnsvip.dispatcher.packet import ICMP4, ICMP6, Packet, Shape, ip_length
from dnsvip.dispatcher.reason import AddressReason, PacketReason
from dnsvip.dispatcher.token_bucket import SECOND, Limit
from dnsvip.dispatcher.verdict import Verdict

ANSWERS = Limit(SECOND // 1000, SECOND // 10)
"""At most 1000 errors a second in bursts of 100, per reason (RFC 4443 section 2.4 (f))."""

QUOTED6 = 1280 - 48
QUOTED4 = 576 - 28
"""Maximum bytes quoted: RFC 4443 section 2.4 (c), RFC 1812 section 4.3.2.3."""

HOP_LIMIT = 64
_DONT_FRAGMENT = 0x40
_KIND6 = {PacketReason.TOO_BIG.value: (2, 0), PacketReason.NO_SERVER.value: (1, 3), AddressReason.EXPIRED.value: (1, 1)}
_KIND4 = {PacketReason.TOO_BIG.value: (3, 4), PacketReason.NO_SERVER.value: (3, 1)}
"""Type and code by reason: packet too big, address unreachable, administratively prohibited; fragmentation needed, host
unreachable. An IPv4 address never expires."""


def may_answer(data: bytes, packet: Packet, reason: str) -> bool:
    """Whether an error may be sent about a packet to one of our VIPs (RFC 4443 section 2.4 (e), RFC 1122
    section 3.2.2): not about an ICMP error or a later fragment, not to a source that is not a single host; and
    "fragmentation needed" only where the sender forbade fragmentation (RFC 1191)."""
    if packet.shape is not Shape.FLOW:
        return False
    if packet.version == 6:
        return data[8] != 0xFF and any(data[8:20])  # neither ff00::/8 nor ::/96 (unspecified, loopback)
    single = 0 < data[12] < 224 and data[12] != 127
    return single and (reason != PacketReason.TOO_BIG.value or bool(data[6] & _DONT_FRAGMENT))


def answer(data: bytes, verdict: Verdict) -> bytes:
    """The complete error packet for a packet and its ANSWER verdict."""
    return _answer6(data, verdict) if data[0] >> 4 == 6 else _answer4(data, verdict)


def _answer6(data: bytes, verdict: Verdict) -> bytes:
    body = _body(_KIND6[verdict.reason], verdict.mtu, data, QUOTED6)
    addresses = data[24:40] + data[8:24]
    size = len(body).to_bytes(2, "big")
    check = checksum(addresses + bytes(2) + size + bytes((0, 0, 0, ICMP6)) + body)
    head = b"\x60\0\0\0" + size + bytes((ICMP6, HOP_LIMIT))
    return head + addresses + body[:2] + check + body[4:]


def _answer4(data: bytes, verdict: Verdict) -> bytes:
    body = _body(_KIND4[verdict.reason], verdict.mtu, data, QUOTED4)
    size = (20 + len(body)).to_bytes(2, "big")
    head = b"\x45\0" + size + bytes((0, 0, _DONT_FRAGMENT, 0, HOP_LIMIT, ICMP4))
    addresses = data[16:20] + data[12:16]
    return head + checksum(head + addresses) + addresses + body[:2] + checksum(body) + body[4:]


def _body(kind: tuple[int, int], mtu: int, data: bytes, quoted: int) -> bytes:
    """Type, code, zero checksum, the MTU in 32 bits, and the quoted part of the packet."""
    return bytes(kind) + bytes(2) + mtu.to_bytes(4, "big") + data[: min(ip_length(data), quoted)]


def checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071) of bytes that are not all zero; an odd one is padded with zero."""
    return (-int.from_bytes(data + bytes(len(data) % 2), "big") % 65535).to_bytes(2, "big")
