"""/nodes: every process that reports to the database, its lag and state; draining nodes, removing silent ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import structlog
from aiohttp import web
from pydantic import Field

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, CALLER
from dnsvip.admin.http.narrowing import ABOUT, WARNINGS, Narrowed, narrowed
from dnsvip.admin.http.operation import ROOT, Operation, query_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import Flag, ShortQuery, short_page
from dnsvip.admin.node import NODE, Node
from dnsvip.site import Site
from dnsvip.site.epochs import NodeReport
from dnsvip.site.fleet import troubles
from dnsvip.site.plain import JsonObject

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The database's generation, the processes that report to it, and what is wrong with them; as JSON values, and
    the reports themselves."""

    generation: int
    processes: list[JsonObject]
    troubles: list[JsonObject]
    reports: Sequence[NodeReport] = ()


@dataclass(frozen=True, slots=True)
class NodesQuery(ShortQuery):
    """And of processes: those that have a `role`, and those that are `live`, or with `false` those that are silent."""

    role: Annotated[str, Field(pattern=r"^(dns|admin|dispatch)$")] | None = None
    live: Flag | None = None


async def list_all(request: web.Request) -> web.Response:
    """Every process, by name."""
    query, processes = query_of(request, NodesQuery), await shown(request.app[NODE], _seen(request))
    some = (process for process in processes if query.role is None or query.role in process["roles"])
    return short_page(request, [process for process in some if query.live in (None, process["live"])])


async def get(request: web.Request) -> web.Response:
    """The processes of one node."""
    name = request.match_info["name"]
    return bodies.answer({"name": name, "processes": await _processes(request, name)})


async def forget(request: web.Request) -> web.Response:
    """Remove a node's silent processes from the list; a live one cannot be removed."""
    name, node = request.match_info["name"], request.app[NODE]
    processes = await _processes(request, name)
    if not await node.store().nodes.forget(name, node.now()) and any(process["live"] for process in processes):
        raise Refusal("conflict", f"The node {name!r} lives: it would be back within a second. Stop it first.")
    log.info("node forgotten", name=name, actor=request[ACTOR])
    return web.Response(status=204)


async def drain(request: web.Request) -> web.Response:
    """Give a node no traffic: it is not ready any more, its routes are withdrawn, what runs goes on. It stays so after
    a restart, until it is undrained."""
    name, node = request.match_info["name"], request.app[NODE]
    store = node.store()
    if name not in await store.drains.all():
        await _processes(request, name)
    if await store.drains.drain(name, request[ACTOR], node.now()):
        log.info("node drained", name=name, actor=request[ACTOR])
    return await _drained(request, name)


async def undrain(request: web.Request) -> web.Response:
    """Give a drained node traffic again, as soon as it is ready."""
    name, node = request.match_info["name"], request.app[NODE]
    if await node.store().drains.undrain(name, request[ACTOR], node.now()):
        log.info("node undrained", name=name, actor=request[ACTOR])
    else:
        await _processes(request, name)
    return await _drained(request, name)


async def _drained(request: web.Request, name: str) -> web.Response:
    """Whether a node is drained, and since when, in unix seconds."""
    since = (await request.app[NODE].store().drains.all()).get(name)
    return bodies.answer({"name": name, "drained_at": since})


def _seen(request: web.Request) -> Narrowed:
    return narrowed(request[CALLER].rights, "node")


async def shown(node: Node, seen: Narrowed) -> list[JsonObject]:
    """Every process as lists show it, without what it tells of objects that are not seen."""
    return [as_seen(row, seen) for row in (await fleet(node)).processes]


def as_seen(row: JsonObject, seen: Narrowed) -> JsonObject:
    """A process of a `Fleet` without what it tells of objects that are not seen; without its account of itself where
    that cannot be shown."""
    try:
        return _as_seen(row, seen)
    except Exception as error:  # noqa: BLE001 - one node's report must not hide the others
        text = f"its report cannot be shown: {type(error).__name__}"
        return _as_seen({**row, "detail": {}, WARNINGS: [text], ABOUT: [("node", row["name"])]}, seen)


def _as_seen(row: JsonObject, seen: Narrowed) -> JsonObject:
    account = seen.node({**row["detail"], WARNINGS: row[WARNINGS], ABOUT: row[ABOUT]})
    head = {key: value for key, value in row.items() if key not in (WARNINGS, ABOUT, "detail")}
    return {**head, WARNINGS: account.pop(WARNINGS), "detail": account}


async def fleet(node: Node) -> Fleet:
    """The site's processes with all that they tell, for `as_seen`, and what is wrong with them."""
    store, now = node.store(), node.now()
    reports, generation, drained = await store.nodes.all(), await store.generation(), await store.drains.all()
    since = await store.nodes.lagging_since({report.generation for report in reports})
    processes = [
        {
            **_row_or_named(report, generation, since.get(report.generation), now),
            "drained_at": drained.get(report.name),
        }
        for report in reports
    ]
    site = node.snapshot().site
    try:
        wrong = troubles(site, reports, generation, now, drained)
    except Exception:  # noqa: BLE001 - as below
        some = [report for report in reports if _can_be_judged(site, report, now)]
        wrong = troubles(site, some, generation, now, drained)
    return Fleet(generation, processes, [asdict(trouble) for trouble in wrong], reports)


def _can_be_judged(site: Site, report: NodeReport, now: float) -> bool:
    try:
        troubles(site, [report], report.generation + 1, now)
    except Exception as error:  # noqa: BLE001 - one node's report must not hide what is wrong with the others
        log.error("a node cannot be judged", name=report.name, error=repr(error))
        return False
    return True


async def _processes(request: web.Request, name: str) -> Sequence[JsonObject]:
    processes = [process for process in await shown(request.app[NODE], _seen(request)) if process["name"] == name]
    if not processes:
        raise Refusal("not-found", f"There is no node {name!r}; GET {ROOT}/nodes lists them.")
    return processes


def _row_or_named(report: NodeReport, generation: int, lagging_since: float | None, now: float) -> JsonObject:
    """As `_row`; without its own account of itself where that cannot be shown."""
    try:
        row = _row(report, generation, lagging_since, now)
        _as_seen(row, Narrowed({}))
    except Exception as error:  # noqa: BLE001 - one node's report must not hide the others
        detail = {WARNINGS: [f"its report cannot be shown: {type(error).__name__}: {error}"]}
        row = _row(replace(report, detail=detail), generation, lagging_since, now)
    return row


def _row(report: NodeReport, generation: int, lagging_since: float | None, now: float) -> JsonObject:
    """A process. Times are unix seconds; `lag_seconds` counts from the first generation that it has not taken."""
    behind, live = generation - report.generation, report.is_live(now)
    gone = ["it works with a generation that the database no longer knows"] if behind < 0 else []
    warnings = report.detail.get(WARNINGS, ())
    about = report.detail.get(ABOUT, [""] * len(warnings))
    return {
        "name": report.name,
        "instance": report.instance,
        "roles": sorted(report.roles),
        "live": live,
        "stopped": report.stopped,
        "version": report.version,
        "generation": report.generation,
        "behind": max(0, behind),
        "lag_seconds": max(0.0, round(now - lagging_since, 3)) if behind > 0 and lagging_since else 0.0,
        "taken_at": report.taken_at,
        "started_at": report.started_at,
        "uptime_seconds": round(report.seen_at - report.started_at) if report.started_at else None,
        "seen_at": report.seen_at,
        "lease_seconds": report.lease_seconds,
        "key_encryption_keys": sorted(report.keks or ()),
        WARNINGS: [*warnings, *gone],
        ABOUT: [*about, *[("node", report.name)] * len(gone)],
        "detail": {key: value for key, value in report.detail.items() if key not in _OWN},
    }


_OWN = frozenset((WARNINGS, ABOUT, "stopped", "figures"))
"""What a process tells that is no part of its row's `detail`; the console makes sums of figures (console/live.py)."""

ROUTES = [
    Operation("GET", f"{ROOT}/nodes", list_all, "node", query=NodesQuery),
    Operation("GET", f"{ROOT}/nodes/{{name}}", get, "node"),
    Operation("DELETE", f"{ROOT}/nodes/{{name}}", forget, "node", status=204),
    Operation("POST", f"{ROOT}/nodes/{{name}}/drain", drain, "node"),
    Operation("POST", f"{ROOT}/nodes/{{name}}/undrain", undrain, "node"),
]
