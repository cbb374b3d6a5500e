"""How fast a tier may open flows: one token bucket per tier.

Buckets outlive snapshots, so that a change of a site fills no bucket. Time is an argument.
"""

from __future__ import annotations

from dnsvip.model import Over, Rate

HOLD_SECONDS = 1.0
HOLD_PACKETS = 1024
"""A held packet waits at most this long, and at most this many wait per tier; what would be more is dropped."""


class Buckets:
    """The buckets by tier name; a new one is full."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, tier: str, rate: Rate, now: float) -> float | None:
        """Take a token for a new flow: seconds to hold it, 0.0 for none, None where the tier is over its rate.

        With over = "hold" a bucket goes into debt, by what a wait of HOLD_SECONDS pays back. A clock that
        goes back refills nothing.
        """
        level, since = self._levels.get(tier, (rate.burst, now))
        level = min(rate.burst, level + max(now - since, 0.0) * rate.new_flows)
        debt = min(rate.new_flows * HOLD_SECONDS, HOLD_PACKETS) if rate.over is Over.HOLD else 0.0
        if level - 1.0 < -debt:
            self._levels[tier] = (level, now)
            return None
        self._levels[tier] = (level - 1.0, now)
        return max(1.0 - level, 0.0) / rate.new_flows
