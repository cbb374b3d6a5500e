"""A bounded cache that evicts without searching or pausing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")

ROOM = 16 << 20
"""Bytes of a generation whose keys and values are weighed."""


class TwoGenerationCache(Generic[_K, _V]):
    """Keeps the `size` keys used last, and up to as many more; a whole generation of older ones goes at once.

    Where `weigh` says how many bytes a key and its value take, a generation has no more than ROOM of them either: what
    a requester makes us remember may be long. (Evicting the oldest one by one costs a search: a dict keeps the gaps at
    its front.) A hot path may look into `young` first; what is missing there, `get` may have.
    """

    __slots__ = ("_filled", "_old", "_size", "_weigh", "young")

    def __init__(self, size: int, weigh: Callable[[_K, _V], int] | None = None) -> None:
        self._size, self._weigh, self._filled = size, weigh, 0
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
        if self._weigh is not None:
            self._filled += self._weigh(key, value)
        if len(self.young) >= self._size or self._filled > ROOM:
            self.young, self._old, self._filled = {}, self.young, 0
        self.young[key] = value
        return value
