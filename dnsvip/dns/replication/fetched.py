"""A zone as it comes from a primary: into dnspython's form, whose transfers change it, and back into a zone's text.

What is made is read again before it is taken, so that a zone which cannot be served is refused, and never stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.SOA
import dns.zone

from dnsvip.dns.protocol.names import Labels, lowered
from dnsvip.dns.zones.sets import Entry, Key, RecordSet, text_of
from dnsvip.dns.zones.zonefile import MOST_RECORDS, read_zone
from dnsvip.errors import DnsvipError
from dnsvip.site import Zone
from dnsvip.site.refreshes import Timers

MOST_CHARACTERS = 256 << 20
"""Of a zone's text."""

_Wires = set[tuple[Labels, int, bytes]]


class TransferError(DnsvipError):
    """A primary that cannot be used, or a zone that it sent and that cannot be served."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A zone as a primary has it; `way` is how it came: "AXFR" or "IXFR"."""

    text: str = field(repr=False)
    serial: int
    timers: Timers
    way: str


def held(zone: Zone) -> dns.zone.Zone:
    """What is stored of a secondary zone, as dnspython has it; an empty zone where it cannot be read."""
    apex, records, problems = read_zone(zone)
    made = dns.zone.Zone(dns.name.Name((*apex, b"")), relativize=False)
    for record in records if zone.text and not problems else ():
        rdata = dns.rdata.from_wire(dns.rdataclass.IN, record.rdata.rdtype, record.wire, 0, len(record.wire))
        made.find_rdataset(dns.name.Name((*record.owner, b"")), rdata.rdtype, rdata.covers(), create=True).add(
            rdata, record.ttl
        )
    return made


def taken(zone: Zone, transferred: dns.zone.Zone, way: str) -> Fetched:
    """The outcome of a transfer; raises TransferError where it cannot be served, or its ZONEMD is not its own."""
    verify_digest(transferred)
    text = _text(zone, transferred, frozenset())
    again, faults = _read(zone, text)
    if again != (wanted := _wires(transferred)) and not faults:
        text = _text(zone, transferred, frozenset(rtype for _, rtype, _ in again ^ wanted))
        again, faults = _read(zone, text)
    if faults:
        raise TransferError(f"has a zone that cannot be served: {faults[0]}")
    if again != wanted:
        raise TransferError("has a record that no zone file can hold")
    soa = transferred.get_soa()
    assert isinstance(soa, dns.rdtypes.ANY.SOA.SOA)  # noqa: S101 - for mypy
    return Fetched(text, soa.serial, Timers(soa.refresh, soa.retry, soa.expire), way)


def verify_digest(zone: dns.zone.Zone) -> None:
    """Check the zone's ZONEMD where it has one (RFC 8976 section 4); raises TransferError."""
    try:
        zone.verify_digest()
    except dns.zone.NoDigest:
        return
    except (dns.zone.DigestVerificationFailure, dns.exception.DNSException, ValueError) as error:
        raise TransferError(f"has a zone whose ZONEMD does not fit it ({type(error).__name__})") from None


def _text(zone: Zone, transferred: dns.zone.Zone, generic: frozenset[int]) -> str:
    """The text of a zone, its SOA first; data of `generic` types as RFC 3597 writes it."""
    sets: dict[Key, RecordSet] = {}
    number = 0
    for name, rdataset in transferred.iterate_rdatasets():
        owner, rtype = name.labels[:-1], int(rdataset.rdtype)
        entries = tuple(Entry(rdataset.ttl, _generic(one) if rtype in generic else one) for one in rdataset)
        key = (lowered(owner), rtype)
        before = sets[key].entries if key in sets else ()
        sets[key] = RecordSet(owner, rtype, (*before, *entries))
        number += len(entries)
        if number > MOST_RECORDS:
            raise TransferError(f"has a zone of more than {MOST_RECORDS} records")
    first = (lowered(transferred.origin.labels[:-1]) if transferred.origin else (), int(dns.rdatatype.SOA))
    text = text_of(zone.name, {first: sets[first], **sets} if first in sets else sets)
    if len(text) > MOST_CHARACTERS:
        raise TransferError(f"has a zone of more than {MOST_CHARACTERS} characters")
    return text


def _generic(rdata: dns.rdata.Rdata) -> dns.rdata.Rdata:
    return rdata.to_generic(dns.name.root)


def _read(zone: Zone, text: str) -> tuple[_Wires, list[str]]:
    _, records, problems = read_zone(replace(zone, text=text))
    return {(record.key, record.rtype, record.rdata.to_digestable()) for record in records}, [
        problem.message for problem in problems
    ]


def _wires(transferred: dns.zone.Zone) -> _Wires:
    return {
        (lowered(name.labels[:-1]), int(rdata.rdtype), rdata.to_digestable())
        for name, _, rdata in transferred.iterate_rdatas()
    }
