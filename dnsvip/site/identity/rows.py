"""Sorted rows of numbers in small packed blocks: ten million in a few bytes each, and cheap to change one.

A row is a key (an address as an integer of 32 or 128 bits) and some smaller numbers. A copy shares its
blocks with the original, and a change rebuilds only the blocks it touches, so a table in use is never altered. It does
not know what the numbers mean.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, TypeAlias

Row: TypeAlias = tuple[int, ...]

BLOCK = 576
"""Rows of a new block: nearly two pages of the DNS program in the kernel. One that grows past twice as many is cut; one
under a quarter joins its neighbour."""

_LOW = (1 << 64) - 1


class Rows:
    """Rows sorted by key. Equal keys may stand in any order, but always in one block.

    `width` is the bits of a key, `codes` the array type codes of the other numbers. Open to readers that
    cannot afford a call: `keys` has an array a block of the keys, or of their upper 64 bits, shifted by `shift`;
    so has `index` for the first key of each block; each of `columns` an array a block; `lows` has the lower halves
    of a block's keys, None where all are 0; `wide` is the number of blocks that have any, and where there are such,
    `last` is to be asked. These objects are as few as can be: with millions of rows, each of them is a line of memory
    to wait for.
    """

    __slots__ = ("_codes", "columns", "firsts", "index", "keys", "lows", "shift", "wide", "width")

    def __init__(self, width: int, codes: str) -> None:
        self.width, self._codes, self.shift = width, codes, max(0, width - 64)
        self.firsts: list[int] = []
        self.keys: list[array[int]] = []
        self.lows: list[array[int] | None] = []
        self.columns: tuple[list[array[int]], ...] = tuple([] for _ in codes)
        self.index: array[int] = array(self._code)
        self.wide = 0

    def copy(self) -> Rows:
        """A copy that changes independently. Blocks are shared, only references are copied."""
        new = Rows(self.width, self._codes)
        new.firsts, new.keys, new.lows = list(self.firsts), list(self.keys), list(self.lows)
        new.columns = tuple(list(column) for column in self.columns)
        new.index, new.wide = self.index[:], self.wide
        return new

    def __iter__(self) -> Iterator[Row]:
        for at in range(len(self.keys)):
            yield from self._block(at)

    def __len__(self) -> int:
        return sum(map(len, self.keys))

    @property
    def size(self) -> int:
        """Bytes of memory, without what the allocator rounds up."""
        lists: tuple[list[Any], ...] = (self.firsts, self.keys, self.lows, *self.columns)
        sizes: Iterator[int] = (part.__sizeof__() for part in chain([self.index], lists, *lists))
        return sum(sizes)

    def append(self, rows: Sequence[Row]) -> None:
        """Put rows in order at the end; their keys are above all that are here."""
        self._splice(len(self.keys), len(self.keys), rows)

    def last(self, key: int) -> tuple[int, int]:
        """Block and index of the last row whose key is not above `key`; block -1 where there is none."""
        at = bisect_right(self.firsts, key) - 1
        if at < 0:
            return -1, -1
        keys, low, high = self.keys[at], self.lows[at], key >> self.shift
        end = bisect_right(keys, high)
        if low is None or not end or keys[end - 1] != high:
            return at, end - 1
        return at, bisect_right(low, key & _LOW, bisect_left(keys, high, 0, end), end) - 1

    def key(self, at: int, index: int) -> int:
        """The key of a row."""
        low = self.lows[at]
        return self.keys[at][index] << self.shift | (low[index] if low else 0)

    def between(self, start: int, end: int) -> list[Row]:
        """The rows with start <= key < end."""
        low, high = self._touched(start, end)
        return [row for at in range(low, high) for row in self._block(at) if start <= row[0] < end]

    def replace(self, start: int, end: int, rows: Iterable[Row]) -> None:
        """Put `rows`, in order, in the place of those with start <= key < end."""
        low, high = self._touched(start, end)
        if low and sum(map(len, self.keys[low:high])) < BLOCK // 4:
            low -= 1
        old = [row for at in range(low, high) for row in self._block(at)]
        new = [row for row in old if row[0] < start]
        new += rows
        new += [row for row in old if row[0] >= end]
        self._splice(low, high, new)

    def _block(self, at: int) -> Iterator[Row]:
        keys, low = self.keys[at], self.lows[at]
        whole = (
            [key << self.shift | end for key, end in zip(keys, low or repeat(0), strict=False)] if self.shift else keys
        )
        return zip(whole, *(column[at] for column in self.columns), strict=True)

    @property
    def _code(self) -> str:
        return "Q" if self.shift else "I"

    def _touched(self, start: int, end: int) -> tuple[int, int]:
        """The range of blocks in which keys from `start` to before `end` stand or would stand."""
        low = max(0, bisect_right(self.firsts, start) - 1)
        return low, max(bisect_left(self.firsts, end), min(low + 1, len(self.keys)))

    def _splice(self, low: int, high: int, rows: Sequence[Row]) -> None:
        """Put blocks with these rows in the place of the blocks from `low` to before `high`."""
        pieces = [tuple(zip(*piece, strict=True)) for piece in _cut(rows)]
        firsts, lows = [numbers[0][0] for numbers in pieces], [self._lower(numbers[0]) for numbers in pieces]
        self.wide += sum(bound is not None for bound in lows) - sum(bound is not None for bound in self.lows[low:high])
        self.index[low:high] = array(self._code, [key >> self.shift for key in firsts])
        self.firsts[low:high], self.lows[low:high] = firsts, lows
        self.keys[low:high] = [array(self._code, [key >> self.shift for key in numbers[0]]) for numbers in pieces]
        for place, (code, column) in enumerate(zip(self._codes, self.columns, strict=True), 1):
            column[low:high] = [array(code, numbers[place]) for numbers in pieces]

    def _lower(self, keys: Sequence[int]) -> array[int] | None:
        """The lower halves of keys that have such, None where all are 0."""
        if not self.shift or not any(key & _LOW for key in keys):
            return None
        return array("Q", [key & _LOW for key in keys])


def _cut(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Pieces of about BLOCK rows, one where there are no more than twice as many; equal keys stay together."""
    begin = 0
    while len(rows) - begin > 2 * BLOCK:
        end = begin + BLOCK
        while end < len(rows) and rows[end][0] == rows[end - 1][0]:
            end += 1
        yield rows[begin:end]
        begin = end
    if begin < len(rows):
        yield rows[begin:]
