"""A bounded queue with fair turns: one item of each source after the other, however many one of them has; within a
source one of each of its members, so that a source of many members has no more than another.

Where it is full, each new item has the oldest one go of a source that has more than its share. A step takes constant
time, whatever the number of sources: the shares are worked out for many items at once. Pure.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

MOST = 4096
"""Items at most: of questions that take long, what a worker answers in half a second or less."""

ROOM = 8
"""Where there is no room, shares leave this part of it free, and hold for as many items."""

T = TypeVar("T")


class FairQueue(Generic[T]):
    """At most `most` items by source and member."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._number = most, 0
        self._waiting: OrderedDict[bytes, _Source[T]] = OrderedDict()
        """The source whose turn it is comes first."""
        self._room = max(most // ROOM, 1)
        self._leaving: Iterator[T] = iter(())
        self._left = 0
        """For how many more items the shares of `_leaving` hold."""
        self._crowd, self._crowding = b"", (_Source[T](), deque[T](), 0, 0)
        """The source and member whose item left last; their items, and how many of them neither loses."""

    def __len__(self) -> int:
        return self._number

    @property
    def crowded(self) -> bool:
        """Whether there is hardly room."""
        return self._number > self._most - self._room // 4

    def refuses(self, whose: bytes) -> bool:
        """Whether an item of a source and member (both in one) need not be put, as only an older one of theirs would go
        for it."""
        one, waiting, share, each = self._crowding
        if whose != self._crowd or not self._left or not self.crowded or one.number <= share or len(waiting) <= each:
            return False
        self._left -= 1
        return True

    def put(self, source: bytes, item: T, member: bytes = b"") -> list[T]:
        """Add an item of a source, whose turn it is after that of all others, and of a member of it; the items that had
        to go for it."""
        one = self._waiting.get(source)
        if one is None:
            one = self._waiting[source] = _Source()
        one.number += 1
        waiting = one.members.get(member)
        if waiting is None:
            one.members[member] = deque((item,))
        else:
            waiting.append(item)
        self._number += 1
        return [] if self._number <= self._most else [self._leave()]

    def take(self) -> T | None:
        """The oldest item of the member and source whose turn it is; None where there is none."""
        if not self._waiting:
            return None
        source, one = self._waiting.popitem(last=False)
        member, waiting = one.members.popitem(last=False)
        item = waiting.popleft()
        one.number -= 1
        if waiting:
            one.members[member] = waiting
        if one.number:
            self._waiting[source] = one
        self._number -= 1
        return item

    def _leave(self) -> T:
        """Remove the item that has to go."""
        item = next(self._leaving, None) if self._left else None
        if item is None:
            self._left, self._leaving = self._room, self._excess()
            item = next(self._leaving)
        self._left -= 1
        self._number -= 1
        return item

    def _excess(self) -> Iterator[T]:
        """The oldest items of each source that has more than what all can have, of its members likewise. Each is
        removed when it is asked for; items may come and go in between."""
        share = _share((one.number for one in self._waiting.values()), self._most - self._room)
        for source, one in list(self._waiting.items()):
            if one.number > share:
                yield from self._excess_of(source, one, share)

    def _excess_of(self, source: bytes, one: _Source[T], share: int) -> Iterator[T]:
        each = _share(map(len, one.members.values()), share)
        for member, waiting in list(one.members.items()):
            while one.number > share and len(waiting) > each:
                self._crowd, self._crowding = source + member, (one, waiting, share, each)
                item = waiting.popleft()
                one.number -= 1
                if not waiting:
                    del one.members[member]
                if not one.number:
                    del self._waiting[source]
                yield item


class _Source(Generic[T]):
    """The items of a source, by member; the member whose turn it is comes first."""

    __slots__ = ("members", "number")

    def __init__(self) -> None:
        self.members: OrderedDict[bytes, deque[T]] = OrderedDict()
        self.number = 0


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
