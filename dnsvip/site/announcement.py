"""How a prefix is announced, by the reasons against it: preferred, only for want of another way, or not at all.

Pure. Who is drained leaves in two steps, so that others take over before its route goes; whatever else keeps it from
its work withdraws the route at once. A route that was withdrawn comes back when nothing has spoken against it for a
while: it does not flap, and all servers have passed their checks again, not only the first, which would be given the
flows of the others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from math import inf

from dnsvip.site.readiness import Code

NEVER = -inf
"""Since when a prefix is WITHDRAWN that has not been announced yet."""


class Standing(IntEnum):
    """How a prefix is announced: the metric of its route in the kernel, which daemons pass on as MED (lower is
    better)."""

    WITHDRAWN = 0
    PREFERRED = 10
    LEAVING = 60


@dataclass(frozen=True, slots=True)
class Announcement:
    """The standing of a prefix, and since when (seconds of any steady clock). Of a withdrawn one that is since when
    nothing speaks against it any more: infinite while something does. A new one has never been withdrawn."""

    standing: Standing = Standing.WITHDRAWN
    since: float = NEVER


def advance(
    before: Announcement, codes: Collection[Code], now: float, grace_seconds: float, hold_seconds: float
) -> Announcement:
    """The announcement now, by what speaks against it. A drained node is LEAVING for `grace_seconds`; a withdrawn
    prefix comes back when nothing has spoken against it for `hold_seconds`."""
    if before.standing is Standing.WITHDRAWN and before.since != NEVER:
        before = Announcement(before.standing, inf if codes else min(before.since, now))
    standing = _standing(before, codes, now - before.since, grace_seconds, hold_seconds)
    if standing is before.standing:
        return before
    return Announcement(standing, inf if standing is Standing.WITHDRAWN else now)


def _standing(
    before: Announcement, codes: Collection[Code], seconds: float, grace_seconds: float, hold_seconds: float
) -> Standing:
    withdrawn = before.standing is Standing.WITHDRAWN
    if not codes:
        return Standing.WITHDRAWN if withdrawn and seconds < hold_seconds else Standing.PREFERRED
    if set(codes) != {Code.DRAINED} or withdrawn:
        return Standing.WITHDRAWN
    if before.standing is Standing.LEAVING and seconds >= grace_seconds:
        return Standing.WITHDRAWN
    return Standing.LEAVING
