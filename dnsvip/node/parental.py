"""Rollovers go on by themselves once the parent has the new DS records: its servers are asked (RFC 7344 section 6).

One node of the site does it (`dnsvip.site.duty`). A zone at fault costs itself alone.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from dnsvip.dns.dnssec.keys import ds_text
from dnsvip.dns.io.parents import check_parents
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.zones.catalog import labels_or_split
from dnsvip.errors import DnsvipError
from dnsvip.node.duty import Duty
from dnsvip.site import Zone
from dnsvip.site.values import parse_endpoint
from dnsvip.site.zone_keys import KeyState
from dnsvip.store.following.follower import SnapshotFollower

CHECK_SECONDS = 60.0
"""How often the servers of a parent are asked while a rollover waits for them."""

ZONE_SECONDS = 20.0
"""For all servers of one zone."""

MOST_AT_ONCE = 64
"""Zones that are asked for at a time."""

ACTOR = "parental agents"
"""Whom the audit names."""

log = structlog.get_logger()


class ParentalAgents:
    """Asks the parents of zones whose rollovers wait for them, while `run` runs."""

    def __init__(self, server: DnsServer, follower: SnapshotFollower, duty: Duty) -> None:
        self._server, self._follower, self._duty = server, follower, duty
        self._lacks: dict[str, str] = {}
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    def warnings(self) -> list[tuple[str, str]]:
        """The zones that wait for their parents, and what these lack."""
        return list(self._lacks.items())

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            waiting = self._waiting()
            if not waiting or not await self._duty.mine():
                self._lacks = {}
                continue
            self._lacks = {name: text for name, text in self._lacks.items() if name in waiting}
            async with asyncio.TaskGroup() as group:
                for zone in waiting.values():
                    group.create_task(self._look(zone))

    async def _look(self, zone: Zone) -> None:
        """Ask for one zone, whose servers may be slow, beside the others."""
        try:
            async with self._places, asyncio.timeout(ZONE_SECONDS):
                await self._ask(zone)
            self._lacks.pop(zone.name, None)
        except TimeoutError:
            self._lacks[zone.name] = f"the servers of the parent take more than {ZONE_SECONDS:.0f} s together"
        except DnsvipError as error:
            self._lacks[zone.name] = str(error)
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

    async def _ask(self, zone: Zone) -> None:
        """Confirm where the servers have what they should; raises ParentLacks where one has not."""
        store, compiled = self._follower.store, self._server.engine.zones.by_apex.get(labels_or_split(zone.name))
        if store is None or compiled is None or compiled.keys is None or zone.dnssec is None:
            return
        data = [piece for (piece,) in compiled.keys.sets[Type.CDS].rdatas if isinstance(piece, bytes)]
        records = [ds_text(zone.name, one).partition(" IN DS ")[2] for one in data]
        servers = [parse_endpoint(agent) for agent in zone.dnssec.parental_agents]
        await check_parents(zone.name, records, servers)
        await store.keys.confirm_zone(zone.name, ACTOR, time.time())
        log.info("the parent has the DS records, the key before goes", zone=zone.name)
