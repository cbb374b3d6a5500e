"""Schedules the health checks of all pools and applies their results to the snapshot.

It times the probes and runs at most MOST_PROBES concurrently; `health_state` interprets the results. Each dispatcher
checks for itself, as only it knows what it can reach.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import structlog

from dnsvip.dispatcher.health.health_state import (
    HealthState,
    after_check,
    after_link,
    after_lost_link,
    after_report,
    effective,
    effective_pool,
)
from dnsvip.dispatcher.io.health.links import Links
from dnsvip.dispatcher.io.health.places import LEAST_SECONDS, GaveWay, ProbePlaces
from dnsvip.dispatcher.io.health.probes import Contexts, Result, probe_agent, probe_http, probe_tcp
from dnsvip.errors import Problem
from dnsvip.fair_places import FairPlaces
from dnsvip.site import Address, Check, Pool, Server, ServerState, Snapshot
from dnsvip.site.isolation import fault_of
from dnsvip.telemetry.paced import MOST, Paced

MOST_PROBES = 128
"""Concurrently, over all pools."""
JITTER = 0.1
"""Random variation of an interval, as a fraction of it, so that the probes of many dispatchers spread."""
FIRST_SECONDS = 0.5
"""Maximum delay of a server's first probe; its interval if that is shorter."""
SETTLE_SECONDS = 0.25
"""Minimum time between two changes of the snapshot, which batches changes: each rebuilds rings."""

RETRY_SECONDS = 3.0
"""Time between two attempts to apply a change of the snapshot."""

Key: TypeAlias = tuple[str, str, bytes]
Probe: TypeAlias = Callable[[Address, Check, Contexts], Awaitable[Result]]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Work:
    """A running probe loop, and the check it was started for."""

    check: Check
    task: asyncio.Task[None]


class Health:
    """The health of every checked server. `update` for each snapshot, `run` until cancelled, then `stop`. A pool that
    makes code raise stays as it is set, a check that does so fails; `problems` names them."""

    def __init__(self, links: Links | None = None) -> None:
        self.probes = self.failures = 0
        self._links = links or Links()
        self._faults: dict[str, Problem] = {}
        self._states: dict[Key, HealthState] = {}
        self._servers: dict[Key, Server] = {}
        self._work: dict[tuple[Key, str], _Work] = {}
        self._places, self._contexts = ProbePlaces(MOST_PROBES), Contexts()
        self._looks = FairPlaces(1)
        """For looking at links, some milliseconds each."""
        self._usable_in: dict[str, tuple[Address, ...]] = {}
        self._changed, self._lines = asyncio.Event(), Paced()
        self._snapshot = Snapshot()
        self._applied: tuple[Snapshot, Snapshot] | None = None

    def update(self, snapshot: Snapshot) -> Snapshot:
        """Check the servers of another snapshot from now on; returns `applied()`. Needs a running event loop."""
        self._snapshot = snapshot
        self._usable_in.clear()
        self._faults.clear()
        wanted = dict(self._wanted(snapshot))
        for place, work in list(self._work.items()):
            if place not in wanted or wanted[place][1] != work.check:
                work.task.cancel()
                del self._work[place]
        self._servers = {key: server for (key, _), (server, _) in wanted.items()}
        self._states = {key: self._states.get(key, HealthState(since=time.time())) for key in self._servers}
        for (key, kind), (server, check) in wanted.items():
            if (key, kind) not in self._work:
                task = asyncio.ensure_future(self._watch(key, server.address, check, kind))
                self._work[key, kind] = _Work(check, task)
        return self.applied()

    def applied(self) -> Snapshot:
        """The snapshot with the state and weight of every server after its checks; the same object while nothing
        changes."""
        base, site = self._snapshot, self._snapshot.site
        pools = {name: self._effective(pool) for name, pool in site.pools.items()}
        if all(pools[name] is pool for name, pool in site.pools.items()):
            return base
        if self._applied and self._applied[0] is base and self._applied[1].site.pools == pools:
            return self._applied[1]
        applied = replace(base, site=replace(site, pools=pools))
        self._applied = base, applied
        return applied

    def usable(self, pools: Iterable[str]) -> Iterator[Address]:
        """The addresses of the servers of some pools that can take new flows: in service, and passing a check that has
        been made."""
        for pool in (self._snapshot.site.pools.get(name) for name in pools):
            try:
                yield from self._usable(pool) if pool else ()
            except Exception as error:  # noqa: BLE001 - it costs this pool, not the others
                self._blame(pool.name if pool else "", error)

    async def run(self, act: Callable[[Snapshot], Awaitable[object]]) -> None:
        """Call `act` with the new snapshot whenever a check has changed it, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            pause = SETTLE_SECONDS
            try:
                await act(self.applied())
            except Exception:
                log.exception("cannot apply the results of health checks")
                self._changed.set()
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def stop(self) -> None:
        """Stop all probes."""
        tasks = [work.task for work in self._work.values()]
        for task in tasks:
            task.cancel()
        self._work.clear()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._links.close()

    def counters(self) -> dict[str, int]:
        """Numbers of probes and of failures."""
        return {"probes": self.probes, "failures": self.failures}

    def status(self) -> list[dict[str, Any]]:
        """The health of each server of a pool with a check, as JSON values."""
        return [row for pool in self._snapshot.site.pools.values() for row in self._shown(pool)]

    @property
    def problems(self) -> list[Problem]:
        """The pools that make code raise, one problem of each."""
        return list(self._faults.values())

    def _shown(self, pool: Pool) -> list[dict[str, Any]]:
        try:
            keys = [(server, _key(pool, server)) for server in pool.servers]
            return [_shown(pool, server, self._states[key]) for server, key in keys if key in self._states]
        except Exception as error:  # noqa: BLE001 - it costs this pool, not the others
            self._blame(pool.name, error)
            return []

    def _effective(self, pool: Pool) -> Pool:
        try:
            return effective_pool(pool, self._state_in(pool))
        except Exception as error:  # noqa: BLE001 - as above
            self._blame(pool.name, error)
            return pool

    def _usable(self, pool: Pool) -> tuple[Address, ...]:
        """Looked for once after each result of the pool's: readiness is asked for all the time, of each cluster."""
        if pool.name not in self._usable_in:
            self._usable_in[pool.name] = tuple(
                server.address for server in pool.servers if _is_usable(server, self._states.get(_key(pool, server)))
            )
        return self._usable_in[pool.name]

    def _wanted(self, snapshot: Snapshot) -> Iterator[tuple[tuple[Key, str], tuple[Server, Check]]]:
        for pool in snapshot.site.pools.values():
            try:
                yield from list(_wanted(pool))
            except Exception as error:  # noqa: BLE001 - as above
                self._blame(pool.name, error)

    def _blame(self, pool: str, error: Exception) -> None:
        """Put an error down to a pool, and log it the first time."""
        problem = fault_of(f"pool.{pool}", error)
        if problem.where not in self._faults:
            self._faults[problem.where] = problem
            log.error("a pool makes its checks fail", where=problem.where, problem=problem.message)

    def _state_in(self, pool: Pool) -> Callable[[Server], HealthState | None]:
        return lambda server: self._states.get(_key(pool, server))

    async def _watch(self, key: Key, address: Address, check: Check, kind: str) -> None:
        try:
            pause = random.uniform(0, min(FIRST_SECONDS, check.interval))  # noqa: S311 - no secret
        except Exception as error:  # noqa: BLE001 - as above
            self._blame(key[0], error)
            pause = RETRY_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                pause = await self._round(key, address, check, kind)
            except Exception as error:  # noqa: BLE001 - as above
                self._blame(key[0], error)
                pause = RETRY_SECONDS

    async def _round(self, key: Key, address: Address, check: Check, kind: str) -> float:
        """One probe and what follows from it, none while its link is away; the seconds to the next one."""
        before = self._states.get(key, HealthState())
        if not before.away or self._links.is_back(before.away):
            try:
                result = await self._places.run(key[0], lambda: self._probe(address, check, kind))
            except GaveWay:
                text = f"no answer in {LEAST_SECONDS:g} s, and {MOST_PROBES} others were being checked"
                result = Result(passed=False, note=text)
            self.probes += 1
            self.failures += not result.passed
            lost = "" if result.passed or not before.passing else await self._lost(key[0], address)
            self._take(key, check, kind, result, lost)
        return check.interval * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    async def _probe(self, address: Address, check: Check, kind: str) -> Result:
        """One probe; an unexpected error counts as a failure and does not end the loop."""
        try:
            return await _PROBES[kind](address, check, self._contexts)
        except Exception as error:
            log.exception("unexpected error in a probe", kind=kind)
            return Result(passed=False, note=type(error).__name__)

    async def _lost(self, pool: str, address: Address) -> str:
        """As `Links.lost`, in the turn of the pool: one with thousands of servers that fail leaves others theirs. Where
        it cannot be found out, the failure counts."""
        try:
            async with self._looks.place(pool):
                return await self._links.lost(address)
        except Exception as error:  # noqa: BLE001 - no descriptor is left, perhaps
            log.warning("cannot look at the link to a server", error=str(error))
            return ""

    def _take(self, key: Key, check: Check, kind: str, result: Result, lost: str) -> None:
        server, before = self._servers.get(key), self._states.get(key)
        if server is None or before is None:
            return  # removed from the site meanwhile
        if result.passed and before.away:
            self._back(before.away)
            before = self._states[key]
        now = time.time()
        after = after_lost_link(before, lost, now) if lost else _after(before, check, kind, result, now)
        self._states[key] = after
        self._note(key, server, before, after)

    def _back(self, interface: str) -> None:
        """All servers behind a link are as before it was away, at once."""
        for key, state in self._states.items():
            if state.away == interface:
                after = self._states[key] = after_link(state, time.time())
                self._note(key, self._servers[key], state, after)

    def _note(self, key: Key, server: Server, before: HealthState, after: HealthState) -> None:
        was, is_now = effective(server, before), effective(server, after)
        if _is_usable(server, before) != _is_usable(server, after):
            self._usable_in.pop(key[0], None)
        if was != is_now:
            self._changed.set()
        if was.state != is_now.state:
            self._tell(key, is_now.state, after.note)

    def _tell(self, key: Key, state: ServerState, why: str) -> None:
        """Log a change of a server's state. A whole pool that goes and comes is told, one that flaps not every time."""
        pool = self._snapshot.site.pools.get(key[0])
        more = self._lines.passes(key[0], time.monotonic(), MOST + 2 * len(pool.servers if pool else ()))
        if more is not None:
            log.info("server", pool=key[0], server=key[1], state=state.value, why=why, **more)


def _is_usable(server: Server, state: HealthState | None) -> bool:
    """Whether a server can take new flows: in service, and passing a check that has been made, if it has one."""
    now = effective(server, state)
    return bool(now.state is ServerState.UP and now.weight and (state is None or state.probes))


def _after(state: HealthState, check: Check, kind: str, result: Result, now: float) -> HealthState:
    """Beside another check an agent decides on load only, not on health; alone it decides on both."""
    if result.report is not None:
        state = after_report(state, result.report, now)
    if kind == "agent" and (check.tcp is not None or check.http is not None):
        return replace(state, silence=result.note)
    return after_check(state, check, result.passed, result.note or state.note, now)


def with_health(status: dict[str, Any], health: Health) -> dict[str, Any]:
    """A runner's status with the health of its servers: in full under `health`; and in each entry of `servers` the
    state that is `set`, and `healthy`: whether it passes its check and a route leads to it. That is None without a
    check, and where an operator has taken the server out of service."""
    rows = health.status()
    by_server = {(row["pool"], row["name"], row["address"]): row for row in rows}
    unreachable = set(status.get("unreachable", ()))
    for server in status["servers"]:
        row = by_server.get((server["pool"], server["name"], server["address"]))
        server["set"] = row["set"] if row else server["state"]
        server["healthy"] = (row["passing"] if row else None) if server["address"] not in unreachable else False
        if ServerState(server["set"]).out:
            server["healthy"] = None
    problems = [{"where": problem.where, "message": problem.message} for problem in health.problems]
    return {**status, "checks": health.counters(), "health": rows, "problems": [*status.get("problems", ()), *problems]}


def _wanted(pool: Pool) -> Iterator[tuple[tuple[Key, str], tuple[Server, Check]]]:
    if pool.check is not None:
        for kind in _PROBES:
            if getattr(pool.check, kind) is not None:
                yield from (((_key(pool, server), kind), (server, pool.check)) for server in pool.servers)


def _key(pool: Pool, server: Server) -> Key:
    return pool.name, server.name, server.address.packed


def _shown(pool: Pool, server: Server, state: HealthState) -> dict[str, Any]:
    now = effective(server, state)
    return {
        "pool": pool.name,
        "name": server.name,
        "address": str(server.address),
        "set": server.state.value,
        "state": now.state.value,
        "weight": now.weight if now.state is ServerState.UP else 0,
        "passing": state.passing and state.running and not state.away,
        "load": state.percent,
        "note": state.note,
        "agent": state.silence,
        "since": round(state.since, 3),
        "probes": state.probes,
        "failures": state.failures,
    }


_PROBES: dict[str, Probe] = {"tcp": probe_tcp, "http": probe_http, "agent": probe_agent}
"""Probes by the field of Check that configures them."""
