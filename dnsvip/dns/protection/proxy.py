"""PROXY protocol version 2: for which requester a front end such as dnsdist speaks (haproxy's proxy-protocol.txt,
section 2.2).

Pure. Only configured front ends may send the header, and they must always send it, as the standard requires.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from dnsvip.dns.two_generation_cache import TwoGenerationCache

REMEMBERED = 1 << 12


class FrontEnds:
    """The senders whose address is in one of `networks`."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self._known: TwoGenerationCache[bytes, bool] = TwoGenerationCache(REMEMBERED)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: object) -> bool:
        if not self._networks or not isinstance(address, IPv4Address | IPv6Address):
            return False
        return any(address.version == network.version and address in network for network in self._networks)

    def unwrap(self, wires: Sequence[bytes], peers: Sequence[bytes]) -> tuple[list[tuple[bytes, bytes] | None], int]:
        """Each message and its requester, with the front ends' headers removed, None where a header is wrong; and
        how many of these there are, whose messages get no answer."""
        asked = [self._asked(wire, peer) for wire, peer in zip(wires, peers, strict=True)]
        return asked, asked.count(None)

    def _asked(self, wire: bytes, peer: bytes) -> tuple[bytes, bytes] | None:
        known = self._known.get(peer)
        if known is None:
            known = self._known.put(peer, ip_address(peer) in self)
        if not known:
            return wire, peer
        try:
            header = read_whole(wire)
        except BadHeader:
            return None
        return wire[header.size :], header.source or peer


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

_FIXED = 16
_MOST = 4096
"""The longest header taken: addresses have at most 36 bytes, the rest is for TLVs, which are ignored."""

_ADDRESS_BYTES = {0x11: 4, 0x12: 4, 0x21: 16, 0x22: 16}
"""Family and transport (of the requester, whatever the front end uses) -> bytes of each of its two addresses."""

_LOCAL, _PROXY, _UNSPECIFIED = 0x20, 0x21, 0x00

_MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv4 client's address begins that the front end has from a dual-stack socket."""


class BadHeader(Exception):
    """Not a header of version 2, or one without an IP address."""


class Header(NamedTuple):
    """The requester's address (4 or 16 bytes; 4 for an IPv4-mapped one), None where the front end speaks for itself;
    and the header's length."""

    source: bytes | None
    size: int


def read(data: bytes) -> Header | None:
    """The header that data begins with, None where its end is yet to come; raises BadHeader."""
    if data[:12] != SIGNATURE[: len(data)]:
        raise BadHeader
    if len(data) < _FIXED:
        return None
    command, kind, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    width = _ADDRESS_BYTES.get(kind, 0)
    wrong = command == _PROXY and kind != _UNSPECIFIED and (not width or length < 2 * width + 4)
    if command not in (_LOCAL, _PROXY) or wrong or length > _MOST:
        raise BadHeader
    if len(data) < _FIXED + length:
        return None
    source = data[_FIXED : _FIXED + width] if command == _PROXY and width else None
    if source and width == 16 and source.startswith(_MAPPED):
        source = source[len(_MAPPED) :]
    return Header(source, _FIXED + length)


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that a dual-stack socket writes as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2); others as they
    are."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def read_whole(data: bytes) -> Header:
    """The header of a datagram; raises BadHeader, also where it is cut short."""
    header = read(data)
    if header is None:
        raise BadHeader
    return header
