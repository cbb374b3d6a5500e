"""Numbers for the ways in which answers are counted (`dns.counters`), as the kernel counts by number.

An answer without addresses has a number of its own; with addresses it is the number of a block, for outcome and rcode,
and that of the address in it. A number of a tier that is no more is given to another once no answer is counted by it
any more; all else is a few words, whose numbers stay. Zones have numbers of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TypeAlias

from dnsvip.dns.counters import CounterKey
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.reply import DnsOutcome
from dnsvip.dns.synthesis.issuer import Kind
from dnsvip.site import Step

BLOCK = 256

_Address: TypeAlias = tuple[Step | None, Kind, str | None]


class Cells:
    """The numbers below `most`, a multiple of BLOCK."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._plain: dict[tuple[DnsOutcome, int], int] = {}
        self._blocks: dict[tuple[DnsOutcome, int], int] = {}
        self._made: dict[_Address, int] = {}
        self._by_number: list[_Address] = []
        """Those of numbers that nobody has now are the ones that had them."""
        self._free: list[int] = []
        self._leaving: set[_Address] = set()

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
        self._leaving.discard(key)
        number = self._made.get(key)
        if number is None:
            if self._free:
                number = self._free.pop()
                self._by_number[number] = key
            elif len(self._by_number) < BLOCK:
                number = len(self._by_number)
                self._by_number.append(key)
            else:
                return None
            self._made[key] = number
        return number

    @property
    def are_leaving(self) -> bool:
        """Whether `keep` gives numbers to others: what was counted by them has to be collected first."""
        return bool(self._leaving)

    def keep(self, tiers: Collection[str]) -> None:
        """Keep the numbers of these tiers. Those of others go at the next call, which is after all answers that may
        have been counted by them."""
        self._free += [self._made.pop(key) for key in self._leaving]
        self._leaving = {key for key in self._made if key[2] is not None and key[2] not in tiers}

    def key(self, number: int) -> CounterKey:
        """How an answer with this number is counted."""
        if number < BLOCK:
            outcome, rcode = list(self._plain)[number]
            return outcome, rcode, None, None, None
        block, made = divmod(number, BLOCK)
        outcome, rcode = list(self._blocks)[block - 1]
        return outcome, rcode, *self._by_number[made]

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
