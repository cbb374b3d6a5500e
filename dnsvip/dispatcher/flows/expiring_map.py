"""A bounded memory of things seen lately, each with the time it is forgotten."""

from __future__ import annotations

from collections import OrderedDict


class ExpiringMap:
    """Bytes to bytes, at most `bound` of them."""

    __slots__ = ("_entries", "bound")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._entries: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: bytes, now: int) -> bytes | None:
        """What was put under a name, None after its time (whole unix seconds)."""
        entry = self._entries.get(name)
        return entry[0] if entry and entry[1] >= now else None

    def has_room(self, now: int) -> bool:
        """Whether one more fits, if need be in place of the oldest when its time has passed."""
        if len(self._entries) < self.bound:
            return True
        self.sweep(now, 8)
        return len(self._entries) < self.bound

    def put(self, name: bytes, value: bytes, until: int) -> None:
        """Remember; the oldest goes where there is no room."""
        self._entries[name] = (value, until)
        self._entries.move_to_end(name)
        if len(self._entries) > self.bound:
            self._entries.popitem(last=False)

    def sweep(self, now: int, budget: int) -> None:
        """Look at the `budget` oldest entries: forget the expired ones, put the others behind."""
        for _ in range(min(budget, len(self._entries))):
            name, entry = self._entries.popitem(last=False)
            if entry[1] >= now:
                self._entries[name] = entry
