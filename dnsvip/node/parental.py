"""Rollovers go on by themselves once the parent has the new DS records: its servers are asked (RFC 7344 section 6).

One node of the site does it (`dnsvip.site.duty`). A zone at fault costs itself alone, however slow its parent's servers
are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog

from dnsvip.dns.dnssec.keys import ds_text
from dnsvip.dns.io.parents import NoAnswer, check_parents
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.zones.catalog import labels_or_split
from dnsvip.errors import DnsvipError
from dnsvip.fair_places import FairPlaces
from dnsvip.node.duty import Duty
from dnsvip.site import Zone
from dnsvip.site.values import parse_endpoint
from dnsvip.site.zone_keys import KeyState
from dnsvip.store.following.follower import SnapshotFollower

CHECK_SECONDS = 60.0
"""How often the servers of a parent are asked while a rollover waits for them."""

MOST_AT_ONCE = 64
"""Servers that are asked at a time, and as many of zones whose servers did not answer the last time: so those keep
others waiting once, and for one answer each."""

ACTOR = "parental agents"
"""Whom the audit names."""

log = structlog.get_logger()


class ParentalAgents:
    """Asks the parents of zones whose rollovers wait for them, while `run` runs."""

    def __init__(self, server: DnsServer, follower: SnapshotFollower, duty: Duty) -> None:
        self._server, self._follower, self._duty = server, follower, duty
        self._lacks: dict[str, str] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._first, self._later = FairPlaces(MOST_AT_ONCE), FairPlaces(MOST_AT_ONCE)
        self._silent: set[str] = set()
        """Zones whose servers did not answer the last time."""

    def warnings(self) -> list[tuple[str, str]]:
        """The zones that wait for their parents, and what these lack."""
        return list(self._lacks.items())

    async def run(self) -> None:
        """Ask until cancelled; each zone again once it has been asked for, whatever others take."""
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(CHECK_SECONDS)
                waiting = self._waiting()
                if waiting and not await self._duty.mine():
                    waiting = {}
                for name in self._looks.keys() - waiting.keys():
                    self._looks[name].cancel()
                self._lacks = {name: text for name, text in self._lacks.items() if name in waiting}
                self._silent &= waiting.keys()
                for name, zone in waiting.items():
                    if name not in self._looks:
                        self._looks[name] = task = group.create_task(self._look(zone), name=name)
                        task.add_done_callback(lambda task: self._looks.pop(task.get_name()))

    async def _look(self, zone: Zone) -> None:
        """Ask for one zone, whose servers may be slow, beside the others."""
        places = self._later if zone.name in self._silent else self._first
        try:
            await self._ask(zone, lambda: places.place(zone.name))
            self._lacks.pop(zone.name, None)
            self._silent.discard(zone.name)
        except DnsvipError as error:
            self._lacks[zone.name] = str(error)
            (self._silent.add if isinstance(error, NoAnswer) else self._silent.discard)(zone.name)
        except Exception as error:  # noqa: BLE001 - it costs this zone, not the others
            self._lacks[zone.name] = f"cannot ask the parent: {type(error).__name__}: {error}"

    def _waiting(self) -> dict[str, Zone]:
        """The zones with a key that goes once the parent has the DS of the one after it."""
        snapshot = self._follower.snapshot
        return {
            name: zone
            for name, zone in snapshot.site.zones.items()
            if zone.dnssec is not None
            and zone.dnssec.parental_agents
            and any(key.state is KeyState.OUTGOING for key in snapshot.zone_keys.get(name, ()))
        }

    async def _ask(self, zone: Zone, place: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        """Confirm where the servers have what they should; raises ParentLacks where one has not."""
        store, compiled = self._follower.store, self._server.engine.zones.by_apex.get(labels_or_split(zone.name))
        if store is None or compiled is None or compiled.keys is None or zone.dnssec is None:
            return
        data = [piece for (piece,) in compiled.keys.sets[Type.CDS].rdatas if isinstance(piece, bytes)]
        records = [ds_text(zone.name, one).partition(" IN DS ")[2] for one in data]
        servers = [parse_endpoint(agent) for agent in zone.dnssec.parental_agents]
        await check_parents(zone.name, records, servers, place)
        now = self._follower.snapshot.site.zones.get(zone.name)
        if now is None or now.dnssec != zone.dnssec:  # others are to be asked meanwhile
            return
        await store.keys.confirm_zone(zone.name, ACTOR, self._follower.now())
        log.info("the parent has the DS records, the key before goes", zone=zone.name)
