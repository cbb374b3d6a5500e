"""Secondaries that have a zone with its signatures get new ones in time: the node on duty raises its serial.

That is when the signatures that they have are old, and when the zone's keys have changed. What the node knows of a zone
it forgets where another one takes over, which finds in the audit when the serial was raised last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import structlog

from dnsvip.dns.zones.edit import with_higher_serial
from dnsvip.errors import DnsvipError
from dnsvip.jobs.jobs import Jobs
from dnsvip.node.duty import Duty
from dnsvip.node.large_zones import edited_aside
from dnsvip.site import Dnssec, Snapshot, Zone, ZoneKey
from dnsvip.site.plan import Change
from dnsvip.store import Store
from dnsvip.store.following.follower import SnapshotFollower

LOOK_SECONDS = 5.0
RAISE_SECONDS = 3 * 86400
"""How old the signatures of a transfer become at most, of the 14 days that they are valid: a secondary may be away for
the rest."""

JOB_SECONDS = 120.0
ACTOR = "signed transfers"
"""Whom the audit names."""

log = structlog.get_logger()


class _Seen(NamedTuple):
    """What a zone is signed by, and from when on (unix seconds) transfers have had it."""

    dnssec: Dnssec | None
    keys: tuple[tuple[int, str], ...]
    at: float


class Resigning:
    """Raises the serials of zones that are transferred with their signatures, while `run` runs."""

    def __init__(self, follower: SnapshotFollower, duty: Duty) -> None:
        self._follower, self._duty = follower, duty
        self._jobs = Jobs(processes=1)
        self._zones: Mapping[str, Zone] = {}
        self._signed: tuple[str, ...] = ()
        self._seen: dict[str, _Seen] = {}
        self._faults: dict[str, str] = {}

    def warnings(self) -> list[tuple[str, str]]:
        """The zones whose serial cannot be raised, and why."""
        return list(self._faults.items())

    async def run(self) -> None:
        """Raise them until cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                await self._look(self._follower.snapshot, self._follower.now())
        finally:
            await self._jobs.close()

    async def _look(self, snapshot: Snapshot, now: float) -> None:
        if snapshot.site.zones is not self._zones:
            self._zones = snapshot.site.zones
            self._signed = tuple(name for name, zone in self._zones.items() if zone.sends_signed)
        store = self._follower.store
        if not self._signed or store is None or not await self._duty.mine():
            self._seen, self._faults = {}, {}
            return
        self._faults = {name: fault for name, fault in self._faults.items() if name in self._signed}
        self._seen = {name: seen for name, seen in self._seen.items() if name in self._signed}
        for name in self._signed:
            try:
                await self._tend(store, self._zones[name], snapshot.zone_keys.get(name, ()), now)
                self._faults.pop(name, None)
            except DnsvipError as error:
                fault = f"its serial cannot be raised, and secondaries keep old signatures: {error}"[:300]
                if self._faults.get(name) != fault:
                    log.warning("a serial cannot be raised", zone=name, error=str(error)[:300])
                self._faults[name] = fault

    async def _tend(self, store: Store, zone: Zone, keys: tuple[ZoneKey, ...], now: float) -> None:
        """Raise the serial where that is due; raises DnsvipError."""
        current = _Seen(zone.dnssec, tuple((key.number, key.state.value) for key in keys), now)
        seen = self._seen.get(zone.name) or current._replace(at=await _raised_at(store, zone.name))
        if seen[:2] == current[:2] and 0 <= now - seen.at < RAISE_SECONDS:
            self._seen[zone.name] = seen
            return
        after = await edited_aside(self._jobs, zone, partial(with_higher_serial, zone), JOB_SECONDS)
        await store.objects.apply([Change("zone", zone.name, "~", zone, after)], ACTOR, "api")
        log.info("the serial has been raised, for new signatures at secondaries", zone=zone.name)
        self._seen[zone.name] = current


async def _raised_at(store: Store, name: str) -> float:
    """When a serial was raised last, unless the zone or its keys have changed since; else long ago."""
    newest = await store.audit.rows(1, about={"kind": "zone", "name": name})
    return newest[0].at if newest and newest[0].actor == ACTOR else 0.0
