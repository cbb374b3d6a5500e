"""Makes the catalog zones of a site, and the zones that its consumed catalogs name (RFC 9432), on the node on duty.

What a catalog says is read in a thread, as it may be large and a primary's: queries do not wait for that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.replication.catalogs import (
    MOST_MEMBERS,
    Allowances,
    CatalogError,
    Plan,
    catalog_text,
    listed,
    members_of,
    orphans,
    planned,
)
from dnsvip.dns.zones.catalog import labels_or_split
from dnsvip.dns.zones.zone import CompiledZone
from dnsvip.errors import DnsvipError, StoreError
from dnsvip.node.duty import Duty
from dnsvip.site import CatalogRole, Zone
from dnsvip.site.plan import Change
from dnsvip.store import Store
from dnsvip.store.following.follower import SnapshotFollower

LOOK_SECONDS = 1.0
AT_ONCE = 500
"""Zones that are made or removed in one change."""

PAUSE_SECONDS = 60.0
"""Until a catalog is followed again that has made and removed as many zones as it may."""

TOO_MANY = "it has named other zones too often; the rest is made and removed later"

SHOWN = 5

log = structlog.get_logger()


class Catalogs:
    """Keeps catalogs and their members while `run` runs."""

    def __init__(self, server: DnsServer, follower: SnapshotFollower, duty: Duty) -> None:
        self._server, self._follower, self._duty = server, follower, duty
        self._faults: dict[str, str] = {}
        self._looked: tuple[object, object] | None = None
        """The zones as last looked at on duty: they are looked at again where there are others, or a change failed.
        What a catalog asks for in vain it does until there are others."""
        self._failed = False
        self._allowances = Allowances()
        self._later: dict[str, float] = {}
        """When catalogs are followed again that have to wait (monotonic seconds)."""

    def warnings(self) -> list[tuple[str, str]]:
        """The catalogs that cannot be followed as they are, and why."""
        return list(self._faults.items())

    async def run(self) -> None:
        """Keep them until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        zones, answered = self._follower.snapshot.site.zones, self._server.engine.zones
        if not await self._duty.mine():
            self._faults, self._looked, self._later = {}, None, {}
            return
        self._later = {name: at for name, at in self._later.items() if name in zones}
        is_due = any(at <= time.monotonic() for at in self._later.values())
        if not is_due and self._looked is not None and self._looked[0] is zones and self._looked[1] is answered:
            return
        faults: dict[str, str] = {}
        self._failed = False
        for name, zone in zones.items():
            if zone.catalog is not None and (fault := await self._tend(zones, zone)):
                faults[name] = fault
        await self._apply("catalogs", await asyncio.to_thread(orphans, zones))
        for name, fault in faults.items():
            if self._faults.get(name) != fault:
                log.warning("a catalog zone cannot be followed", zone=name, error=fault)
        self._faults, self._looked = faults, None if self._failed else (zones, answered)

    async def _tend(self, zones: Mapping[str, Zone], catalog: Zone) -> str:
        """Bring a catalog or its members up to date; what is wrong."""
        compiled = self._server.engine.zones.by_apex.get(labels_or_split(catalog.name))
        try:
            if catalog.catalog is CatalogRole.PRODUCE:
                return await self._make(zones, catalog, compiled)
            if compiled is None:
                return ""  # not transferred yet, or expired: its members stay
            if time.monotonic() < self._later.get(catalog.name, 0.0):
                return self._faults.get(catalog.name, "")
            self._later.pop(catalog.name, None)
            plan = await asyncio.to_thread(_plan, zones, catalog, compiled)
        except CatalogError as error:
            return str(error)
        allowed = self._allowances.take(catalog.name, len(plan.changes), time.monotonic())
        fault = await self._apply(catalog.name, plan.changes[:allowed])
        if not fault and allowed < len(plan.changes):
            self._later[catalog.name] = time.monotonic() + PAUSE_SECONDS
            fault = TOO_MANY
        more = f" and {len(plan.faults) - SHOWN} more" if len(plan.faults) > SHOWN else ""
        return fault or "; ".join(plan.faults[:SHOWN]) + more

    async def _make(self, zones: Mapping[str, Zone], catalog: Zone, compiled: CompiledZone | None) -> str:
        text, fault = await asyncio.to_thread(_text_to_make, zones, catalog, compiled)
        if text is None:
            return fault
        after = replace(catalog, text=text)
        return await self._apply(catalog.name, [Change("zone", catalog.name, "~", catalog, after)]) or fault

    async def _apply(self, catalog: str, changes: Sequence[Change]) -> str:
        """Make the changes, some at a time; what is wrong with the first that cannot be made."""
        store: Store | None = self._follower.store
        for at in range(0, len(changes) if store is not None else 0, AT_ONCE):
            some = changes[at : at + AT_ONCE]
            try:
                assert store is not None  # noqa: S101 - for mypy
                await store.objects.apply(some, f"catalog ({catalog})", "api")
            except StoreError as error:
                self._failed = True
                return str(error)
            except DnsvipError as error:  # another change came first, or a rule forbids it
                self._failed = True
                return f"zones cannot be made or removed as it asks for: {error}"[:300]
            log.info("a catalog was followed", catalog=catalog, changes=len(some))
        return ""


def _plan(zones: Mapping[str, Zone], catalog: Zone, compiled: CompiledZone) -> Plan:
    return planned(zones, catalog, members_of(compiled))


def _text_to_make(zones: Mapping[str, Zone], catalog: Zone, compiled: CompiledZone | None) -> tuple[str | None, str]:
    """The text of a catalog that is made, None where it has its members already; and what is wrong with them."""
    found, before = listed(zones.values()), members_of(compiled) if compiled is not None else []
    stay = set(before)  # whoever adds zones pushes out none, which secondaries would remove
    found.sort(key=lambda name: name not in stay)
    members, beyond = sorted(found[:MOST_MEMBERS]), found[MOST_MEMBERS:]
    fault = ""
    if beyond:
        fault = f"a catalog has {MOST_MEMBERS} zones at most: {len(beyond)} are left out, such as {beyond[0]}"
    if compiled is not None and before == members:
        return None, fault
    return catalog_text(catalog.name, members, compiled, time.time()), fault
