"""Parses a raw IPv6 or IPv4 packet, as read from a TUN device, down to its flow key.

`parse` returns a Packet or the kind of Malformed; it never raises, whatever the bytes. It verifies no checksum (the
server does) and knows neither clusters nor flows.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Final, NamedTuple

TCP: Final = 6
UDP: Final = 17
ICMP4: Final = 1
ICMP6: Final = 58
FIN, SYN, RST, ACK = 1, 2, 4, 16

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_EXTENSIONS = frozenset({_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION})
MAX_EXTENSIONS = 8
"""Maximum number of extension headers; legitimate traffic never has more."""

_make = tuple.__new__  # a NamedTuple of a plain tuple takes half the time
_NO_PORTS = bytes(4)
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
_NOWHERE = bytes(15)  # all but the last byte of :: and ::1
_BYTES = [bytes((number,)) for number in range(256)]
_ECHO_REQUEST = {ICMP6: 128, ICMP4: 8}
_ECHO_REPLY = {ICMP6: 129, ICMP4: 0}
_ERRORS4 = frozenset({3, 4, 11, 12})
"""ICMPv4 messages that carry a packet: unreachable, quench, time exceeded, parameter problem (RFC 792)."""


class Malformed(StrEnum):
    """Why a packet cannot be forwarded."""

    SHORT = "short"  # ends before its headers do
    VERSION = "version"  # neither 4 nor 6
    LENGTH = "length"  # a length field that does not fit the bytes or the header
    EXTENSIONS = "extensions"  # too many extension headers, or in an order RFC 8200 does not allow
    ROUTING = "routing"  # a routing header with segments left: the destination is not the last one
    FLAGS = "flags"  # TCP flags no implementation sends: none, or SYN with FIN or RST
    INNER = "inner"  # an ICMP error that quotes no readable packet of its receiver


class Shape(Enum):
    """How a packet relates to a flow."""

    FLOW = "flow"  # has its own flow key
    ERROR = "error"  # an ICMP error; has the flow key of the quoted packet
    FRAGMENT = "fragment"  # a later fragment; only the first has the ports
    OTHER = "other"  # a protocol that is not dispatched


_FLOW: Final = Shape.FLOW  # bound once: for every packet, a look-up in the enum is slow


class FlowKey(NamedTuple):
    """A flow key, and the parts of it: protocol (1 byte), source and destination (16 or 4 each), source and
    destination port (2 each). ICMP echo has its identifier in place of the requester's port, and 0 for the other."""

    key: bytes

    @property
    def protocol(self) -> int:
        """The upper-layer protocol number."""
        return self.key[0]

    @property
    def addresses(self) -> tuple[bytes, bytes]:
        """Source and destination address, packed."""
        half = (len(self.key) - 5) // 2
        return self.key[1 : 1 + half], self.key[1 + half : 1 + 2 * half]

    @property
    def source(self) -> int:
        """Source address."""
        return int.from_bytes(self.addresses[0], "big")

    @property
    def destination(self) -> int:
        """Destination address."""
        return int.from_bytes(self.addresses[1], "big")

    @property
    def source_port(self) -> int:
        """Source port; the identifier of an echo request, 0 where there is none."""
        return int.from_bytes(self.key[-4:-2], "big")

    @property
    def destination_port(self) -> int:
        """Destination port; the identifier of an echo reply, 0 where there is none."""
        return int.from_bytes(self.key[-2:], "big")


class Packet(NamedTuple):
    """A parsed packet.

    `key` is its flow key (see FlowKey). For an ERROR it is that of the flow the error is about, seen from the error's
    *sender*: the quoted packet's key, reversed. `offset` is where the upper layer starts, `fragment` identifies the
    original packet of a fragment and is empty for a whole one. `size` is the stated length in bytes with the IP header.
    """

    version: int
    key: bytes
    offset: int
    flags: int = 0
    shape: Shape = Shape.FLOW
    fragment: bytes = b""
    size: int = 0


def parse(data: bytes) -> Packet | Malformed:
    """Parse one packet; bytes after its stated length are ignored."""
    if len(data) < 20:
        return Malformed.SHORT
    version = data[0] >> 4
    if version == 6:
        return _parse6(data)
    return _parse4(data) if version == 4 else Malformed.VERSION


def ip_length(data: bytes) -> int:
    """The stated length in bytes, IP header included, of a packet that `parse` accepted."""
    return 40 + (data[4] << 8 | data[5]) if data[0] >> 4 == 6 else data[2] << 8 | data[3]


def flow_label(data: bytes) -> int:
    """The flow label of a packet that `parse` accepted (RFC 8200 section 3); 0 of IPv4."""
    return (data[1] & 15) << 16 | data[2] << 8 | data[3] if data[0] >> 4 == 6 else 0


def is_running(data: bytes, packet: Packet) -> bool:
    """Whether a FLOW packet is not the first of its flow: a TCP segment without SYN, or a datagram that begins like the
    short header of QUIC, which comes after the handshake (RFC 9000 section 17.3.1)."""
    protocol, at = packet.key[0], packet.offset + 8
    if protocol == TCP:
        return not packet.flags & SYN
    if protocol != UDP or at >= ip_length(data):
        return False
    return data[at] & 0xC0 == 0x40


def reverse_key(key: bytes) -> bytes:
    """The flow key of the reverse direction."""
    half = (len(key) - 5) // 2
    return key[:1] + key[1 + half : 1 + 2 * half] + key[1 : 1 + half] + key[-2:] + key[-4:-2]


def has_martian_source(addresses: bytes) -> bool:
    """Whether a packet with these addresses (source, then destination) cannot come from a client: its source is its
    destination, or no host that could be answered (::, ::1, ::ffff:0:0/96, fe80::/10, ff00::/8; 0/8, 127/8, 224/3: RFC
    4291 sections 2.4 and 2.5, RFC 6890)."""
    half = len(addresses) // 2
    first = addresses[0]
    if addresses.endswith(addresses[:half]):
        return True
    if half == 4:
        return first in (0, 127) or first >= 224
    if first == 0:
        return addresses[:12] == _MAPPED or (addresses[:15] == _NOWHERE and addresses[15] < 2)
    return first == 0xFF or (first == 0xFE and addresses[1] >> 6 == 2)


def _parse6(data: bytes) -> Packet | Malformed:
    if len(data) < 40:
        return Malformed.SHORT
    end = 40 + (data[4] << 8 | data[5])
    if end > len(data):
        return Malformed.LENGTH
    if data[6] not in _EXTENSIONS:
        return _upper(data, 6, data[6], 40, end, 0, b"")
    chain = walk(data, end)
    if isinstance(chain, Malformed):
        return chain
    protocol, at, piece, identity = chain
    fragment = data[8:40] + identity if piece & 0xFFF9 else b""  # neither offset nor M: an atomic fragment (RFC 6946)
    return _upper(data, 6, protocol, at, end, piece & 0xFFF8, fragment)


def _parse4(data: bytes) -> Packet | Malformed:
    start, end = (data[0] & 15) * 4, data[2] << 8 | data[3]
    if start < 20 or not start <= end <= len(data):
        return Malformed.LENGTH
    piece = data[6] << 8 | data[7]
    fragment = data[9:10] + data[12:20] + data[4:6] if piece & 0x3FFF else b""
    return _upper(data, 4, data[9], start, end, piece & 0x1FFF, fragment)


def walk(data: bytes, end: int) -> tuple[int, int, int, bytes] | Malformed:
    """Upper protocol, its offset, fragment word and identification of an IPv6 packet (RFC 8200 section 4).

    The walk stops at a later fragment, where no header follows.
    """
    protocol, at, piece, identity = data[6], 40, 0, b""
    for count in range(MAX_EXTENSIONS + 1):
        if protocol not in _EXTENSIONS:
            return protocol, at, piece, identity
        if at + 8 > end:
            return Malformed.SHORT
        if (protocol == _HOP_BY_HOP and count) or (protocol == _FRAGMENT and identity):
            return Malformed.EXTENSIONS
        if protocol == _ROUTING and data[at + 3]:
            return Malformed.ROUTING
        following, size = data[at], (data[at + 1] + 1) * 8
        if protocol == _FRAGMENT:
            piece, identity, size = data[at + 2] << 8 | data[at + 3], data[at + 4 : at + 8], 8
        protocol, at = following, at + size
        if at > end:
            return Malformed.SHORT
        if piece & 0xFFF8:
            return protocol, at, piece, identity
    return Malformed.EXTENSIONS


def _upper(  # noqa: PLR0911 - one return per protocol and fault
    data: bytes, version: int, protocol: int, at: int, end: int, later: int, fragment: bytes
) -> Packet | Malformed:
    addresses = data[8:40] if version == 6 else data[12:20]
    head = _BYTES[protocol] + addresses
    if later:
        return Packet(version, head + _NO_PORTS, at, 0, Shape.FRAGMENT, fragment, end)
    if protocol == TCP:
        if at + 20 > end:
            return Malformed.SHORT
        if not 20 <= (data[at + 12] >> 4) * 4 <= end - at and not fragment:
            return Malformed.LENGTH
        flags = data[at + 13] & 63
        if not flags or (flags & SYN and flags & (FIN | RST)):
            return Malformed.FLAGS
        return _make(Packet, (version, head + data[at : at + 4], at, flags, _FLOW, fragment, end))
    if protocol == UDP:
        if at + 8 > end:
            return Malformed.SHORT
        size = data[at + 4] << 8 | data[at + 5]
        if size < 8 or (size > end - at and not fragment):
            return Malformed.LENGTH
        return _make(Packet, (version, head + data[at : at + 4], at, 0, _FLOW, fragment, end))
    if protocol == (ICMP6 if version == 6 else ICMP4):
        return _icmp(data, version, head, at, end, fragment)
    return Packet(version, head + _NO_PORTS, at, 0, Shape.OTHER, fragment, end)


def _icmp(data: bytes, version: int, head: bytes, at: int, end: int, fragment: bytes) -> Packet | Malformed:
    """Echo is a flow by its identifier; an error (types below 128, RFC 4443 section 2.1) has the quoted packet's."""
    if at + 8 > end:
        return Malformed.SHORT
    kind = data[at]
    if kind == _ECHO_REQUEST[head[0]]:
        return Packet(version, head + data[at + 4 : at + 6] + bytes(2), at, 0, Shape.FLOW, fragment, end)
    if kind == _ECHO_REPLY[head[0]]:
        return Packet(version, head + bytes(2) + data[at + 4 : at + 6], at, 0, Shape.FLOW, fragment, end)
    if kind < 128 if version == 6 else kind in _ERRORS4:
        key = inner_key(data[at + 8 : end], version)
        half = (len(head) - 1) // 2
        if key is None or key[1 : 1 + half] != head[1 + half :]:
            return Malformed.INNER  # the quoted packet's source must be the error's destination
        return Packet(version, reverse_key(key), at, 0, Shape.ERROR, fragment, end)
    return Packet(version, head + _NO_PORTS, at, 0, Shape.OTHER, fragment, end)


def inner_key(data: bytes, version: int) -> bytes | None:
    """The flow key of the (usually truncated) packet quoted in an ICMP error; None if it is not readable that far."""
    place = inner_place(data, version)
    if place is None:
        return None
    protocol, at = place
    head = bytes((protocol,)) + (data[8:40] if version == 6 else data[12:20])
    if protocol in (TCP, UDP):
        return head + data[at : at + 4]
    if data[at] == _ECHO_REQUEST[protocol]:
        return head + data[at + 4 : at + 6] + bytes(2)
    if data[at] == _ECHO_REPLY[protocol]:
        return head + bytes(2) + data[at + 4 : at + 6]
    return None


def inner_place(data: bytes, version: int) -> tuple[int, int] | None:
    """Upper protocol and its offset in a truncated packet; None unless its first 8 bytes are there and the protocol is
    dispatched."""
    if len(data) < 20 or data[0] >> 4 != version:
        return None
    if version == 6:
        chain = walk(data, len(data)) if len(data) >= 40 else Malformed.SHORT
        if isinstance(chain, Malformed):
            return None
        protocol, at, piece, _ = chain
        later = piece & 0xFFF8
    else:
        protocol, at, later = data[9], (data[0] & 15) * 4, (data[6] << 8 | data[7]) & 0x1FFF
    known = protocol in (TCP, UDP, ICMP6 if version == 6 else ICMP4)
    return (protocol, at) if known and not later and at >= 20 and at + 8 <= len(data) else None
