"""One kind of object over HTTP: list, get, put, patch, delete, the same for every kind.

How a kind is served is its `Resource` (resource.py); how a change is stored is in changing.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from dnsvip.admin.http import bodies, standby
from dnsvip.admin.http.auth import CALLER, demand
from dnsvip.admin.http.changing import change, changed_response
from dnsvip.admin.http.json_objects import values
from dnsvip.admin.http.operation import NOT_RESERVED, Listed, Operation, Patch, query_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import PageQuery, page_query
from dnsvip.admin.http.resource import Resource, absent, alone, name_of, name_of_thing
from dnsvip.admin.http.shown import fresh_response
from dnsvip.admin.http.standby import STANDBY
from dnsvip.admin.http.work import aside, turn, worked
from dnsvip.admin.node import NODE
from dnsvip.errors import Conflict, InvalidSite, Problem
from dnsvip.site.plain import JsonObject, SiteObject, canonical_name, check_counts, collection, dump, merged, parse
from dnsvip.site.rights import Action, Rights
from dnsvip.site.size import is_large
from dnsvip.site.unreadable import Unreadable
from dnsvip.store import Listing
from dnsvip.store.objects.listing import COUNTED

MANY = 1000
"""Values of a body that are examined in this process, where they are more than a few by a thread."""


def routes(resource: Resource) -> list[Operation]:
    """The operations of a kind."""
    kind, many = resource.name, resource.path
    one = f"{many}/{{name{NOT_RESERVED if resource.reserved else ''}}}"

    def bound(serve: Callable[[Resource, web.Request], Any]) -> Any:
        async def handler(request: web.Request) -> web.StreamResponse:
            return await serve(resource, request)  # type: ignore[no-any-return]

        handler.__doc__ = (serve.__doc__ or "").replace("an object", f"a {kind}")
        return handler

    return [
        Operation("GET", many, bound(list_all), kind, query=page_query(kind), answer=Listed(kind)),
        Operation("GET", one, bound(get), kind, answer=kind),
        Operation("PUT", one, bound(put), kind, body=kind, answer=kind),
        Operation("PATCH", one, bound(patch), kind, body=Patch(kind), answer=kind),
        Operation("DELETE", one, bound(delete), kind, status=204),
    ]


async def list_all(resource: Resource, request: web.Request) -> web.Response:
    """A page of objects, filtered and sorted."""
    query = query_of(request, PageQuery)
    for other, name in resource.discloses(query):
        demand(request, Action.READ, other, name)
    rights = request[CALLER].rights
    wanted = replace(resource.listing(query), visible=rights.patterns(Action.READ, resource.name))
    async with turn(request) if wanted.inside or STANDBY in request else nullcontext():  # a look at every name
        page, is_more = await _page(resource, request, wanted)
    more = None
    if is_more:
        thing, place = page[-1]
        by_name = wanted.sort == "name" or STANDBY in request
        after = name_of_thing(thing) if by_name else f"{place},{name_of_thing(thing)}"
        more = {**request.query, "limit": str(wanted.limit), "after": after}
        if STANDBY in request:
            more["sort"] = "-name" if wanted.descending else "name"
    following = f"{request.path}?{urlencode(more)}" if more else None
    counted = await _count(request, wanted) if query.count else {}

    readable = [thing for thing, _ in page if not isinstance(thing, Unreadable)]
    computed = iter(await (alone if STANDBY in request else resource.beside)(request, readable))

    def shown() -> web.Response:
        items = [
            thing.listed if isinstance(thing, Unreadable) else {**resource.listed(thing), **next(computed)}
            for thing, _ in page
        ]
        return bodies.answer({"items": items, "next": following, **counted})

    return await aside(request, shown, large=is_large(page))


async def _page(
    resource: Resource, request: web.Request, wanted: Listing
) -> tuple[Sequence[tuple[SiteObject | Unreadable, Any]], bool]:
    if STANDBY in request:
        return await standby.page(request, wanted)
    return await request.app[NODE].store().objects.page_within(wanted, resource.page_bytes)


async def _count(request: web.Request, wanted: Listing) -> JsonObject:
    """How many there are: of a kind as this node serves it, with filters up to COUNTED."""
    node = request.app[NODE]
    if STANDBY in request and wanted.filtered:
        return {}
    if not wanted.filtered:
        return {"total": len(collection(node.snapshot().site, wanted.kind)), "total_is": "exact"}
    async with turn(request) if wanted.inside else nullcontext():
        matches = await node.store().objects.count_some(wanted)
    return {"total": min(matches, COUNTED), "total_is": "at-least" if matches > COUNTED else "exact"}


async def get(resource: Resource, request: web.Request) -> web.Response:
    """One object."""
    name = name_of(resource, request)
    thing = await standby.stored(request, resource.name, name)
    if thing is None:
        raise absent(resource, name)
    return await aside(request, fresh_response, request, resource.shown, thing, large=is_large(thing))


async def put(resource: Resource, request: web.Request) -> web.Response:
    """Create an object, or replace it."""
    name = name_of(resource, request)
    body = _named(resource, name, await bodies.read_object(request, resource.most(request)))
    await resource.check(request, name, body)

    def whole(before: SiteObject | None) -> JsonObject:
        return body if before is None else bodies.with_runtime(resource.name, dump(before), body)

    make = await _making(resource, request, name, body, whole)
    large = is_large(body)
    outcome = await change(resource, request, name, make, mend=lambda broken: make(broken.stand_in), large=large)
    return await changed_response(resource, request, outcome)


async def patch(resource: Resource, request: web.Request) -> web.Response:
    """Change what the body names, and nothing else."""
    name = name_of(resource, request)
    body = _named(resource, name, await bodies.read_object(request, resource.most(request)))
    await resource.check(request, name, body)

    def whole(before: SiteObject | None) -> JsonObject:
        if before is None:
            raise absent(resource, name)
        after: JsonObject = merged(dump(before), body)
        return after

    make = await _making(resource, request, name, body, whole)
    return await changed_response(resource, request, await change(resource, request, name, make, large=is_large(body)))


async def _making(
    resource: Resource,
    request: web.Request,
    name: str,
    body: JsonObject,
    whole: Callable[[SiteObject | None], JsonObject],
) -> Callable[[SiteObject | None], SiteObject]:
    """What makes the object to store from the stored one, by its whole body. Of a body with many values it is made
    ahead by a process, and once more only where the stored object has changed meanwhile; raises InvalidSite."""

    def counted(before: SiteObject | None) -> JsonObject:
        plain = whole(before)
        check_counts(resource.name, name, plain, before)
        return plain

    def here(before: SiteObject | None) -> SiteObject:
        return parse(resource.name, name, counted(before), counted=True)

    if await aside(request, values, body, large=is_large(body)) <= MANY:
        return here
    stored = await request.app[NODE].store().objects.find(resource.name, name)
    known = await aside(request, counted, stored.stand_in if isinstance(stored, Unreadable) else stored, large=True)
    ahead = await worked(request, partial(parse, counted=True), resource.name, name, known, small=False)
    return lambda before: ahead if whole(before) == known else here(before)


async def delete(resource: Resource, request: web.Request, *, end_flows: bool = False) -> web.Response:
    """Delete an object that nothing refers to."""
    name = name_of(resource, request)

    def make(before: SiteObject | None) -> None:
        if before is None:
            raise absent(resource, name)

    try:
        outcome = await change(resource, request, name, make, mend=lambda _: None, end_flows=end_flows)
    except Conflict:
        raise
    except InvalidSite as error:
        raise _in_use(resource, name, error, request[CALLER].rights) from None
    return web.Response(status=204, headers=outcome.headers)


def _named(resource: Resource, name: str, body: JsonObject) -> JsonObject:
    """The body without its name, which is that of the path."""
    given = body.get("name", name)
    if not isinstance(given, str) or canonical_name(resource.name, given) != name:
        problem = Problem(
            f"{resource.name}.{name}.name", f"is {given!r}, but the path says {name!r}; names do not change"
        )
        raise InvalidSite([problem])
    return {key: value for key, value in body.items() if key != "name"}


def _in_use(resource: Resource, name: str, error: InvalidSite, rights: Rights) -> Refusal:
    problems = [replace(problem, message=f"refers to {resource.name}.{name}", names=()) for problem in error.problems]
    errors = list(dict.fromkeys(map(rights.shown, problems)))
    users = list(dict.fromkeys(problem.where.rpartition(".")[0] or "others" for problem in errors))
    some = ", ".join(users[:8]) + (" and others" if len(users) > 8 else "")
    return Refusal("in-use", f"{resource.name}.{name} is still referred to by {some}.", errors)
