"""When a secondary zone is looked for at its primaries, and when it is served no more (RFC 1035 section 3.3.13).

Pure: times are unix seconds and arguments.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

LONGEST = 28 * 86_400
"""Seconds that a timer of a SOA counts at most; at least it counts one."""

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
"""Seconds between tries to get a zone for the first time."""

NOTICE_PAUSE = 1.0
"""Seconds between checks that NOTIFY asks for."""


AHEAD = 60.0
"""Seconds that the clocks of nodes may be apart."""


@dataclass(frozen=True, slots=True)
class Timers:
    """Those of a zone's SOA in seconds."""

    refresh: int
    retry: int
    expire: int

    def bounded(self) -> Timers:
        """Each within reason: a zone is neither asked for without pause nor kept for years."""
        refresh, retry = (min(max(seconds, 1), LONGEST) for seconds in (self.refresh, self.retry))
        return Timers(refresh, retry, min(max(self.expire, refresh + retry), LONGEST))


@dataclass(frozen=True, slots=True)
class RefreshState:
    """What is known of a secondary zone: the serial that is stored (None: nothing is), when a primary last said that it
    is the newest, when one was last asked, and when NOTIFY came. `failures` have followed the last success, the newest
    with `error`. `primary` had the zone last."""

    zone: str
    serial: int | None = None
    timers: Timers = Timers(0, 0, 0)
    checked_at: float = 0.0
    tried_at: float = 0.0
    notified_at: float = 0.0
    failures: int = 0
    primary: str = ""
    error: str = ""

    @property
    def expires_at(self) -> float | None:
        """When it is served no more; None where there is nothing to serve."""
        return None if self.serial is None else self.checked_at + self.timers.expire

    @property
    def next_at(self) -> float:
        """When primaries are asked next, but for NOTIFY. Zones with equal timers are spread by a tenth."""
        if not self.tried_at:
            return 0.0
        if not self.failures:
            spread = zlib.crc32(self.zone.encode()) % 1000 / 10_000
            return self.checked_at + self.timers.refresh * (1 - spread)
        if self.serial is None:
            return self.tried_at + min(FIRST_PAUSE * 2.0 ** min(self.failures - 1, 10), LONGEST_PAUSE)
        return self.tried_at + self.timers.retry


def is_due(state: RefreshState, now: float) -> bool:
    """Whether primaries are to be asked: also where they were last asked later than now, as a clock that was ahead or a
    damaged row has it."""
    if max(state.checked_at, state.tried_at) > now + AHEAD:
        return True
    if state.notified_at > state.tried_at:
        return now >= state.tried_at + NOTICE_PAUSE
    return now >= state.next_at


def is_expired(state: RefreshState, now: float) -> bool:
    """Whether the zone must be served no more."""
    return state.expires_at is not None and now >= state.expires_at


def checked(state: RefreshState, now: float, serial: int, timers: Timers, primary: str) -> RefreshState:
    """The state after a primary has said that this serial is the newest, and what is stored has it."""
    return RefreshState(state.zone, serial, timers.bounded(), now, now, state.notified_at, 0, primary)


def failed(state: RefreshState, now: float, error: str, stored: tuple[int, Timers] | None) -> RefreshState:
    """The state after no primary could be used. A zone that is `stored`, of which no check is known, as after a
    restore, or one that is later than now, expires counted from now."""
    serial, timers = (None, state.timers) if stored is None else (stored[0], stored[1].bounded())
    return replace(
        state,
        serial=serial,
        timers=timers,
        checked_at=min(state.checked_at, now) or now,
        tried_at=now,
        failures=state.failures + 1,
        error=error,
    )
