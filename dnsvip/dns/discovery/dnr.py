"""Encrypted DNS as networks announce it to their hosts (DNR, RFC 9463): DHCPv4, DHCPv6 and router advertisements.

Each option is given as its octets, without code and length where a DHCP server adds these itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

import dns.rdata

from dnsvip.dns.discovery.offers import Offer
from dnsvip.dns.discovery.records import parameters
from dnsvip.dns.protocol.names import flat_name
from dnsvip.dns.zones.record import labels_of

DHCP4, DHCP6, ROUTER = 162, 144, 144
"""Codes of the options, and the type of that of router advertisements."""

FOR_EVER = 0xFFFF_FFFF
_OCTETS = 8
"""Of which the length of an option of a router advertisement is counted."""


class Announcement(NamedTuple):
    """The octets that announce one offer; of DHCP without code and length. None where a form has no address that it
    needs (IPv4 for DHCPv4, IPv6 for the others)."""

    offer: Offer
    dhcp4: bytes | None
    dhcp6: bytes | None
    router: bytes | None


def announcements(offers: Iterable[Offer], lifetime: int = FOR_EVER) -> list[Announcement]:
    """What announces offers, the first the best; `lifetime` is that of router advertisements, in seconds."""
    return [_of(priority, offer, lifetime) for priority, offer in enumerate(offers, 1)]


def _of(priority: int, offer: Offer, lifetime: int) -> Announcement:
    name = flat_name(labels_of(offer.name))
    by_version = {
        version: b"".join(address.packed for address in offer.addresses if address.version == version)
        for version in (4, 6)
    }
    rest = _parameters(offer)
    dhcp4 = dhcp6 = router = None
    if by_version[4]:
        one = struct.pack("!HB", priority, len(name)) + name + bytes([len(by_version[4])]) + by_version[4] + rest
        dhcp4 = struct.pack("!H", len(one)) + one
    if by_version[6]:
        named = struct.pack("!H", len(name)) + name + struct.pack("!H", len(by_version[6])) + by_version[6]
        dhcp6 = struct.pack("!H", priority) + named + rest
        body = struct.pack("!HI", priority, lifetime) + named + struct.pack("!H", len(rest)) + rest
        size = -(-(2 + len(body)) // _OCTETS)
        router = bytes([ROUTER, size]) + body.ljust(size * _OCTETS - 2, b"\0")
    return Announcement(offer, dhcp4, dhcp6, router)


def _parameters(offer: Offer) -> bytes:
    """The service parameters (section 3.1.5: no hints), in wire form."""
    rdata = dns.rdata.from_text("IN", "SVCB", f"1 . {parameters(offer)}")
    wire: bytes = rdata.to_wire()  # type: ignore[assignment]
    return wire[3:]  # without priority and target
