"""/audit: who changed what, newest first, with old and new value."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeAlias
from urllib.parse import urlencode

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import CALLER
from dnsvip.admin.http.operation import ROOT, Operation, Page, query_of
from dnsvip.admin.http.queries import PAGE, PAGE_BYTES, Id, Limit, Text, number
from dnsvip.admin.http.work import aside, turn
from dnsvip.admin.node import NODE
from dnsvip.site import STRICT
from dnsvip.site.rights import KINDS, Action, Rights
from dnsvip.site.size import is_large
from dnsvip.store import AuditRow
from dnsvip.store.access.audit_changes import AuditChange
from dnsvip.store.access.audit_search import LATEST, AuditSearch, VisibleKinds

MOST_CHANGES = 100


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
    """At most `limit` rows, before the row with the id `before`, not older than `since` nor younger than `until`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    limit: Limit = PAGE
    before: Id | None = None
    since: Moment = 0.0
    until: Moment = LATEST


@dataclass(frozen=True, slots=True)
class AuditQuery(HistoryQuery):
    """And of one kind of object, one object, somebody (`token NAME`), one action (+ made, ~ changed, - removed), from
    one address (`unix`: by the Unix socket), or of one generation."""

    kind: Text | None = None
    name: Text | None = None
    actor: Text | None = None
    action: Annotated[str, Field(pattern=r"^[-+~]$")] | None = None
    source: Text | None = None
    generation: Id | None = None


@dataclass(frozen=True, slots=True)
class ChangesQuery(AuditQuery):
    """And at most 100 changes."""

    limit: Annotated[int, *number(1, MOST_CHANGES)] = MOST_CHANGES // 2


_ABOUT = ("kind", "name", "actor", "action", "source", "generation")
_COLUMNS = tuple(column.name for column in fields(AuditRow))
AuditPage: TypeAlias = Page[AuditRow]


async def list_all(request: web.Request) -> web.Response:
    """A page of the audit rows that the caller's scopes of the audit reach, newest first, without secrets."""
    query = query_of(request, AuditQuery)
    search = _search(request, query)
    async with turn(request) if _takes_long(search) else nullcontext():
        return await _page(request, search, query.limit)


async def list_changes(request: web.Request) -> web.Response:
    """What was changed at once as one entry, newest first: an import has so many rows, which the list of its generation
    shows."""
    query = query_of(request, ChangesQuery)
    async with turn(request):
        changes, before = (
            await request.app[NODE].store().audit_changes.page(_search(request, query), query.limit, PAGE_BYTES)
        )
    following = f"{request.path}?{urlencode({**request.query, 'before': before})}" if before else None
    return bodies.answer({"items": [asdict(change) for change in changes], "next": following})


async def history(request: web.Request, about: Mapping[str, str]) -> web.Response:
    """A page of the rows about one object, whose reader may see them."""
    query = query_of(request, HistoryQuery)
    return await _page(request, AuditSearch(about, query.before, query.since, query.until), query.limit)


def _search(request: web.Request, query: AuditQuery) -> AuditSearch:
    """What a query asks for, as far as the caller's scopes of the audit reach."""
    about = {key: value for key in _ABOUT if (value := getattr(query, key)) is not None}
    return AuditSearch(about, query.before, query.since, query.until, _visible(request[CALLER].rights))


def _takes_long(search: AuditSearch) -> bool:
    """Whether no index leads to the rows, so that all may be read for one page."""
    narrow = bool({"kind", "action", "source"} & search.about.keys()) or search.visible is not None
    return narrow and not {"name", "generation"} & search.about.keys()


async def _page(request: web.Request, search: AuditSearch, limit: int) -> web.Response:
    rows, is_more = await request.app[NODE].store().audit.page_within(PAGE_BYTES, limit, search)
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


ROUTES = [
    Operation("GET", f"{ROOT}/audit", list_all, "audit", query=AuditQuery, answer=AuditPage),
    Operation("GET", f"{ROOT}/audit/changes", list_changes, "audit", query=ChangesQuery, answer=Page[AuditChange]),
]
