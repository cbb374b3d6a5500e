"""Checks the servers of all pools, and gives the snapshot as it is to be dispatched by.

A shell: it keeps the time between probes, runs at most MOST_PROBES of them at once, and leaves to
`health_state` what their results mean. Each dispatcher checks for itself, as only it knows what it can reach.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import structlog

from dnsvip.dispatcher.health.health_state import HealthState, after_check, after_report, effective, effective_pool
from dnsvip.dispatcher.io.health.probes import Result, probe_agent, probe_http, probe_tcp
from dnsvip.site import Address, Check, Pool, Server, Snapshot

MOST_PROBES = 64
"""At once, over all pools."""
JITTER = 0.1
"""A probe comes up to this share of its interval sooner or later, so that probes of many dispatchers spread."""
FIRST_SECONDS = 0.5
"""The first probe of a server comes within this time, or within its interval where that is shorter."""
SETTLE_SECONDS = 0.25
"""Changes that come together are acted on together: rings are made at most so often."""

MOST_REPORTED = 400
"""At some 150 bytes each this bounds a node's report to 64 KiB."""
_REPORTED = ("pool", "name", "state", "weight", "passing", "load", "note", "since")

Key: TypeAlias = tuple[str, str, bytes]
Probe: TypeAlias = Callable[[Address, Check], Awaitable[Result]]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Work:
    """One loop of probes: what it asks, and the task that does."""

    check: Check
    task: asyncio.Task[None]


class Health:
    """The health of every checked server. `update` for each snapshot, `run` until cancelled, then `stop`."""

    def __init__(self) -> None:
        self.probes = self.failures = 0
        self._states: dict[Key, HealthState] = {}
        self._servers: dict[Key, Server] = {}
        self._work: dict[tuple[Key, str], _Work] = {}
        self._slots = asyncio.Semaphore(MOST_PROBES)
        self._changed = asyncio.Event()
        self._snapshot = Snapshot()
        self._applied: tuple[Snapshot, Snapshot] | None = None

    def update(self, snapshot: Snapshot) -> Snapshot:
        """Check the servers of another snapshot from now on; answers as `applied`. In an event loop only."""
        self._snapshot = snapshot
        wanted = dict(_wanted(snapshot))
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
        """The snapshot with every server's state and weight as its checks have them; the same object as long as
        nothing differs."""
        base, site = self._snapshot, self._snapshot.site
        pools = {name: effective_pool(pool, self._state_in(pool)) for name, pool in site.pools.items()}
        if all(pools[name] is pool for name, pool in site.pools.items()):
            return base
        if self._applied and self._applied[0] is base and self._applied[1].site.pools == pools:
            return self._applied[1]
        made = replace(base, site=replace(site, pools=pools))
        self._applied = base, made
        return made

    async def run(self, act: Callable[[Snapshot], Awaitable[object]]) -> None:
        """Hand over what is to be dispatched by whenever a check has changed it, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await act(self.applied())
            except Exception:
                log.exception("what checks have found could not be acted on")
                self._changed.set()
            await asyncio.sleep(SETTLE_SECONDS)

    async def stop(self) -> None:
        """Probe no more."""
        tasks = [work.task for work in self._work.values()]
        for task in tasks:
            task.cancel()
        self._work.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def counters(self) -> dict[str, int]:
        """Probes made, and those that failed."""
        return {"probes": self.probes, "failures": self.failures}

    def status(self) -> list[dict[str, Any]]:
        """How each server of a pool with a check stands, ready for JSON."""
        pools = self._snapshot.site.pools.values()
        return [
            _shown(pool, server, self._states[key])
            for pool in pools
            for server in pool.servers
            if (key := _key(pool, server)) in self._states
        ]

    def _state_in(self, pool: Pool) -> Callable[[Server], HealthState | None]:
        return lambda server: self._states.get(_key(pool, server))

    async def _watch(self, key: Key, address: Address, check: Check, kind: str) -> None:
        await asyncio.sleep(random.uniform(0, min(FIRST_SECONDS, check.interval)))  # noqa: S311 - no secret
        while True:
            async with self._slots:
                result = await self._probe(address, check, kind)
            self.probes += 1
            self.failures += not result.passed
            self._take(key, check, kind, result)
            await asyncio.sleep(check.interval * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - no secret

    async def _probe(self, address: Address, check: Check, kind: str) -> Result:
        """One probe; an error that nobody thought of is a failure too, and ends no loop."""
        try:
            return await _PROBES[kind](address, check)
        except Exception as error:
            log.exception("a probe failed in a way of its own", kind=kind)
            return Result(passed=False, note=type(error).__name__)

    def _take(self, key: Key, check: Check, kind: str, result: Result) -> None:
        server, before = self._servers.get(key), self._states.get(key)
        if server is None or before is None:
            return  # the site has changed meanwhile
        after = self._states[key] = _after(before, check, kind, result, time.time())
        was, is_now = effective(server, before), effective(server, after)
        if was != is_now:
            self._changed.set()
        if was.state != is_now.state:
            log.info("server", pool=key[0], server=key[1], state=is_now.state.value, why=after.note)


def _after(state: HealthState, check: Check, kind: str, result: Result, now: float) -> HealthState:
    """An agent beside another check says how a server is loaded, not whether it is there; alone it says both."""
    if result.report is not None:
        state = after_report(state, result.report, now)
    if kind == "agent" and (check.tcp is not None or check.http is not None):
        return replace(state, silence=result.note)
    return after_check(state, check, result.passed, result.note or state.note, now)


def reported(health: list[dict[str, Any]]) -> dict[str, Any]:
    """What a node's report says of its servers, for all nodes to show: MOST_REPORTED of them, those that are not well
    first, and how many more there are. It is written to the database every second, so it is short."""
    first = sorted(health, key=lambda one: (one["passing"], one["state"] == one["set"], one["pool"], one["name"]))
    told = [{name: one[name] for name in _REPORTED} for one in first[:MOST_REPORTED]]
    return {"health": told, "health_left_out": len(health) - len(told)} if health else {}


def with_health(status: dict[str, Any], health: Health) -> dict[str, Any]:
    """A runner's status with the health of its servers: all of it under `health`, and whether one is well beside
    what is counted of it."""
    told = health.status()
    found = {(one["pool"], one["name"], one["address"]): one for one in told}
    for server in status["servers"]:
        one = found.get((server["pool"], server["name"], server["address"]))
        server["healthy"] = one["passing"] if one else None
    return {**status, "checks": health.counters(), "health": told}


def _wanted(snapshot: Snapshot) -> Iterator[tuple[tuple[Key, str], tuple[Server, Check]]]:
    for pool in snapshot.site.pools.values():
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
        "weight": now.weight,
        "passing": state.passing and state.running,
        "load": state.percent,
        "note": state.note,
        "agent": state.silence,
        "since": round(state.since, 3),
        "probes": state.probes,
        "failures": state.failures,
    }


_PROBES: dict[str, Probe] = {"tcp": probe_tcp, "http": probe_http, "agent": probe_agent}
"""What a Check may name, and who asks."""
