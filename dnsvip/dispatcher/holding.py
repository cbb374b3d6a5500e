"""The packets that wait for a token (`over = "hold"`): which of them goes at a turn, and which gives way.

Each held packet brings its bucket a turn. At a turn the packet of the highest priority goes, among equals the one that
came first. Where too many wait, the one that came last among those of the lowest priority gives way to one of a higher
priority. A bucket holds at most a third of what is left free, so that alone it has a quarter of all places, and a few
buckets leave room for others. All of it takes the same time, however many wait. Times are arguments.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from dnsvip.dispatcher.token_bucket import HELD_PACKETS, HOLD_NANOSECONDS
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.site import Cluster

CLAIMED = 8
"""Priorities 0 to 7 that a client claims for itself, within that of its route; a higher claim counts as 7."""
PRIORITIES = 8 * CLAIMED
"""Priorities of tiers and rules, 0 to 7, by claimed ones; the highest goes first."""
PRIORITY = "priority"
"""The claim."""
LATE = HOLD_NANOSECONDS + HOLD_NANOSECONDS // 10
"""A packet that has waited for so long, because others have gone before it, is dropped: its sender has sent another."""
FREE_FOR_ONE = 3
"""This part of the free places is the most that one bucket holds (a dynamic threshold, Choudhury and Hahne 1998)."""

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class _Held(Generic[Item]):
    """A packet that waits; `item` is None once it has gone or given way."""

    item: Item | None
    since: int
    bucket: Hashable


class HoldQueue(Generic[Item]):
    """At most `bound` packets. `gave_way` counts those that were dropped for others."""

    __slots__ = ("_buckets", "_levels", "_numbers", "_waiting", "bound", "gave_way")

    def __init__(self, bound: int = HELD_PACKETS) -> None:
        self.bound, self.gave_way, self._waiting = bound, 0, 0
        self._levels: list[dict[int, _Held[Item]]] = [{} for _ in range(PRIORITIES)]
        self._buckets: dict[Hashable, dict[int, deque[_Held[Item]]]] = {}
        self._numbers: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return self._waiting

    def has_room(self, bucket: Hashable, priority: int) -> bool:
        """Whether a packet of a bucket, of this priority, may wait: there is room, or one of a lower priority gives
        way, and the bucket has not had its share of that."""
        free = self.bound - sum(map(len, self._levels[priority:]))
        return free > 0 and self._numbers[bucket] < max(1, free // FREE_FOR_ONE)

    def add(self, bucket: Hashable, priority: int, item: Item, now: int) -> None:
        """Hold a packet from `now` on (ns), for which there is room; the caller asks for one at its bucket's turn."""
        if self._waiting >= self.bound:
            lowest = next(level for level in self._levels if level)
            _, last = lowest.popitem()
            last.item = None
            self._left(last)
            self.gave_way += 1
        held = _Held(item, now, bucket)
        self._numbers[bucket] += 1
        self._levels[priority][id(held)] = held
        self._buckets.setdefault(bucket, {}).setdefault(priority, deque()).append(held)
        self._waiting += 1

    def release(self, bucket: Hashable, now: int) -> Item | None:
        """The packet that goes at a turn of a bucket; None where all of its packets have gone or given way."""
        queues = self._buckets.get(bucket, {})
        item = None
        for priority in sorted(queues, reverse=True):
            if item is None:
                item = self._next(queues[priority], priority, now)
            if not queues[priority]:
                del queues[priority]
        if not queues:
            self._buckets.pop(bucket, None)
        return item

    def _left(self, held: _Held[Item]) -> None:
        self._waiting -= 1
        self._numbers[held.bucket] -= 1
        if not self._numbers[held.bucket]:
            del self._numbers[held.bucket]

    def _next(self, queue: deque[_Held[Item]], priority: int, now: int) -> Item | None:
        """The first packet of a queue that is still to go."""
        while queue:
            held = queue.popleft()
            if held.item is None:
                continue
            del self._levels[priority][id(held)]
            self._left(held)
            if now - held.since <= LATE:
                return held.item
            self.gave_way += 1
        return None


def priority_of(priority: int, address: AddressVerdict) -> int:
    """The priority among held packets of a flow to a verified address: its route's, then what its client claims."""
    claimed = address.values.get(PRIORITY, 0)
    if claimed and not (isinstance(address.cluster, Cluster) and PRIORITY in address.cluster.claimed):
        claimed = 0  # an attribute that is only called so
    return priority * CLAIMED + min(claimed, CLAIMED - 1)
