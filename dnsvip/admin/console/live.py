"""/console/live: the figures of charts and indicators, gathered once every two seconds however many pages are open.

One task reads the node's counters, its dispatcher and the database; answers repeat its last result, so the cost does
not grow with the number of open pages. Where one of the three is unavailable, its error is reported instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import web

from dnsvip import __version__
from dnsvip.admin.console.series import Series, totals_of
from dnsvip.admin.console.sessions import Session
from dnsvip.admin.console.signin import LIVE_PATH, SESSION
from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import CALLER, admitted, open_to_all
from dnsvip.admin.http.narrowing import narrowed
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.node import NODE, Node
from dnsvip.admin.operations import nodes, status
from dnsvip.errors import StoreError
from dnsvip.site.plain import JsonObject
from dnsvip.site.registry import COLLECTIONS
from dnsvip.site.rights import Action

SECONDS = 2.0
UNSEEN: dict[str, Any] = {"dns": {}, "dispatcher": None, "nodes": [], "troubles": []}
"""What a token that may not read the status gets instead; `sees_status` tells that it is hidden, not none."""

PATIENCE = 1.0
"""Seconds that the database may take for its generation before it counts as unavailable."""


@dataclass(slots=True)
class Live:
    """The last result."""

    series: Series = field(default_factory=Series)
    now: dict[str, Any] = field(default_factory=dict)


log = structlog.get_logger(__name__)

LIVE = web.AppKey("live", Live)


async def following(app: web.Application) -> AsyncIterator[None]:
    """Poll the node while the application runs."""
    app[LIVE] = Live()
    task = asyncio.create_task(_follow(app[NODE], app[LIVE]))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@open_to_all
async def get(request: web.Request) -> web.Response:
    """The present, and the rates since the time in the query.

    While the database is unavailable, it still answers a session whose token was valid before, and reports that.
    """
    if SESSION not in request:
        raise Refusal("unauthorized", "Sign in to the console first.")
    session, live = request[SESSION], request.app[LIVE]
    with suppress(StoreError):
        async with admitted(request):
            rights = request[CALLER].rights
            session.sees_status = rights.allow(Action.READ, "status")
            session.seen = narrowed(rights, "status")
            session.counted = frozenset(COLLECTIONS[kind] for kind in status.seen_kinds(rights))
            session.sizes = await status.narrowed_sizes(request.app[NODE], rights)
    response = bodies.answer(_shown(live, session, _since(request)))
    response.enable_compression()
    return response


def _shown(live: Live, session: Session, since: float) -> JsonObject:
    """The last result as the session's token may see it; `narrowed` has the collections of which it sees some."""
    seen, now = session.seen, live.now
    objects = {name: size for name, size in now.get("objects", {}).items() if name in session.counted}
    counts = {"objects": objects | session.sizes, "narrowed": sorted(session.sizes)}
    if not session.sees_status:
        return {**now, **UNSEEN, **counts, "sees_status": False, "series": Series().after(0)}
    series = live.series.after(since)
    kept = seen.totals(series["rates"])
    return {
        **now,
        **counts,
        "dns": status.shown_or_named("dns", lambda: seen.document(now.get("dns", {}))),
        "dispatcher": status.shown_or_named("dispatcher", lambda: seen.document(now.get("dispatcher"))),
        "nodes": [nodes.as_seen(row, seen) for row in now.get("nodes", ())],
        "sees_status": True,
        "series": {**series, "rates": {name: rates for name, rates in series["rates"].items() if name in kept}},
    }


async def _follow(node: Node, live: Live) -> None:
    while True:
        try:
            now, totals = await _look(node)
            live.now = {**now, "database_since": _since_when(live.now, now)}
            live.series.add(live.now["at"], totals)
        except Exception as error:  # noqa: BLE001 - whatever a node or dispatcher reports, the next poll must run
            log.error("cannot look at this node for the console", error=repr(error))
        await asyncio.sleep(SECONDS)


def _since_when(before: dict[str, Any], now: dict[str, Any]) -> float | None:
    """Since when the database has been away (unix seconds); None while it is at hand."""
    if not now["database"]:
        return None
    return before.get("database_since") or float(now["at"])


async def _look(node: Node) -> tuple[dict[str, Any], dict[str, int]]:
    dns = status.shown_or_named("dns", lambda: dict(node.dns()))
    dispatcher = await status.ask_dispatcher(node.dispatcher)
    database = await _database(node)
    snapshot, at = node.snapshot(), node.now()
    totals = _totals("dns", dns)
    if isinstance(dispatcher, dict):
        totals |= _totals("dispatcher", dispatcher)
    now = {
        "at": at,
        "version": __version__,
        "served_generation": snapshot.generation,
        "objects": status.sizes(snapshot),
        "dns": dns,
        "dispatcher": dispatcher,
        **database,
    }
    return now, totals


def _totals(source: str, document: Any) -> dict[str, int]:
    """What a source counts, none where that cannot be read: it is away then, as charts show it."""
    try:
        return totals_of(source, document)
    except Exception as error:  # noqa: BLE001 - one source must not cost the charts of the other
        log.error("the counters of a source cannot be charted", source=source, error=repr(error))
        return {}


async def _database(node: Node) -> dict[str, Any]:
    """Its generation and the nodes that report to it, or its error."""
    try:
        async with asyncio.timeout(PATIENCE):
            fleet = await nodes.fleet(node)
    except (StoreError, TimeoutError) as error:
        why = str(error) or f"no answer within {PATIENCE:g} s"
        return {"database": why, "generation": None, "nodes": [], "troubles": []}
    return {"database": None, "generation": fleet.generation, "nodes": fleet.processes, "troubles": fleet.troubles}


def _since(request: web.Request) -> float:
    try:
        return float(request.query.get("after", "0"))
    except ValueError:
        raise Refusal("bad-request", "after: must be a unix time.") from None


ROUTES = [web.get(LIVE_PATH, get)]
