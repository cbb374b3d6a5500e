"""Numbers for the ways in which answers are counted (`dns.counters`), as the kernel counts by number.

An answer without addresses has a number of its own; with addresses it is the number of a block, for outcome and rcode,
and that of the address in it. Numbers are never taken back: they are those of the answers that were counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.dns.counters import CounterKey
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

    def used(self) -> Iterator[tuple[int, CounterKey]]:
        """The numbers that answers may have been counted by."""
        for (outcome, rcode), number in self._plain.items():
            yield number, (outcome, rcode, None, None, None)
        for (outcome, rcode), first in self._blocks.items():
            for made, number in self._made.items():
                yield first + number, (outcome, rcode, *made)
