"""/health: every checked server as each dispatcher sees it, from the nodes' reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from aiohttp import web
from pydantic import ConfigDict

from dnsvip.admin.http import bodies
from dnsvip.admin.http.operation import ROOT, Operation, Page, query_of
from dnsvip.admin.http.queries import Text
from dnsvip.admin.node import NODE
from dnsvip.site import STRICT, ServerState
from dnsvip.site.epochs import NodeReport
from dnsvip.site.plain import JsonObject

_NAMES = ("pool", "name", "state", "weight", "passing", "load", "note", "since")


@dataclass(frozen=True, slots=True)
class HealthQuery:
    """Those of one pool, one server or one dispatcher only, or those in a `state`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    pool: Text | None = None
    server: Text | None = None
    node: Text | None = None
    state: ServerState | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A server as one dispatcher sees it. `set` is the state that an operator gave it; `state` and `weight` are what it
    dispatches by (weight 0: no new flows), `passing` whether its check
    passes, `load` the percentage that its agent reports; `since` and `seen_at` are unix seconds. `live` is whether the
    dispatcher still reports."""

    node: str
    live: bool
    seen_at: float
    pool: str
    name: str
    set: str
    state: str
    weight: int
    passing: bool
    load: int
    note: str
    since: float


async def list_all(request: web.Request) -> web.Response:
    """Every checked server, once for each dispatcher, by pool, server and node."""
    query, node = query_of(request, HealthQuery), request.app[NODE]
    reports = await node.store().nodes.all()
    items = [item for report in reports for item in _seen(report, node.now())]
    about = {"pool": query.pool, "name": query.server, "node": query.node, "state": query.state}
    wanted = [item for item in items if all(value in (None, item[key]) for key, value in about.items())]
    wanted.sort(key=lambda item: (item["pool"], item["name"], item["node"]))
    return bodies.answer({"items": wanted, "next": None})


def _seen(report: NodeReport, now: float) -> Iterator[JsonObject]:
    """What a report says; one of another version may say it otherwise, and then says nothing here."""
    reported: Any = report.detail.get("health", ())
    for one in reported if isinstance(reported, list) else ():
        if isinstance(one, dict) and all(name in one for name in _NAMES):
            head = {"node": report.name, "live": report.is_live(now), "seen_at": report.seen_at}
            yield {**head, "set": one.get("set", one["state"]), **{name: one[name] for name in _NAMES}}


ROUTES = [Operation("GET", f"{ROOT}/health", list_all, "node", query=HealthQuery, answer=Page[Seen])]
