"""A zone as record sets with everything PowerDNS's API stores in them, converted from and to zone text.

What a zone file cannot express is kept in structured comments, one per line. Other readers of the text see the same
records, and site files, backups and the API carry the comments along:

    ;dnsvip-disabled OWNER TTL IN TYPE CONTENT     a record that is kept and not served
    ;dnsvip-content OWNER TYPE CONTENT             how the strings of a record were written, if not as in its line
    ;dnsvip-comment OWNER TYPE JSON                a comment: content, account, modified_at (unix seconds)

CONTENT is as in content.py; OWNER is relative to the apex unless it ends in a dot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TypeAlias

import dns.exception
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.SOA

from dnsvip.dns.protocol.names import Labels, lowered
from dnsvip.dns.zones.content import UNREADABLE, content_of, read_content
from dnsvip.dns.zones.generate import may_generate
from dnsvip.dns.zones.record import Record, labels_of, record_of
from dnsvip.dns.zones.zonefile import read_zone
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Zone

Key: TypeAlias = tuple[Labels, int]
"""Which set: the owner's labels in lower case, and the type."""

_REMARK = re.compile(r";dnsvip-(disabled|content|comment)[ \t]+(.*)")
_DISABLED = re.compile(r"(\S+)[ \t]+(\d{1,10})[ \t]+IN[ \t]+(\S+)[ \t]+(.+)")
_PLAIN = re.compile(rb"[A-Za-z0-9_*-]+")
_OTHER = re.compile(r"(\S+)[ \t]+(\S+)[ \t]+(.+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a set; `written` is its content as it was sent, "" where that is `content_of(rdata)`."""

    ttl: int
    rdata: dns.rdata.Rdata
    written: str = ""
    disabled: bool = False

    @property
    def content(self) -> str:
        """The record as PowerDNS's API shows it."""
        return self.written or content_of(self.rdata)


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on a set; `modified_at` in unix seconds."""

    content: str
    account: str
    modified_at: int


@dataclass(frozen=True, slots=True)
class RecordSet:
    """The records of a name and type, disabled ones last, and the comments on them; either may be empty."""

    owner: Labels
    rtype: int
    entries: tuple[Entry, ...] = ()
    comments: tuple[Comment, ...] = ()

    @property
    def key(self) -> Key:
        """Which set this is."""
        return lowered(self.owner), self.rtype

    @property
    def name(self) -> str:
        """The owner, absolute."""
        return dns.name.Name((*self.owner, b"")).to_text()

    @property
    def type_name(self) -> str:
        """The type's mnemonic, or TYPE and its number."""
        return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(self.rtype))

    @property
    def ttl(self) -> int:
        """Seconds; where records differ the lowest counts (RFC 2181 section 5.2). 0 without records."""
        return min((entry.ttl for entry in self.entries), default=0)

    @property
    def served(self) -> tuple[Entry, ...]:
        """The records that queries and transfers see."""
        return tuple(entry for entry in self.entries if not entry.disabled)

    def records(self) -> list[Record]:
        """Those that are served, as a zone's reader gives them; they have no line."""
        return [record_of(0, self.owner, entry.ttl, entry.rdata) for entry in self.served]


@dataclass(frozen=True, slots=True)
class ZoneSets:
    """A zone and its sets in the order of its text."""

    zone: Zone
    sets: Mapping[Key, RecordSet]


NEAR = 1 << 12
"""Characters of a text in which its SOA is looked for first."""


def read_sets(zone: Zone) -> ZoneSets:
    """A zone's sets; raises InvalidSite for a text that cannot be served, or has a remark that cannot be read."""
    _, records, problems = read_zone(zone)
    if problems:
        raise InvalidSite(problems)
    entries: dict[Key, list[Entry]] = {}
    owners: dict[Key, Labels] = {}
    for record in records:
        key = (record.key, record.rtype)
        entries.setdefault(key, []).append(Entry(record.ttl, record.rdata))
        owners.setdefault(key, record.owner)
    sets = {key: RecordSet(owners[key], key[1], tuple(some)) for key, some in entries.items()}
    _add_remarks(zone, sets)
    return ZoneSets(zone, sets)


def text_of(name: str, sets: Mapping[Key, RecordSet]) -> str:
    """A zone's text, canonical: `$ORIGIN`, then each set with its remarks, one record a line."""
    apex = _apex(name)
    lines = (line for record_set in sets.values() for line in _lines(apex, record_set))
    return "".join(f"{line}\n" for line in (f"$ORIGIN {apex.to_text()}", *lines))


def _lines(apex: dns.name.Name, record_set: RecordSet) -> Iterator[str]:
    owner, rtype = _relative(record_set.owner, apex), record_set.type_name
    for comment in record_set.comments:
        yield f";dnsvip-comment {owner} {rtype} {json.dumps(asdict(comment))}"
    for entry in record_set.entries:
        if entry.disabled:
            yield f";dnsvip-disabled {owner} {entry.ttl} IN {rtype} {entry.content}"
            continue
        if entry.written:
            yield f";dnsvip-content {owner} {rtype} {entry.written}"
        yield f"{owner}\t{entry.ttl}\tIN\t{rtype}\t{entry.rdata.to_text()}"


def _relative(owner: Labels, apex: dns.name.Name) -> str:
    """An owner relative to the apex; without dnspython where nothing needs an escape, as that is slow."""
    below = owner[: len(owner) - len(apex) + 1]
    if below and all(map(_PLAIN.fullmatch, below)):
        return b".".join(below).decode("ascii")
    return dns.name.Name((*owner, b"")).relativize(apex).to_text()


def entry_of(rtype: int, ttl: int, content: str, *, disabled: bool = False) -> Entry:
    """A record from its content; raises ValueError. How strings were written is kept, as PowerDNS does."""
    rdata = read_content(rtype, content)
    written = content if '"' in content and content != content_of(rdata) else ""
    return Entry(ttl, rdata, written, disabled)


def _add_remarks(zone: Zone, sets: dict[Key, RecordSet]) -> None:
    if ";dnsvip-" not in zone.text:
        return
    apex, problems, remarks = _apex(zone.name), [], dict[Key, _Remarks]()
    for number, line in enumerate(zone.text.split("\n"), 1):
        if remark := _REMARK.fullmatch(line.rstrip("\r")):
            try:
                _add_remark(apex, remarks, *remark.groups())
            except UNREADABLE as error:
                problems.append(Problem(f"zone.{zone.name}", f"line {number}: {line[:80]!r} cannot be read: {error}"))
    if problems:
        raise InvalidSite(problems)
    for key, some in remarks.items():
        record_set = some.added(sets.get(key, RecordSet(some.owner, key[1])))
        if record_set.entries or record_set.comments:
            sets[key] = record_set


@dataclass(slots=True)
class _Remarks:
    """The remarks on one set: disabled records, comments, and how records are written, by their data."""

    owner: Labels
    disabled: list[Entry] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    written: dict[bytes, str] = field(default_factory=dict)

    def added(self, to: RecordSet) -> RecordSet:
        """A set with them. What is written of a record that is gone by now has been left behind."""
        entries = to.entries
        if self.written:
            entries = tuple(replace(one, written=self.written.get(one.rdata.to_digestable(), "")) for one in entries)
        return replace(to, entries=(*entries, *self.disabled), comments=(*to.comments, *self.comments))


def _add_remark(apex: dns.name.Name, remarks: dict[Key, _Remarks], kind: str, rest: str) -> None:
    words = (_DISABLED if kind == "disabled" else _OTHER).fullmatch(rest)
    if words is None:
        raise ValueError("it has too few words")
    name, *ttl, mnemonic, value = words.groups()
    owner, rtype = dns.name.from_text(name, apex).labels[:-1], int(dns.rdatatype.from_text(mnemonic))
    some = remarks.setdefault((lowered(owner), rtype), _Remarks(owner))
    match kind:
        case "disabled":
            some.disabled.append(entry_of(rtype, int(ttl[0]), value, disabled=True))
        case "content":
            some.written[read_content(rtype, value).to_digestable()] = value
        case _:
            some.comments.append(Comment(**json.loads(value)))


def _apex(name: str) -> dns.name.Name:
    return dns.name.Name((*labels_of(name), b""))


def soa_serial(zone: Zone) -> int:
    """The serial of a zone's SOA, 0 where it has none; where it is not near the beginning, the whole text is read."""
    serial = near_serial(zone, NEAR)
    return next(filter(None, map(_serial, read_zone(zone)[1])), 0) if serial is None else serial


def near_serial(zone: Zone, most: int) -> int | None:
    """As `soa_serial`, of an SOA within the first `most` characters; None where there is none, or lines before it make
    many records. Only as much of these is read as it takes."""
    if not zone.text:
        return 0
    near = zone.text[:most]
    if len(near) < len(zone.text):
        near = near[: near.rfind("\n") + 1]
    for text in (_head(near), near):
        if may_generate(text):
            return None
        for record in read_zone(Zone(zone.name, text))[1]:
            if (serial := _serial(record)) is not None:
                return serial
    return None


def _serial(record: Record) -> int | None:
    soa = record.rdata
    return soa.serial if isinstance(soa, dns.rdtypes.ANY.SOA.SOA) else None


def _head(text: str) -> str:
    """The text up to where the record ends that seems to be the SOA."""
    word = re.search(r"\bSOA\b", text, re.IGNORECASE)
    end = depth = 0
    while word and end < len(text) and (end < word.end() or depth > 0):
        start, end = end, (text.find("\n", end) + 1) or len(text)
        line = text[start:end].partition(";")[0]
        depth += line.count("(") - line.count(")")
    return text[:end]
