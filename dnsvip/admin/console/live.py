"""/console/live: the figures of charts and indicators, gathered once for all pages that are open.

One task reads the reports of all nodes about every second, and less often this node's counters and its dispatcher;
answers repeat its last result, so the cost does not grow with the number of open pages. Where one of the three is
unavailable, its error is reported instead; of the nodes the last reports stay, with the time that they are of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import web

from dnsvip import __version__
from dnsvip.admin.console.meters import Meters, Sample, Silence
from dnsvip.admin.console.series import SPANS, History
from dnsvip.admin.console.sessions import Session
from dnsvip.admin.console.signin import LIVE_PATH, SESSION
from dnsvip.admin.console.sums import flows_of, late, merged_tops, sample_of, tops_of
from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import CALLER, admitted, open_to_all
from dnsvip.admin.http.narrowing import narrowed
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.node import NODE, Node
from dnsvip.admin.operations import nodes, status
from dnsvip.admin.operations.nodes import Fleet
from dnsvip.errors import StoreError
from dnsvip.site.plain import JsonObject
from dnsvip.site.registry import COLLECTIONS
from dnsvip.site.rights import Action
from dnsvip.site.server_states import server_states
from dnsvip.telemetry.totals import totals_of

SECONDS = 0.8
LOOKS = 3
"""Reports of nodes are read this often for each look at this node's own counters, which cost more."""

UNSEEN: dict[str, Any] = {
    "dns": {},
    "listeners": [],
    "dispatcher": None,
    "nodes": [],
    "troubles": [],
    "servers": {},
    "flows": None,
    "tops": {},
    "scope": "",
    "scopes": [],
    "nodes_at": None,
    "node": "",
}
"""What a token that may not read the status gets instead; `sees_status` tells that it is hidden, not none."""

PATIENCE = 1.0
"""Seconds that the database may take for its generation before it counts as unavailable."""

LONGEST_SCOPE = 256


@dataclass(slots=True)
class Live:
    """The last result; `fleet` is what the database told last, at `fleet_at` (unix seconds)."""

    history: History = field(default_factory=History)
    meters: Meters = field(default_factory=Meters)
    silence: Silence = field(default_factory=Silence)
    now: dict[str, Any] = field(default_factory=dict)
    fleet: Fleet = field(default_factory=lambda: Fleet(0, [], []))
    fleet_at: float | None = None


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
    """The present, and the rates since the time in the query: of a `span`, of the site or of the `node` named.

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
    response = bodies.answer(_shown(live, session, _asked(request)))
    response.enable_compression()
    return response


@dataclass(frozen=True, slots=True)
class _Asked:
    """Rates later than `after` (unix seconds) of a span and a scope: a node, or the site ("")."""

    after: float
    span: str
    scope: str


def _shown(live: Live, session: Session, asked: _Asked) -> JsonObject:
    """The last result as the session's token may see it; `narrowed` has the collections of which it sees some."""
    seen, now = session.seen, live.now
    objects = {name: size for name, size in now.get("objects", {}).items() if name in session.counted}
    counts = {"objects": objects | session.sizes, "narrowed": sorted(session.sizes)}
    if not session.sees_status:
        empty = History().ring("", asked.span).after(0)
        return {**now, **UNSEEN, **counts, "sees_status": False, "series": empty}
    series = live.history.ring(asked.scope, asked.span).after(asked.after)
    kept = seen.totals(series["rates"])
    reports = [report for report in live.fleet.reports if asked.scope in ("", report.name)]
    return {
        **now,
        **counts,
        "dns": status.shown_or_named("dns", lambda: seen.document(now.get("dns", {}))),
        "dispatcher": status.shown_or_named("dispatcher", lambda: seen.document(now.get("dispatcher"))),
        "nodes": [nodes.as_seen(row, seen) for row in live.fleet.processes],
        "nodes_at": live.fleet_at,
        "sees_status": True,
        "scope": asked.scope,
        "scopes": sorted({report.name for report in live.fleet.reports if report.detail.get("figures")}),
        "flows": flows_of(reports, now.get("at", 0.0)),
        "tops": tops_of(merged_tops(reports, now.get("at", 0.0)), seen),
        "series": {**series, "rates": {name: rates for name, rates in series["rates"].items() if name in kept}},
    }


async def _follow(node: Node, live: Live) -> None:
    look = 0
    while True:
        try:
            database = await _database(node, live)
            if look % LOOKS == 0 or not live.now:
                live.now = {**await _look(node, live), **database}
                live.history.add(live.now["at"], live.meters.sums(live.now["at"]))
            else:
                live.now = {**live.now, **database}
        except Exception as error:  # noqa: BLE001 - whatever a node or dispatcher reports, the next poll must run
            log.error("cannot look at this node for the console", error=repr(error))
        look += 1
        await asyncio.sleep(SECONDS)


async def _look(node: Node, live: Live) -> dict[str, Any]:
    """This node's own counters and its dispatcher's, taken at first hand."""
    dns = status.shown_or_named("dns", lambda: dict(node.dns()))
    dispatcher = await status.ask_dispatcher(node.dispatcher)
    snapshot, at = node.snapshot(), node.now()
    live.meters.take(node.instance, node.name, Sample(at, _totals("dns", dns)), at)
    if isinstance(dispatcher, dict) and "error" not in dispatcher:
        name = str(dispatcher.get("node") or node.name)
        live.meters.take(_own(node, dispatcher), name, Sample(at, _totals("dispatcher", dispatcher)), at)
    elif live.now and isinstance(live.now.get("dispatcher"), dict):
        live.meters.lose(_own(node, live.now["dispatcher"]), at)
    return {
        "at": at,
        "version": __version__,
        "node": node.name,
        "listeners": list(node.listeners()),
        "served_generation": snapshot.generation,
        "objects": status.sizes(snapshot),
        "dns": dns,
        "dispatcher": dispatcher,
    }


def _own(node: Node, dispatcher: dict[str, Any]) -> str:
    """The process of this machine's dispatcher, as its reports name it."""
    return str(dispatcher.get("instance") or f"{node.instance} dispatcher")


def _totals(source: str, document: Any) -> dict[str, int]:
    """What a source counts, none where that cannot be read: it is away then, as charts show it."""
    try:
        return totals_of(source, document)
    except Exception as error:  # noqa: BLE001 - one source must not cost the charts of the other
        log.error("the counters of a source cannot be charted", source=source, error=repr(error))
        return {}


async def _database(node: Node, live: Live) -> dict[str, Any]:
    """Its generation and what is wrong by the nodes that report to it; or its error, beside what was known last."""
    try:
        async with asyncio.timeout(PATIENCE):
            live.fleet = fleet = await nodes.fleet(node)
    except (StoreError, TimeoutError) as error:
        why = str(error) or f"no answer within {PATIENCE:g} s"
        since = live.now.get("database_since") or node.now()
        away: dict[str, Any] = {"database": why, "database_since": since, "generation": None, "troubles": []}
        return {**away, "servers": _servers(node, live)}
    live.fleet_at = at = node.now()
    _take(live, node, at)
    live.silence.hear({report.instance: report.seen_at for report in fleet.reports}, at)
    troubles = [*fleet.troubles, *late(fleet.reports, live.silence.seconds(at), at)]
    well = {"database": None, "database_since": None, "generation": fleet.generation}
    return {**well, "troubles": troubles, "servers": _servers(node, live)}


def _take(live: Live, node: Node, now: float) -> None:
    """Take what the other processes report; this node's own are read at first hand."""
    dispatcher = live.now.get("dispatcher")
    own: Iterable[str] = (node.instance, _own(node, dispatcher) if isinstance(dispatcher, dict) else "")
    for report in live.fleet.reports:
        sample = sample_of(report)
        if sample is not None and report.instance not in own:
            live.meters.take(report.instance, report.name, sample, now)


def _servers(node: Node, live: Live) -> dict[str, int]:
    """How many servers are in each state; none where that cannot be told."""
    try:
        return server_states(node.snapshot().site, live.fleet.reports, live.fleet_at or 0.0)
    except Exception as error:  # noqa: BLE001 - what a node reports must not cost the rest
        log.error("the states of servers cannot be counted", error=repr(error))
        return {}


def _asked(request: web.Request) -> _Asked:
    query = request.query
    span, scope = query.get("span", next(iter(SPANS))), query.get("node", "")
    if span not in SPANS:
        raise Refusal("bad-request", f"span: must be one of {', '.join(SPANS)}.")
    if len(scope) > LONGEST_SCOPE:
        raise Refusal("bad-request", "node: too long.")
    try:
        return _Asked(float(query.get("after", "0")), span, scope)
    except ValueError:
        raise Refusal("bad-request", "after: must be a unix time.") from None


ROUTES = [web.get(LIVE_PATH, get)]
