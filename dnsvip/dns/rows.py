"""Sorted rows of numbers in small packed blocks: ten million in a few bytes each, and cheap to change one.

A row is a key (an address as an integer of 32 or 128 bits) and some smaller numbers. A copy shares its
blocks with the original, and a change makes only the blocks anew that it touches; so what answers
questions is never altered. It knows nothing of what the numbers mean.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

Row: TypeAlias = tuple[int, ...]

BLOCK = 512
"""Rows of a new block. One that grows past twice as many is cut; one under a quarter joins its neighbour."""

_LOW = (1 << 64) - 1


class Keys:
    """Sorted integers of up to 32 bits."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[int]) -> None:
        self._keys = array("I", keys)

    def __getitem__(self, index: int) -> int:
        return self._keys[index]

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key: int) -> int:
        """The index of the last one that is not above `key`, -1 where all are."""
        return bisect_right(self._keys, key) - 1

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self._keys.__sizeof__()


class HighKeys:
    """Sorted integers of 128 bits whose lower half is 0."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[int]) -> None:
        self._keys = array("Q", [key >> 64 for key in keys])

    def __getitem__(self, index: int) -> int:
        return self._keys[index] << 64

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key: int) -> int:
        """As `Keys.find`."""
        return bisect_right(self._keys, key >> 64) - 1

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self._keys.__sizeof__()


class WideKeys:
    """Sorted integers of 128 bits in two halves: bisect by the upper one, then among its equals."""

    __slots__ = ("_high", "_low")

    def __init__(self, keys: Sequence[int]) -> None:
        self._high = array("Q", [key >> 64 for key in keys])
        self._low = array("Q", [key & _LOW for key in keys])

    def __getitem__(self, index: int) -> int:
        return self._high[index] << 64 | self._low[index]

    def __len__(self) -> int:
        return len(self._high)

    def find(self, key: int) -> int:
        """As `Keys.find`."""
        high = key >> 64
        end = bisect_right(self._high, high)
        if not end or self._high[end - 1] != high:
            return end - 1
        begin = bisect_left(self._high, high, 0, end)
        return bisect_right(self._low, key & _LOW, begin, end) - 1

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self._high.__sizeof__() + self._low.__sizeof__()


class Block:
    """Some hundred rows, never altered: `keys`, and `columns` of the other numbers."""

    __slots__ = ("columns", "keys")

    keys: Keys | HighKeys | WideKeys
    columns: tuple[array[int], ...]

    def __init__(self, rows: Sequence[Row], width: int, codes: str) -> None:
        keys, *columns = zip(*rows, strict=True)
        self.keys = _pack(keys, width)
        self.columns = tuple(array(code, column) for code, column in zip(codes, columns, strict=True))

    def rows(self) -> Iterator[Row]:
        """All of them in order."""
        return zip(map(self.keys.__getitem__, range(len(self.keys))), *self.columns, strict=True)


class Rows:
    """Rows sorted by key. Equal keys may stand in any order, but always in one block.

    `width` is the bits of a key, `codes` the array type codes of the other numbers. `firsts` and
    `blocks` are open to readers that cannot afford a call.
    """

    __slots__ = ("_codes", "_width", "blocks", "firsts")

    def __init__(self, width: int, codes: str) -> None:
        self._width, self._codes = width, codes
        self.firsts: list[int] = []
        self.blocks: list[Block] = []

    def copy(self) -> Rows:
        """One of its own whose changes leave this one as it is."""
        new = Rows(self._width, self._codes)
        new.firsts, new.blocks = list(self.firsts), list(self.blocks)
        return new

    def __iter__(self) -> Iterator[Row]:
        for block in self.blocks:
            yield from block.rows()

    def __len__(self) -> int:
        return sum(len(block.keys) for block in self.blocks)

    @property
    def size(self) -> int:
        """Bytes of memory, all counted but what the allocator rounds up."""
        lists = sum(each.__sizeof__() for each in (self.firsts, self.blocks, *self.firsts))
        parts = (part for b in self.blocks for part in (b, b.keys, b.columns, *b.columns))
        return lists + sum(part.__sizeof__() for part in parts) + sum(block.keys.size for block in self.blocks)

    def append(self, rows: Sequence[Row]) -> None:
        """Put rows in order at the end; their keys are above all that are here."""
        for some in _cut(rows):
            self.firsts.append(some[0][0])
            self.blocks.append(Block(some, self._width, self._codes))

    def last(self, key: int) -> tuple[int, int]:
        """Block and index of the last row whose key is not above `key`; block -1 where there is none."""
        at = bisect_right(self.firsts, key) - 1
        return (at, self.blocks[at].keys.find(key)) if at >= 0 else (-1, -1)

    def between(self, start: int, end: int) -> list[Row]:
        """The rows with start <= key < end."""
        low, high = self._touched(start, end)
        return [row for block in self.blocks[low:high] for row in block.rows() if start <= row[0] < end]

    def replace(self, start: int, end: int, rows: Iterable[Row]) -> None:
        """Put `rows`, in order, in the place of those with start <= key < end."""
        low, high = self._touched(start, end)
        if low and sum(len(block.keys) for block in self.blocks[low:high]) < BLOCK // 4:
            low -= 1
        old = [row for block in self.blocks[low:high] for row in block.rows()]
        new = [row for row in old if row[0] < start]
        new += rows
        new += [row for row in old if row[0] >= end]
        pieces = list(_cut(new))
        self.blocks[low:high] = [Block(some, self._width, self._codes) for some in pieces]
        self.firsts[low:high] = [some[0][0] for some in pieces]

    def _touched(self, start: int, end: int) -> tuple[int, int]:
        """The range of blocks in which keys from `start` to before `end` stand or would stand."""
        low = max(0, bisect_right(self.firsts, start) - 1)
        return low, max(bisect_left(self.firsts, end), min(low + 1, len(self.blocks)))


def _pack(keys: Sequence[int], width: int) -> Keys | HighKeys | WideKeys:
    if width <= 32:
        return Keys(keys)
    return WideKeys(keys) if any(key & _LOW for key in keys) else HighKeys(keys)


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
