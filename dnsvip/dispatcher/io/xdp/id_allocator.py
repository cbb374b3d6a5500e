"""Small numbers for names, which the kernel program uses instead: a name keeps its number as long as it is in use.

A number that is free again is given away as late as possible. No kernel calls here: map_writer.py saves the numbers in
a map, so that they survive a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from hashlib import sha256

from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.errors import PlatformError


class TooMany(PlatformError):
    """More objects of a kind than the program holds: a fault of no single one."""


class Numbers:
    """Numbers 0 to `bound` - 1 for the names of one kind; `kind` names it in errors."""

    def __init__(self, kind: str, bound: int, known: Mapping[int, str] | None = None) -> None:
        self.kind, self.bound = kind, bound
        self.names: dict[int, str] = dict(known or {})
        self._numbers = {name: number for number, name in self.names.items()}
        self._next = max(self.names, default=-1) + 1
        self._wanted: frozenset[str] = frozenset(self.names.values())
        self._in_force = self._wanted
        self.taken: set[int] = set()
        """Numbers that another name had before: whoever has noted anything by them forgets it, and empties this."""

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]

    def get(self, name: str | None) -> int | None:
        """The number of a name; None where it has none."""
        return self._numbers.get(name or "")

    def assign(self, names: Iterable[str]) -> None:
        """Give each of `names` a number. Takes the number of another name only where no unused one is left, and never
        that of a name in force; raises PlatformError where there are too many names."""
        wanted = list(dict.fromkeys(names))
        if len(wanted) > self.bound:
            raise TooMany(
                f'mode = "xdp" holds {self.bound} {self.kind}, the site has {len(wanted)}: use fewer, or mode = "user"'
            )
        self._wanted = frozenset(wanted)
        keep = self._wanted | self._in_force
        for name in wanted:
            if name not in self._numbers:
                self._allocate(name, keep)

    @property
    def in_force(self) -> frozenset[str]:
        """The names that keep their numbers whatever is assigned."""
        return self._in_force

    def hold(self) -> None:
        """The names of the last `assign` come into force beside earlier ones, from now until `enforce`."""
        self._in_force |= self._wanted

    def enforce(self) -> None:
        """The names of the last `assign` are in force from now on, earlier ones no longer."""
        self._in_force = self._wanted

    def _allocate(self, name: str, keep: frozenset[str]) -> None:
        number = self._next
        if number < self.bound:
            self._next += 1
        else:
            number = next((n for n, old in self.names.items() if old not in keep), -1)
            if number < 0:
                raise TooMany(f"too many {self.kind} at once; try again after the next change")
            del self._numbers[self.names.pop(number)]
            self.taken.add(number)
        self.names[number] = name
        self._numbers[name] = number


KINDS = ("clusters", "tiers", "pools", "servers", "rings", "keys")
"""What has numbers. The position is the kind's number in map `names`."""
_BOUNDS = ("MAX_CLUSTERS", "MAX_TIERS", "MAX_POOLS", "MAX_SERVERS", "MAX_RINGS", "MAX_CIPHERS")
"""How many of each the program holds (enum bounds)."""


class IdAllocator:
    """What one image hands on to the next: the numbers of names (rings and keys are named by digests), and those of
    value tables, which are immutable: a changed table is a new one."""

    def __init__(self, names: Mapping[int, Mapping[int, str]] | None = None, first_table: int = 1) -> None:
        known, bounds = names or {}, TYPES.constants("bounds")
        numbers = [
            Numbers(kind, bounds[bound], known.get(n))
            for n, (kind, bound) in enumerate(zip(KINDS, _BOUNDS, strict=True))
        ]
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

    def hold(self) -> None:
        """The last assignments come into force: no number of theirs or of earlier ones is given to another."""
        for numbers in self.kinds:
            numbers.hold()

    def enforce(self, tables: Set[int]) -> None:
        """The last assignments are in force: what only older images used, value tables included, may be reused."""
        for numbers in self.kinds:
            numbers.enforce()
        self.tables = {content: number for content, number in self.tables.items() if number in tables}


def digest(content: bytes) -> str:
    """A name for a ring or a key."""
    return sha256(b"dnsvip digest" + content).hexdigest()[:32]
