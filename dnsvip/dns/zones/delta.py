"""How the records of a zone changed from one text to the next, as the journal keeps it (`dnsvip.site.zone_changes`).

Of texts in the canonical form of `sets` only the lines that differ are read: an edit of one record in a large zone
costs no more than finding them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from struct import Struct
from typing import TypeAlias

import dns.exception
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from dnsvip.dns.dnssec.presigned import by_covered
from dnsvip.dns.protocol.message import IN, RRset, Type
from dnsvip.dns.protocol.names import Labels, flat_name, read_name
from dnsvip.dns.zones.record import labels_of, record_of, unique
from dnsvip.dns.zones.zone import SPLIT, nodes_of, pieces_of
from dnsvip.dns.zones.zonefile import read_lines, read_zone
from dnsvip.errors import ZoneError
from dnsvip.site import Zone
from dnsvip.site.zone_changes import ZoneChange, digest_of, is_newer

LONGEST_TEXT = 4 << 20
"""Characters of a text in no canonical form that is compared: reading more takes many seconds."""

LONGEST_CANONICAL = 64 << 20
"""The same for canonical texts, whose lines are compared."""

_FIXED = Struct("!HHIH")
_FIELDS = 5

Sets: TypeAlias = dict[tuple[Labels, int], RRset]
_Lines: TypeAlias = dict[tuple[str, int], list[str]]


def zone_change(before: Zone, after: Zone) -> ZoneChange | None:
    """The change from one state of a zone to another. None where no secondary could follow it: records have changed and
    the serial is not higher (RFC 1982), or a text cannot be read."""
    old, new = changed_sets(before, after)
    if old is None or new is None:
        return None
    apex = labels_of(after.name)
    try:
        was, now = old[apex, Type.SOA], new[apex, Type.SOA]
    except KeyError:
        return None
    removed, added = _missing(old, new), _missing(new, old)
    digests = digest_of(before.text), digest_of(after.text)
    if not removed and not added:
        return ZoneChange(*digests, _serial(was), _serial(was))
    if not is_newer(_serial(now), _serial(was)):
        return None
    return ZoneChange(*digests, _serial(was), _serial(now), b"".join(removed), b"".join(added))


def records_of(data: bytes) -> Iterator[RRset]:
    """The records of one side of a change, each as a set of its own."""
    at = 0
    while at < len(data):
        owner, at = read_name(data, at)
        rtype, _, ttl, length = _FIXED.unpack_from(data, at)
        at += _FIXED.size + length
        rdata = data[at - length : at]
        if rtype in SPLIT:
            parsed = dns.rdata.from_wire(dns.rdataclass.IN, rtype, rdata, 0, length)
            yield RRset(owner, rtype, ttl, (pieces_of(record_of(0, owner, ttl, parsed, rdata)),))
        else:
            yield RRset(owner, rtype, ttl, ((rdata,),))


def _missing(here: Sets, there: Sets) -> list[bytes]:
    """The records that are here and not there, the SOA first."""
    lost: list[bytes] = []
    for key, rrset in here.items():
        other = there.get(key)
        kept = set(_wires(other)) if other is not None else set()
        wires = [wire for wire in _wires(rrset) if wire not in kept]
        lost[0:0] = wires if key[1] == Type.SOA else ()
        lost += wires if key[1] != Type.SOA else ()
    return lost


def _wires(rrset: RRset) -> Iterator[bytes]:
    head = flat_name(rrset.owner)
    for pieces in rrset.rdatas:
        data = b"".join(piece if isinstance(piece, bytes) else flat_name(piece) for piece in pieces)
        yield head + _FIXED.pack(rrset.rtype, IN, rrset.ttl, len(data)) + data


def _serial(soa: RRset) -> int:
    numbers = soa.rdatas[0][-1]
    assert isinstance(numbers, bytes)  # noqa: S101 - the last piece of a SOA
    return int.from_bytes(numbers[:4], "big")


def changed_sets(before: Zone, after: Zone) -> tuple[Sets | None, Sets | None]:
    """The record sets that may differ, before and after; None for a text that cannot be read."""
    longest = max(len(before.text), len(after.text))
    if longest > LONGEST_CANONICAL:
        return None, None
    old, new = _lines(before), _lines(after)
    if old is not None and new is not None:
        soa = ("@", int(Type.SOA))
        changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)} | {soa}
        return _of_lines(before, old, changed), _of_lines(after, new, changed)
    if longest > LONGEST_TEXT:
        return None, None
    return _whole(before), _whole(after)


def _lines(zone: Zone) -> _Lines | None:
    """The lines of a canonical text by owner and type; None for any other text."""
    head, _, rest = zone.text.partition("\n")
    if not head.startswith("$ORIGIN ") or "(" in rest or head.split(" ", 1)[1].rstrip(".").lower() != zone.name.lower():
        return None
    lines: _Lines = {}
    for line in rest.split("\n"):
        if not line or line[0] == ";":
            continue
        words = line.split("\t", _FIELDS - 1)
        if len(words) != _FIELDS or words[2] != "IN" or not words[0] or not words[1].isdecimal():
            return None
        owner, rtype = words[0], _type(words[3])
        if owner[0] in ' $"' or owner[-1] == "." or "\\" in owner or rtype is None:
            return None
        lines.setdefault((owner.lower(), rtype), []).append(line)
    return lines


@lru_cache(1024)
def _type(text: str) -> int | None:
    try:
        return int(dns.rdatatype.from_text(text))
    except (dns.exception.DNSException, ValueError):
        return None


def _of_lines(zone: Zone, lines: _Lines, wanted: set[tuple[str, int]]) -> Sets | None:
    head = zone.text.partition("\n")[0]
    some = [line for key in wanted for line in lines.get(key, ())]
    records, problems = read_lines(labels_of(zone.name), "\n".join([head, *some, ""]))
    return None if problems else _sets(nodes_of(labels_of(zone.name), unique(records)))


def _whole(zone: Zone) -> Sets | None:
    try:
        apex, records, problems = read_zone(zone)
    except ZoneError:
        return None
    return None if problems else _sets(nodes_of(apex, records))


def _sets(nodes: Mapping[Labels, Mapping[int, RRset]]) -> Sets:
    """The sets by name and type; signatures by what they cover, as each set of them has its own TTL."""
    sets = {(name, rtype): rrset for name, node in nodes.items() for rtype, rrset in node.items()}
    for name, node in nodes.items():
        if Type.RRSIG in node:
            del sets[name, Type.RRSIG]
            sets |= {(name, covered << 16 | Type.RRSIG): rrset for covered, rrset in by_covered(node[Type.RRSIG])}
    return sets
