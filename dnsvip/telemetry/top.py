"""What there is most of, such as names asked for, in bounded memory: the Space-Saving sketch of a thinned stream.

Whoever counts picks one item in so many (`Thinning`), more of few and fewer of many, and counts it for all of those.
Counts fade, by half in HALF_SECONDS, so that the sketch tells of the last minutes. Pure: times are arguments (seconds
of any clock).

Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k Elements in Data Streams", 2005.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from heapq import nlargest
from math import exp, log
from typing import Generic, TypeVar

from dnsvip.telemetry.sample_log import Every

PLACES = 128
"""Items that a sketch counts at a time: some 20 KB. One with more than 1/PLACES of all is always among them."""

HALF_SECONDS = 60.0
_MEAN_SECONDS = HALF_SECONDS / log(2)
_LEAST = 0.01
"""An item whose count has faded to this is forgotten."""

T = TypeVar("T", bound=Hashable)


class Top(Generic[T]):
    """The items of a stream that come most often, since `start`."""

    __slots__ = ("_counts", "_faded_at", "_places", "_start")

    def __init__(self, start: float, places: int = PLACES) -> None:
        self._counts: dict[T, float] = {}
        self._start = self._faded_at = start
        self._places = places

    def add(self, item: T, weight: float = 1.0) -> None:
        """Count an item for so many. Where there is no place it takes that of the rarest, with its count, as it may
        have been counted before."""
        counts = self._counts
        before = counts.get(item)
        if before is None and len(counts) >= self._places:
            rarest = min(counts, key=counts.__getitem__)
            before = counts.pop(rarest)
        counts[item] = (before or 0.0) + weight

    def most(self, number: int, now: float) -> list[tuple[T, float]]:
        """The items that come most often now, with how many a second, at most so many."""
        self._fade(now)
        seen = 1 - exp((self._start - now) / _MEAN_SECONDS)  # of the time that a count stands for
        per_second = 1 / (_MEAN_SECONDS * max(seen, 1 / _MEAN_SECONDS))
        best = nlargest(number, self._counts.items(), key=lambda pair: pair[1])
        return [(item, round(count * per_second, 3)) for item, count in best]

    def _fade(self, now: float) -> None:
        share = 0.5 ** (max(0.0, now - self._faded_at) / HALF_SECONDS)
        self._counts = {item: count * share for item, count in self._counts.items() if count * share > _LEAST}
        self._faded_at = now


class Thinning:
    """Picks items by counting, fewer the more there are: about `most` in each time between two calls of `relax`, and
    `most` more each time that their number doubles."""

    __slots__ = ("_every", "_most", "_one_in", "_taken", "weight")

    def __init__(self, most: int = 64) -> None:
        self._one_in = self.weight = 1
        self._every = Every(self._one_in)
        self._most, self._taken = most, 0

    def picks(self, number: int) -> Sequence[int]:
        """The places of those picked among the next `number` items; each stands for `weight`."""
        picked = self._every.picks(number)
        if picked:
            self.weight = self._one_in
            self._taken += len(picked)
            if self._taken >= self._most:
                self._taken = 0
                self._pick_one_in(2 * self._one_in)
        return picked

    def relax(self) -> None:
        """Pick more again, where there were few; call it about once a second."""
        if self._taken < self._most and self._one_in > 1:
            self._pick_one_in(self._one_in // 2)
        self._taken = 0

    def _pick_one_in(self, one_in: int) -> None:
        self._one_in = one_in
        self._every.change(one_in)
