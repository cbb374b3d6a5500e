"""A zone file with what its `$INCLUDE` lines name put in their places (RFC 1035 section 5.1), as BIND does it.

The result is one text, which is what is stored: nodes and the API never read files. Origin and owner of the
including file go on after an `$INCLUDE`, the TTLs of `$TTL` and of the record before are those of the text as a whole.
Who reads the files, and which ones may be read, is the caller's matter.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

import dns.exception
import dns.name

from dnsvip.dns.zones.lexer import BYTE_ORDER_MARK, Entry, entries, quoted_word, word
from dnsvip.dns.zones.record import labels_of
from dnsvip.errors import ConfigError, Problem, ZoneError
from dnsvip.site import Zone

DEEPEST = 8
"""Files that may include one another: a zone file, a file that it includes, and so on."""

MOST_CHARACTERS = 128 << 20
"""Characters of one zone with all that it includes."""

_INCLUDE = re.compile(r"^\$INCLUDE\b", re.IGNORECASE | re.MULTILINE)


class Place(int):
    """A line of an included file; as text it names the file too."""

    file: str

    def __str__(self) -> str:
        return f"{int(self)} of {self.file}"


class Places:
    """Where the lines of an expanded text come from."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._runs: list[tuple[int, str]] = []

    def add(self, at: int, line: int, file: str) -> None:
        """The text from line `at` on is that of `file` ("": the zone file) from `line` on."""
        self._starts.append(at)
        self._runs.append((line, file))

    def place(self, at: int) -> int:
        """Where line `at` of the text stands."""
        run = bisect_right(self._starts, at) - 1
        line, file = self._runs[run]
        place = Place(line + at - self._starts[run])
        place.file = file
        return place if file else int(place)


@dataclass(frozen=True, slots=True)
class Expanded:
    """A zone with its includes in place; `places` where it has some, and what could not be included."""

    zone: Zone
    places: Places | None = None
    problems: tuple[Problem, ...] = ()


def expanded(zone: Zone, read: Callable[[str], str]) -> Expanded:
    """A zone of a site file with its includes in place. `read` gives the text of a file; it raises ConfigError, whose
    text says why it cannot."""
    if not _INCLUDE.search(zone.text):
        return Expanded(zone)
    try:
        reader = _Expander(dns.name.Name((*labels_of(zone.name), b"")), read)
    except ZoneError as error:
        return Expanded(zone, problems=tuple(error.problems))
    reader.put(zone.text)
    problems = tuple(Problem(f"zone.{zone.name}", text) for text in reader.problems)
    return Expanded(replace(zone, text=reader.text), reader.places, problems)


@dataclass(slots=True)
class _Owner:
    """The owner of the records that follow, as it is written, and its origin."""

    text: str
    origin: dns.name.Name

    def absolute(self) -> str | None:
        """The whole name; None where it is none, which is said where it stands."""
        name = _name(self.text, self.origin)
        return None if name is None else name.to_text()


class _Fault(ValueError):
    """Why a directive cannot be followed."""


class _Expander:
    """Puts files together, line by line."""

    def __init__(self, origin: dns.name.Name, read: Callable[[str], str]) -> None:
        self.places, self.problems = Places(), list[str]()
        self._origin, self._read = origin, read
        self._owner: _Owner | None = None
        self._files: list[str] = [""]
        self._lines: list[str] = []
        self._characters = 0

    @property
    def text(self) -> str:
        """All that has been put together."""
        return "\n".join(self._lines)

    def put(self, text: str) -> None:
        """Add a file, and what it includes."""
        lines, done = text.split("\n"), 0
        self.places.add(len(self._lines) + 1, 1, self._files[-1])
        self._characters += len(text)
        resumed = False  # an included file has ended, and no record with an owner of its own has followed
        for entry in entries(text):
            if entry.fault:
                if len(self._files) > 1 and entry.end == len(lines):  # it would go on in the including file
                    self._fail(entry, entry.fault)
                    return
            elif not entry.blank and entry.text[0] == "$":
                name, at = word(entry.text, 0)
                if name.upper() == "$INCLUDE":
                    self._lines += lines[done : entry.line - 1]
                    self._follow(entry, at)
                    done, resumed = entry.end, True
                    self.places.add(len(self._lines) + 1, done + 1, self._files[-1])
                elif name.upper() == "$ORIGIN":
                    self._origin = _name(word(entry.text, at)[0], self._origin) or self._origin
            elif not entry.blank:
                self._owner, resumed = _Owner(quoted_word(entry.text, 0)[0], self._origin), False
            elif resumed:
                resumed = False
                self._name_owner(entry, lines)
        self._lines += lines[done:]

    def _name_owner(self, entry: Entry, lines: list[str]) -> None:
        """Write out the owner of the first record after an included file: it is that of the record before."""
        if self._owner is None:
            self._fail(entry, "has no owner, and no record before it in this file has one")
        elif (owner := self._owner.absolute()) is not None:
            lines[entry.line - 1] = owner + lines[entry.line - 1]

    def _follow(self, entry: Entry, at: int) -> None:
        """$INCLUDE FILE [ORIGIN]; origin and owner are as before when it is done."""
        origin, owner = self._origin, self._owner
        try:
            file, at = quoted_word(entry.text, at)
            self._set_origin(entry, at)
            text = self._text_of(file)
        except (_Fault, ConfigError) as error:
            self._fail(entry, str(error))
            self._origin = origin
            self._lines.append("")
            return
        self._lines.append(f"$ORIGIN {self._origin} ; $INCLUDE {file}")
        self._files.append(file)
        self.put(text)
        self._files.pop()
        self._origin, self._owner = origin, owner
        self._lines.append(f"$ORIGIN {origin} ; end of {file}")

    def _set_origin(self, entry: Entry, at: int) -> None:
        text, at = word(entry.text, at)
        if rest := entry.text[at:].strip(" "):
            raise _Fault(f"{rest[:80]!r} is too much")
        name = _name(text, self._origin) if text else self._origin
        if name is None:
            raise _Fault(f"{text[:80]!r} is not a domain name")
        self._origin = name

    def _text_of(self, file: str) -> str:
        if not file:
            raise _Fault("names no file")
        if "\\" in file:
            raise _Fault("the file's name must be ASCII and have no escapes")
        if file in self._files:
            raise _Fault(f"{file} includes itself")
        if len(self._files) >= DEEPEST:
            raise _Fault(f"is nested too deeply; {DEEPEST} files may include one another")
        text = self._read(file)
        if self._characters + len(text) > MOST_CHARACTERS:
            raise _Fault(f"makes the zone longer than {MOST_CHARACTERS} characters, the most with all its files")
        if text.startswith(BYTE_ORDER_MARK):
            raise _Fault(f"{file} begins with a byte order mark (U+FEFF); save it without")
        return text

    def _fail(self, entry: Entry, why: str) -> None:
        file = f" of {self._files[-1]}" if self._files[-1] else ""
        self.problems.append(f"line {entry.line}{file}: {entry.text.strip()[:80]!r} cannot be read: {why}")


def _name(text: str, origin: dns.name.Name) -> dns.name.Name | None:
    try:
        return dns.name.from_text(text, origin) if text else None
    except (dns.exception.DNSException, UnicodeError, ValueError):
        return None
