"""Dynamic updates written to the database: decided by `dns.update`, stored as edits of the API are.

Every DNS process does that by its own connection, apart from its event loop: small ones in a thread, one after the
other, large zones and large messages in a process. Updates of one zone take turns, with edits by the API of the same
process too; what others change meanwhile makes an update start again. Whatever fails, nothing is changed, and the
answer is SERVFAIL.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial

import structlog

from dnsvip.admin.http.work import SMALL, is_small
from dnsvip.dns.protocol.message import Rcode
from dnsvip.dns.reply import PendingUpdate
from dnsvip.dns.update.admission import REMEMBERED_SECONDS, Remembered, UpdateRates
from dnsvip.dns.update.decide import decide
from dnsvip.dns.update.permission import permission_of
from dnsvip.dns.zones.examine import examined
from dnsvip.dns.zones.recent_sets import keep, sets_of
from dnsvip.dns.zones.record import labels_of
from dnsvip.errors import Conflict, DnsvipError, InvalidSite
from dnsvip.fair_places import may_wait
from dnsvip.jobs.jobs import Jobs
from dnsvip.site import Service, Zone
from dnsvip.site.node_admin import AdminLimits
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change
from dnsvip.site.references import closest
from dnsvip.store import Store
from dnsvip.store.following.follower import SnapshotFollower

SECONDS = 30.0
"""Until an update is given up: its sender does not wait longer."""

TRY_SECONDS = 15.0
"""For how long one is made again that other changes overtake."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
"""Seconds between its tries, at most: twice as long each time."""

SHARE = 4
"""One key takes at most this part of the places to wait."""

MOST_REMEMBERED = 100_000
"""Updates within ten minutes whose outcomes are told again. One that is forgotten is not made twice either: the
database has it for as long (`seen_updates`), and refuses it."""

Outcome = tuple[int, str]
log = structlog.get_logger()


class Updating:
    """Makes the updates that one process receives, until `close`."""

    def __init__(self, node: NodeConfig, follower: SnapshotFollower) -> None:
        limits = node.admin.limits if node.admin else AdminLimits()
        self._follower, self._most_bytes, self._waiting = follower, limits.zone_bytes, node.dns.updates.waiting
        self._rates = UpdateRates(node.dns.updates.per_second)
        self._jobs = Jobs(processes=1, bytes_=limits.process_bytes)
        self._thread = asyncio.Lock()
        self._keys: Counter[str] = Counter()
        self._remembered: Remembered[asyncio.Future[Outcome]] = Remembered(MOST_REMEMBERED)

    async def close(self) -> None:
        """Stop what is being decided; what is being written is written or not."""
        await self._jobs.close()

    async def make(self, pending: PendingUpdate) -> Outcome:
        """The rcode of an update, and why, once it is written or refused. One that has come before, which its sender
        or somebody else sends again, gets the same answer, and nothing is done."""
        now = time.monotonic()
        if (known := self._remembered.get(pending.mac, now)) is not None:
            return await asyncio.shield(known)
        if not self._has_room(pending.key) or not self._rates.admits(pending.key, now):
            return Rcode.SERVFAIL, "too many updates; try again later"
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._remembered.put(pending.mac, outcome, now)
        made: Outcome = (Rcode.SERVFAIL, "the update has been given up")
        self._keys[pending.key] += 1
        try:
            async with asyncio.timeout(SECONDS):
                made = await self._make(pending)
        except TimeoutError:
            log.warning("an update took too long", zone=pending.zone, key=pending.key)
        except DnsvipError as error:
            log.warning("an update cannot be made", zone=pending.zone, key=pending.key, error=str(error))
        finally:
            self._keys[pending.key] -= 1
            if not self._keys[pending.key]:
                del self._keys[pending.key]
            if made[0] == Rcode.SERVFAIL:
                self._remembered.forget(pending.mac)
            outcome.set_result(made)
        return made

    def _has_room(self, key: str) -> bool:
        return self._keys[key] < max(1, self._waiting // SHARE) and may_wait(self._keys, key, self._waiting)

    async def _make(self, pending: PendingUpdate) -> Outcome:
        if (store := self._follower.store) is None:
            return Rcode.SERVFAIL, "the database has not been reached"
        async with store.turns.of(pending.zone):
            wall = self._follower.now()
            if not await store.seen_updates.claim(pending.key, pending.mac, wall, wall + REMEMBERED_SECONDS):
                return Rcode.REFUSED, "this update has been sent before"
            outcome = await self._tried(store, pending)  # where that raises it may be written all the same
            if outcome[0] == Rcode.SERVFAIL:
                await store.seen_updates.release(pending.key, pending.mac)
            return outcome

    async def _tried(self, store: Store, pending: PendingUpdate) -> Outcome:
        """As often as others change the zone meanwhile, for TRY_SECONDS."""
        clock, pause = asyncio.get_running_loop().time, FIRST_PAUSE
        until = clock() + TRY_SECONDS
        while clock() < until:
            try:
                return await self._once(store, pending)
            except Conflict:
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - so that nodes do not keep step
                pause = min(2 * pause, LONGEST_PAUSE)
        return Rcode.SERVFAIL, "the zone is being changed by others"

    async def _once(self, store: Store, pending: PendingUpdate) -> Outcome:
        """Make an update of the zone as it is stored now; raises Conflict where that changes meanwhile, and
        DnsvipError."""
        site = self._follower.snapshot.site
        before = await store.objects.get("zone", pending.zone)
        if not isinstance(before, Zone):
            return Rcode.NOTAUTH, ""
        inside = [service for name, service in site.services.items() if closest(name, site.zones) == pending.zone]
        deciding = partial(decided, before, pending.wire, pending.key, inside, self._most_bytes)
        if takes_no_time(before, pending.wire):
            async with self._thread:
                rcode, why, after = await asyncio.to_thread(deciding)
        else:
            rcode, why, after = await self._jobs.run(deciding, seconds=SECONDS)
        if after is None or after == before:
            return rcode, why
        change, actor = Change("zone", before.name, "~", before, after), f"tsig {pending.key}"
        try:
            generation = await store.objects.apply([change], actor, "api", source=pending.source)
        except Conflict:
            raise
        except InvalidSite as error:
            return Rcode.REFUSED, str(error.problems[0])
        log.info("changed", actor=actor, action="~", what=change.where, generation=generation)
        return rcode, why


def takes_no_time(before: Zone, wire: bytes) -> bool:
    """Whether an update is decided in no time: a message of a thousand records takes as long as a zone of them, also
    one that is refused."""
    return is_small(before.text) and len(wire) <= SMALL


def decided(
    before: Zone, wire: bytes, key: str, services: Iterable[Service], most_bytes: int
) -> tuple[int, str, Zone | None]:
    """The rcode of an update, why, and the zone after it, None where it is not made. `services` are those whose zone
    it is."""
    permission = permission_of(before, key, services)
    if permission is None:
        return Rcode.REFUSED, "the key may not change this zone", None
    try:
        sets = sets_of(before)
    except InvalidSite:
        return Rcode.SERVFAIL, "the zone cannot be served as it is", None
    decision = decide(sets, wire, permission)
    if decision.zone is None:
        return decision.rcode, decision.why, None
    after = decision.zone.zone
    if len(after.text.encode()) > most_bytes:
        return Rcode.REFUSED, f"the zone's text would have more than {most_bytes} bytes", None
    hidden = {service.name: service for service in services if _concerns(service, decision.touched)}
    if hidden and (problems := examined(after, hidden).problems):
        return Rcode.REFUSED, problems[0].message, None
    keep(decision.zone)
    return decision.rcode, "", after


def _concerns(service: Service, touched: frozenset[tuple[bytes, ...]]) -> bool:
    """Whether what is at a name, or above it, may keep queries from a service."""
    name = labels_of(service.name)
    return any(name[at:] in touched for at in range(len(name) + 1))
