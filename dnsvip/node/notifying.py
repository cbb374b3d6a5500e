"""Tells the secondaries of a site's zones of changes (NOTIFY, RFC 1996), on the one node that is on duty.

A zone at fault costs itself alone.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

import dns.name
import dns.tsig
import structlog

from dnsvip.dns.io.notifying import addresses_of, notify
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.replication.notices import Target, changed, notice, recipients, soa_of
from dnsvip.dns.zones.catalog import labels_or_split
from dnsvip.dns.zones.zone import CompiledZone, serial_of
from dnsvip.errors import StoreError
from dnsvip.node.duty import TICK_SECONDS, Duty
from dnsvip.site import TsigKey, Zone
from dnsvip.store.following.follower import SnapshotFollower

DELAY_SECONDS = 1.0
"""From a change to its NOTIFY: the other nodes of the site take it meanwhile, and secondaries may ask any."""

MOST_AT_ONCE = 64
"""Secondaries that are notified at a time."""

log = structlog.get_logger()


class Notifying:
    """Sends NOTIFY for zones that have changed, while `run` runs."""

    def __init__(self, server: DnsServer, follower: SnapshotFollower, duty: Duty) -> None:
        self._server, self._follower, self._duty = server, follower, duty
        self._told: dict[str, int] = {}
        self._running: dict[tuple[str, Target], asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self._faults: dict[tuple[str, Target], str] = {}

    def warnings(self) -> list[tuple[str, str]]:
        """The zones whose secondaries have not taken the last NOTIFY, and what is wrong."""
        return [(zone, f"NOTIFY to {host} port {port}: {what}") for (zone, (host, port)), what in self._faults.items()]

    async def run(self) -> None:
        """Notify until cancelled."""
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                with suppress(StoreError):
                    await self._look()
        finally:
            for task in self._running.values():
                task.cancel()

    async def _look(self) -> None:
        zones = self._follower.snapshot.site.zones
        served = {name: compiled for name, zone in zones.items() if _tells(zone) and (compiled := self._compiled(name))}
        serials = {name: serial_of(compiled) for name, compiled in served.items()}
        if not await self._duty.mine():
            self._told, self._faults = {}, {}  # who takes over tells all once: it does not know what was told
            return
        for name in list(changed(serials, self._told)):
            try:
                await self._start(zones[name], served[name])
            except Exception as error:  # noqa: BLE001 - it costs this zone, not the others
                log.error("NOTIFY failed", zone=name, error=f"{type(error).__name__}: {error}")
        self._told = serials
        self._faults = {key: what for key, what in self._faults.items() if key[0] in served}

    def _compiled(self, name: str) -> CompiledZone | None:
        return self._server.engine.zones.by_apex.get(labels_or_split(name))

    async def _start(self, zone: Zone, compiled: CompiledZone) -> None:
        who = recipients(zone, compiled, self._server.engine.zones)
        targets = dict.fromkeys((*who.targets, *await addresses_of(who.names)))
        key_name = zone.transfer.tsig if zone.transfer else None
        key = self._follower.snapshot.site.tsig_keys.get(key_name or "")
        for target in targets:
            if (before := self._running.get((zone.name, target))) is not None:
                before.cancel()
            message = notice(zone.name, soa_of(compiled), **_signing(key))
            task = asyncio.create_task(self._notify(zone.name, target, message))
            self._running[zone.name, target] = task
            task.add_done_callback(partial(self._forget, (zone.name, target)))

    def _forget(self, place: tuple[str, Target], done: asyncio.Task[None]) -> None:
        if self._running.get(place) is done:
            del self._running[place]

    async def _notify(self, zone: str, target: Target, message: Any) -> None:
        await asyncio.sleep(DELAY_SECONDS)
        async with self._places:
            wrong = await notify(message, target)
        if wrong is None:
            self._faults.pop((zone, target), None)
            log.info("secondary notified", zone=zone, address=target[0], port=target[1])
        else:
            self._faults[zone, target] = wrong
            log.warning("secondary not notified", zone=zone, address=target[0], port=target[1], error=wrong)


def _tells(zone: Zone) -> bool:
    return bool(zone.notify or (zone.transfer is not None and zone.notify_ns))


def _signing(key: TsigKey | None) -> dict[str, object]:
    if key is None:
        return {}
    name = dns.name.from_text(key.name)
    return {"keyring": {name: dns.tsig.Key(name, key.secret, key.algorithm.value)}, "keyname": name}
