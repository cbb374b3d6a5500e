"""One kind of object over HTTP: list, get, put, patch, delete, the same for every kind.

Each change is one `Store.apply` of one object, made from what is stored at that moment; where somebody
else was quicker it is made anew, so a patch never undoes another. What is special about a kind is said
by its own file as values of a `Kind`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import structlog
from aiohttp import web

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, CALLER, demand
from dnsvip.admin.http.operation import NOT_RESERVED, ROOT, Listed, Operation, Patch, query_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import PageQuery
from dnsvip.admin.node import NODE
from dnsvip.errors import Conflict, InvalidSite, Problem
from dnsvip.site.plain import JsonObject, SiteObject, canonical_name, dump, parse
from dnsvip.site.plan import Action as Sign
from dnsvip.site.plan import Change
from dnsvip.site.registry import COLLECTIONS
from dnsvip.site.rights import Action
from dnsvip.store import Listing
from dnsvip.store.objects.listing import COUNTED

TRIES = 5
GENERATION = "Dnsvip-Generation"
"""The header of a change's answer that says from which generation on it holds."""

Check: TypeAlias = Callable[[web.Request, str, JsonObject], Awaitable[None]]
Make: TypeAlias = Callable[[SiteObject | None], SiteObject | None]
"""The object to store, made from the stored one; None where there is none."""

Seen: TypeAlias = Callable[[SiteObject], JsonObject | None]

log = structlog.get_logger(__name__)


def _as_it_is(thing: SiteObject) -> JsonObject:
    return dump(thing)


async def _unchecked(_request: web.Request, _name: str, _body: JsonObject) -> None:
    pass


def _as_wanted(_before: SiteObject | None, after: SiteObject) -> SiteObject:
    return after


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of object is served.

    `name` is its kind, `path` its collection; `shown` and `listed` are its forms in answers, `query` is that of
    its list. `settled` gives the object to store for one that is asked for, or raises; `check` raises for a body
    that takes long to look at. `limit` is that of its body, in bytes. `reserved`: no object is called import or
    export.
    """

    name: str
    path: str
    shown: Callable[[SiteObject], JsonObject] = _as_it_is
    listed: Callable[[SiteObject], JsonObject] = _as_it_is
    settled: Callable[[SiteObject | None, SiteObject], SiteObject] = _as_wanted
    check: Check = _unchecked
    limit: int = bodies.LIMIT
    query: type[PageQuery] = PageQuery
    reserved: bool = False

    def listing(self, query: PageQuery) -> Listing:
        """What a list's query asks the store for; raises Refusal."""
        return query.listing(self.name)

    def url(self, name: str) -> str:
        """The path of one object."""
        return f"{ROOT}/{self.path}/{quote(name, safe='')}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did; `generation` is None where everything was so already."""

    before: SiteObject | None
    after: SiteObject | None
    generation: int | None

    @property
    def headers(self) -> dict[str, str]:
        """What an answer says of it."""
        return {} if self.generation is None else {GENERATION: str(self.generation)}


def routes(kind: Kind) -> list[Operation]:
    """The operations of a kind."""
    collection, one = f"{ROOT}/{kind.path}", f"{ROOT}/{kind.path}/{{name{NOT_RESERVED if kind.reserved else ''}}}"

    def bound(serve: Callable[[Kind, web.Request], Any]) -> Any:
        async def handler(request: web.Request) -> web.StreamResponse:
            return await serve(kind, request)  # type: ignore[no-any-return]

        handler.__doc__ = (serve.__doc__ or "").replace("an object", f"a {kind.name}")
        return handler

    return [
        Operation("GET", collection, bound(list_all), kind.name, query=kind.query, answer=Listed(kind.name)),
        Operation("GET", one, bound(get), kind.name, answer=kind.name),
        Operation("PUT", one, bound(put), kind.name, body=kind.name, answer=kind.name),
        Operation("PATCH", one, bound(patch), kind.name, body=Patch(kind.name), answer=kind.name),
        Operation("DELETE", one, bound(delete), kind.name, status=204),
    ]


async def list_all(kind: Kind, request: web.Request) -> web.Response:
    """A page of objects, filtered and sorted."""
    query = query_of(request, PageQuery)
    for other, name in query.discloses():
        demand(request, Action.READ, other, name)
    wanted = kind.listing(query)
    store = request.app[NODE].store()
    found = await store.places(replace(wanted, limit=wanted.limit + 1))
    page = found[: wanted.limit]
    rights = request[CALLER].rights
    shown = [kind.listed(thing) for thing, _ in page if rights.allow(Action.READ, kind.name, name_of_thing(thing))]
    more = None
    if len(found) > len(page):
        thing, place = page[-1]
        after = name_of_thing(thing) if wanted.sort == "name" else f"{place},{name_of_thing(thing)}"
        more = {**request.query, "limit": wanted.limit, "after": after}
    answer: JsonObject = {"items": shown, "next": f"{request.path}?{urlencode(more)}" if more else None}
    if query.count:
        answer |= await _count(request, wanted)
    return bodies.answer(answer)


async def _count(request: web.Request, wanted: Listing) -> JsonObject:
    """How many there are: all of a kind as this node serves them, of a filter as far as counting is cheap."""
    node = request.app[NODE]
    if not wanted.filtered:
        kinds = COLLECTIONS.get(wanted.kind)
        return {"total": len(getattr(node.snapshot().site, kinds)) if kinds else 1, "total_is": "exact"}
    found = await node.store().count_some(wanted)
    return {"total": min(found, COUNTED), "total_is": "at-least" if found > COUNTED else "exact"}


async def get(kind: Kind, request: web.Request) -> web.Response:
    """One object."""
    name = name_of(kind, request)
    thing = await request.app[NODE].store().get(kind.name, name)
    if thing is None:
        raise absent(kind, name)
    shown = kind.shown(thing)
    if bodies.is_fresh(request, shown):
        return web.Response(status=304, headers={"ETag": bodies.etag(shown)})
    return shown_response(shown)


async def put(kind: Kind, request: web.Request) -> web.Response:
    """Make an object, or replace it."""
    name = name_of(kind, request)
    body = _named(kind, name, await bodies.read_object(request, kind.limit))
    await kind.check(request, name, body)

    def make(before: SiteObject | None) -> SiteObject:
        whole = body if before is None else bodies.with_runtime(kind.name, dump(before), body)
        return parse(kind.name, name, whole)

    return changed_response(kind, await change(kind, request, name, make))


async def patch(kind: Kind, request: web.Request) -> web.Response:
    """Change what the body names, and nothing else."""
    name = name_of(kind, request)
    body = _named(kind, name, await bodies.read_object(request, kind.limit))
    await kind.check(request, name, body)

    def make(before: SiteObject | None) -> SiteObject:
        if before is None:
            raise absent(kind, name)
        return parse(kind.name, name, bodies.merged(dump(before), body))

    return changed_response(kind, await change(kind, request, name, make))


async def delete(kind: Kind, request: web.Request) -> web.Response:
    """Remove an object that nothing refers to."""
    name = name_of(kind, request)

    def make(before: SiteObject | None) -> None:
        if before is None:
            raise absent(kind, name)

    try:
        outcome = await change(kind, request, name, make)
    except Conflict:
        raise
    except InvalidSite as error:
        raise _in_use(kind, name, error) from None
    return web.Response(status=204, headers=outcome.headers)


async def change(kind: Kind, request: web.Request, name: str, make: Make, seen: Seen | None = None) -> Outcome:
    """Store what `make` makes of the stored object; made again where that was changed in between.

    `seen` gives what the requester knows of it, which the conditions of the request are about.
    """
    node, seen = request.app[NODE], seen or kind.shown
    for attempt in range(TRIES):
        store = node.store()
        before = await store.get(kind.name, name)
        bodies.check_conditions(request, None if before is None else seen(before))
        after = make(before)
        after = after and kind.settled(before, after)
        if after == before:
            return Outcome(before, after, None)
        step = Change(kind.name, name, _action(before, after), before, after)
        try:
            generation = await store.apply([step], request[ACTOR], "api")
        except Conflict:
            if attempt + 1 == TRIES or await store.get(kind.name, name) == before:
                raise
            continue
        log.info("changed", actor=request[ACTOR], action=step.action, what=step.where, generation=generation)
        return Outcome(before, after, generation)
    raise AssertionError("unreachable")


def changed_response(kind: Kind, outcome: Outcome) -> web.Response:
    """The answer to a change: the object as it is now."""
    assert outcome.after is not None  # noqa: S101 - a removal has no such answer
    shown = kind.shown(outcome.after)
    if outcome.before is not None:
        return shown_response(shown, outcome.headers)
    headers = {**outcome.headers, "Location": kind.url(shown["name"])}
    return shown_response(shown, headers, status=201)


def shown_response(shown: JsonObject, headers: dict[str, str] | None = None, *, status: int = 200) -> web.Response:
    """One object as it is shown, with its entity tag."""
    return bodies.answer(shown, status=status, headers={"ETag": bodies.etag(shown), **(headers or {})})


def page_response(request: web.Request, items: list[JsonObject], more: JsonObject | None) -> web.Response:
    """A page of a list; `more` is the query of the next one, None after the last."""
    return bodies.answer({"items": items, "next": f"{request.path}?{urlencode(more)}" if more else None})


def name_of(kind: Kind, request: web.Request) -> str:
    """The name in a request's path, in the form that the kind is filed under."""
    return canonical_name(kind.name, request.match_info["name"])


def absent(kind: Kind, name: str) -> Refusal:
    """The refusal where there is no such object."""
    return Refusal("not-found", f"There is no {kind.name} {name!r}; GET {ROOT}/{kind.path} lists them.")


def _named(kind: Kind, name: str, body: JsonObject) -> JsonObject:
    """The body without its name, which is that of the path."""
    given = body.get("name", name)
    if not isinstance(given, str) or canonical_name(kind.name, given) != name:
        problem = Problem(f"{kind.name}.{name}.name", f"is {given!r}, but the path says {name!r}; names do not change")
        raise InvalidSite([problem])
    return {key: value for key, value in body.items() if key != "name"}


def _in_use(kind: Kind, name: str, error: InvalidSite) -> Refusal:
    users = list(dict.fromkeys(problem.where.rpartition(".")[0] for problem in error.problems))
    some = ", ".join(users[:8]) + (" and others" if len(users) > 8 else "")
    errors = [Problem(problem.where, f"refers to {kind.name}.{name}") for problem in error.problems]
    return Refusal("in-use", f"{kind.name}.{name} is still referred to by {some}.", errors)


def _action(before: SiteObject | None, after: SiteObject | None) -> Sign:
    return "+" if before is None else "-" if after is None else "~"


def name_of_thing(thing: SiteObject) -> str:
    """An object's name, "" of the one that has none."""
    return getattr(thing, "name", "")
