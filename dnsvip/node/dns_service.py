"""The DNS server of one process: it answers from the newest snapshot, geo files and node file.

A snapshot is compiled in a thread, so that queries do not wait for it; large zones in a process, so that nothing does.
Zones that cannot be served are reported with the node; a snapshot that cannot be compiled at all leaves the one before
in force, at the start zones that answer SERVFAIL, so that what is wrong can be mended by way of the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import structlog

from dnsvip import __version__
from dnsvip.dns.control import ServerIdentity
from dnsvip.dns.engine import Engine
from dnsvip.dns.io.geo import GeoFiles
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.io.top import DnsTop
from dnsvip.errors import Problem
from dnsvip.jobs.jobs import Jobs
from dnsvip.node.catalogs import Catalogs
from dnsvip.node.certifying import Certifying, making
from dnsvip.node.duty import Duty
from dnsvip.node.figures import FIGURES, anonymised, figures
from dnsvip.node.gradually import gradually
from dnsvip.node.large_zones import compiled_apart, without_large
from dnsvip.node.notifying import Notifying
from dnsvip.node.parental import ParentalAgents
from dnsvip.node.publishing import Publishing
from dnsvip.node.query_logs import query_logs
from dnsvip.node.question_watch import watched
from dnsvip.node.reload import LiveConfig
from dnsvip.node.resigning import Resigning
from dnsvip.node.runtime_tuning import GcFreezer
from dnsvip.node.secondaries import Secondaries
from dnsvip.node.token_report import TokenReport
from dnsvip.node.updates import Updating
from dnsvip.site import Site, Snapshot, Zone
from dnsvip.site.duty import DUTY
from dnsvip.site.node_dns import DnsSettings, XdpSettings
from dnsvip.site.node_file import NodeConfig
from dnsvip.store.following.follower import SnapshotFollower

GEO_SECONDS = 1.0
"""How often the files of [geo] are checked for changes."""

CERTIFICATE_SECONDS = 2.0
"""How often the files of [dns.tls] are checked for changes."""

END_SECONDS = 2.0
"""How long the last that tasks do may take, when the server stops."""

SHOWN = 100
"""Objects that cannot be served which a node names in its report."""

log = structlog.get_logger()


@asynccontextmanager
async def answering(
    live: LiveConfig, follower: SnapshotFollower, most_streams: int | None = None, *, totals: bool = True
) -> AsyncIterator[DnsServer]:
    """A DNS server that answers while the context lasts, on at most `most_streams` TCP connections. Its `totals` are
    in the node's reports, unless another process sums them up. Raises PlatformError where it cannot listen."""
    settings, geo_files = live.node.dns, GeoFiles(live.node.geo.database)
    engine = _first_engine(follower.snapshot, geo_files, settings)
    server = DnsServer(settings, engine, most_streams=most_streams)
    compiling, freezer = _Compiling(server, follower, geo_files), GcFreezer()
    freezer.after(follower.snapshot)

    async def take(snapshot: Snapshot) -> None:
        await compiling.now()
        for problem in server.engine.problems:
            log.error("an object cannot be served", where=problem.where, problem=problem.message)
        freezer.after(snapshot)

    async def follow_geo_files() -> None:
        while live.node.geo.database:
            await asyncio.sleep(GEO_SECONDS)
            if await asyncio.to_thread(geo_files.refresh):
                log.info("geo data reloaded")
                await take(follower.snapshot)

    async def follow_certificates() -> None:
        while True:
            await asyncio.sleep(CERTIFICATE_SECONDS)
            server.listeners.refresh()

    async def reconfigure(node: NodeConfig) -> None:
        server.reconfigure(node.dns)
        server.listeners.refresh()
        identity, require_cookies = _identity(node.dns), node.dns.require_cookies
        await compiling.now(identity, require_cookies)

    updating = Updating(live.node, follower)
    server.updating(making(updating, Certifying(follower)))
    follower.subscribe(take)
    duty = Duty(follower)
    notifying, secondaries = Notifying(server, follower, duty), Secondaries(server, follower, duty)
    agents, catalogs = ParentalAgents(server, follower, duty), Catalogs(server, follower, duty)
    publishing, resigning = Publishing(settings, server, follower, duty), Resigning(follower, duty)

    workers = secondaries, catalogs, notifying, agents, publishing, resigning
    shown = _counting(live, server)
    follower.describe(
        lambda: _with_warnings(
            {**compiling.reported(), **publishing.reported(), DUTY: True, **shown(totals=totals)},
            [warning for worker in workers for warning in worker.warnings()],
        )
    )
    live.subscribe(reconfigure)
    await server.start()
    works = (
        follow_geo_files,
        follow_certificates,
        compiling.large,
        compiling.ahead,
        notifying.run,
        secondaries.run,
        catalogs.run,
        agents.run,
        publishing.run,
        resigning.run,
        TokenReport(server, follower).run,
    )
    tasks = [asyncio.create_task(work()) for work in works]
    try:
        with query_logs(live, server):
            async with watched(server, live.node.state_dir), _in_kernel(server, settings.xdp):
                yield server
    finally:
        for task in tasks:
            task.cancel()
        await compiling.jobs.close()
        await server.stop()
        await updating.close()
        await asyncio.wait(tasks, timeout=END_SECONDS)


def _counting(live: LiveConfig, server: DnsServer) -> Callable[..., dict[str, Any]]:
    """Count what a server is asked most, where the node file says so; returns what gives its figures, with `totals` or
    without."""
    top = DnsTop(lambda: server.engine, lambda: partial(anonymised, live.node.log.queries))

    def shown(*, totals: bool) -> dict[str, Any]:
        wanted = live.node.log.top
        server.show_top(top if wanted else None)
        counted = server.counters() if totals else {}
        return {FIGURES: figures("dns", counted, top=top.shown() if wanted else {})}

    return shown


@asynccontextmanager
async def _in_kernel(server: DnsServer, settings: XdpSettings | None) -> AsyncIterator[None]:
    """Answers ahead of the server while the context lasts, where there are to be any."""
    if settings is None:
        yield
        return
    from dnsvip.dns.io.xdp.answers import KernelAnswers  # noqa: PLC0415 - libbpf, for those who use it

    kernel = KernelAnswers(settings, server)
    await kernel.start()
    feeding = asyncio.create_task(kernel.run())
    try:
        yield
    finally:
        feeding.cancel()
        kernel.stop()


class _Compiling:
    """What a server answers from, compiled from the newest snapshot; large zones come later, and so do templates."""

    def __init__(self, server: DnsServer, follower: SnapshotFollower, geo_files: GeoFiles) -> None:
        self.jobs = Jobs(processes=1)
        self._server, self._follower, self._geo_files = server, follower, geo_files
        self._turn, self._late, self._new = asyncio.Lock(), asyncio.Event(), asyncio.Event()
        self._served = follower.snapshot.site.zones

    async def now(self, *more: Any, ready: Mapping[str, Zone] = MappingProxyType({})) -> None:
        """Answer from the newest snapshot, but for large zones that are not `ready`; `more` as `DnsServer.compiled`."""
        async with self._turn:
            snapshot, later = without_large(self._follower.snapshot, self._served, ready)
            compiled = self._server.compiled
            self._server.fast = await asyncio.to_thread(compiled, snapshot, self._geo_files.geo, *more)
            self._served = snapshot.site.zones
        self._new.set()
        if later:
            self._late.set()

    async def large(self) -> None:
        """Compile large zones whenever they have changed, one after the other."""
        while await self._late.wait():
            self._late.clear()
            for name, zone in self._later().items():
                self._server.engine.offer(name, await compiled_apart(self.jobs, zone))
                await self.now(ready={name: zone})

    async def ahead(self) -> None:
        """Make the templates of the likeliest questions whenever names have changed, beside the answers."""
        while await self._new.wait():
            self._new.clear()
            await gradually(self._server.fast.load(), self._new.is_set)

    def reported(self) -> dict[str, Any]:
        """What the node reports of objects that are not served as they are stored."""
        return _reported(self._server.engine.problems, sorted(self._later()))

    def _later(self) -> dict[str, Zone]:
        return without_large(self._follower.snapshot, self._served, {})[1]


def _first_engine(snapshot: Snapshot, geo_files: GeoFiles, settings: DnsSettings) -> Engine:
    """The engine to start with; SERVFAIL for every zone where the snapshot makes it raise."""
    identity = _identity(settings)
    try:
        return Engine(snapshot, None, geo_files.geo, identity, settings.require_cookies, settings.listeners)
    except Exception:
        log.exception("the snapshot cannot be compiled, all zones get SERVFAIL", generation=snapshot.generation)
        empty = Site(zones={name: Zone(name, "") for name in snapshot.site.zones})
        without = Snapshot(snapshot.generation, empty)
        return Engine(without, None, geo_files.geo, identity, settings.require_cookies, settings.listeners)


def _with_warnings(detail: dict[str, Any], warnings: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The details of a report with warnings about zones added."""
    if not warnings:
        return detail
    some = warnings[:SHOWN]
    texts = [*detail.get("warnings", ()), *(f"zone.{name}: {what}" for name, what in some)]
    about = [*detail.get("about", ()), *(["zone", name] for name, _ in some)]
    return {**detail, "warnings": texts, "about": about}


def _reported(problems: Sequence[Problem], late: Sequence[str]) -> dict[str, Any]:
    """The objects that cannot be served, as the node reports them: their names, and the first problem of each; and
    zones that are late."""
    first = {problem.where: problem for problem in reversed(problems)}
    if not first and not late:
        return {}
    some = list(first.values())[:SHOWN]
    zones = sorted(problem.where.removeprefix("zone.") for problem in some if _is_zone(problem))
    others = sorted(problem.where for problem in some if not _is_zone(problem))
    warnings = [
        str(problem) if problem.where.startswith(_SETTINGS) else f"{problem.where} gets SERVFAIL: {problem.message}"
        for problem in some
    ]
    warnings += [f"zone.{name} is being compiled; until then the version before is answered" for name in late[:SHOWN]]
    return {
        "warnings": warnings,
        "about": [*(problem.where.split(".", 1) for problem in some), *(["zone", name] for name in late[:SHOWN])],
        **({"broken_zones": zones} if zones else {}),
        **({"broken_objects": others} if others else {}),
    }


_SETTINGS = ("classify.", "cookies.", "dns.")
"""What concerns all answers, and fails none."""


def _is_zone(problem: Problem) -> bool:
    return problem.where.startswith("zone.")


def _identity(settings: DnsSettings) -> ServerIdentity:
    version = f"dnsvip {__version__}" if settings.version is True else settings.version or None
    return ServerIdentity(settings.identity, version, settings.nsid, settings.tcp.idle_seconds)
