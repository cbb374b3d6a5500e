"""A zone with some record sets replaced, by PowerDNS's rules, in time linear in the zone and in the edit.

Only new records are parsed; all others stay byte for byte as they were. The result is canonical text
(sets.py): the first edit drops other comments and directives of the old text. The SOA's serial is raised by every
edit that changes what is served (RFC 1982).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import dns.name
import dns.rdatatype
import dns.rdtypes.ANY.SOA

from dnsvip.dns.protocol.names import Labels, lowered
from dnsvip.dns.zones.content import UNREADABLE
from dnsvip.dns.zones.rdata import read_type
from dnsvip.dns.zones.record import labels_of
from dnsvip.dns.zones.rules import zone_problems
from dnsvip.dns.zones.sets import Comment, Entry, Key, RecordSet, ZoneSets, entry_of, read_sets, text_of
from dnsvip.dns.zones.zonefile import read_zone
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Zone

SOA, CNAME = dns.rdatatype.SOA, dns.rdatatype.CNAME
SINGLE = frozenset({SOA, CNAME, dns.rdatatype.DNAME})
AT_APEX: Mapping[int, bool] = {
    SOA: True,
    dns.rdatatype.DNSKEY: True,
    dns.rdatatype.NSEC3PARAM: True,
    dns.rdatatype.DS: False,
}
"""Types that only the apex can have, or only other names."""


class How(StrEnum):
    """What the records of a replacement are: all of the set, or those that it gains or loses."""

    ALL = "all"
    MORE = "more"
    LESS = "less"


@dataclass(frozen=True, slots=True)
class Replacement:
    """A set as it shall be; None leaves its records, its comments, or its TTL alone. `name` is absolute, `ttl` in
    seconds.

    `records` are (content, disabled), and `how` says of which. No records and no word of comments removes the comments
    too, as in PowerDNS.
    """

    name: str
    rtype: str
    ttl: int | None = 0
    records: tuple[tuple[str, bool], ...] | None = None
    comments: tuple[Comment, ...] | None = None
    how: How = How.ALL

    @property
    def removes(self) -> bool:
        """Whether nothing is to be left of the set, which is always right."""
        return self.records == () and self.comments == ()


class _Unreadable(ValueError):
    """Records of a set cannot be read: their places in it, and why."""

    def __init__(self, faults: Sequence[tuple[int, Exception]]) -> None:
        super().__init__()
        self.faults = faults


def edited(before: ZoneSets, replacements: Sequence[Replacement]) -> ZoneSets:
    """The zone after the replacements, the same object where they change nothing; raises InvalidSite."""
    sets, changed = dict(before.sets), set[Key]()
    types: dict[Labels, set[int]] = {}
    for record_set in before.sets.values():
        _note(types, record_set)
    problems, seen = [], set[tuple[Key, bool]]()
    for wanted in replacements:
        try:
            key = _put(sets, types, before.zone.name, wanted)
            if (key, wanted.removes) in seen:
                raise ValueError("occurs twice in one request")
            seen.add((key, wanted.removes))
            changed.add(key)
        except _Unreadable as error:
            where = f"zone.{before.zone.name}.{wanted.name}.{wanted.rtype}.records"
            problems += [Problem(f"{where}.{place}", f"cannot be stored: {fault}") for place, fault in error.faults]
        except UNREADABLE as error:
            where = f"zone.{before.zone.name}.{wanted.name}.{wanted.rtype}"
            problems.append(Problem(where, f"cannot be stored: {error}"))
    if problems:
        raise InvalidSite(problems)
    return finished(before, sets, changed)


def _put(sets: dict[Key, RecordSet], types: dict[Labels, set[int]], apex: str, wanted: Replacement) -> Key:
    """Make one set what it shall be; the key of it. Raises ValueError, or what dnspython does for names and types."""
    if not wanted.name.isascii():
        raise ValueError("has letters that are not ASCII in its name; write them as xn-- (RFC 5890) or as \\DDD")
    owner, rtype = dns.name.from_text(wanted.name).labels[:-1], read_type(wanted.rtype)
    key = (lowered(owner), rtype)
    old = sets.get(key, RecordSet(owner, rtype))
    if not wanted.removes:
        _check_place(key, labels_of(apex), types, None if wanted.how is How.LESS else wanted.records)
    entries, comments = old.entries, old.comments if wanted.comments is None else wanted.comments
    if wanted.records is not None:
        entries = tuple(sorted(_entries(old, wanted), key=lambda entry: entry.disabled))  # as they will be read again
        if len(entries) > 1 and rtype in SINGLE:
            raise ValueError("can have one record only")
        if len({entry.rdata for entry in entries}) < len(entries):
            raise ValueError("has the same record twice")
        if not entries and wanted.comments is None:
            comments = ()
    new = RecordSet(old.owner, rtype, entries, comments)
    if entries or comments:
        sets[key] = new
    else:
        sets.pop(key, None)
    _note(types, new)
    return key


def _entries(old: RecordSet, wanted: Replacement) -> list[Entry]:
    """The records that a set shall have. Those that it gains have its TTL, unless another is named for all."""
    held = old.entries if wanted.how is not How.ALL else ()
    ttl = wanted.ttl if wanted.ttl is not None else held[0].ttl if held else None
    if ttl is None and wanted.how is How.MORE:
        raise ValueError("has no records yet: a ttl is missing")
    named = _named(old.rtype, ttl or 0, wanted.records or ())
    if wanted.how is How.LESS:
        gone = {entry.rdata for entry in named}
        return [entry for entry in held if entry.rdata not in gone]
    known = {entry.rdata for entry in held}
    return [*(replace(entry, ttl=ttl or 0) for entry in held), *(entry for entry in named if entry.rdata not in known)]


def _named(rtype: int, ttl: int, records: Sequence[tuple[str, bool]]) -> list[Entry]:
    """The records of contents; raises _Unreadable for all that are none."""
    entries: list[Entry] = []
    faults: list[tuple[int, Exception]] = []
    for place, (text, disabled) in enumerate(records):
        try:
            entries.append(entry_of(rtype, ttl, text, disabled=disabled))
        except UNREADABLE as error:
            faults.append((place, error))
    if faults:
        raise _Unreadable(faults)
    return entries


def _check_place(key: Key, apex: Labels, types: Mapping[Labels, set[int]], records: Sequence[object] | None) -> None:
    """Raise ValueError where a set cannot be at its name; PowerDNS checks CNAMEs set by set, also for no records."""
    owner, rtype = key
    if owner[len(owner) - len(apex) :] != apex:
        raise ValueError("is out of zone")
    if dns.rdatatype.is_metatype(dns.rdatatype.RdataType.make(rtype)):
        raise ValueError("is no type of data")
    if records and AT_APEX.get(rtype, owner == apex) != (owner == apex):
        raise ValueError(f"can be {'at' if AT_APEX[rtype] else 'below'} the apex only")
    others = types.get(owner, set()) - {rtype}
    if records is not None and others and (rtype == CNAME or CNAME in others):
        raise ValueError("a CNAME must be alone, and this name has other records already")


def _note(types: dict[Labels, set[int]], record_set: RecordSet) -> None:
    """Keep which types a name serves."""
    here = types.setdefault(record_set.key[0], set())
    (here.add if record_set.served else here.discard)(record_set.rtype)


def finished(before: ZoneSets, sets: dict[Key, RecordSet], touched: Iterable[Key]) -> ZoneSets:
    """The zone with these sets, which differ from those before at `touched` keys only: checked, and its serial raised
    unless its SOA has changed too. `before` where nothing differs; raises InvalidSite."""
    changed = [key for key in touched if _shown(sets, key) != _shown(before.sets, key)]
    if not changed:
        return before
    name = before.zone.name
    soa = (labels_of(name), int(SOA))
    if len(sets[soa].entries if soa in sets else ()) != 1 or sets[soa].entries[0].disabled:
        raise InvalidSite([Problem(f"zone.{name}", "a zone has one SOA record, which is served")])
    if soa not in changed and any(_served(sets, key) != _served(before.sets, key) for key in changed):
        sets[soa] = replace(sets[soa], entries=(_raised(sets[soa].entries[0]),))
    _check(name, sets, [sets[key] for key in changed if key in sets])
    return ZoneSets(replace(before.zone, text=text_of(name, sets)), sets)


def with_higher_serial(zone: Zone) -> Zone:
    """The zone with its serial raised, in canonical form, and nothing else changed; raises InvalidSite."""
    before, soa = read_sets(zone), (labels_of(zone.name), int(SOA))
    if soa not in before.sets:
        raise InvalidSite([Problem(f"zone.{zone.name}", "has no SOA record")])
    raised = replace(before.sets[soa], entries=tuple(map(_raised, before.sets[soa].entries)))
    return finished(before, {**before.sets, soa: raised}, [soa]).zone


def _check(name: str, sets: Mapping[Key, RecordSet], changed: Iterable[RecordSet]) -> None:
    """Raise InvalidSite unless what changed reads back as it is, and the whole can be served."""
    apex = labels_of(name)
    wanted = [record.rdata for record_set in changed for record in record_set.records()]
    text = text_of(name, {record_set.key: record_set for record_set in changed})
    _, written, problems = read_zone(Zone(name, text))
    if [record.rdata for record in written] != wanted:
        raise InvalidSite(problems[:1] or [Problem(f"zone.{name}", "holds a record that no zone file can hold")])
    faults = zone_problems(apex, [record for record_set in sets.values() for record in record_set.records()])
    if problems := [Problem(f"zone.{name}", re.sub(r"^line 0: ", "", text)) for text in faults]:
        raise InvalidSite(problems)


def _shown(sets: Mapping[Key, RecordSet], key: Key) -> object:
    """What the API shows of a set, in no order."""
    record_set = sets.get(key)
    return record_set and ({(e.ttl, e.content, e.disabled) for e in record_set.entries}, record_set.comments)


def _served(sets: Mapping[Key, RecordSet], key: Key) -> object:
    return {(entry.ttl, entry.rdata.to_text()) for entry in sets[key].served} if key in sets else set()


def _raised(entry: Entry) -> Entry:
    soa = entry.rdata
    assert isinstance(soa, dns.rdtypes.ANY.SOA.SOA)  # noqa: S101 - the set of that type
    return replace(entry, rdata=soa.replace(serial=(soa.serial + 1) % (1 << 32) or 1))
