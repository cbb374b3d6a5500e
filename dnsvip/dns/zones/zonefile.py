"""The text of a zone file as checked records (RFC 1035 section 5, RFC 2308 section 4), read as BIND reads it.

`read_zone` finds everything that is wrong with a zone, with the line it is on, so that a zone that cannot be served is
refused when it is applied, not when it is queried. What can be made of a short text is bounded before it is made. It
knows nothing about serving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

import dns.exception
import dns.name
import dns.rdataclass
import dns.rdtypes.ANY.SOA

from dnsvip.dns.protocol.message import Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones.generate import parse_range, substituted
from dnsvip.dns.zones.include import Places
from dnsvip.dns.zones.lexer import BYTE_ORDER_MARK, Entry, entries, quoted_word, word
from dnsvip.dns.zones.rdata import read_data, read_type
from dnsvip.dns.zones.record import MAX_TTL, Record, labels_of, record_of, unique
from dnsvip.dns.zones.rules import conflicts, missing
from dnsvip.errors import Problem, ZoneError
from dnsvip.site import Zone

MOST_RECORDS = 1_000_000
"""Records of one zone; each takes about 1 KiB once it is compiled."""

MOST_GENERATED = 65_536
"""Records of one zone that its `$GENERATE` lines make together: a /16 of addresses."""

MOST_GENERATED_CHARACTERS = 16 << 20
"""Characters of their owners and data together: a line of 64 KiB makes 65,536 times as much."""

MOST_PROBLEMS = 200
"""Problems of one zone that are listed; the rest are counted."""

SIGNED_TWICE = (
    "is signed already (RRSIG records), and dnssec.enabled is true; load the unsigned zone, or set it to false"
)

LONGEST_CLASS = 16
"""Characters of a class: "CLASS65535" has ten."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def read_zone(zone: Zone, places: Places | None = None) -> tuple[Labels, list[Record], list[Problem]]:
    """The zone's apex and records, each once, and its problems; with problems, the records are unusable. `places` says
    where the lines of its text stood before other files were included."""
    try:
        apex = labels_of(zone.name)
    except ZoneError as error:
        return (), [], error.problems
    if zone.text.startswith(BYTE_ORDER_MARK):
        text = "line 1: begins with a byte order mark (U+FEFF); save the zone file without it"
        return apex, [], [Problem(f"zone.{zone.name}", text)]
    lines, unreadable = read_lines(apex, zone.text, places)
    records = unique(lines)
    problems = [*unreadable, *conflicts(apex, records)]
    if zone.is_signed and any(record.rtype == Type.RRSIG for record in records):
        problems.append(SIGNED_TWICE)
    if not unreadable:
        problems += missing(apex, records)
    if len(problems) > MOST_PROBLEMS:
        problems[MOST_PROBLEMS:] = [f"and {len(problems) - MOST_PROBLEMS} more problems"]
    return apex, records, [Problem(f"zone.{zone.name}", text) for text in problems]


def read_lines(apex: Labels, text: str, places: Places | None = None) -> tuple[list[Record], list[str]]:
    """The records of a zone file, line by line, and what is wrong with lines that cannot be read."""
    reader = _Reader(apex, places)
    reader.read(text)
    return reader.records, reader.problems


def parse_ttl(text: str) -> int | None:
    """A TTL such as "300" or "1h30m" in seconds; None where the text is something else."""
    if text.isdigit():
        ttl = int(text) if len(text) <= 10 else None
    else:
        ttl, digits = 0, ""
        for letter in text.lower():
            if letter.isdigit():
                digits += letter
            elif not digits or letter not in UNITS:
                return None
            else:
                ttl, digits = ttl + int(digits) * UNITS[letter], ""
        if digits or not text:
            return None
    return None if ttl is None or ttl >= 1 << 32 else ttl if ttl <= MAX_TTL else 0


class _Fault(ValueError):
    """What is wrong with an entry."""


class _TooMany(_Fault):
    """A bound is reached, and nothing more is read."""


class _Reader:
    """Reads entries into `records`, and lists the `problems` of those that cannot be read."""

    def __init__(self, apex: Labels, places: Places | None = None) -> None:
        self._places = places
        self.records: list[Record] = []
        self.problems: list[str] = []
        self._origin = dns.name.Name((*apex, b""))
        self._owner: Labels | None = None
        self._default_ttl: int | None = None
        self._last_ttl: int | None = None
        self._generated = self._generated_characters = 0
        self._lost = False  # the owner of the records that follow is not known, and that has been said

    def read(self, text: str) -> None:
        """Read a whole zone file."""
        for at in entries(text):
            entry = at if self._places is None else replace(at, line=self._places.place(at.line))
            try:
                if entry.fault:
                    self._lost = self._lost or not entry.blank
                    raise _Fault(entry.fault)
                directive = None if entry.blank or entry.text[0] != "$" else self._directive(entry)
                if directive is None:
                    self._record(entry)
            except _TooMany as error:
                self.problems.append(f"line {entry.line}: {error}")
                return
            except ValueError as error:
                self.problems.append(f"line {entry.line}: {entry.text.strip()[:80]!r} cannot be read: {error}")

    def _directive(self, entry: Entry) -> bool:
        name, at = word(entry.text, 0)
        read = _DIRECTIVES.get(name.upper())
        if read is None:
            also = "; files are included where a site file names the zone file" if name.upper() == "$INCLUDE" else ""
            raise _Fault(f"{name} is not a directive taken here; those are {', '.join(_DIRECTIVES)}{also}")
        read(self, entry, at)
        return True

    def _ttl_directive(self, entry: Entry, at: int) -> None:
        text, at = word(entry.text, at)
        ttl = parse_ttl(text)
        if ttl is None:
            raise _Fault(f"{text!r} is not a TTL; write seconds, or numbers with units such as 1h30m")
        self._end(entry, at)
        self._default_ttl = ttl

    def _origin_directive(self, entry: Entry, at: int) -> None:
        text, at = word(entry.text, at)
        self._end(entry, at)
        self._origin = self._name(text)

    def _generate(self, entry: Entry, at: int) -> None:
        """$GENERATE RANGE OWNER [TTL] [CLASS] TYPE DATA."""
        text, at = word(entry.text, at)
        numbers = parse_range(text)
        self._generated += len(numbers)
        if self._generated > MOST_GENERATED:
            raise _TooMany(f"$GENERATE lines make {self._generated} records; {MOST_GENERATED} is the most in a zone")
        owner, at = word(entry.text, at)
        ttl, rtype, at = self._head(entry, at)
        data, at = quoted_word(entry.text, at)
        self._end(entry, at)
        for number in numbers:
            name, value = substituted(owner, number), substituted(data, number)
            self._generated_characters += len(name) + len(value)
            if self._generated_characters > MOST_GENERATED_CHARACTERS:
                text = f"$GENERATE lines make more than {MOST_GENERATED_CHARACTERS} characters"
                raise _TooMany(f"{text}, the most in a zone")
            self._add(entry.line, self._name(name).labels[:-1], ttl, rtype, value)

    def _record(self, entry: Entry) -> None:
        at = 0
        if not entry.blank:
            self._lost = True
            text, at = quoted_word(entry.text, 0)
            self._owner = self._name(text).labels[:-1]
            self._lost = False
        if self._lost:
            return
        if self._owner is None:
            raise _Fault("has no owner, and no record before it has one")
        ttl, rtype, at = self._head(entry, at)
        self._add(entry.line, self._owner, ttl, rtype, entry.text[at:])

    def _head(self, entry: Entry, at: int) -> tuple[int | None, int, int]:
        """TTL (None: not given), type, and where the data begins: [CLASS] [TTL] TYPE or [TTL] [CLASS] TYPE."""
        text, after = word(entry.text, at)
        rdclass = _class(text)
        if rdclass is not None:
            text, after = word(entry.text, after)
        ttl = parse_ttl(text)
        if ttl is not None:
            self._last_ttl = ttl
            text, after = word(entry.text, after)
        if rdclass is None and (rdclass := _class(text)) is not None:
            text, after = word(entry.text, after)
        if not text:
            raise _Fault("has no type; a record is [NAME] [TTL] [CLASS] TYPE DATA")
        rtype = read_type(text)
        if rdclass not in (None, dns.rdataclass.IN):
            raise _Fault("is of another class than IN, the only one served")
        return ttl, rtype, after

    def _add(self, line: int, owner: Labels, ttl: int | None, rtype: int, data: str) -> None:
        rdata, wire = read_data(rtype, data, self._origin)
        if ttl is None:
            ttl = self._implicit_ttl(rdata)
        if len(self.records) >= MOST_RECORDS:
            raise _TooMany(f"is one of more than {MOST_RECORDS} records, the most in a zone")
        self.records.append(record_of(line, owner, ttl, rdata, wire))

    def _implicit_ttl(self, rdata: object) -> int:
        """The TTL of a record that has none: of $TTL, of the record before; an SOA's own minimum, from then on."""
        if self._default_ttl is not None:
            return self._default_ttl
        if self._last_ttl is not None:
            return self._last_ttl
        if not isinstance(rdata, dns.rdtypes.ANY.SOA.SOA):
            raise _Fault("has no TTL; write $TTL before it")
        self._default_ttl = rdata.minimum if rdata.minimum <= MAX_TTL else 0
        return self._default_ttl

    def _name(self, text: str) -> dns.name.Name:
        if not text:
            raise _Fault("a name is missing")
        try:
            return dns.name.from_text(text, self._origin)
        except (dns.exception.DNSException, UnicodeError, ValueError) as error:
            raise _Fault(f"{text[:80]!r} is not a domain name: {error}") from None

    def _end(self, entry: Entry, at: int) -> None:
        if entry.text[at:].strip(" "):
            raise _Fault(f"{entry.text[at:].strip(' ')[:80]!r} is too much")


_DIRECTIVES: Mapping[str, Callable[[_Reader, Entry, int], None]] = {
    "$ORIGIN": _Reader._origin_directive,
    "$TTL": _Reader._ttl_directive,
    "$GENERATE": _Reader._generate,
}


def _class(text: str) -> int | None:
    """The number of a class, None where the text is none."""
    return _known_class(text) if len(text) <= LONGEST_CLASS else None


@lru_cache(1024)
def _known_class(text: str) -> int | None:
    try:
        return int(dns.rdataclass.from_text(text)) if text else None
    except (dns.exception.DNSException, ValueError):
        return None
