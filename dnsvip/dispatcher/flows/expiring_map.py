"""A bounded map whose entries expire. Times are whole unix seconds."""

from __future__ import annotations

from collections import OrderedDict


class ExpiringMap:
    """Maps bytes to bytes, at most `bound` entries."""

    __slots__ = ("_entries", "bound")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._entries: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: bytes, now: int) -> bytes | None:
        """The value of a name; None if it is absent or expired."""
        entry = self._entries.get(name)
        return entry[0] if entry and entry[1] >= now else None

    def has_room(self, now: int) -> bool:
        """Whether another entry fits without evicting one that has not expired."""
        if len(self._entries) < self.bound:
            return True
        self.sweep(now, 8)
        return len(self._entries) < self.bound

    def put(self, name: bytes, value: bytes, until: int) -> None:
        """Add or replace an entry, valid up to and including `until`; a full map evicts the oldest."""
        self._entries[name] = (value, until)
        self._entries.move_to_end(name)
        if len(self._entries) > self.bound:
            self._entries.popitem(last=False)

    def sweep(self, now: int, budget: int) -> None:
        """Check the `budget` oldest entries: remove expired ones, move the others to the end."""
        for _ in range(min(budget, len(self._entries))):
            name, entry = self._entries.popitem(last=False)
            if entry[1] >= now:
                self._entries[name] = entry
