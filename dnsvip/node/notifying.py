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

from dnsvip.dns.io.notifying import Sending
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.replication.notices import MOST_TARGETS, Target, changed, notice, recipients, soa_of
from dnsvip.dns.zones.catalog import labels_or_split
from dnsvip.dns.zones.zone import CompiledZone, serial_of
from dnsvip.errors import StoreError
from dnsvip.node.duty import TICK_SECONDS, Duty
from dnsvip.site import TsigKey, Zone
from dnsvip.store.following.follower import SnapshotFollower

DELAY_SECONDS = 1.0
"""From a change to its NOTIFY: the other nodes of the site take it meanwhile, and secondaries may ask any."""

log = structlog.get_logger()


class Notifying:
    """Sends NOTIFY for zones that have changed, while `run` runs."""

    def __init__(self, server: DnsServer, follower: SnapshotFollower, duty: Duty) -> None:
        self._server, self._follower, self._duty = server, follower, duty
        self._told: dict[str, int] = {}
        self._due: dict[str, float] = {}
        """When a zone that has changed is told of: `loop.time`, not moved by what changes until then."""
        self._running: dict[str, asyncio.Task[None]] = {}
        self._sending = Sending()
        self._faults: dict[tuple[str, Target], str] = {}
        self._looked: tuple[object, object] | None = None
        """The zones as last looked at on duty: they are looked at again where there are others."""

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
            self._sending.close()

    async def _look(self) -> None:
        zones, answered = self._follower.snapshot.site.zones, self._server.engine.zones
        if not await self._duty.mine():
            # who takes over tells all once: it does not know what was told
            self._told, self._faults, self._looked = {}, {}, None
            return
        if self._looked is not None and self._looked[0] is zones and self._looked[1] is answered:
            return
        self._looked = zones, answered
        served = {name: compiled for name, zone in zones.items() if _tells(zone) and (compiled := self._compiled(name))}
        serials = {name: serial_of(compiled) for name, compiled in served.items()}
        for name in list(changed(serials, self._told)):
            self._start(zones[name], served[name])
        self._told = serials
        self._faults = {key: what for key, what in self._faults.items() if key[0] in served}

    def _compiled(self, name: str) -> CompiledZone | None:
        return self._server.engine.zones.by_apex.get(labels_or_split(name))

    def _start(self, zone: Zone, compiled: CompiledZone) -> None:
        if (before := self._running.get(zone.name)) is not None:
            before.cancel()
        self._due.setdefault(zone.name, asyncio.get_running_loop().time() + DELAY_SECONDS)
        task = asyncio.create_task(self._tell(zone, compiled))
        self._running[zone.name] = task
        task.add_done_callback(partial(self._forget, zone.name))

    def _forget(self, zone: str, done: asyncio.Task[None]) -> None:
        if self._running.get(zone) is done:
            del self._running[zone]

    async def _tell(self, zone: Zone, compiled: CompiledZone) -> None:
        """Tell the recipients of a zone when that is due, each until it answers."""
        try:
            await asyncio.sleep(self._due[zone.name] - asyncio.get_running_loop().time())
            del self._due[zone.name]
            who = recipients(zone, compiled, self._server.engine.zones)
            key_name = zone.transfer.tsig if zone.transfer else None
            key = self._follower.snapshot.site.tsig_keys.get(key_name or "")
            message, told = notice(zone.name, soa_of(compiled), **_signing(key)), dict.fromkeys(who.targets)
            async with asyncio.TaskGroup() as group:
                for target in who.targets:
                    group.create_task(self._notify(zone.name, target, message))
                for name in who.names:
                    for target in await self._sending.addresses_of(zone.name, name):
                        if target not in told and len(told) < MOST_TARGETS:
                            told[target] = None
                            group.create_task(self._notify(zone.name, target, message))
            stale = [key for key in self._faults if key[0] == zone.name and key[1] not in told]
            for place in stale:
                del self._faults[place]
        except Exception as error:  # noqa: BLE001 - it costs this zone, not the others
            log.error("NOTIFY failed", zone=zone.name, error=f"{type(error).__name__}: {error}")

    async def _notify(self, zone: str, target: Target, message: Any) -> None:
        wrong = await self._sending.notify(zone, message, target)
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
