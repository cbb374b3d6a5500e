"""`dnsvip serve`: one node that answers DNS and, with [admin], serves the HTTP API, until it is stopped.

It assembles the parts and owns their order: DNS answers from the first snapshot on, before the API is up, and until
after it is down. Once started, the node keeps running whatever happens to the database.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
import uvloop

from dnsvip.admin.app import make_app
from dnsvip.admin.node import Node
from dnsvip.dispatcher.io.control import SOCKET
from dnsvip.dns.engine import Engine
from dnsvip.dns.io.geo import GeoFiles
from dnsvip.dns.io.listen import Endpoint
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.io.workers import Workers
from dnsvip.errors import ConfigError, PlatformError, StoreError
from dnsvip.node.api_listener import api_listening
from dnsvip.node.descriptors import divide
from dnsvip.node.dns_service import answering
from dnsvip.node.figures import FIGURES, figures
from dnsvip.node.first_token import retry_first_token, try_first_token
from dnsvip.node.give_way import GiveWay, never
from dnsvip.node.health_endpoints import host_port, observing
from dnsvip.node.large_zones import Comparing
from dnsvip.node.lifecycle import Stopping, following, run_until_one_ends
from dnsvip.node.observed import observed_serve
from dnsvip.node.reload import LiveConfig, reload_on_hangup
from dnsvip.node.runtime_tuning import shorten_gil_interval
from dnsvip.node.sd_notify import Notifier
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.readiness import Code, Reason
from dnsvip.store import Store
from dnsvip.store.following.follower import SnapshotFollower
from dnsvip.telemetry.endpoints import ApiCounts
from dnsvip.telemetry.log import configure
from dnsvip.telemetry.observed import Observed

log = structlog.get_logger()


def serve(node_file: Path, token_file: Path | None) -> None:
    """Answer DNS on the listeners of a node file, and serve the HTTP API where it has a table [admin], until SIGTERM.

    Raises ConfigError for contradictory settings, PlatformError where a listener cannot be opened.
    """
    node = load_node(node_file)
    if node.dns.workers > 1 and any(listener.endpoint[1] == 0 for listener in node.dns.listen):
        raise ConfigError(f"{node_file}: dns.listen: port 0 is a different one for each worker; name a port")
    if token_file is not None and node.admin is None:
        raise ConfigError(f"{node_file}: --token-file is of no use without the HTTP API: add the table [admin]")
    configure(node.log)
    shorten_gil_interval()
    try:
        uvloop.run(_serve(node, node_file, token_file))
    except PlatformError as error:
        raise PlatformError(f"{node_file}: {error}") from None


async def _serve(node: NodeConfig, node_file: Path, token_file: Path | None) -> None:
    stopping, live, notifier = Stopping(), LiveConfig(node_file, node), Notifier(os.environ)
    shares = divide(node)
    async with AsyncExitStack() as stack:
        comparing, roles = await stack.enter_async_context(Comparing()), ["dns", "admin"] if node.admin else ["dns"]
        follower = await stack.enter_async_context(following(node, roles, comparing.change))
        dns: DnsServer | Workers = await stack.enter_async_context(
            _workers(live, node_file) if node.dns.workers > 1 else answering(live, follower, shares.dns)
        )
        if isinstance(dns, Workers):
            follower.describe(lambda: {FIGURES: figures("dns", dns.counters())})
        work: list[Awaitable[object]] = [follower.run(), stopping.over(notifier, lambda: live.node.grace)]
        endpoints: dict[str, Any] = {"dns": [f"{_url(e)} ({e.name})" for e in dns.endpoints]}
        counts = ApiCounts()
        give_way = GiveWay(dns.answer_datagrams) if isinstance(dns, DnsServer) else never
        observed = _observed(live, follower, dns, counts, stopping.asked.is_set)
        await stack.enter_async_context(
            observing(node.metrics.listen, live, observed, "metrics.listen", shares.metrics, give_way)
        )
        if node.admin is not None:
            app = make_app(_node(node, follower, dns), observed, counts, node.admin)
            endpoints["api"] = await stack.enter_async_context(api_listening(app, node.admin, shares.api, give_way))
            if not await try_first_token(follower, token_file):
                work.append(retry_first_token(follower, token_file))
        if node.announce and node.announce.prefixes:
            from dnsvip.node.dns_announcing import announcing  # noqa: PLC0415 - netlink is slow to load

            announcer = await stack.enter_async_context(announcing(live, follower, node.announce, observed))
            work.append(announcer.run(stopping.asked))
        log.info("ready", **endpoints, generation=follower.snapshot.generation, node=follower.name)
        status = f"answering on {', '.join(endpoints['dns'])}"
        reload_on_hangup(live, notifier, status)
        notifier.ready(status)
        await run_until_one_ends([*work, notifier.keep_alive()])
        log.info("stopping")


@asynccontextmanager
async def _workers(live: LiveConfig, node_file: Path) -> AsyncIterator[Workers]:
    """Worker processes that each follow the database and answer; this one supervises them and forwards SIGHUP."""
    workers = Workers([sys.executable, "-m", "dnsvip.node.worker", str(node_file)], live.node.dns.workers)
    await workers.start()
    live.subscribe(lambda _: workers.signal(signal.SIGHUP))
    try:
        yield workers
    finally:
        await workers.stop()


def _observed(
    live: LiveConfig,
    follower: SnapshotFollower,
    dns: DnsServer | Workers,
    counts: ApiCounts,
    stopping: Callable[[], bool],
) -> Observed:
    node = live.node
    pids: Callable[[], list[int]] = (lambda: dns.pids) if isinstance(dns, Workers) else list

    def missing() -> tuple[Reason, ...]:
        count = node.dns.workers - len(pids()) if isinstance(dns, Workers) else int(not dns.endpoints)
        text = f"{count} of {node.dns.workers} DNS workers do not run"
        return (Reason(Code.WORKERS, text),) if count else ()

    return observed_serve(live, follower, dns.counters, missing, stopping, pids, counts.families)


def _node(node: NodeConfig, follower: SnapshotFollower, dns: DnsServer | Workers) -> Node:
    def store() -> Store:
        if follower.for_callers is None:
            raise StoreError(
                f"the database has not been reached; DNS answers as of generation {follower.snapshot.generation}"
            )
        return follower.for_callers

    def engine() -> Engine | None:
        return dns.engine if isinstance(dns, DnsServer) else None

    geo = None if isinstance(dns, DnsServer) else GeoFiles(node.geo.database).geo
    return Node(
        store,
        lambda: follower.snapshot,
        dns.counters,
        node.state_dir / SOCKET,
        follower.now,
        engine=engine,
        geo=geo,
        name=follower.name,
        instance=follower.instance,
        listeners=lambda: [_url(endpoint) for endpoint in dns.endpoints if not endpoint.scheme],
    )


def _url(endpoint: Endpoint) -> str:
    where = host_port(endpoint.host, endpoint.port)
    return f"{endpoint.scheme}://{where}" if endpoint.scheme else where
