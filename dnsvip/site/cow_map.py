"""A copy-on-write map for a million entries: a changed map shares all unchanged shards with its predecessor.

`changed` copies one small shard per changed entry, never the whole, so the old map can be read meanwhile, and
`difference` of two maps compares only the shards that differ. It knows nothing of its values.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, ValuesView
from itertools import chain
from typing import Any, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SHARDS = 4096
"""A shard has 250 entries of a million, 2,500 of ten million: copying one takes some microseconds."""

_EMPTY: dict[Any, Any] = {}
_MASK = SHARDS - 1


class CowMap(Mapping[K, V]):
    """A mapping that is not altered once others have it. Its order is not that of insertion; empty it takes 32 KB."""

    __slots__ = ("_length", "_shards")

    def __init__(self, items: Iterable[tuple[K, V]] = ()) -> None:
        self._shards: list[dict[K, V]] = [_EMPTY] * SHARDS
        self._length = 0
        self.fill(items)

    def __getitem__(self, key: K) -> V:
        return self._shards[hash(key) & _MASK][key]

    def get(self, key: K, default: Any = None) -> Any:
        """As a dict's; several times faster than what Mapping would make of `__getitem__`."""
        return self._shards[hash(key) & _MASK].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._shards[hash(key) & _MASK]

    def __iter__(self) -> Iterator[K]:
        return chain.from_iterable(filter(None, self._shards))

    def __len__(self) -> int:
        return self._length

    def values(self) -> ValuesView[V]:
        """As a dict's, and nearly as fast."""
        return _Values(self)

    def __repr__(self) -> str:
        return f"<CowMap of {self._length}>"

    def fill(self, items: Iterable[tuple[K, V]]) -> None:
        """Put entries in place; only for what made this and has not yet shown it to anybody."""
        shards = self._shards
        for key, value in items:
            at = hash(key) & _MASK
            shard = shards[at]
            if shard is _EMPTY:
                shard = shards[at] = {}
            self._length -= len(shard)
            shard[key] = value
            self._length += len(shard)

    def changed(self, gone: Iterable[K], put: Iterable[tuple[K, V]]) -> CowMap[K, V]:
        """The same without the keys of `gone`, which need not be there, and then with `put`."""
        new: CowMap[K, V] = CowMap.__new__(CowMap)
        new._shards, new._length = list(self._shards), self._length
        own: set[int] = set()
        for key in gone:
            if key in new:
                del new._own(key, own)[key]
                new._length -= 1
        for key, value in put:
            new._length += key not in new
            new._own(key, own)[key] = value
        return new

    def _own(self, key: K, own: set[int]) -> dict[K, V]:
        """The shard of a key, copied where that has not been done: `own` are those that were."""
        at = hash(key) & _MASK
        if at not in own:
            own.add(at)
            self._shards[at] = dict(self._shards[at])
        return self._shards[at]


class _Values(ValuesView[V]):
    """All values, shard by shard."""

    _mapping: CowMap[Any, V]

    def __iter__(self) -> Iterator[V]:
        return chain.from_iterable(map(dict.values, filter(None, self._mapping._shards)))


def difference(old: Mapping[K, V], new: Mapping[K, V]) -> Iterator[tuple[K, V | None, V | None]]:
    """(key, value before, value after) of each entry that differs, None where there is none.

    Takes as long as what differs where both are CowMaps of one descent, else as long as the larger one.
    """
    if isinstance(old, CowMap) and isinstance(new, CowMap):
        for before, after in zip(old._shards, new._shards, strict=True):
            if before is not after:
                yield from _differing(before, after)
    elif old is not new:
        yield from _differing(old, new)


def _differing(old: Mapping[K, V], new: Mapping[K, V]) -> Iterator[tuple[K, V | None, V | None]]:
    for key, value in new.items():
        before = old.get(key)
        if before is not value and before != value:
            yield key, before, value
    for key, value in old.items():
        if key not in new:
            yield key, value, None
