"""One record of a zone, as read and as it stands in a message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rdata

from dnsvip.dns.protocol.names import Labels, lowered
from dnsvip.dns.zones.rdata import wire_of
from dnsvip.errors import Problem, ZoneError

WILD = b"*"

MAX_TTL = (1 << 31) - 1
"""Seconds; a TTL with its highest bit set counts as 0 (RFC 2181 section 8)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record: the line it begins on, its owner in lower case and as written, TTL in seconds, dnspython's rdata and
    that as it stands in a message, its names uncompressed."""

    line: int
    key: Labels
    owner: Labels
    ttl: int
    rdata: dns.rdata.Rdata
    wire: bytes

    @property
    def rtype(self) -> int:
        """Its type as a number."""
        return int(self.rdata.rdtype)


class _Same(NamedTuple):
    key: Labels
    rtype: int
    data: bytes


def record_of(line: int, owner: Labels, ttl: int, rdata: dns.rdata.Rdata, wire: bytes | None = None) -> Record:
    """The record with this data (`wire`, where it is known), its TTL as RFC 2181 section 8 has it."""
    data = wire_of(rdata) if wire is None else wire
    return Record(line, lowered(owner), owner, ttl if ttl <= MAX_TTL else 0, rdata, data)


def unique(records: Iterable[Record]) -> list[Record]:
    """The records, each once: names in data are compared without regard to case (RFC 2181 section 5, RFC 4343)."""
    kept: dict[_Same, Record] = {}
    for record in records:
        same = _Same(record.key, record.rtype, record.rdata.to_digestable())
        kept[same] = _merged(kept[same], record) if same in kept else record
    return list(kept.values())


def labels_of(name: str) -> Labels:
    """A name such as "www.example.test" as labels in lower case; raises ZoneError."""
    try:
        return lowered(dns.name.from_text(name).labels[:-1])
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ZoneError([Problem(name, f"is not a domain name: {error}")]) from error


def _merged(first: Record, again: Record) -> Record:
    """The first, with the lower TTL of both (RFC 2181 section 5.2)."""
    return (
        first
        if first.ttl <= again.ttl
        else Record(first.line, first.key, first.owner, again.ttl, first.rdata, first.wire)
    )
