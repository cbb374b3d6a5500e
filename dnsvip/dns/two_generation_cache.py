"""A bounded cache that evicts without searching or pausing."""

from __future__ import annotations

from typing import Generic, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class TwoGenerationCache(Generic[_K, _V]):
    """Keeps the `size` keys used last, and up to as many more; a whole generation of older ones goes at once.

    (Evicting the oldest one by one costs a search: a dict keeps the gaps at its front.) A hot path may look into
    `young` first; what is missing there, `get` may have.
    """

    __slots__ = ("_old", "_size", "young")

    def __init__(self, size: int) -> None:
        self._size = size
        self.young: dict[_K, _V] = {}
        self._old: dict[_K, _V] = {}

    def __contains__(self, key: _K) -> bool:
        return key in self.young or key in self._old

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def get(self, key: _K) -> _V | None:
        """The value, None where there is none; using a value keeps it."""
        value = self.young.get(key)
        if value is None and (value := self._old.get(key)) is not None:
            self.put(key, value)
        return value

    def put(self, key: _K, value: _V) -> _V:
        """Store a value, and return it."""
        if len(self.young) >= self._size:
            self.young, self._old = {}, self.young
        self.young[key] = value
        return value
