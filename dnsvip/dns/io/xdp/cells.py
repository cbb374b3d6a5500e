"""Numbers for the ways in which answers are counted (`dns.counters`), as the kernel counts by number.

An answer without addresses has a number of its own; with addresses it is the number of a block, for outcome and rcode,
and that of the address in it. Numbers are never taken back: they are those of the answers that were counted. Zones have
numbers of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dnsvip.dns.counters import CounterKey
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.reply import DnsOutcome
from dnsvip.dns.synthesis.issuer import Kind
from dnsvip.site import Step

BLOCK = 256


class Cells:
    """The numbers below `most`, a multiple of BLOCK."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._plain: dict[tuple[DnsOutcome, int], int] = {}
        self._blocks: dict[tuple[DnsOutcome, int], int] = {}
        self._made: dict[tuple[Step | None, Kind, str | None], int] = {}

    def of_template(self, outcome: DnsOutcome, rcode: int, *, holes: bool) -> int | None:
        """The number of an answer, or the first one of its block; None where there are no more."""
        known = self._blocks if holes else self._plain
        number = known.get((outcome, rcode))
        if number is None:
            number = BLOCK * (1 + len(known)) if holes else len(known)
            if number >= (self._most if holes else BLOCK):
                return None
            known[outcome, rcode] = number
        return number

    def of_address(self, step: Step | None, kind: Kind, tier: str | None) -> int | None:
        """What an address adds to the number of its block; None where there are no more."""
        key = step, kind, tier
        if key not in self._made and len(self._made) >= BLOCK:
            return None
        return self._made.setdefault(key, len(self._made))

    def key(self, number: int) -> CounterKey:
        """How an answer with this number is counted."""
        if number < BLOCK:
            outcome, rcode = list(self._plain)[number]
            return outcome, rcode, None, None, None
        block, made = divmod(number, BLOCK)
        outcome, rcode = list(self._blocks)[block - 1]
        return outcome, rcode, *list(self._made)[made]

    def used(self) -> Iterator[tuple[int, CounterKey]]:
        """The numbers that answers may have been counted by."""
        for (outcome, rcode), number in self._plain.items():
            yield number, (outcome, rcode, None, None, None)
        for (outcome, rcode), first in self._blocks.items():
            for made, number in self._made.items():
                yield first + number, (outcome, rcode, *made)


class ZoneNumbers:
    """The numbers below `most` that answers are counted by zone with; 0 stands for none."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers: dict[Labels, int] = {}

    def of(self, apex: Labels | None) -> int | None:
        """The number of a zone; None where there are no more."""
        if apex is None:
            return 0
        if apex not in self._numbers and len(self._numbers) + 1 >= self._most:
            return None
        return self._numbers.setdefault(apex, len(self._numbers) + 1)

    @property
    def zones(self) -> Sequence[Labels]:
        """The zones that have a number, in the order of their numbers, from 1 on."""
        return list(self._numbers)

    @property
    def are_scarce(self) -> bool:
        """Whether half of them are taken, perhaps by zones that are no more."""
        return 2 * len(self._numbers) >= self._most
