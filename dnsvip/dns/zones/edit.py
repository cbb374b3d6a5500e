"""A zone's text with some record sets replaced: read as the server reads it, written one record a line.

What is written is canonical: a `$ORIGIN`, then every record with its owner and TTL, owners in the order that they had.
The first edit drops comments and directives of the old text. The SOA's serial is raised by every edit
that changes something (RFC 1982).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.SOA

from dnsvip.dns.protocol.names import Labels, lowered
from dnsvip.dns.zones.zonefile import Record, read_zone
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Zone

SOA = dns.rdatatype.SOA


@dataclass(frozen=True, slots=True)
class Replacement:
    """One record set as it shall be: no records remove it. `name` and names in `records` are absolute."""

    name: str
    rtype: str
    ttl: int
    records: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordSet:
    """One record set of a zone, its names absolute."""

    name: str
    rtype: str
    ttl: int
    records: tuple[str, ...]


def record_sets(zone: Zone) -> list[RecordSet]:
    """All record sets of a zone, in the order of its text; raises InvalidSite for a text that cannot be read."""
    grouped: dict[tuple[Labels, int], list[Record]] = {}
    for record in _records(zone):
        grouped.setdefault((record.key, record.rdata.rdtype), []).append(record)
    return [
        RecordSet(
            _name(some[0].owner).to_text(),
            dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rtype)),
            some[0].ttl,
            tuple(record.rdata.to_text() for record in some),
        )
        for (_, rtype), some in grouped.items()
    ]


def edited(zone: Zone, replacements: Sequence[Replacement]) -> Zone:
    """The zone after the replacements, the same object where they change nothing; raises InvalidSite."""
    before = _records(zone)
    records, problems = before, []
    for each in replacements:
        try:
            records = _with(records, zone, each)
        except (dns.exception.DNSException, ValueError) as error:
            problems.append(Problem(f"zone.{zone.name}.{each.name}.{each.rtype}", f"cannot be stored: {error}"))
    if problems:
        raise InvalidSite(problems)
    if _content(records) == _content(before):
        return zone
    if _serials(records) == _serials(before):
        records = [_raised(record) for record in records]
    return replace(zone, text=_text(zone, records))


def _records(zone: Zone) -> list[Record]:
    _, records, problems = read_zone(zone)
    if problems:
        raise InvalidSite(problems)
    return records


def _with(records: list[Record], zone: Zone, each: Replacement) -> list[Record]:
    name, rtype = dns.name.from_text(each.name), dns.rdatatype.from_text(each.rtype)
    if not name.is_subdomain(dns.name.from_text(zone.name)):
        raise ValueError(f"is not in the zone {zone.name}")
    if dns.rdatatype.is_metatype(rtype):
        raise ValueError("is no type of data")
    owner = name.labels[:-1]
    key = lowered(owner)
    read = dns.rdata.from_text
    rdatas = [read(dns.rdataclass.IN, rtype, t, dns.name.root, relativize=False) for t in dict.fromkeys(each.records)]
    new = [Record(0, key, owner, each.ttl, rdata) for rdata in rdatas]
    if rtype == SOA and len(new) != 1:
        raise ValueError("a zone has one SOA record")
    same = [at for at, record in enumerate(records) if (record.key, record.rdata.rdtype) == (key, rtype)]
    at = same[0] if same else len(records)
    rest = [record for number, record in enumerate(records) if number not in set(same)]
    return [*rest[:at], *new, *rest[at:]]


def _content(records: Iterable[Record]) -> set[tuple[Labels, int, str]]:
    return {(record.key, record.ttl, f"{record.rtype} {record.rdata.to_text()}") for record in records}


def _serials(records: Iterable[Record]) -> list[int]:
    return [record.rdata.serial for record in records if isinstance(record.rdata, dns.rdtypes.ANY.SOA.SOA)]


def _raised(record: Record) -> Record:
    if not isinstance(record.rdata, dns.rdtypes.ANY.SOA.SOA):
        return record
    return replace(record, rdata=record.rdata.replace(serial=(record.rdata.serial + 1) % (1 << 32) or 1))


def _text(zone: Zone, records: Iterable[Record]) -> str:
    apex = dns.name.from_text(zone.name)
    lines = [f"$ORIGIN {apex.to_text()}"]
    for record in records:
        owner = _name(record.owner).relativize(apex).to_text()
        lines.append(
            f"{owner}\t{record.ttl}\tIN\t{dns.rdatatype.to_text(record.rdata.rdtype)}\t{record.rdata.to_text()}"
        )
    return "\n".join(lines) + "\n"


def _name(owner: Labels) -> dns.name.Name:
    return dns.name.Name((*owner, b""))
