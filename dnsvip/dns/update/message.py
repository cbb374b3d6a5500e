"""The sections of an UPDATE message (RFC 2136 section 2) as records; whether it may change anything is unknown here.

What can be told wrong without the zone is told here: sections 3.2 and 3.4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from dnsvip.dns.protocol.message import HEADER_SIZE, IN, Rcode
from dnsvip.dns.protocol.names import Labels, lowered
from dnsvip.dns.zones.content import UNREADABLE
from dnsvip.dns.zones.rdata import read_rdata

NONE, ANY = 254, 255
"""The classes of RFC 2136 section 2.4; 255 is also the type that stands for all."""

_COUNTS, _FIXED = Struct("!4H"), Struct("!HHIH")


class Refused(Exception):
    """An update that is not made: the rcode of the answer, and why, for people."""

    def __init__(self, rcode: Rcode, why: str = "") -> None:
        super().__init__(why)
        self.rcode, self.why = rcode, why


class UpdateRecord(NamedTuple):
    """One record of a section: owner as written and in lower case, type, class, TTL, bytes of data, and the data, None
    where there is none or the type has none."""

    owner: Labels
    key: Labels
    rtype: int
    rclass: int
    ttl: int
    size: int
    rdata: dns.rdata.Rdata | None

    @property
    def where(self) -> str:
        """Name and type, for people."""
        name = dns.name.Name((*self.owner, b"")).to_text()
        return f"{name} {dns.rdatatype.to_text(dns.rdatatype.RdataType.make(self.rtype))}"


class UpdateMessage(NamedTuple):
    """What must be so, and what is to be changed then."""

    prerequisites: tuple[UpdateRecord, ...]
    updates: tuple[UpdateRecord, ...]


def read_update(wire: bytes, apex: Labels) -> UpdateMessage:
    """The sections of a message whose zone section names `apex` (lower case). Raises Refused: FORMERR for what cannot
    be read or means nothing, NOTZONE for names outside the zone."""
    try:
        _, prerequisites, updates, _ = _COUNTS.unpack_from(wire, 4)
        at = HEADER_SIZE + dns.name.from_wire(wire, HEADER_SIZE)[1] + 4
        some, at = _records(wire, at, prerequisites)
        more, _ = _records(wire, at, updates)
    except (*UNREADABLE, struct_error) as error:
        raise Refused(Rcode.FORMERR, f"cannot be read: {error}") from None
    for record in (*some, *more):
        if record.key[len(record.key) - len(apex) :] != apex:
            raise Refused(Rcode.NOTZONE, f"{record.where} is not in the zone")
    for fault in (*_prerequisite_faults(some), *_update_faults(more)):
        raise Refused(Rcode.FORMERR, fault)
    return UpdateMessage(tuple(some), tuple(more))


def _records(wire: bytes, at: int, number: int) -> tuple[list[UpdateRecord], int]:
    records = []
    for _ in range(number):
        name, used = dns.name.from_wire(wire, at)
        rtype, rclass, ttl, length = _FIXED.unpack_from(wire, at + used)
        at += used + _FIXED.size
        if at + length > len(wire):
            raise ValueError("cut short")
        owner = name.labels[:-1]
        rdata = _data(wire, at, rtype, length) if length else None
        records.append(UpdateRecord(owner, lowered(owner), rtype, rclass, ttl, length, rdata))
        at += length
    return records, at


def _data(wire: bytes, at: int, rtype: int, length: int) -> dns.rdata.Rdata | None:
    """The data as a zone file's reader has it, so that it is compared and written alike; None of a meta-type."""
    kind = dns.rdatatype.RdataType.make(rtype)
    if dns.rdatatype.is_metatype(kind):
        return None
    rdata = dns.rdata.from_wire(dns.rdataclass.IN, kind, wire, at, length)
    return read_rdata(rtype, rdata.to_text(), dns.name.root)


def _prerequisite_faults(records: list[UpdateRecord]) -> Iterator[str]:
    """Section 3.2: no TTLs, no data where only existence is asked, and no other classes."""
    for record in records:
        exists = record.rclass == IN
        if record.ttl:
            yield f"prerequisite {record.where} has a TTL"
        if record.rclass not in (IN, NONE, ANY):
            yield f"prerequisite {record.where} is of class {record.rclass}"
        if bool(record.size) is not exists or (_is_meta(record.rtype) and (exists or record.rtype != ANY)):
            yield f"prerequisite {record.where} has data where none belongs, or none where some does"


def _update_faults(records: list[UpdateRecord]) -> Iterator[str]:
    """Section 3.4.1.2."""
    for record in records:
        if record.rclass not in (IN, NONE, ANY):
            yield f"{record.where} is of class {record.rclass}"
        elif record.rclass != IN and record.ttl:
            yield f"{record.where} has a TTL, and is to be deleted"
        elif _is_meta(record.rtype) and not (record.rclass == ANY and record.rtype == ANY):
            yield f"{record.where} is no type of data"
        elif bool(record.size) is (record.rclass == ANY):
            yield f"{record.where} has data where none belongs, or none where some does"


def _is_meta(rtype: int) -> bool:
    return rtype == 0 or dns.rdatatype.is_metatype(dns.rdatatype.RdataType.make(rtype))
