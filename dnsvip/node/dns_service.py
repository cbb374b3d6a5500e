"""The DNS server of one process: it answers from the newest snapshot, geo files and node file.

A snapshot is compiled in a thread, so that queries do not wait for it. Zones that cannot be served are reported with
the node; a snapshot that cannot be compiled at all leaves the one before in force, at the start zones that answer
SERVFAIL, so that what is wrong can be mended by way of the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog

from dnsvip import __version__
from dnsvip.dns.control import ServerIdentity
from dnsvip.dns.engine import Engine
from dnsvip.dns.io.geo import GeoFiles
from dnsvip.dns.io.server import DnsServer
from dnsvip.errors import Problem
from dnsvip.node.reload import LiveConfig
from dnsvip.node.runtime_tuning import GcFreezer
from dnsvip.node.sampled_logs import query_log
from dnsvip.site import Site, Snapshot, Zone
from dnsvip.site.node_dns import DnsSettings
from dnsvip.site.node_file import NodeConfig
from dnsvip.store.following.follower import SnapshotFollower

GEO_SECONDS = 1.0
"""How often the files of [geo] are checked for changes."""

SHOWN = 100
"""Objects that cannot be served which a node names in its report."""

log = structlog.get_logger()


@asynccontextmanager
async def answering(
    live: LiveConfig, follower: SnapshotFollower, most_streams: int | None = None
) -> AsyncIterator[DnsServer]:
    """A DNS server that answers while the context lasts, on at most `most_streams` TCP connections. Raises
    PlatformError where it cannot listen."""
    settings, geo_files = live.node.dns, GeoFiles(live.node.geo.database)
    engine = _first_engine(follower.snapshot, geo_files, settings)
    server = DnsServer(settings, engine, most_streams=most_streams)
    compiling, freezer = asyncio.Lock(), GcFreezer()
    freezer.after(follower.snapshot)

    async def take(snapshot: Snapshot) -> None:
        async with compiling:
            server.fast = await asyncio.to_thread(server.compiled, snapshot, geo_files.geo)
        for problem in server.engine.problems:
            log.error("an object cannot be served", where=problem.where, problem=problem.message)
        freezer.after(snapshot)

    async def follow_geo_files() -> None:
        while live.node.geo.database:
            await asyncio.sleep(GEO_SECONDS)
            if await asyncio.to_thread(geo_files.refresh):
                log.info("geo data reloaded")
                await take(follower.snapshot)

    async def reconfigure(node: NodeConfig) -> None:
        server.reconfigure(node.dns)
        identity, require_cookies = _identity(node.dns), node.dns.require_cookies
        async with compiling:
            server.fast = await asyncio.to_thread(
                server.compiled, follower.snapshot, geo_files.geo, identity, require_cookies
            )

    follower.subscribe(take)
    follower.describe(lambda: _reported(server.engine.problems))
    live.subscribe(reconfigure)
    await server.start()
    geo_task = asyncio.create_task(follow_geo_files())
    try:
        with query_log(live, server):
            yield server
    finally:
        geo_task.cancel()
        await server.stop()


def _first_engine(snapshot: Snapshot, geo_files: GeoFiles, settings: DnsSettings) -> Engine:
    """The engine to start with; SERVFAIL for every zone where the snapshot makes it raise."""
    identity = _identity(settings)
    try:
        return Engine(snapshot, None, geo_files.geo, identity, settings.require_cookies)
    except Exception:
        log.exception("the snapshot cannot be compiled, all zones get SERVFAIL", generation=snapshot.generation)
        empty = Site(zones={name: Zone(name, "") for name in snapshot.site.zones})
        return Engine(Snapshot(snapshot.generation, empty), None, geo_files.geo, identity, settings.require_cookies)


def _reported(problems: Sequence[Problem]) -> dict[str, Any]:
    """The objects that cannot be served, as the node reports them: their names, and the first problem of each."""
    first = {problem.where: problem for problem in reversed(problems)}
    if not first:
        return {}
    some = list(first.values())[:SHOWN]
    zones = sorted(problem.where.removeprefix("zone.") for problem in some if _is_zone(problem))
    others = sorted(problem.where for problem in some if not _is_zone(problem))
    return {
        "warnings": [f"{problem.where} gets SERVFAIL: {problem.message}" for problem in some],
        "about": [problem.where.split(".", 1) for problem in some],
        **({"broken_zones": zones} if zones else {}),
        **({"broken_objects": others} if others else {}),
    }


def _is_zone(problem: Problem) -> bool:
    return problem.where.startswith("zone.")


def _identity(settings: DnsSettings) -> ServerIdentity:
    version = f"dnsvip {__version__}" if settings.version is True else settings.version or None
    return ServerIdentity(settings.identity, version, settings.nsid)
