"""Longest-prefix match, and the scope in which its result holds (RFC 7871 section 7.2.1).

A PrefixTable is immutable; `changed` returns another that shares everything the change does not touch, so one prefix
among ten million changes in a fraction of a millisecond. It takes 25 to 61 bytes per prefix in packed blocks, and a
look-up is two bisections whatever its size. Owners are numbers; 0 is nobody.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from dnsvip.site.identity.rows import BLOCK, Row, Rows

NOBODY = 0

ANEW = 32
"""A table in which more than one prefix in this many changes is rebuilt, which is faster then."""


def pack(address: int, length: int, owner: int) -> int:
    """A prefix as one integer: ten million sort in a third of the time and memory of tuples."""
    return (address << 8 | length) << 32 | owner


class PrefixTable:
    """Longest-prefix match over addresses of `width` bits (32 or 128); prefixes are (address, length, owner).

    Two views of the same prefixes are kept. The *runs* cut the address space where the owner changes,
    nested prefixes and neighbours of one owner already merged: they answer for whole addresses and
    give the scope. The prefixes themselves answer for blocks that contain more than one owner.
    """

    __slots__ = ("_count", "_prefixes", "_runs", "width")

    def __init__(self, prefixes: Iterable[tuple[int, int, int]], width: int) -> None:
        self.width = width
        self._sort([pack(*prefix) for prefix in prefixes])

    @classmethod
    def of_packed(cls, packed: list[int], width: int) -> PrefixTable:
        """A table of packed prefixes; sorts the list and empties it."""
        new = cls.__new__(cls)
        new.width = width
        new._sort(packed)
        return new

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        """Every prefix in order: address, length, owner."""
        yield from self._prefixes

    @property
    def lengths(self) -> set[int]:
        """The lengths of the prefixes."""
        return set().union(*self._prefixes.columns[0])

    @property
    def runs(self) -> Rows:
        """The runs in order: where each starts, and its owner, another one than that of the run before. They are not
        altered once there is a table."""
        return self._runs

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self._prefixes.size + self._runs.size

    def owner(self, address: int) -> int:
        """The owner of the longest prefix around `address`, NOBODY where there is none."""
        runs = self._runs
        if runs.wide:
            at, run = runs.last(address)
            return runs.columns[0][at][run]
        high = address >> runs.shift
        at = bisect_right(runs.index, high) - 1
        return runs.columns[0][at][bisect_right(runs.keys[at], high) - 1]

    def match(self, address: int, length: int) -> tuple[int, int]:
        """The owner of the block `address/length`, and the scope in which that answer holds.

        Where every address of the block has the same owner, the answer is that owner. Where owners differ inside it,
        the block says too little, and the answer is the owner of the longest prefix around all of it. The scope is in
        both cases the shortest prefix around `address` within which all addresses have one owner, in the second one
        longer than `length`: a resolver then keeps the answer for questions as short as this one.
        """
        runs = self._runs
        if runs.wide:
            at, run = runs.last(address)
        else:
            high = address >> runs.shift
            at = bisect_right(runs.index, high) - 1
            run = bisect_right(runs.keys[at], high) - 1
        scope = 0
        if start := runs.key(at, run):
            scope = self.width + 1 - (address ^ (start - 1)).bit_length()
        if after := self._after(at, run):
            scope = max(scope, self.width + 1 - (address ^ after).bit_length())
        if scope <= length:
            return runs.columns[0][at][run], scope
        return self._around(address, length), scope

    def exactly(self, address: int, length: int) -> int:
        """The owner of this very prefix, NOBODY where it is not here."""
        prefix = self._before(address, length)
        return prefix[2] if prefix and prefix[:2] == (address, length) else NOBODY

    def changed(self, gone: Iterable[tuple[int, int]], put: Iterable[tuple[int, int, int]]) -> PrefixTable:
        """The table without the prefixes of `gone` and then with those of `put`, which replace what is there."""
        wanted = dict.fromkeys(gone, NOBODY)
        wanted |= {(address, length): owner for address, length, owner in put}
        if not wanted:
            return self
        new: PrefixTable = PrefixTable.__new__(PrefixTable)
        new.width = self.width
        if len(wanted) * ANEW > self._count + BLOCK:
            kept = (row for row in self._prefixes if row[:2] not in wanted)
            more = sorted((address, length, owner) for (address, length), owner in wanted.items() if owner)
            new._build(heapq.merge(kept, more))
            return new
        new._count, new._prefixes, new._runs = self._count, self._prefixes.copy(), self._runs.copy()
        for (address, length), owner in wanted.items():
            new._put(address, length, owner)
        return new

    def _sort(self, packed: list[int]) -> None:
        packed.sort()
        self._build((key >> 40, key >> 32 & 0xFF, key & 0xFFFF_FFFF) for key in packed)
        packed.clear()

    def _build(self, ordered: Iterable[Row]) -> None:
        """Fill an empty table from (address, length, owner) in order."""
        self._prefixes, self._runs, self._count = Rows(self.width, "BI"), Rows(self.width, "I"), 0
        nest = _Nest(NOBODY, 0, 1 << self.width)
        rows: list[Row] = []
        for row in ordered:
            if rows and row[:2] == rows[-1][:2]:
                rows.pop()
            rows.append(row)
            nest.open(row[0], 1 << self.width - row[1], row[2])
            if len(rows) > 8 * BLOCK and row[0] != rows[-2][0]:
                self._flush(rows[:-1], nest.settled())
                rows = rows[-1:]
        self._flush(rows, nest.closed())

    def _flush(self, rows: list[Row], runs: list[Row]) -> None:
        self._prefixes.append(rows)
        self._runs.append(runs)
        self._count += len(rows)

    def _put(self, address: int, length: int, owner: int) -> None:
        """Give one prefix an owner, or remove it for NOBODY; only for a table that nobody reads yet."""
        same = [row for row in self._prefixes.between(address, address + 1) if row[1] != length]
        self._count += bool(owner) - bool(self.exactly(address, length))
        own = [(address, length, owner)] if owner else []
        self._prefixes.replace(address, address + 1, sorted([*same, *own], key=lambda row: row[1]))
        end = address + (1 << self.width - length)
        nest = _Nest(self._around(address, length - 1), address, end)
        for row in self._prefixes.between(address, end):
            if row[1] >= length:
                nest.open(row[0], 1 << self.width - row[1], row[2])
        runs = nest.closed()
        before = self._owner_now(address - 1) if address else -1
        after = self._owner_now(end) if end >> self.width == 0 else -1
        if runs[0][1] == before:
            del runs[0]
        if after >= 0 and after != (runs[-1][1] if runs else before):
            runs.append((end, after))
        self._runs.replace(address, end + 1, runs)

    def _after(self, at: int, run: int) -> int:
        """Where the run after this one starts, 0 for the last."""
        runs = self._runs
        if run + 1 < len(runs.keys[at]):
            return runs.key(at, run + 1)
        return runs.key(at + 1, 0) if at + 1 < len(runs.keys) else 0

    def _owner_now(self, address: int) -> int:
        """As `owner`, among changes."""
        at, run = self._runs.last(address)
        return self._runs.columns[0][at][run]

    def _around(self, address: int, length: int) -> int:
        """The owner of the longest prefix around `address` that is no longer than `length`.

        A prefix around both the address and its predecessor in order is no longer than their common bits.
        """
        while length >= 0:
            drop = self.width - length
            prefix = self._before(address >> drop << drop, length)
            if prefix is None:
                return NOBODY
            start, own, owner = prefix
            agreed = self.width - (start ^ address).bit_length()
            if own <= agreed:
                return owner
            length = agreed
        return NOBODY

    def _before(self, address: int, length: int) -> tuple[int, int, int] | None:
        """The last prefix in order that is not after (address, length); None where all are."""
        at, index = self._prefixes.last(address)
        if at < 0:
            return None
        lengths, owners = self._prefixes.columns
        key = self._prefixes.key
        while index >= 0 and key(at, index) == address and lengths[at][index] > length:
            index -= 1
        if index < 0:
            if not at:
                return None
            at -= 1
            index = len(lengths[at]) - 1
        return key(at, index), lengths[at][index], owners[at][index]


class _Nest:
    """Runs (start, owner) from prefixes opened in order, by one pass with a stack of those that are open.

    It covers `start` to before `end`, where without any prefix `owner` would have all.
    """

    __slots__ = ("_end", "_open", "_runs")

    def __init__(self, owner: int, start: int, end: int) -> None:
        self._open: list[tuple[int, int]] = [(end, owner)]  # (first address after it, owner)
        self._runs: list[Row] = [(start, owner)]
        self._end = end

    def open(self, start: int, size: int, owner: int) -> None:
        """Begin the next prefix, of `size` addresses."""
        self._close(start)
        self._open.append((start + size, owner))
        self._run(start, owner)

    def settled(self) -> list[Row]:
        """The runs that no later prefix can alter, once."""
        runs, self._runs = self._runs[:-2], self._runs[-2:]
        return runs

    def closed(self) -> list[Row]:
        """The rest of the runs, after the last prefix."""
        self._close(self._end - 1)
        while len(self._open) > 1:
            end, _ = self._open.pop()
            if end < self._end:
                self._run(end, self._open[-1][1])
        return self._runs

    def _close(self, start: int) -> None:
        open_ = self._open
        while open_[-1][0] <= start:
            end, _ = open_.pop()
            self._run(end, open_[-1][1])

    def _run(self, start: int, owner: int) -> None:
        runs = self._runs
        if runs[-1][0] == start:
            runs.pop()
        if not runs or runs[-1][1] != owner:
            runs.append((start, owner))
