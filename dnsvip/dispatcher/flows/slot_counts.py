"""How many of something each has had in the time slot that is now, in bounded memory: where it is full, who has been
quiet for longest is forgotten. Times are whole unix seconds."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

MOST_COUNTED = 65_536
"""Of whom something is counted at a time."""

K = TypeVar("K")


class SlotCounts(Generic[K]):
    """Counts of at most `bound` keys."""

    __slots__ = ("_entries", "bound")

    def __init__(self, bound: int = MOST_COUNTED) -> None:
        self.bound = bound
        self._entries: OrderedDict[K, tuple[int, int]] = OrderedDict()
        """Key -> when its slot ends, and the number in it."""

    def __len__(self) -> int:
        return len(self._entries)

    def number(self, key: K, now: int) -> int:
        """How many there were in this slot."""
        entry = self._entries.get(key)
        return 0 if entry is None or entry[0] <= now else entry[1]

    def keep(self, key: K) -> None:
        """Note that a key is not quiet; one that is not counted stays so."""
        if key in self._entries:
            self._entries.move_to_end(key)

    def count(self, key: K, now: int, slot_seconds: int) -> None:
        """Count one more."""
        ends, number = self._entries.get(key, (0, 0))
        if ends <= now:
            ends, number = (now // slot_seconds + 1) * slot_seconds, 0
        self._entries[key] = ends, number + 1
        self._entries.move_to_end(key)
        if len(self._entries) > self.bound:
            self._entries.popitem(last=False)

    def takes(self, key: K, most: int, now: int, slot_seconds: int) -> bool:
        """Count one more, unless there have been `most` in this slot."""
        if self.number(key, now) >= most:
            return False
        self.count(key, now, slot_seconds)
        return True

    def sweep(self, now: int, budget: int) -> None:
        """Check the `budget` oldest: forget those whose slot is over, move the others to the end."""
        for _ in range(min(budget, len(self._entries))):
            key, entry = self._entries.popitem(last=False)
            if entry[0] > now:
                self._entries[key] = entry
