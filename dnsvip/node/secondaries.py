"""Keeps the secondary zones of a site: one node asks their primaries and stores what they have, for all to serve.

A zone at fault costs itself alone: each is checked by itself, and transfers are bounded in number, size and time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from weakref import WeakValueDictionary

import structlog

from dnsvip.dns.io.fetching import WHOLE_SECONDS, address_of, fetch, serial_at
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.protection.crowds import Network, network_of
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.replication.fetched import Fetched, TransferError
from dnsvip.dns.zones.catalog import labels_or_split
from dnsvip.errors import Conflict, DnsvipError, StoreError
from dnsvip.fair_places import FairPlaces
from dnsvip.jobs.jobs import Jobs
from dnsvip.node.duty import TICK_SECONDS, Duty
from dnsvip.site import Zone
from dnsvip.site.plan import Change
from dnsvip.site.refreshes import RefreshState, Timers, checked, failed, is_due, is_expired
from dnsvip.site.zone_changes import is_newer
from dnsvip.store import Store
from dnsvip.store.following.follower import SnapshotFollower
from dnsvip.telemetry.paced import Paced

MOST_CHECKS, MOST_TRANSFERS = 64, 4
"""Zones that are asked for, and transferred, at a time."""

CHECK_PACE = 0.01
"""Seconds between the beginnings of two checks: each is some milliseconds of work here and in the database, and a
primary may name thousands of zones with a refresh of a second."""

SHARE = 4
"""The primaries of one network leave this part of the places to others, however slow they are: one may have any number
of addresses."""

STATES_PER_SECOND = 2000
"""States that are read from the database at most: thousands of zones are looked at less often."""

MOST_LINES = 300
"""Lines of one kind in the log a minute, about the zones of the primaries of one network."""

MOST_NOTICES = 10_000
"""Zones that NOTIFY came for and that wait to be noted."""

log = structlog.get_logger()


class Secondaries:
    """Refreshes secondary zones while `run` runs, on the node that is on duty."""

    def __init__(self, server: DnsServer, follower: SnapshotFollower, duty: Duty) -> None:
        self._server, self._follower, self._duty = server, follower, duty
        self._jobs = Jobs(processes=MOST_TRANSFERS, waiting=1 << 20)
        self._checks, self._transfers = _Shares(MOST_CHECKS, CHECK_PACE), _Shares(MOST_TRANSFERS)
        self._writes = asyncio.Semaphore(MOST_CHECKS)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._noticed: set[Labels] = set()
        self._states: dict[str, RefreshState] = {}
        self._lines = Paced()
        server.on_notify(self._notice)

    def warnings(self) -> list[tuple[str, str]]:
        """The zones that could not be refreshed, and why."""
        return [(name, _warning(state)) for name, state in self._states.items() if state.error]

    async def run(self) -> None:
        """Refresh until cancelled."""
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS + len(self._states) / STATES_PER_SECOND)
                with suppress(StoreError):
                    await self._look()
        finally:
            for task in self._running.values():
                task.cancel()
            await self._jobs.close()

    def _notice(self, apex: Labels) -> None:
        if len(self._noticed) < MOST_NOTICES:
            self._noticed.add(apex)

    async def _look(self) -> None:
        store, zones = self._follower.store, self._follower.snapshot.site.zones
        secondary = {name: zone for name, zone in zones.items() if zone.is_secondary}
        if store is None or not (secondary or self._states):
            return
        if self._noticed:
            noticed, self._noticed = self._noticed, set()
            names = [name for name in secondary if labels_or_split(name) in noticed]
            await store.refreshes.notified(names, self._follower.now())
        if not await self._duty.mine():
            self._states = {}
            return
        states = await store.refreshes.all()
        if gone := states.keys() - secondary.keys():
            await store.refreshes.forget(gone)
        self._states = {name: state for name, state in states.items() if name not in gone}
        now, ages = self._follower.now(), store.clock.tells_age
        for name, zone in secondary.items():
            state = states.get(name, RefreshState(name))
            if name not in self._running and (is_due(state, now) or (ages and zone.text and is_expired(state, now))):
                self._running[name] = asyncio.create_task(self._tend(store, zone, state))

    async def _tend(self, store: Store, zone: Zone, state: RefreshState) -> None:
        """Check a zone, or end it where it has expired; whatever goes wrong is noted with it."""
        try:
            after = await self._refreshed(store, zone, state) if is_due(state, self._follower.now()) else state
            async with self._writes:
                if zone.text and store.clock.tells_age and is_expired(after, self._follower.now()):
                    await _put(store, zone, "", "expiry")
                    log.error("a secondary zone has expired", zone=zone.name, error=after.error)
                    after = replace(after, serial=None)
                await store.refreshes.put(after)
        except (StoreError, Conflict) as error:
            log.debug("a secondary zone is tended again later", zone=zone.name, error=str(error))
        except Exception:
            log.exception("a secondary zone could not be tended", zone=zone.name)
            with suppress(StoreError):
                await store.refreshes.put(
                    failed(state, self._follower.now(), "a fault of the program", self._stored(zone, state))
                )
        finally:
            self._running.pop(zone.name, None)

    async def _refreshed(self, store: Store, zone: Zone, state: RefreshState) -> RefreshState:
        """The state after its primaries have been asked one after the other."""
        stored, faults = self._stored(zone, state), []
        for primary in zone.primaries:
            try:
                return await self._from(store, zone, state, primary, stored)
            except TransferError as error:
                faults.append(f"{primary} {error}")
            except (StoreError, Conflict):
                raise
            except DnsvipError as error:  # a job that took too long, or had no place
                faults.append(f"{primary}: {error}")
        self._say(log.warning, "a secondary zone cannot be refreshed", zone, error="; ".join(faults))
        return failed(state, self._follower.now(), "; ".join(faults), stored)

    async def _from(
        self, store: Store, zone: Zone, state: RefreshState, primary: str, stored: tuple[int, Timers] | None
    ) -> RefreshState:
        key = self._follower.snapshot.site.tsig_keys.get(zone.primaries_tsig or "")
        async with self._checks.place(primary):
            serial, asked_at = await serial_at(primary, zone, key), self._follower.now()
        if stored is not None and serial == stored[0]:
            return checked(state, asked_at, *stored, primary)
        if stored is not None and not is_newer(serial, stored[0]):
            raise TransferError(f"has serial {serial}, which is older than {stored[0]}")
        async with self._transfers.place(primary):
            fetched = await self._jobs.run(fetch, zone, primary, key, seconds=2 * WHOLE_SECONDS)
        assert isinstance(fetched, Fetched)  # noqa: S101 - what it calls
        async with self._writes:
            await _put(store, zone, fetched.text, primary)
        told = {"primary": primary, "way": fetched.way, "serial": fetched.serial}
        self._say(log.info, "a secondary zone was transferred", zone, **told)
        return checked(state, asked_at, fetched.serial, fetched.timers, primary)

    def _say(self, level: Callable[..., None], what: str, zone: Zone, **told: object) -> None:
        """Log what the first of a zone's primaries decides how often there is."""
        more = self._lines.passes((what, _network(zone.primaries[0])), time.monotonic(), MOST_LINES)
        if more is not None:
            level(what, zone=zone.name, **told, **more)

    def _stored(self, zone: Zone, state: RefreshState) -> tuple[int, Timers] | None:
        """Serial and timers of what is stored of a zone; None where that is nothing that can be served."""
        if zone.text and state.serial is not None:
            return state.serial, state.timers  # what is served may be a moment older
        compiled = self._server.engine.zones.by_apex.get(labels_or_split(zone.name))
        if not zone.text or compiled is None:
            return None
        numbers = compiled.nodes[compiled.apex][Type.SOA].rdatas[0][-1]
        assert isinstance(numbers, bytes)  # noqa: S101 - the last piece of a SOA
        serial, *timers = (int.from_bytes(numbers[at : at + 4], "big") for at in range(0, 16, 4))
        return serial, Timers(*timers)


class _Shares:
    """Places for what primaries are asked, in the turns of their networks; one has some of them at most. `pace` is in
    seconds between the beginnings of two."""

    def __init__(self, most: int, pace: float = 0.0) -> None:
        self._places, self._of_one = FairPlaces(most), most - most // SHARE
        self._pace, self._next = pace, 0.0
        self._networks: WeakValueDictionary[Network, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def place(self, primary: str) -> AsyncIterator[None]:
        """A place for a primary."""
        network = _network(primary)
        own = self._networks.setdefault(network, asyncio.Semaphore(self._of_one))
        async with own, self._places.place(str(network)):
            now = asyncio.get_running_loop().time()
            begin = max(now, self._next)
            self._next = begin + self._pace
            await asyncio.sleep(begin - now)
            yield


def _network(primary: str) -> Network:
    """The network of a primary."""
    return network_of(ip_address(address_of(primary)))


async def _put(store: Store, zone: Zone, text: str, by: str) -> None:
    """Store another text of a zone; raises Conflict where it has changed meanwhile."""
    if text != zone.text:
        change = Change("zone", zone.name, "~", zone, replace(zone, text=text))
        await store.objects.apply([change], f"transfer ({by})", "api")


def _warning(state: RefreshState) -> str:
    at = state.expires_at
    end = (
        "it is not served" if at is None else f"it expires at {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at))} UTC"
    )
    return f"cannot be refreshed ({state.failures} tries); {end}: {state.error}"
