"""An update decided: a zone and a message in, the zone after it or an rcode out (RFC 2136 section 3).

All or nothing. Sections are checked for themselves first, then what the key may change, then the prerequisites; so an
answer tells nobody of the zone who may not change it. Only what is served counts: disabled records and comments of the
API stay, and nobody sees them here.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
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
        after = finished(before, sets.made(), sets.touched)
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
    """The sets of a zone while it is updated, and the types that each name has. Each record of a message takes constant
    time, however many its set has."""

    def __init__(self, before: ZoneSets, apex: Labels, permission: Permission) -> None:
        self.touched: dict[Key, None] = {}
        self._apex, self._permission = apex, permission
        self._before, self._changing = before.sets, dict[Key, _Changing]()
        self._types: dict[Labels, set[int]] = {}
        for (name, rtype), record_set in before.sets.items():
            if record_set.served:
                self._types.setdefault(name, set()).add(rtype)

    def made(self) -> dict[Key, RecordSet]:
        """The sets as they are now."""
        sets = dict(self._before)
        for key in self.touched:
            after = self._changing[key].made()
            if after is not None:
                sets[key] = after
            else:
                sets.pop(key, None)
        return sets

    def served(self, name: Labels, rtype: int) -> Collection[Entry]:
        """The records of a set; their TTLs are those of before."""
        if (changing := self._changing.get((name, rtype))) is not None:
            return changing.entries.values()
        record_set = self._before.get((name, rtype))
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
        self._change(name, rtype).add(record.owner, record.ttl, rdata)
        self._types.setdefault(name, set()).add(rtype)

    def _is_newer(self, name: Labels, rdata: Any) -> bool:
        """Whether an SOA has a higher serial than that of the zone (RFC 1982)."""
        serials = [cast("Any", entry.rdata).serial for entry in self.served(name, Type.SOA)]
        return any(0 < (rdata.serial - serial) % (1 << 32) < _HALF for serial in serials)

    def _delete(self, name: Labels, rtype: int) -> None:
        """A whole set; SOA and NS of the apex stay (section 3.4.2.3)."""
        if not self._stays(name, rtype) and self.served(name, rtype):
            self._change(name, rtype).clear()
            self.types(name).discard(rtype)

    def _delete_one(self, record: UpdateRecord) -> None:
        """One record; the SOA stays, and the last NS of the apex (section 3.4.2.4)."""
        name, rtype, rdata = record.key, record.rtype, cast("dns.rdata.Rdata", record.rdata)
        changing = self._changed(name, rtype)
        is_last = len(changing.entries) == 1
        if rtype == Type.SOA or not changing.has(rdata) or (is_last and self._stays(name, rtype)):
            return
        self._change(name, rtype).remove(rdata)
        if is_last:
            self.types(name).discard(rtype)

    def _change(self, name: Labels, rtype: int) -> _Changing:
        """A set that is to change."""
        self.touched[name, rtype] = None
        return self._changed(name, rtype)

    def _changed(self, name: Labels, rtype: int) -> _Changing:
        key = name, rtype
        changing = self._changing.get(key)
        if changing is None:
            changing = self._changing[key] = _Changing(rtype, self._before.get(key))
        return changing


class _Changing:
    """A set of a type while it is updated: its served records by what a new one takes the place of."""

    def __init__(self, rtype: int, before: RecordSet | None) -> None:
        self.entries = {_identity(entry.rdata): entry for entry in (before.served if before else ())}
        self._rtype, self._before = rtype, before
        self._ttl: int | None = None

    def has(self, rdata: dns.rdata.Rdata) -> bool:
        """Whether it has this very record."""
        entry = self.entries.get(_identity(rdata))
        return entry is not None and bool(entry.rdata == rdata)

    def add(self, owner: Labels, ttl: int, rdata: dns.rdata.Rdata) -> None:
        """Add a record, with whose TTL they all are then."""
        identity = _identity(rdata)
        replaced = self.entries.pop(identity, None)
        written = replaced.written if replaced is not None and replaced.rdata == rdata else ""
        self.entries[identity] = Entry(ttl, rdata, written)
        self._ttl = ttl
        if self._before is None:
            self._before = RecordSet(owner, self._rtype)

    def remove(self, rdata: dns.rdata.Rdata) -> None:
        """Remove a record that it has."""
        del self.entries[_identity(rdata)]
        self._forget()

    def clear(self) -> None:
        """Remove all records."""
        self.entries.clear()
        self._forget()

    def made(self) -> RecordSet | None:
        """The set as it is now; None where nothing is left of it."""
        if self._before is None:
            return None
        ttl, served = self._ttl, list(self.entries.values())
        if ttl is not None:
            served = [replace(entry, ttl=ttl) for entry in served]
        return replace(self._before, entries=(*served, *(entry for entry in self._before.entries if entry.disabled)))

    def _forget(self) -> None:
        """Without records, disabled ones or comments it is no more: one that is made then is written anew."""
        before = self._before
        if not self.entries and before and not before.comments and not any(entry.disabled for entry in before.entries):
            self._before = self._ttl = None


def _identity(rdata: dns.rdata.Rdata) -> Hashable:
    """What a new record shares with one whose place it takes: the data, of a WKS address and protocol, nothing of types
    that are single."""
    if rdata.rdtype in SINGLE:
        return ()
    if rdata.rdtype == dns.rdatatype.WKS:
        wks = cast("Any", rdata)
        return wks.address, wks.protocol
    return rdata.to_digestable()
