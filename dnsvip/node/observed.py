"""Metrics and readiness of a `serve` or `dispatch` process, collected; health_endpoints.py exposes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NoReturn, TypeVar

from prometheus_client.core import Metric

from dnsvip.errors import StoreError
from dnsvip.node.reload import LiveConfig
from dnsvip.site.epochs import NodeReport
from dnsvip.site.readiness import DISPATCH, DNS, Asked, Readiness, Reason, reasons
from dnsvip.store.following.follower import SnapshotFollower
from dnsvip.telemetry.metrics import dispatch, dns, node, process
from dnsvip.telemetry.metrics.exposition import collected
from dnsvip.telemetry.metrics.node import Known
from dnsvip.telemetry.observed import Observed, in_thread

T = TypeVar("T")

STORE_SECONDS = 2.0
"""How long a scrape waits for the database; after that its figures are left out."""


def observed_serve(
    live: LiveConfig,
    follower: SnapshotFollower,
    counters: Callable[[], Mapping[str, Mapping[str, int]]],
    missing: Callable[[], tuple[Reason, ...]],
    stopping: Callable[[], bool],
    workers: Callable[[], Iterable[int]],
    extra: Callable[[], Iterable[Metric]] = tuple,
) -> Observed:
    """A process that answers DNS. `missing` names what it lacks to do so, `workers` gives its workers' PIDs."""

    async def families() -> list[Metric]:
        known = await _known("serve", follower)
        return collected(
            node=lambda: node.families(known),
            ready=lambda: node.readiness(why_not(Asked(DNS)), {}),
            site=lambda: node.site_families(known.snapshot),
            dns=lambda: dns.families(counters()),
            process=lambda: process.families(workers()),
            api=extra,
        )

    def why_not(asked: Asked) -> list[Reason]:
        return reasons(_readiness(DNS, live, follower, missing(), stopping=stopping()), asked, follower.now())

    return Observed(families, why_not)


def observed_dispatch(
    live: LiveConfig,
    follower: SnapshotFollower,
    status: Callable[[], Mapping[str, Any]],
    missing: Callable[[str | None], tuple[Reason, ...]],
    stopping: Callable[[], bool],
    extra: Callable[[], Iterable[Metric]] = tuple,
) -> Observed:
    """A dispatcher whose runner has started. `missing` names what it lacks to forward the packets of a cluster, or of
    any. Its figures are read at once, and what is made of them, which takes longer the larger the site is, is made in a
    thread beside its packets."""

    async def families() -> list[Metric]:
        known = await _known("dispatch", follower)
        figures, ready = _attempted(status), _attempted(not_ready)
        return await in_thread(
            lambda: collected(
                node=lambda: node.families(known),
                ready=lambda: node.readiness(*ready()),
                site=lambda: node.site_families(known.snapshot),
                dispatch=lambda: dispatch.families(figures()),
                process=process.families,
                api=extra,
            )
        )

    def not_ready() -> tuple[list[Reason], dict[str, list[Reason]]]:
        clusters = follower.snapshot.site.clusters
        return why_not(Asked(DISPATCH)), {name: why_not(Asked(DISPATCH, name)) for name in clusters}

    def why_not(asked: Asked) -> list[Reason]:
        state = _readiness(DISPATCH, live, follower, missing(asked.cluster), stopping=stopping())
        return reasons(state, asked, follower.now())

    return Observed(families, why_not)


def _attempted(read: Callable[[], T]) -> Callable[[], T]:
    """Gives what reading gives now, or raises what it raises."""
    try:
        value = read()
    except Exception as error:  # noqa: BLE001 - it is raised where it is needed
        return partial(_raise, error)
    return lambda: value


def _raise(error: Exception) -> NoReturn:
    raise error


def _readiness(
    role: str, live: LiveConfig, follower: SnapshotFollower, missing: tuple[Reason, ...], *, stopping: bool
) -> Readiness:
    drained_at, stale_seconds = follower.snapshot.drained.get(follower.name), live.node.metrics.stale_seconds
    return Readiness(role, missing, follower.heard_at, stale_seconds, drained_at, stopping)


async def _known(role: str, follower: SnapshotFollower) -> Known:
    """What the follower knows and, where it answers in time, the database."""
    snapshot, now = follower.snapshot, follower.now()
    generation: int | None = None
    nodes: tuple[NodeReport, ...] = ()
    if follower.store is not None:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                generation, nodes = await follower.store.generation(), tuple(await follower.store.nodes.all())
        except (StoreError, TimeoutError):
            generation = None
    connected = follower.connected and generation is not None
    return Known(role, snapshot, now, connected, follower.heard_at, generation, nodes)
