"""Which entries of a full map stay: those that are used, whatever else comes.

A kernel's own LRU gives each newcomer the place of another, and who makes up names would fill it with them. Here a
newcomer gets the place of one that was not used since it was looked at last, or none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

TRIES = 8
"""Entries looked at for one newcomer."""


class SecondChance:
    """The places of `most` keys. `last_used` says when one was, in unix seconds (before it got its place: not since),
    and `remove` is called with one that loses its place."""

    def __init__(self, most: int, last_used: Callable[[bytes], int], remove: Callable[[bytes], object]) -> None:
        self._most, self._last_used, self._remove = most, last_used, remove
        self._since: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since)

    def place(self, key: bytes, now: int) -> bool:
        """Whether there is a place for a key at `now` (unix seconds)."""
        if key not in self._since and len(self._since) >= self._most and not self._evict(now):
            return False
        self._since[key] = now
        self._since.move_to_end(key)
        return True

    def forget(self, key: bytes) -> None:
        """Give up the place of a key."""
        self._since.pop(key, None)

    def _evict(self, now: int) -> bool:
        for _ in range(TRIES):
            key, since = next(iter(self._since.items()))
            if self._last_used(key) <= since:
                del self._since[key]
                self._remove(key)
                return True
            self._since[key] = now
            self._since.move_to_end(key)
        return False
