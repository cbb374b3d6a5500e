"""Names in a DNS message (RFC 1035 section 4.1.4), read for their length alone, in time linear in the message however
they are compressed."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST = 255
"""Octets of a name, its root label included (RFC 1035 section 2.3.4)."""
LONGEST_LABEL = 63
MOST_POINTERS = 128
"""No name has more labels; from each a pointer may lead to the next."""
_POINTER = 0xC0


class BadName(Exception):
    """Octets that are no name."""


@dataclass(frozen=True, slots=True)
class NameSize:
    """A name's octets when expanded, and where it ends in the message. Its first pointer leads to octets that end at
    `behind` (0: it has none), and there are so many `pointers` on the way."""

    expanded: int
    end: int
    behind: int = 0
    pointers: int = 0


class WireNames:
    """The names of one message. What begins at an offset is read once: all that lead there take it from here."""

    def __init__(self, wire: bytes) -> None:
        self._wire = wire
        self._known: dict[int, NameSize] = {}

    def at(self, offset: int) -> NameSize:
        """The name at an offset; raises BadName where there is none, or a pointer in it does not lead to octets before
        those that it is in."""
        followed: list[tuple[list[int], int]] = []  # labels before a pointer, and where that is
        labels, here = self._labels(offset)
        while here not in self._known and self._octet(here):
            target = (self._octet(here) << 8 | self._octet(here + 1)) & ~(_POINTER << 8)
            if target >= (labels or [here])[0]:
                raise BadName(f"a pointer at {here} that does not lead back")
            followed.append((labels, here))
            labels, here = self._labels(target)
        size = self._note(labels, here, self._known.get(here) or NameSize(1, here + 1))
        for labels, here in reversed(followed):
            size = self._note(labels, here, NameSize(size.expanded, here + 2, size.end, size.pointers + 1))
        return size

    def _labels(self, offset: int) -> tuple[list[int], int]:
        """Where the labels at an offset begin, and where a known name, a pointer or the root label follows them."""
        starts: list[int] = []
        while offset not in self._known:
            octet = self._octet(offset)
            if not octet or octet >= _POINTER:
                break
            if octet > LONGEST_LABEL:
                raise BadName(f"a label at {offset} of a type that does not exist")
            starts.append(offset)
            offset += 1 + octet
            if offset - starts[0] >= LONGEST:
                raise BadName(f"a name at {starts[0]} that is too long")
        return starts, offset

    def _note(self, labels: list[int], here: int, size: NameSize) -> NameSize:
        """Note the names that begin at these labels, and go on with that of `size` at `here`; the first of them."""
        first = (labels or [here])[0]
        if size.behind > first or size.pointers > MOST_POINTERS:
            raise BadName(f"a pointer in the name at {first} to octets behind it, or to too many others")
        if size.expanded + here - first > LONGEST:
            raise BadName(f"a name at {first} that is too long")
        self._known[here] = size
        for start in labels:
            self._known[start] = NameSize(size.expanded + here - start, size.end, size.behind, size.pointers)
        return self._known[first]

    def _octet(self, offset: int) -> int:
        if offset >= len(self._wire):
            raise BadName("the message ends in a name")
        return self._wire[offset]
