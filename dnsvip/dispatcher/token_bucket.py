"""How fast something may happen: token buckets in integers, one 64-bit number of state each.

A token is worth `interval` nanoseconds, and a bucket is known by `full`, the moment (unix ns) at which it
would be full again. This is a token bucket to the nanosecond (ITU-T I.371 calls it the virtual scheduling
algorithm), and the kernel program computes the same with one compare-and-swap:

    now, full, interval, burst, debt: unsigned 64-bit nanoseconds
    floor = max(full, now)                                a bucket is never more than full
    floor = min(floor, now + burst + debt)                a clock that went back does not stop it for long
    next  = floor + interval                              a token is taken
    if next > now + burst + debt:  full = floor, over
    else:                          full = next,  wait max(next - (now + burst), 0)

Buckets outlive snapshots, so that a change of a site fills no bucket. Time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnsvip.site import Over, Rate

SECOND = 1_000_000_000
HOLD_NANOSECONDS = SECOND
HOLD_PACKETS = 1024
"""A held packet waits at most this long, and at most this many wait per tier; what would be more is dropped."""

HELD_PACKETS = 4096
"""At most so many are held at once in all tiers together (8 MiB, as a packet has at most some 2 KiB)."""

MOST = 1 << 60
"""No interval, burst or debt is longer (36 years): sums of a few of them and the time fit 64 bits."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket's numbers, in nanoseconds: what a token is worth, a full bucket, and how far it goes into debt."""

    interval: int
    burst: int
    debt: int = 0


def limit_of(rate: Rate) -> Limit:
    """A tier's rate in nanoseconds, rounded to the nearest: 10^9 / new_flows, at least 1; burst times that.

    With over = "hold" the debt is what HOLD_NANOSECONDS pay back, and no more than HOLD_PACKETS tokens.
    """
    interval = max(1, int(min(SECOND / rate.new_flows, MOST) + 0.5))
    debt = min(HOLD_NANOSECONDS, HOLD_PACKETS * interval) if rate.over is Over.HOLD else 0
    return Limit(interval, int(min(rate.burst * interval, MOST) + 0.5), debt)


class Buckets:
    """The buckets by name; a new one is full."""

    __slots__ = ("_full",)

    def __init__(self) -> None:
        self._full: dict[str, int] = {}

    def take(self, name: str, limit: Limit, now: int) -> int | None:
        """Take a token at `now` (unix ns): nanoseconds to wait for it, 0 for none, None where none is to be had."""
        bound = now + limit.burst + limit.debt
        floor = min(max(self._full.get(name, 0), now), bound)
        following = floor + limit.interval
        if following > bound:
            self._full[name] = floor
            return None
        self._full[name] = following
        return max(following - now - limit.burst, 0)

    def full_at(self, name: str) -> int:
        """A bucket's state: the moment (unix ns) at which it is full again; 0 for one never used."""
        return self._full.get(name, 0)
