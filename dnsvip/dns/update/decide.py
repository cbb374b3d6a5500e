"""An update decided: a zone and a message in, the zone after it or an rcode out (RFC 2136 section 3).

All or nothing. Sections are checked for themselves first, then what the key may change, then the prerequisites; so an
answer tells nobody of the zone who may not change it. Only what is served counts: disabled records and comments of the
API stay, and nobody sees them here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import dns.rdata
import dns.rdatatype

from dnsvip.dns.protocol.message import IN, Rcode, Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.update.message import ANY, Refused, UpdateMessage, UpdateRecord, read_update
from dnsvip.dns.update.permission import Permission
from dnsvip.dns.zones.edit import SINGLE, finished
from dnsvip.dns.zones.record import labels_of
from dnsvip.dns.zones.rules import DNSSEC_BESIDE_CNAME
from dnsvip.dns.zones.sets import Entry, Key, RecordSet, ZoneSets
from dnsvip.errors import InvalidSite

_HALF = 1 << 31
_APEX_STAYS = (Type.SOA, Type.NS)


@dataclass(frozen=True, slots=True)
class Decided:
    """NOERROR and the zone after the update, `before` itself where it changes nothing; or another rcode, and why."""

    rcode: Rcode
    zone: ZoneSets | None = None
    why: str = ""
    touched: frozenset[Labels] = frozenset()
    """The names that it is about."""


def decide(before: ZoneSets, wire: bytes, permission: Permission) -> Decided:
    """The outcome of a message whose zone section names the zone, without its TSIG record."""
    apex = labels_of(before.zone.name)
    try:
        message = read_update(wire, apex)
        sets = _Sets(before, apex, permission)
        if dns.rdatatype.RRSIG in sets.types(apex):
            raise Refused(Rcode.REFUSED, "the zone is signed elsewhere, and would have records without signatures")
        for record in message.updates:
            sets.check(record)
        _check_prerequisites(message, sets)
        for record in message.updates:
            sets.make(record)
        after = finished(before, sets.sets, sets.touched)
    except Refused as refused:
        return Decided(refused.rcode, why=refused.why)
    except InvalidSite as error:
        problem = error.problems[0]
        return Decided(Rcode.REFUSED, why=f"{problem.where}: {problem.message}")
    return Decided(Rcode.NOERROR, after, touched=frozenset(record.key for record in message.updates))


def _check_prerequisites(message: UpdateMessage, sets: _Sets) -> None:
    """Section 3.2.5: raise Refused at the first that does not hold, sets by value last."""
    wanted: dict[Key, set[dns.rdata.Rdata]] = {}
    for record in message.prerequisites:
        if record.rclass == IN:
            wanted.setdefault((record.key, record.rtype), set()).add(cast("dns.rdata.Rdata", record.rdata))
            continue
        exists = sets.has(record.key, record.rtype)
        if exists is not (record.rclass == ANY):
            raise Refused(
                _UNMET[exists, record.rtype == Type.ANY], f"{record.where} {'exists' if exists else 'is not'}"
            )
    for (name, rtype), values in wanted.items():
        if {entry.rdata for entry in sets.served(name, rtype)} != values:
            raise Refused(Rcode.NXRRSET, "a set has other records than the prerequisites say")


_UNMET = {
    (False, True): Rcode.NXDOMAIN,
    (False, False): Rcode.NXRRSET,
    (True, True): Rcode.YXDOMAIN,
    (True, False): Rcode.YXRRSET,
}
"""Whether it exists and whether that is about a name -> the rcode where it should be the other way."""


class _Sets:
    """The sets of a zone while it is updated, and the types that each name has."""

    def __init__(self, before: ZoneSets, apex: Labels, permission: Permission) -> None:
        self.sets: dict[Key, RecordSet] = dict(before.sets)
        self.touched: dict[Key, None] = {}
        self._apex, self._permission = apex, permission
        self._types: dict[Labels, set[int]] = {}
        for (name, rtype), record_set in before.sets.items():
            if record_set.served:
                self._types.setdefault(name, set()).add(rtype)

    def served(self, name: Labels, rtype: int) -> Sequence[Entry]:
        """The records of a set."""
        record_set = self.sets.get((name, rtype))
        return record_set.served if record_set else ()

    def types(self, name: Labels) -> set[int]:
        """The types of records at a name."""
        return self._types.get(name, set())

    def has(self, name: Labels, rtype: int) -> bool:
        """Whether a set exists, of type 255 whether the name is in use; what is made there counts."""
        types = self.types(name) | self._permission.made.get(name, frozenset())
        return bool(types) if rtype == Type.ANY else rtype in types

    def check(self, record: UpdateRecord) -> None:
        """Raise Refused for what the key may not change, or nobody may (section 3.3)."""
        why = self._permission.made_here(record.key, record.rtype)
        if not why and not all(self._permission.allows(record.key, rtype) for rtype in self._reached(record)):
            why = "is not the key's to change"
        if why:
            raise Refused(Rcode.REFUSED, f"{record.where} {why}")

    def _reached(self, record: UpdateRecord) -> Iterator[int | None]:
        """The types that a record is about; None for the name alone."""
        if record.rtype != Type.ANY:
            yield record.rtype
            return
        yield None
        yield from (rtype for rtype in self.types(record.key) if not self._stays(record.key, rtype))

    def _stays(self, name: Labels, rtype: int) -> bool:
        return name == self._apex and rtype in _APEX_STAYS

    def make(self, record: UpdateRecord) -> None:
        """Add or delete what a record says (section 3.4.2)."""
        if record.rclass == IN:
            self._add(record)
        elif record.rclass != ANY:
            self._delete_one(record)
        elif record.rtype != Type.ANY:
            self._delete(record.key, record.rtype)
        else:
            for rtype in sorted(self.types(record.key)):
                self._delete(record.key, rtype)

    def _add(self, record: UpdateRecord) -> None:
        """Section 3.4.2.2: what may not be beside what there is, and an SOA that is not newer, is passed by."""
        name, rtype, rdata = record.key, record.rtype, cast("dns.rdata.Rdata", record.rdata)
        others = self.types(name) - {rtype} - DNSSEC_BESIDE_CNAME
        if (others if rtype == Type.CNAME else Type.CNAME in others and rtype not in DNSSEC_BESIDE_CNAME) or (
            rtype == Type.SOA and not self._is_newer(name, rdata)
        ):
            return
        replaced = [entry for entry in self.served(name, rtype) if rtype in SINGLE or _same(entry.rdata, rdata)]
        written = next((entry.written for entry in replaced if entry.rdata == rdata), "")
        kept = [replace(e, ttl=record.ttl) for e in self.served(name, rtype) if e not in replaced]
        self._put(record.owner, name, rtype, [*kept, Entry(record.ttl, rdata, written)])

    def _is_newer(self, name: Labels, rdata: Any) -> bool:
        """Whether an SOA has a higher serial than that of the zone (RFC 1982)."""
        serials = [cast("Any", entry.rdata).serial for entry in self.served(name, Type.SOA)]
        return any(0 < (rdata.serial - serial) % (1 << 32) < _HALF for serial in serials)

    def _delete(self, name: Labels, rtype: int) -> None:
        """A whole set; SOA and NS of the apex stay (section 3.4.2.3)."""
        if not self._stays(name, rtype) and self.served(name, rtype):
            self._put((), name, rtype, ())

    def _delete_one(self, record: UpdateRecord) -> None:
        """One record; the SOA stays, and the last NS of the apex (section 3.4.2.4)."""
        name, rtype, served = record.key, record.rtype, self.served(record.key, record.rtype)
        kept = [entry for entry in served if entry.rdata != record.rdata]
        if rtype == Type.SOA or len(kept) == len(served) or (not kept and self._stays(name, rtype)):
            return
        self._put((), name, rtype, kept)

    def _put(self, owner: Labels, name: Labels, rtype: int, served: Sequence[Entry]) -> None:
        """Make a set have these records beside its disabled ones."""
        key = (name, rtype)
        old = self.sets.get(key) or RecordSet(owner, rtype)
        new = replace(old, entries=(*served, *(entry for entry in old.entries if entry.disabled)))
        if new.entries or new.comments:
            self.sets[key] = new
        else:
            del self.sets[key]
        (self._types.setdefault(name, set()).add if served else self.types(name).discard)(rtype)
        self.touched[key] = None


def _same(one: dns.rdata.Rdata, other: dns.rdata.Rdata) -> bool:
    """Whether a new record takes the place of one: the same data, or a WKS of the same address and protocol."""
    if one.rdtype == dns.rdatatype.WKS and other.rdtype == dns.rdatatype.WKS:
        first, second = cast("Any", one), cast("Any", other)
        return bool((first.address, first.protocol) == (second.address, second.protocol))
    return bool(one == other)
