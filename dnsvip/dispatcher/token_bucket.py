"""Token buckets in integer arithmetic, each with one 64-bit number of state.

A token is worth `interval` nanoseconds, and the state of a bucket is `full`, the time (unix ns) at which it
would be full again. This is a token bucket to the nanosecond (ITU-T I.371 calls it the virtual scheduling
algorithm), and the kernel program computes the same with one compare-and-swap:

    now, full, interval, burst, debt: unsigned 64-bit nanoseconds
    floor = max(full, now)                                a bucket is never more than full
    floor = min(floor, now + burst + debt)                a clock set back blocks it for a short time only
    next  = floor + interval                              a token is taken
    if next > now + burst + debt:  full = floor, over
    else:                          full = next,  wait max(next - (now + burst), 0)

Buckets outlive snapshots, so a change of the site refills none. Time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnsvip.site import Over, Rate

SECOND = 1_000_000_000
HOLD_NANOSECONDS = SECOND
HOLD_PACKETS = 1024
"""Maximum time a packet is held, and maximum number held per tier; packets beyond are dropped."""

HELD_PACKETS = 4096
"""Maximum number held in all tiers together (8 MiB at about 2 KiB per packet)."""

MOST = 1 << 60
"""Upper bound in nanoseconds (36 years) of interval, burst and debt, so that sums with the time fit 64 bits."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Parameters of a bucket in nanoseconds: the time per token, the depth, and the maximum debt."""

    interval: int
    burst: int
    debt: int = 0


def limit_of(rate: Rate) -> Limit:
    """A tier's rate in nanoseconds, rounded to the nearest: 10^9 / new_flows, at least 1; burst times that.

    With over = "hold" the debt is HOLD_NANOSECONDS, or HOLD_PACKETS tokens if that is less.
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
        """Take a token at `now` (unix ns): the nanoseconds to wait for it, or None if there is none."""
        bound = now + limit.burst + limit.debt
        floor = min(max(self._full.get(name, 0), now), bound)
        following = floor + limit.interval
        if following > bound:
            self._full[name] = floor
            return None
        self._full[name] = following
        return max(following - now - limit.burst, 0)

    def full_at(self, name: str) -> int:
        """State of a bucket: the time (unix ns) at which it is full again; 0 if never used."""
        return self._full.get(name, 0)
