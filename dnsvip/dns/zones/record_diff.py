"""What differs between two states of a zone, record set by record set, as an operator reads it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from dnsvip.dns.protocol.message import RRset, Type
from dnsvip.dns.protocol.names import flat_name
from dnsvip.dns.zones.content import UNREADABLE
from dnsvip.dns.zones.delta import changed_sets
from dnsvip.dns.zones.record import labels_of
from dnsvip.errors import cut
from dnsvip.site import Zone

LONGEST_DATA = 100
"""Characters of one record's data that are shown."""

SOA_NUMBERS = 20
"""Bytes at the end of a SOA's data, the serial first (RFC 1035 section 3.3.13)."""


@dataclass(frozen=True, slots=True)
class RecordDiff:
    """Record sets, each as `NAME TTL TYPE DATA, ...` with names relative to the zone; of changed ones the data,
    before and after, with the TTL where that differs too. `serial` is None where neither state has a readable SOA."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[tuple[str, str, str], ...]
    serial: tuple[int, int] | None

    def lines(self) -> Iterator[str]:
        """The difference in lines, the serial first."""
        if self.serial is not None:
            old, new = self.serial
            yield f"serial {old} -> {new}" if old != new else f"serial {old} (unchanged)"
        yield from (f"- {text}" for text in self.removed)
        yield from (f"~ {which} {before} -> {after}" for which, before, after in self.changed)
        yield from (f"+ {text}" for text in self.added)


def record_diff(before: Zone, after: Zone) -> RecordDiff | None:
    """What differs; None where a text cannot be read, or is too large to be compared."""
    old, new = changed_sets(before, after)
    if old is None or new is None:
        return None
    origin = dns.name.Name((*labels_of(after.name), b""))
    soa = labels_of(after.name), int(Type.SOA)
    serials = [_serial(sets.pop(soa), origin) for sets in (old, new) if soa in sets]
    changed = [
        change for key in old.keys() & new.keys() if (change := _changed(old[key], new[key], origin)) is not None
    ]
    if len(serials) == len((old, new)) and serials[0][1] != serials[1][1]:
        changed.append(("@ SOA", serials[0][1], serials[1][1]))
    return RecordDiff(
        tuple(sorted(_whole(new[key], origin) for key in new.keys() - old.keys())),
        tuple(sorted(_whole(old[key], origin) for key in old.keys() - new.keys())),
        tuple(sorted(changed)),
        (serials[0][0], serials[1][0]) if len(serials) == len((old, new)) else None,
    )


def _which(rrset: RRset, origin: dns.name.Name) -> str:
    owner = dns.name.Name((*rrset.owner, b"")).relativize(origin).to_text()
    return f"{owner} {dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rrset.rtype))}"


def _whole(rrset: RRset, origin: dns.name.Name) -> str:
    owner, rtype = _which(rrset, origin).split(" ")
    return f"{owner} {rrset.ttl} {rtype} {', '.join(_data(rrset, origin))}"


def _changed(old: RRset, new: RRset, origin: dns.name.Name) -> tuple[str, str, str] | None:
    before, after = ", ".join(_data(old, origin)), ", ".join(_data(new, origin))
    if old.ttl != new.ttl:
        before, after = f"{old.ttl} {before}", f"{new.ttl} {after}"
    return (_which(new, origin), before, after) if before != after else None


def _data(rrset: RRset, origin: dns.name.Name) -> list[str]:
    return sorted(cut(_text(rrset.rtype, wire, origin), LONGEST_DATA) for wire in _wires(rrset))


def _wires(rrset: RRset) -> Iterator[bytes]:
    """The data of each record, as in a message."""
    for pieces in rrset.rdatas:
        yield b"".join(piece if isinstance(piece, bytes) else flat_name(piece) for piece in pieces)


def _text(rtype: int, wire: bytes, origin: dns.name.Name) -> str:
    """The data as in a zone file; in the form of unknown types (RFC 3597) where dnspython does not read it."""
    kind = dns.rdatatype.RdataType.make(rtype)
    try:
        return dns.rdata.from_wire(dns.rdataclass.IN, kind, wire, 0, len(wire)).to_text(origin=origin)
    except UNREADABLE:
        return f"\\# {len(wire)} {wire.hex()}"


def _serial(soa: RRset, origin: dns.name.Name) -> tuple[int, str]:
    """The serial of a SOA, and the rest of it."""
    (wire,) = _wires(soa)
    words = _text(Type.SOA, wire, origin).split(" ")
    return int.from_bytes(wire[-SOA_NUMBERS : 4 - SOA_NUMBERS], "big"), " ".join([*words[:2], *words[3:]])
