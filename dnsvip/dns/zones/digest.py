"""The digest of a zone (ZONEMD, RFC 8976), of all records as they are transferred."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha384
from struct import Struct

import dns.rdatatype

from dnsvip.dns.dnssec.chain import place_of
from dnsvip.dns.dnssec.rrsig import canonical
from dnsvip.dns.protocol.message import IN, RRset, Type
from dnsvip.dns.protocol.names import flat_name, lowered
from dnsvip.dns.zones.zone import CompiledZone, serial_of

ZONEMD = int(dns.rdatatype.ZONEMD)
SIMPLE, SHA384 = 1, 1
"""Scheme and hash algorithm (RFC 8976 section 2.2), the ones that every verifier has."""

_HEAD, _RECORD = Struct("!IBB"), Struct("!HHIH")


def with_digest(zone: CompiledZone, records: Iterable[RRset]) -> CompiledZone:
    """The zone with a ZONEMD record over `records`, what a transfer has of it; one of its own gives way."""
    apex = dict(zone.nodes[zone.apex])
    data = _HEAD.pack(serial_of(zone), SIMPLE, SHA384) + digest_of(zone, records)
    soa = apex[Type.SOA]
    apex[ZONEMD] = RRset(soa.owner, ZONEMD, soa.ttl, ((data,),))
    return replace(zone, nodes={**zone.nodes, zone.apex: apex})


def digest_of(zone: CompiledZone, records: Iterable[RRset]) -> bytes:
    """The hash of records in canonical form and order, each once and without the apex's ZONEMD (section 3.3)."""
    lines: set[tuple[bytes, int, bytes, bytes]] = set()
    for rrset in records:
        owner = lowered(rrset.owner)
        if rrset.rtype == ZONEMD and owner == zone.apex:
            continue
        place, head = place_of(owner), flat_name(owner)
        for data in canonical(rrset):
            wire = head + _RECORD.pack(rrset.rtype, IN, rrset.ttl, len(data)) + data
            lines.add((place, rrset.rtype, data, wire))
    hashed = sha384()
    for line in sorted(lines):
        hashed.update(line[3])
    return hashed.digest()
