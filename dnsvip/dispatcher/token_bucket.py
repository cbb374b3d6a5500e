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

from collections import Counter
from dataclasses import dataclass

from dnsvip.dispatcher.bucket_table import OWN_BUCKETS, BucketTable, Holder, Kind
from dnsvip.site import Over, Rate

SECOND = 1_000_000_000
HOLD_NANOSECONDS = SECOND
HOLD_PACKETS = 1024
"""Maximum time a packet is held, and maximum number held per tier; packets beyond are dropped."""

RESUME_BURST = 5 * SECOND
"""Depth of a bucket for resumed flows: what `resume_rate` allows in five seconds."""

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


def resume_limit(rate: int) -> Limit:
    """The bucket for `rate` resumed flows a second."""
    return Limit((SECOND + rate // 2) // rate, RESUME_BURST)


def take(full: int, cost: int, limit: Limit, now: int) -> tuple[int, int | None]:
    """Take `cost` nanoseconds of tokens at `now` (unix ns) from a bucket in the state `full`: its state from then on,
    and the nanoseconds to wait for them, or None if there are not so many."""
    bound = now + limit.burst + limit.debt
    floor = min(max(full, now), bound)
    following = floor + cost
    if following > bound:
        return floor, None
    return following, max(following - now - limit.burst, 0)


class Buckets:
    """The buckets by name; a new one is full. `clients` and `sources` are those of one client or source each; `policed`
    counts the packets over the limits of a tier's policing that were "dropped" or "marked"."""

    __slots__ = ("_full", "_pairs", "clients", "policed", "sources")

    def __init__(self, bound: int = OWN_BUCKETS, key: tuple[int, int] = (0, 1)) -> None:
        self._full: dict[str, int] = {}
        self._pairs: dict[str, list[int]] = {}
        self.policed: Counter[tuple[str, str]] = Counter()
        self.clients, self.sources = BucketTable(bound, key), BucketTable(bound, key)

    def take(self, name: str, limit: Limit, now: int) -> int | None:
        """Take a token at `now` (unix ns): the nanoseconds to wait for it, or None if there is none."""
        self._full[name], delay = take(self._full.get(name, 0), limit.interval, limit, now)
        return delay

    def take_own(self, holder: Holder, name: str, limit: Limit, now: int) -> int | None:
        """As `take`, from the bucket of one holder; where the table has no room for a new one, from that of `name`."""
        full = self.own(holder, name, now)
        if full is None:
            return self.take(name, limit, now)
        full[0], delay = take(full[0], limit.interval, limit, now)
        return delay

    def own(self, holder: Holder, name: str, now: int) -> list[int] | None:
        """The states of the at most two buckets of one holder; None where the table has no room for a new one."""
        table = self.clients if holder.kind is Kind.CLIENT else self.sources
        bucket = table.find(holder.number, (holder.kind, name), now)
        return bucket.full if bucket else None

    def pair(self, name: str) -> list[int]:
        """The states of two buckets with one name."""
        return self._pairs.setdefault(name, [0, 0])

    def status(self, now: int) -> dict[str, dict[str, int]]:
        """For each table of own buckets how many are used at `now` (unix ns), how many there may be, and how many
        packets had to share their tier's; JSON-ready."""
        tables = {"clients": self.clients, "sources": self.sources}
        return {
            name: {"used": table.used(now), "bound": table.bound, "shared": table.shared}
            for name, table in tables.items()
        }

    def full_at(self, name: str) -> int:
        """State of a bucket: the time (unix ns) at which it is full again; 0 if never used."""
        return self._full.get(name, 0)
