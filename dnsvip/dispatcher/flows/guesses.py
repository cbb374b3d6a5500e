"""How many bad proofs each source network has sent in the current time slot of a cluster ("Guessing",
address/README.md), in bounded memory.

A proof has few bits, so who has one address could try them all; after MOST_GUESSES its network's are not looked at any
more until the slot ends. Times are whole unix seconds.
"""

from __future__ import annotations

from typing import TypeAlias

from dnsvip.dispatcher.flows.slot_counts import MOST_COUNTED, SlotCounts

MOST_GUESSES = 64
"""Bad proofs that one source network may send to a cluster in one slot."""

Guesser: TypeAlias = tuple[str, int]
"""A cluster's name, and the first 64 bits of a source."""


class Guesses:
    """Of at most `bound` networks. `refused` counts proofs that were not looked at."""

    __slots__ = ("_counts", "refused")

    def __init__(self, bound: int = MOST_COUNTED) -> None:
        self.refused = 0
        self._counts = SlotCounts[Guesser](bound)

    def __len__(self) -> int:
        return len(self._counts)

    def refuses(self, guesser: Guesser, now: int) -> bool:
        """Whether a network has none left in this slot; counts it where that is so."""
        if self._counts.number(guesser, now) < MOST_GUESSES:
            return False
        self._counts.keep(guesser)
        self.refused += 1
        return True

    def count(self, guesser: Guesser, now: int, slot_seconds: int) -> None:
        """Count a bad proof."""
        self._counts.count(guesser, now, slot_seconds)

    def sweep(self, now: int, budget: int) -> None:
        """Forget those of the `budget` oldest whose slot is over."""
        self._counts.sweep(now, budget)
