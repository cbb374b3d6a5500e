"""What `serve` and `dispatch` tell Prometheus and load balancers, gathered; admin/operations/observe.py serves it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from aiohttp import web
from prometheus_client.core import Metric

from dnsvip.admin.operations.observe import Observed, make_observed_app
from dnsvip.errors import PlatformError, StoreError
from dnsvip.node.reloading import Live
from dnsvip.site import parse_endpoint
from dnsvip.site.epochs import NodeReport
from dnsvip.store.follower import SnapshotFollower
from dnsvip.telemetry.metrics import dispatch, dns, node, process
from dnsvip.telemetry.metrics.node import Known
from dnsvip.telemetry.metrics.readiness import State, problems

STORE_SECONDS = 2.0
"""How long a scrape waits for the database; then its figures are left out."""

SHUTDOWN_SECONDS = 2.0
"""How long requests under way may take when the node stops."""


def observed_serve(
    live: Live,
    feed: SnapshotFollower,
    counters: Callable[[], Mapping[str, Mapping[str, int]]],
    serving: Callable[[], tuple[str, ...]],
    workers: Callable[[], Iterable[int]],
    extra: Callable[[], Iterable[Metric]] = tuple,
) -> Observed:
    """A process that answers DNS. `serving` names what is missing for that, `workers` the pids of its workers."""

    async def families() -> list[Metric]:
        known = await _known("serve", feed)
        return [*node.families(known), *dns.families(counters()), *process.families(workers()), *extra()]

    return Observed(families, lambda: problems(_state(live, feed, serving()), time.time()))


def observed_dispatch(
    live: Live,
    feed: SnapshotFollower,
    status: Callable[[], Mapping[str, Any]],
    extra: Callable[[], Iterable[Metric]] = tuple,
) -> Observed:
    """A process that dispatches, once its runner has started."""

    async def families() -> list[Metric]:
        known = await _known("dispatch", feed)
        return [*node.families(known), *dispatch.families(status()), *process.families(), *extra()]

    return Observed(families, lambda: problems(_state(live, feed, ()), time.time()))


def observing(listen: str | None, live: Live, observed: Observed, key: str) -> AbstractAsyncContextManager[Any]:
    """A context in which they are served on `listen`, which `key` of the node file names; nowhere where it is None."""
    if listen is None:
        return nullcontext()
    return listening(make_observed_app(observed, lambda: live.node.metrics.allow), listen, key)


@asynccontextmanager
async def listening(app: web.Application, listen: str, key: str) -> AsyncIterator[str]:
    """An application that listens; its URL. Raises PlatformError that names the node file's key."""
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, *parse_endpoint(listen)).start()
        except OSError as error:
            raise PlatformError(f"{key}: {listen}: cannot listen there: {error.strerror or error}") from error
        yield f"http://{joined(*runner.addresses[0][:2])}"
    finally:
        await runner.cleanup()


def joined(host: str, port: int) -> str:
    """HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _state(live: Live, feed: SnapshotFollower, serving: tuple[str, ...]) -> State:
    return State(serving, feed.heard_at, live.node.metrics.stale_seconds)


async def _known(role: str, feed: SnapshotFollower) -> Known:
    """What the feed and, where it answers in time, the database know."""
    snapshot, now = feed.snapshot, time.time()
    generation: int | None = None
    nodes: tuple[NodeReport, ...] = ()
    if feed.store is not None:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                generation, nodes = await feed.store.generation(), tuple(await feed.store.nodes())
        except (StoreError, TimeoutError):
            generation = None
    connected = feed.connected and generation is not None
    return Known(role, snapshot, now, connected, feed.heard_at, generation, nodes)
