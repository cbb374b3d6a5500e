"""How long datagrams wait for their answers here: from when the batch is read until the answer is sent.

One batch in ONE_IN is timed, and each of its datagrams counted; of those that are answered later, one in as many. The
rest pay one subtraction a batch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

ONE_IN = 16
BOUNDS = ("0.00005", "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.1", "0.5")
"""Upper bounds of the buckets, in seconds."""
REST, MICROSECONDS = "+Inf", "microseconds"
"""What is above all bounds; and the sum of all times."""

_BOUNDS = tuple(map(float, BOUNDS))


class Latency:
    """A histogram of the times of one process."""

    __slots__ = ("_counts", "_left", "_seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0
        self._left = ONE_IN

    def is_due(self) -> bool:
        """Whether the next batch, or datagram, is one to be timed."""
        self._left -= 1
        if self._left:
            return False
        self._left = ONE_IN
        return True

    def observe(self, seconds: float, number: int = 1) -> None:
        """Note that so many datagrams took so long."""
        self._counts[bisect_left(_BOUNDS, seconds)] += number
        self._seconds += seconds * number

    def counters(self) -> Mapping[str, int]:
        """How many there were in each bucket alone, and the sum of their times."""
        counts = dict(zip((*BOUNDS, REST), self._counts, strict=True))
        return {**counts, MICROSECONDS: round(self._seconds * 1_000_000)}
