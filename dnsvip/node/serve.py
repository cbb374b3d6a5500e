"""`dnsvip serve`: one node that answers DNS and, with [admin], serves the HTTP API, until stopped.

It puts the parts together and owns their order: answers start from the first snapshot, before the API,
and end after it. Once started it goes on whatever becomes of the database.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
import uvloop

from dnsvip import __version__
from dnsvip.admin.app import make_app
from dnsvip.admin.node import Node
from dnsvip.dns.control import Identity
from dnsvip.dns.engine import Engine
from dnsvip.dns.io.geo import GeoFiles
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.io.workers import Workers
from dnsvip.errors import ConfigError, PlatformError, StoreError
from dnsvip.node.api_listener import api_listening
from dnsvip.node.first_token import make_first_token
from dnsvip.node.health_endpoints import joined, observed_serve, observing
from dnsvip.node.reload import Live, reload_on_hangup
from dnsvip.node.runtime_tuning import Settling, share_interpreter
from dnsvip.node.sampled_logs import query_log
from dnsvip.node.sd_notify import Notifier
from dnsvip.site import Snapshot, parse_endpoint
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import DnsSettings, NodeConfig
from dnsvip.store import Store
from dnsvip.store.follower import SnapshotFollower
from dnsvip.telemetry.endpoints import ApiCounts, Observed
from dnsvip.telemetry.log import configure

DISPATCHER = "dispatch.sock"
"""In state_dir: where a dispatcher of this node tells its status (node/dispatch.py)."""

LONGEST_LINE = 1 << 16
"""Bytes in a request's line: a query of the longest texts that are taken, percent-encoded, fits."""

TOKEN_SECONDS = 1.0
"""How often the first token is tried for while the database is down."""

GEO_SECONDS = 1.0
"""How often the files of [geo] are looked at."""

log = structlog.get_logger()


def serve(node_file: Path, token_file: Path | None) -> None:
    """Answer DNS on the listeners of a node file, and serve the HTTP API where it has a table [admin], until SIGTERM.

    Raises ConfigError for settings that contradict each other, PlatformError where a listener cannot be opened.
    """
    node = load_node(node_file)
    if node.dns.workers > 1 and any(parse_endpoint(listener.address)[1] == 0 for listener in node.dns.listen):
        raise ConfigError(f"{node_file}: dns.listen: port 0 is a different one for each worker; name a port")
    if token_file is not None and node.admin is None:
        raise ConfigError(f"{node_file}: --token-file is of no use without the HTTP API: add the table [admin]")
    configure(node.log)
    share_interpreter()
    try:
        uvloop.run(_serve(node, node_file, token_file))
    except PlatformError as error:
        raise PlatformError(f"{node_file}: {error}") from None


async def _serve(node: NodeConfig, node_file: Path, token_file: Path | None) -> None:
    stopped, live, notifier = _watch_signals(), Live(node_file, node), Notifier(os.environ)
    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(feed_of(node, ["dns", "admin"] if node.admin else ["dns"]))
        answering = _workers(live, node_file) if node.dns.workers > 1 else dns_of(live, feed)
        dns: DnsServer | Workers = await stack.enter_async_context(answering)
        work: list[Coroutine[Any, Any, object]] = [feed.run(), stopped.wait()]
        endpoints: dict[str, Any] = {"dns": [f"{joined(e.host, e.port)} ({e.name})" for e in dns.endpoints]}
        counts = ApiCounts()
        observed = _observed(live, feed, dns, counts)
        await stack.enter_async_context(observing(node.metrics.listen, live, observed, "metrics.listen"))
        if node.admin is not None:
            app = make_app(_node(node, feed, dns), observed, counts)
            endpoints["api"] = await stack.enter_async_context(api_listening(app, node.admin))
            if not await _try_first_token(feed, token_file):
                work.append(_first_token_later(feed, token_file, stopped))
        log.info("ready", **endpoints, generation=feed.snapshot.generation, node=feed.name)
        status = f"answering on {', '.join(endpoints['dns'])}"
        reload_on_hangup(live, notifier, status)
        notifier.ready(status)
        await _until_one_ends([*work, notifier.keep_alive()])
        log.info("stopping")
        notifier.stopping()


@asynccontextmanager
async def feed_of(node: NodeConfig, roles: Sequence[str]) -> AsyncIterator[SnapshotFollower]:
    """The node's feed, started."""
    feed = SnapshotFollower(node, roles)
    await feed.start()
    try:
        yield feed
    finally:
        await feed.close()


@asynccontextmanager
async def dns_of(live: Live, feed: SnapshotFollower) -> AsyncIterator[DnsServer]:
    """Answers from the feed's snapshots; a new one is compiled in a thread, as questions must not wait for it."""
    settings, geo = live.node.dns, live.node.geo
    places = GeoFiles(geo.database)
    engine = Engine(feed.snapshot, None, places.geo, _identity(settings), settings.require_cookies)
    server = DnsServer(settings, engine)
    turn, settling = asyncio.Lock(), Settling()
    settling.after(feed.snapshot)

    async def take(snapshot: Snapshot) -> None:
        async with turn:
            server.fast = await asyncio.to_thread(server.compiled, snapshot, places.geo)
        for problem in server.engine.problems:
            log.error("a zone cannot be served", where=problem.where, problem=problem.message)
        settling.after(snapshot)

    async def follow_files() -> None:
        while geo.database:
            await asyncio.sleep(GEO_SECONDS)
            if await asyncio.to_thread(places.refresh):
                log.info("geo data loaded anew")
                await take(feed.snapshot)

    async def reconfigure(node: NodeConfig) -> None:
        server.reconfigure(node.dns)
        about = _identity(node.dns), node.dns.require_cookies
        async with turn:
            server.fast = await asyncio.to_thread(server.compiled, feed.snapshot, places.geo, *about)

    feed.subscribe(take)
    live.subscribe(reconfigure)
    await server.start()
    following = asyncio.create_task(follow_files())
    try:
        with query_log(live, server):
            yield server
    finally:
        following.cancel()
        await server.stop()


def _identity(settings: DnsSettings) -> Identity:
    version = f"dnsvip {__version__}" if settings.version is True else settings.version or None
    return Identity(settings.identity, version, settings.nsid)


@asynccontextmanager
async def _workers(live: Live, node_file: Path) -> AsyncIterator[Workers]:
    """Processes that each follow the database and answer; this one only watches over them, and passes SIGHUP on."""
    workers = Workers([sys.executable, "-m", "dnsvip.node.worker", str(node_file)], live.node.dns.workers)
    await workers.start()
    live.subscribe(lambda _: workers.signal(signal.SIGHUP))
    try:
        yield workers
    finally:
        await workers.stop()


def _observed(live: Live, feed: SnapshotFollower, dns: DnsServer | Workers, counts: ApiCounts) -> Observed:
    node = live.node
    pids: Callable[[], list[int]] = (lambda: dns.pids) if isinstance(dns, Workers) else list

    def serving() -> tuple[str, ...]:
        missing = node.dns.workers - len(pids()) if isinstance(dns, Workers) else int(not dns.endpoints)
        return (f"{missing} of {node.dns.workers} DNS workers do not run",) if missing else ()

    return observed_serve(live, feed, dns.counters, serving, pids, counts.families)


def _node(node: NodeConfig, feed: SnapshotFollower, dns: DnsServer | Workers) -> Node:
    def store() -> Store:
        if feed.store is None:
            raise StoreError(
                f"the database has not been reached; DNS answers as of generation {feed.snapshot.generation}"
            )
        return feed.store

    def engine() -> Engine | None:
        return dns.engine if isinstance(dns, DnsServer) else None

    geo = None if isinstance(dns, DnsServer) else GeoFiles(node.geo.database).geo
    return Node(store, lambda: feed.snapshot, dns.counters, node.state_dir / DISPATCHER, engine=engine, geo=geo)


async def _try_first_token(feed: SnapshotFollower, token_file: Path | None) -> bool:
    """Whether the first token is out of the way; it is not while the database is down."""
    if feed.store is None:
        return False
    try:
        await make_first_token(feed.store, token_file)
    except StoreError:
        return False
    return True


async def _first_token_later(feed: SnapshotFollower, token_file: Path | None, stopped: asyncio.Event) -> None:
    """Make the first token when the database is back, then wait for the end."""
    while not stopped.is_set() and not await _try_first_token(feed, token_file):
        with suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), TOKEN_SECONDS)
    await stopped.wait()


async def _until_one_ends(work: list[Coroutine[Any, Any, object]]) -> None:
    """Run all until the first ends, which is being stopped or a failure; raises that."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _watch_signals() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped
