"""NOTIFY to the secondaries of a zone (RFC 1996): whom, when again, and when no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from dnsvip.dns.protocol.message import Type
from dnsvip.dns.protocol.names import Labels, flat_name, lowered
from dnsvip.dns.zones.places import Zones
from dnsvip.dns.zones.zone import CompiledZone
from dnsvip.site import Zone, parse_endpoint

PAUSES = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds that an answer is waited for, time after time; then a secondary is given up until the next change."""

DNS_PORT = 53

MOST_TARGETS = 64
"""Secondaries of one zone that are notified."""

Target: TypeAlias = tuple[str, int]
"""Address and port."""


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who is to hear of a zone: targets known by address, and names of servers whose addresses are not in our zones."""

    targets: tuple[Target, ...]
    names: tuple[str, ...]


def recipients(zone: Zone, compiled: CompiledZone, zones: Zones) -> Recipients:
    """The recipients of NOTIFY for a zone: those of `notify`, and where it may be transferred its name servers but the
    one in the SOA's MNAME (RFC 1996 section 3.5)."""
    targets = [parse_endpoint(text) for text in zone.notify]
    names = []
    for name in _servers(compiled) if zone.transfer is not None and zone.notify_ns else ():
        addresses = list(_addresses(name, zones))
        targets += [(str(address), DNS_PORT) for address in addresses]
        if not addresses and zones.apex_of(name) is None:
            names.append(dns.name.Name((*name, b"")).to_text())
    return Recipients(tuple(dict.fromkeys(targets))[:MOST_TARGETS], tuple(dict.fromkeys(names))[:MOST_TARGETS])


def notice(name: str, soa: dns.rrset.RRset, **signing: object) -> dns.message.Message:
    """A NOTIFY message with the zone's SOA (RFC 1996 section 3.7); `signing` as for `Message.use_tsig`."""
    message = dns.message.make_query(name, dns.rdatatype.SOA)
    message.set_opcode(dns.opcode.NOTIFY)
    message.flags = (message.flags | dns.flags.AA) & ~dns.flags.RD
    message.answer.append(soa)
    if signing:
        message.use_tsig(**signing)  # type: ignore[arg-type]
    return message


def soa_of(compiled: CompiledZone) -> dns.rrset.RRset:
    """A zone's SOA as dnspython has it."""
    rrset = compiled.nodes[compiled.apex][Type.SOA]
    data = b"".join(piece if isinstance(piece, bytes) else flat_name(piece) for piece in rrset.rdatas[0])
    rdata = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.SOA, data, 0, len(data))
    return dns.rrset.from_rdata(dns.name.Name((*compiled.apex, b"")), rrset.ttl, rdata)


def changed(served: Mapping[str, int], told: Mapping[str, int]) -> Iterator[str]:
    """The zones whose serial is not the one that was told, by name."""
    return (name for name, serial in served.items() if told.get(name) != serial)


def _servers(zone: CompiledZone) -> Iterable[Labels]:
    node = zone.nodes[zone.apex]
    mname = node[Type.SOA].rdatas[0][0]
    own = lowered(mname) if not isinstance(mname, bytes) else ()
    rrset = node.get(Type.NS)
    return [lowered(name) for name in (rrset.targets if rrset else ()) if lowered(name) != own]


def _addresses(name: Labels, zones: Zones) -> Iterator[IPv4Address | IPv6Address]:
    """The addresses that our zones have of a name, glue included."""
    for up in range(len(name) + 1):
        zone = zones.by_apex.get(name[up:])
        node = zone.nodes.get(name, {}) if zone is not None else {}
        found = [rrset for rtype in (Type.AAAA, Type.A) if (rrset := node.get(rtype)) is not None]
        if found:
            yield from (ip_address(b"".join(map(_octets, rdata))) for rrset in found for rdata in rrset.rdatas)
            return


def _octets(piece: object) -> bytes:
    return piece if isinstance(piece, bytes) else b""
