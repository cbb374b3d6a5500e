"""Small numbers for names, which stay the same as long as a name is in use: the kernel's program knows no names.

A number that became free is given away as late as possible. Pure; feed.py keeps them in a map of the kernel, so
that they stay the same when a process starts anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from hashlib import sha256

from dnsvip.dispatcher.io.xdp.layout import MAX_CIPHERS, MAX_CLUSTERS, MAX_POOLS, MAX_RINGS, MAX_SERVERS, MAX_TIERS
from dnsvip.errors import PlatformError


class Numbers:
    """Numbers 0 to `bound` - 1 for one kind of thing; `kind` names it in errors."""

    def __init__(self, kind: str, bound: int, known: Mapping[int, str] | None = None) -> None:
        self.kind, self.bound = kind, bound
        self.names: dict[int, str] = dict(known or {})
        self._numbers = {name: number for number, name in self.names.items()}
        self._next = max(self.names, default=-1) + 1
        self._wanted: frozenset[str] = frozenset(self.names.values())
        self._in_force = self._wanted

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]

    def get(self, name: str | None) -> int | None:
        """The number of a name; None where it has none."""
        return self._numbers.get(name or "")

    def settle(self, names: Iterable[str]) -> None:
        """Give every one of `names` a number. Numbers of others are taken only where no fresh one is left, and never
        those of names in force; raises PlatformError where there are too many names."""
        wanted = list(dict.fromkeys(names))
        if len(wanted) > self.bound:
            raise PlatformError(
                f'mode = "xdp" holds {self.bound} {self.kind}, the site has {len(wanted)}: use fewer, or mode = "user"'
            )
        self._wanted = frozenset(wanted)
        keep = self._wanted | self._in_force
        for name in wanted:
            if name not in self._numbers:
                self._give(name, keep)

    def enforce(self) -> None:
        """What was settled last is in force now; what was before is not any more."""
        self._in_force = self._wanted

    def _give(self, name: str, keep: frozenset[str]) -> None:
        number = self._next
        if number < self.bound:
            self._next += 1
        else:
            number = next((n for n, old in self.names.items() if old not in keep), -1)
            if number < 0:
                raise PlatformError(f"too many {self.kind} at once; try again after the next change")
            del self._numbers[self.names.pop(number)]
        self.names[number] = name
        self._numbers[name] = number


KINDS = (
    ("clusters", MAX_CLUSTERS),
    ("tiers", MAX_TIERS),
    ("pools", MAX_POOLS),
    ("servers", MAX_SERVERS),
    ("rings", MAX_RINGS),
    ("keys", MAX_CIPHERS),
)
"""What has numbers, and how many of it there may be."""


class IdAllocator:
    """What stays from one image to the next: the numbers of names (rings and keys have digests for names), and of
    tables of values, which never change: a changed table is a new one."""

    def __init__(self, names: Mapping[int, Mapping[int, str]] | None = None, first_table: int = 1) -> None:
        known = names or {}
        numbers = [Numbers(kind, bound, known.get(n)) for n, (kind, bound) in enumerate(KINDS)]
        self.clusters, self.tiers, self.pools, self.servers, self.rings, self.ciphers = self.kinds = tuple(numbers)
        self.tables: dict[frozenset[tuple[int, int]], int] = {}
        self.next_table = first_table
        self.translates = False

    def table(self, pairs: frozenset[tuple[int, int]]) -> int:
        """The number of a table of values with their meanings."""
        number = self.tables.get(pairs)
        if number is None:
            number = self.tables[pairs] = self.next_table
            self.next_table += 1
        return number

    def enforce(self, tables: Set[int]) -> None:
        """What was settled last is in force: what only older images used, tables too, may be used anew."""
        for numbers in self.kinds:
            numbers.enforce()
        self.tables = {content: number for content, number in self.tables.items() if number in tables}


def digest(content: bytes) -> str:
    """A name for a ring or a key."""
    return sha256(b"dnsvip digest" + content).hexdigest()[:32]
