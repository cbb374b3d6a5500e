"""A bounded queue with fair turns: one item of each source after the other, however many one of them has; within a
source one of each of its members, so that a source of many members has no more than another.

Where it is full, the oldest items of the sources that fill most of it go. A step takes constant time, whatever the
number of sources: room is made for many items at once. Pure.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeAlias, TypeVar

MOST = 4096
"""Items at most: of questions that take long, what a worker answers in half a second or less."""

ROOM = 8
"""Where there is no room, this part of the items goes."""

T = TypeVar("T")


class FairQueue(Generic[T]):
    """At most `most` items by source and member."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._number = most, 0
        self._waiting: OrderedDict[bytes, _Members[T]] = OrderedDict()
        """The source whose turn it is comes first, and of each the member whose turn it is."""

    def __len__(self) -> int:
        return self._number

    def put(self, source: bytes, item: T, member: bytes = b"") -> list[T]:
        """Add an item of a source, whose turn it is after that of all others, and of a member of it; the items that had
        to go for it."""
        members = self._waiting.get(source)
        if members is None:
            members = self._waiting[source] = OrderedDict()
        waiting = members.get(member)
        if waiting is None:
            members[member] = deque((item,))
        else:
            waiting.append(item)
        self._number += 1
        return [] if self._number <= self._most else list(self._thinned())

    def take(self) -> T | None:
        """The oldest item of the member and source whose turn it is; None where there is none."""
        if not self._waiting:
            return None
        source, members = self._waiting.popitem(last=False)
        member, waiting = members.popitem(last=False)
        item = waiting.popleft()
        if waiting:
            members[member] = waiting
        if members:
            self._waiting[source] = members
        self._number -= 1
        return item

    def _thinned(self) -> Iterator[T]:
        """Remove the oldest items of each source that has more than what all can have, of its members likewise."""
        wanted = self._most - self._most // ROOM
        share = _share(map(_items, self._waiting.values()), wanted)
        for source, members in list(self._waiting.items()):
            number = _items(members)
            kept = max(min(number, share), number - (self._number - wanted))
            if kept < number:
                self._number -= number - kept
                yield from _cut(members, number, kept)
            if not members:
                del self._waiting[source]


_Members: TypeAlias = OrderedDict[bytes, deque[T]]


def _items(members: _Members[T]) -> int:
    return sum(map(len, members.values()))


def _share(numbers: Iterable[int], wanted: int) -> int:
    """How many items each may have, where those with fewer leave the rest to the others."""
    ordered = sorted(numbers)
    left, holders, share = wanted, len(ordered), 0
    for number in ordered:
        share = left // holders
        if number > share:
            break
        left, holders = left - number, holders - 1
    return share


def _cut(members: _Members[T], number: int, kept: int) -> Iterator[T]:
    """Remove the oldest of a source's items, of those members with most, until so many are kept."""
    share = _share(map(len, members.values()), kept)
    for member, waiting in list(members.items()):
        while number > kept and len(waiting) > share:
            yield waiting.popleft()
            number -= 1
        if not waiting:
            del members[member]
