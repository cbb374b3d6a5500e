"""Zones that take long to read: the version before is answered until a job process has compiled the new one.

So no other change waits for them, and a node that stops does not either. Everything else about such a zone, as who may
transfer it, holds at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from dnsvip.admin.http.work import is_small
from dnsvip.dns.zones.catalog import ZoneEntry
from dnsvip.dns.zones.delta import zone_change
from dnsvip.dns.zones.generate import may_generate
from dnsvip.errors import DnsvipError
from dnsvip.jobs.jobs import Jobs
from dnsvip.site import Snapshot, Zone
from dnsvip.site.zone_changes import ZoneChange

LARGE = 1 << 16
"""Characters of a text from which on compiling it takes more than some tens of milliseconds."""

SECONDS = 600.0
"""For compiling one zone."""

COMPARE_SECONDS, PLACE_SECONDS = 120.0, 5.0
"""For comparing two versions of one, and that it waits for others: whoever changes the zone waits for it."""

log = structlog.get_logger()


def is_large(zone: Zone) -> bool:
    """Whether compiling a zone takes long."""
    return len(zone.text) > LARGE or may_generate(zone.text)


def without_large(
    snapshot: Snapshot, served: Mapping[str, Zone], ready: Mapping[str, Zone]
) -> tuple[Snapshot, dict[str, Zone]]:
    """The snapshot with every large zone that has changed as it is `served`, or without it; and these zones. Those of
    `ready` are compiled already."""
    zones = snapshot.site.zones
    later = {
        name: zone
        for name, zone in zones.items()
        if (name not in served or served[name].text != zone.text) and is_large(zone) and ready.get(name) != zone
    }
    if not later:
        return snapshot, {}
    before = {name: replace(zone, text=served[name].text) for name, zone in later.items() if name in served}
    now = {name: before.get(name, zone) for name, zone in zones.items() if name not in later or name in before}
    return replace(snapshot, site=replace(snapshot.site, zones=now)), later


async def compiled_apart(jobs: Jobs, zone: Zone) -> ZoneEntry:
    """A zone compiled by a process; one that takes too long or too much there is SERVFAIL."""
    try:
        entry = await jobs.run(ZoneEntry, zone, seconds=SECONDS, keep=True)
    except DnsvipError as error:
        log.error("a zone cannot be compiled", zone=zone.name, error=str(error))
        return ZoneEntry.failed(zone, str(error))
    assert isinstance(entry, ZoneEntry)  # noqa: S101 - what it calls
    return entry


async def edited_aside(jobs: Jobs, before: Zone, edit: Callable[[], Zone], seconds: float) -> Zone:
    """What an edit makes of a zone, in a thread where its text is small, else in a process; raises what the edit does,
    and DnsvipError where that takes too long."""
    if is_small(before.text):
        return await asyncio.to_thread(edit)
    after = await jobs.run(edit, seconds=seconds)
    assert isinstance(after, Zone)  # noqa: S101 - what it calls
    return after


class Comparing:
    """How zones change, for their journals: large ones are compared by a process, as a thread keeps queries waiting."""

    def __init__(self) -> None:
        self._jobs = Jobs(processes=2)

    async def __aenter__(self) -> Comparing:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def change(self, before: Zone, after: Zone) -> ZoneChange | None:
        """The change from one state of a zone to another; None where it cannot be told, or takes too long: secondaries
        then get the whole zone."""
        if not (is_large(before) or is_large(after)):
            return await asyncio.to_thread(zone_change, before, after)
        try:
            found = await self._jobs.run(zone_change, before, after, seconds=COMPARE_SECONDS, patience=PLACE_SECONDS)
        except DnsvipError as error:
            log.warning("a zone's change is in no journal", zone=after.name, error=str(error))
            return None
        assert found is None or isinstance(found, ZoneChange)  # noqa: S101 - what it calls
        return found

    async def close(self) -> None:
        """End what is being compared."""
        await self._jobs.close()
