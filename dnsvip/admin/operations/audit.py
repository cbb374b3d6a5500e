"""/audit: who changed what, newest first, with old and new value."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeAlias
from urllib.parse import urlencode

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import CALLER
from dnsvip.admin.http.operation import ROOT, Operation, Page, query_of
from dnsvip.admin.http.queries import PAGE, PAGE_BYTES, Id, Limit, Text
from dnsvip.admin.http.work import aside, turn
from dnsvip.admin.node import NODE
from dnsvip.site import STRICT
from dnsvip.site.rights import KINDS, Action, Rights
from dnsvip.site.size import is_large
from dnsvip.store import AuditRow
from dnsvip.store.access.audit import VisibleKinds

LATEST = 253_402_300_800.0
"""The year 10000, unix seconds."""


def _moment(value: Any) -> float:
    try:
        moment = float(value)
    except ValueError:
        moment = _parsed(str(value))
    if not 0 <= moment < LATEST:
        raise ValueError("must be unix seconds, or ISO 8601 with its offset, such as 2026-11-24T08:00:00Z")
    return moment


def _parsed(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return -1.0
    return moment.timestamp() if moment.tzinfo is not None and moment.year > 1970 else -1.0


Moment = Annotated[
    float, BeforeValidator(_moment), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 253402300799})
]


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """At most `limit` rows, before the row with the id `before`, not older than `since`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    limit: Limit = PAGE
    before: Id | None = None
    since: Moment = 0.0


@dataclass(frozen=True, slots=True)
class AuditQuery(HistoryQuery):
    """And of one kind of object, one object, somebody (`token NAME`), one action (+ made, ~ changed, - removed), or
    from one address (`unix`: by the Unix socket)."""

    kind: Text | None = None
    name: Text | None = None
    actor: Text | None = None
    action: Annotated[str, Field(pattern=r"^[-+~]$")] | None = None
    source: Text | None = None


_COLUMNS = tuple(column.name for column in fields(AuditRow))
AuditPage: TypeAlias = Page[AuditRow]


async def list_all(request: web.Request) -> web.Response:
    """A page of the audit rows that the caller's scopes of the audit reach, newest first, without secrets."""
    query = query_of(request, AuditQuery)
    asked = {key: getattr(query, key) for key in ("kind", "name", "actor", "action", "source")}
    about = {key: value for key, value in asked.items() if value is not None}
    visible = _visible(request[CALLER].rights)
    async with turn(request) if _takes_long(about, visible) else nullcontext():
        return await page(request, query, about, visible)


def _takes_long(about: Mapping[str, str], visible: VisibleKinds | None) -> bool:
    """Whether no index leads to the rows, so that all may be read for one page."""
    return "name" not in about and (bool({"kind", "action", "source"} & about.keys()) or visible is not None)


async def page(
    request: web.Request, query: HistoryQuery, about: Mapping[str, str], visible: VisibleKinds | None = None
) -> web.Response:
    """The rows about something; with `visible` only those that a caller may see."""
    limit = query.limit
    audit = request.app[NODE].store().audit
    rows, is_more = await audit.page_within(PAGE_BYTES, limit, query.before, about, query.since, visible)
    more = {**request.query, "limit": limit, "before": rows[-1].id} if is_more else None
    following = f"{request.path}?{urlencode(more)}" if more else None

    def shown() -> web.Response:
        items = [{name: getattr(row, name) for name in _COLUMNS} for row in rows]  # asdict would copy each object
        return bodies.answer({"items": items, "next": following})

    return await aside(request, shown, large=is_large(rows))


def _visible(rights: Rights) -> VisibleKinds | None:
    """The objects whose changes the caller may see: all whose names fit its scopes of the audit; None: every row."""
    narrowed = {kind: rights.patterns(Action.READ, kind, "audit") for kind in KINDS}
    return None if all(patterns is None for patterns in narrowed.values()) else VisibleKinds(narrowed, others=True)


ROUTES = [Operation("GET", f"{ROOT}/audit", list_all, "audit", query=AuditQuery, answer=AuditPage)]
