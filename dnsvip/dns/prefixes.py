"""Whose prefix an address lies in, and how far around it that stays so (RFC 7871 section 7.2.1).

A PrefixTable is compiled once from (address, length, owner) and then only read. It holds sorted
boundaries in packed arrays (at most 65 bytes a prefix), so that a look-up is one bisection among
ten prefixes or ten million. It knows owners only as numbers; 0 is nobody.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence

NOBODY = 0


class PrefixTable:
    """Longest-prefix match over addresses of `width` bits (32 or 128).

    Two views of the same prefixes are kept. The *runs* cut the address space where the owner changes,
    nested prefixes and neighbours of one owner already merged: they answer for whole addresses and
    give the scope. The prefixes themselves, each with the one around it, answer for a question that
    is cut off before its owner is settled.
    """

    __slots__ = ("_bits", "_drop", "_lengths", "_owners", "_parents", "_run_owners", "_runs", "_starts", "width")

    def __init__(self, prefixes: Iterable[tuple[int, int, int]], width: int) -> None:
        ordered = sorted(prefixes)
        self.width = width
        self._bits = max((length for _, length, _ in ordered), default=0)
        self._drop = width - self._bits  # no prefix looks at the bits below
        starts = [address >> self._drop for address, _, _ in ordered]
        self._lengths = array("B", [length for _, length, _ in ordered])
        self._owners = array("I", [owner for _, _, owner in ordered])
        self._parents, runs = _nest(starts, self._lengths, self._owners, self._bits)
        self._starts = _pack(starts, self._bits)
        self._runs = _pack([start for start, _ in runs], self._bits)
        self._run_owners = array("I", [owner for _, owner in runs])

    def __len__(self) -> int:
        return len(self._lengths)

    def owner(self, address: int) -> int:
        """The owner of the longest prefix around `address`, NOBODY where there is none."""
        return self._run_owners[self._runs.find(address >> self._drop)]

    def match(self, address: int, length: int) -> tuple[int, int]:
        """The owner of the block `address/length`, and the scope in which that answer holds.

        Where every address of the block has the same owner, the answer is that owner, and the scope is
        the shortest prefix around it of which the same is true. Where owners differ inside the block it
        is the owner of the longest prefix around the whole block, and the scope is `length`.
        """
        key = address >> self._drop
        run = self._runs.find(key)
        scope = self._scope(key, run)
        if scope <= length:
            return self._run_owners[run], scope
        return self._around(key, length), length

    def _scope(self, key: int, run: int) -> int:
        """The shortest prefix around `key` that holds neither the last key before its run nor the first one after."""
        scope = 0
        if run:
            scope = self._bits + 1 - (key ^ (self._runs[run] - 1)).bit_length()
        if run + 1 < len(self._run_owners):
            scope = max(scope, self._bits + 1 - (key ^ self._runs[run + 1]).bit_length())
        return scope

    def _around(self, key: int, length: int) -> int:
        """The owner of the longest prefix around `key` that is no longer than `length`."""
        index = self._starts.find(key)
        while index >= 0:
            own = self._lengths[index]
            if own <= length and (key ^ self._starts[index]) >> (self._bits - own) == 0:
                return self._owners[index]
            index = self._parents[index]
        return NOBODY


def _nest(
    starts: Sequence[int], lengths: Sequence[int], owners: Sequence[int], bits: int
) -> tuple[array[int], list[tuple[int, int]]]:
    """Each prefix's parent (-1 for none), and the runs (start, owner), by one pass with a stack of open prefixes."""
    parents = array("i")
    runs = [(0, NOBODY)]
    open_: list[tuple[int, int]] = []  # (first key after it, index)

    def run_from(start: int, owner: int) -> None:
        if runs and runs[-1][0] == start:
            runs.pop()
        if not runs or runs[-1][1] != owner:
            runs.append((start, owner))

    def close_until(key: int) -> None:
        while open_ and open_[-1][0] <= key:
            end, _ = open_.pop()
            run_from(end, owners[open_[-1][1]] if open_ else NOBODY)

    for index, start in enumerate(starts):
        close_until(start)
        parents.append(open_[-1][1] if open_ else -1)
        open_.append((start + (1 << (bits - lengths[index])), index))
        run_from(start, owners[index])
    close_until(1 << bits)
    if runs[-1][0] == 1 << bits:
        runs.pop()
    return parents, runs


class _Keys:
    """Sorted integers of up to 64 bits."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[int], bits: int) -> None:
        self._keys = array("I" if bits <= 32 else "Q", keys)

    def __getitem__(self, index: int) -> int:
        return self._keys[index]

    def find(self, key: int) -> int:
        """The index of the last one that is not above `key`, -1 where all are."""
        return bisect_right(self._keys, key) - 1


class _WideKeys:
    """Sorted integers of up to 128 bits, as two halves: bisect by the upper one, then among its equals."""

    __slots__ = ("_high", "_low")

    def __init__(self, keys: Sequence[int]) -> None:
        self._high = array("Q", [key >> 64 for key in keys])
        self._low = array("Q", [key & 0xFFFF_FFFF_FFFF_FFFF for key in keys])

    def __getitem__(self, index: int) -> int:
        return self._high[index] << 64 | self._low[index]

    def find(self, key: int) -> int:
        """As `_Keys.find`."""
        high = key >> 64
        end = bisect_right(self._high, high)
        if not end or self._high[end - 1] != high:
            return end - 1
        begin = bisect_right(self._high, high - 1, 0, end) if high else 0
        return bisect_right(self._low, key & 0xFFFF_FFFF_FFFF_FFFF, begin, end) - 1


def _pack(keys: Sequence[int], bits: int) -> _Keys | _WideKeys:
    return _Keys(keys, bits) if bits <= 64 else _WideKeys(keys)
