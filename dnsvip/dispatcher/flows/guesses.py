"""How many bad proofs each source network has sent in the current time slot of a cluster ("Guessing",
address/README.md), in bounded memory: where it is full, the network that has been quiet for longest is forgotten. And
how many flows each client has opened that are relayed (relaying.py).

A proof has few bits, so who has one address could try them all; after MOST_GUESSES its network's are not looked at any
more until the slot ends. Times are whole unix seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

MOST_GUESSES = 64
"""Bad proofs that one source network may send to a cluster in one slot."""
GUESSERS = 65_536
"""Networks remembered at a time."""

Guesser: TypeAlias = tuple[str, int]
"""A cluster's name, and the first 64 bits of a source."""

RELAYED = ""
"""In place of a cluster's name: flows of a client that another dispatcher decides about, counted likewise."""


class Guesses:
    """At most `bound` networks. `refused` counts proofs that were not looked at."""

    __slots__ = ("_entries", "bound", "refused")

    def __init__(self, bound: int = GUESSERS) -> None:
        self.bound, self.refused = bound, 0
        self._entries: OrderedDict[Guesser, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def refuses(self, guesser: Guesser, now: int) -> bool:
        """Whether a network has none left in this slot; counts it where that is so."""
        entry = self._entries.get(guesser)
        if entry is None or entry[1] < MOST_GUESSES or entry[0] <= now:
            return False
        self._entries.move_to_end(guesser)
        self.refused += 1
        return True

    def takes(self, guesser: Guesser, most: int, now: int, slot_seconds: int) -> bool:
        """Count one more, unless there have been so many in this slot."""
        ends, number = self._entries.get(guesser, (0, 0))
        if number >= most and ends > now:
            return False
        self.count(guesser, now, slot_seconds)
        return True

    def count(self, guesser: Guesser, now: int, slot_seconds: int) -> None:
        """Count a bad proof."""
        ends, number = self._entries.get(guesser, (0, 0))
        if ends <= now:
            ends, number = (now // slot_seconds + 1) * slot_seconds, 0
        self._entries[guesser] = ends, number + 1
        self._entries.move_to_end(guesser)
        if len(self._entries) > self.bound:
            self._entries.popitem(last=False)

    def sweep(self, now: int, budget: int) -> None:
        """Check the `budget` oldest: forget those whose slot is over, move the others to the end."""
        for _ in range(min(budget, len(self._entries))):
            guesser, entry = self._entries.popitem(last=False)
            if entry[0] > now:
                self._entries[guesser] = entry
