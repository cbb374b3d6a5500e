"""The runs of prefix tables in the pages of the DNS program (programs/dns_identify.h): a tree of sorted pages each.

A table's blocks that have not changed keep their pages, so what one changed prefix takes does not depend on how many
there are but for the pages above the leaves. Nothing is read meanwhile: the caller says so to the program.

Pages have the upper 64 bits of IPv6 addresses. Where several owners share a network of 64 bits, all of it is one run of
nobody's (SHARED), which the program leaves to the server.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import TypeAlias

from dnsvip.dns.io.xdp import image
from dnsvip.site.identity.rows import BLOCK, Rows
from dnsvip.xdp.maps import Map

_Block: TypeAlias = tuple[int, bool]
"""The identity of a block's keys, and what its runs depend on besides (`_goes_on`)."""

Blocks: TypeAlias = dict[_Block, tuple[Sequence[int], list[int]]]
"""By what tells a block from others: its keys, so that they stay, and the numbers of its pages."""

SHARED = 0xFFFF_FFFF
"""The owner of a network of 64 bits in which several are."""

_MOST = (1 << 64) - 1
LOOKED_AT, WRITTEN = 512, 16
"""Blocks that are looked at, or written, between two moments at which others may run."""


def pages_for(prefixes: int) -> int:
    """Arrays of pages for so many prefixes, with pages that changes leave half full."""
    return -(-(2 * prefixes * 9 // 8 // (BLOCK // 2) + 64) // image.bounds()["PAGES_EACH"]) if prefixes else 1


class Pages:
    """The pages of one loaded program; none where there is room for one array only."""

    def __init__(self, pages: Map) -> None:
        self._group = image.bounds()["GROUP_RUNS"]
        self.runs = self._group * image.bounds()["PAGE_GROUPS"]
        self.array = image.split(pages, "run_page", "PAGES_EACH")
        self._free = list(range(self.array.max_entries - 1, -1, -1))
        self._firsts = array("Q", bytes(8 * len(self._free)))

    def take(self, starts: array[int], owners: array[int]) -> list[int]:
        """The pages with these runs, none where there is no room."""
        number = -(-len(starts) // self.runs)
        if number > len(self._free):
            return []
        size = -(-len(starts) // number)
        pages = [self._free.pop() for _ in range(number)]
        for at, page in zip(range(0, len(starts), size), pages, strict=True):
            self._write(page, starts[at : at + size], owners[at : at + size])
        return pages

    def give(self, pages: Sequence[int]) -> None:
        """Give pages back."""
        self._free += pages

    def firsts(self, pages: Sequence[int]) -> array[int]:
        """Where their first runs start."""
        return array("Q", [self._firsts[page] for page in pages])

    def _write(self, page: int, starts: array[int], owners: array[int]) -> None:
        missing, group = self.runs - len(starts), self._group
        starts.extend(repeat(starts[-1], missing))
        owners.extend(repeat(owners[-1], missing))
        firsts = starts[::group]
        firsts.extend(repeat(_MOST, -len(firsts) % 8))
        starts.append(0)
        parts = [firsts.tobytes()]
        for at in range(0, self.runs, group):
            parts += starts[at : at + group + 1].tobytes(), owners[at : at + group].tobytes()
        self._firsts[page] = starts[0]
        self.array.put(page, b"".join(parts))


class RunTree:
    """The tree of one table: `root` and `levels` as the program has them, no levels where it is not there."""

    def __init__(self, pages: Pages, width: int) -> None:
        self._pages, self._shift = pages, max(0, 64 - width)
        self._rows: Rows | None = None
        self._blocks: Blocks = {}
        self._above: list[int] = []
        self.root = self.levels = 0

    def follow(self, rows: Rows) -> Iterator[None]:
        """Have the runs of a table from now on, in steps of about a millisecond. It may be left after any of them and
        begun anew."""
        if rows is self._rows:
            return
        self._rows, self.levels = None, 0
        self._pages.give(self._above)
        self._above = []
        blocks: dict[_Block, int] = {}
        for at in range(len(rows.keys)):
            blocks[_block(rows, at)] = at
            if at % LOOKED_AT == 0:
                yield
        for number, known in enumerate(list(self._blocks)):
            if known not in blocks:
                self._pages.give(self._blocks.pop(known)[1])
            if number % LOOKED_AT == 0:
                yield
        leaves: list[int] = []
        for number, (known, at) in enumerate(blocks.items()):
            is_new = known not in self._blocks
            if is_new and not self._write(rows, known, at):
                break
            leaves += self._blocks[known][1]
            if number % ((1 if rows.wide else WRITTEN) if is_new else LOOKED_AT) == 0:
                yield
        else:
            yield from self._build(leaves)
        self._rows = rows

    @property
    def is_lacking(self) -> bool:
        """Whether a table that could be here has no room."""
        return self._rows is not None and not self.levels

    def _write(self, rows: Rows, known: _Block, at: int) -> bool:
        starts, owners = runs_of(rows, at)
        if self._shift:
            starts = array("Q", [start << self._shift for start in starts])
        pages = self._pages.take(starts, owners)
        if pages:
            self._blocks[known] = rows.keys[at], pages
        return bool(pages)

    def _build(self, leaves: Sequence[int]) -> Iterator[None]:
        """Put pages above others until there is one."""
        level, levels, runs = leaves, 1, self._pages.runs
        while len(level) > 1 and levels < image.bounds()["PAGE_LEVELS"]:
            first = len(self._above)
            for at in range(0, len(level), runs):
                below = level[at : at + runs]
                page = self._pages.take(self._pages.firsts(below), array("I", below))
                if not page:
                    return
                self._above += page
                yield
            level, levels = self._above[first:], levels + 1
        if len(level) == 1:
            self.root, self.levels = level[0], levels


def _block(rows: Rows, at: int) -> _Block:
    return id(rows.keys[at]), _goes_on(rows, at)


def _goes_on(rows: Rows, at: int) -> bool:
    """Whether the last network of 64 bits in a block is in the next one too."""
    return rows.wide > 0 and at + 1 < len(rows.keys) and rows.keys[at + 1][0] == rows.keys[at][-1]


def runs_of(rows: Rows, at: int) -> tuple[array[int], array[int]]:
    """The runs of a block by where they start, of 128 bits the upper 64, and their owners. Of runs with the same start
    the last one counts."""
    keys, lows, owners, goes_on = rows.keys[at], rows.lows[at], rows.columns[0][at], _goes_on(rows, at)
    if not lows and not goes_on:
        return keys, owners
    starts, whose, last = array("Q"), array("I"), len(keys) - 1
    for n, (key, owner) in enumerate(zip(keys, owners, strict=True)):
        begins = n == 0 or keys[n - 1] != key
        ends = not goes_on if n == last else keys[n + 1] != key
        is_shared = not ends or bool(lows and lows[n])
        if begins:
            starts.append(key)
            whose.append(SHARED if is_shared else owner)
        if ends and is_shared and key != _MOST:
            starts.append(key + 1)
            whose.append(owner)
    return starts, whose
