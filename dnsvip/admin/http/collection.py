"""One kind of object over HTTP: list, get, put, patch, delete, the same for every kind.

Each change is one `store.objects.apply` of one object, computed from the stored object; after a concurrent change it is
computed again, so a patch never undoes another. What is special about a kind are the values of its `Resource`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from operator import eq
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import structlog
from aiohttp import web

from dnsvip.admin.http import bodies, standby
from dnsvip.admin.http.auth import ACTOR, CALLER, demand
from dnsvip.admin.http.json_objects import values
from dnsvip.admin.http.limits import limits_of
from dnsvip.admin.http.operation import NOT_RESERVED, ROOT, Listed, Operation, Patch, query_of
from dnsvip.admin.http.problems import WARNINGS, Refusal
from dnsvip.admin.http.queries import PAGE_BYTES, PageQuery, page_query
from dnsvip.admin.http.standby import STANDBY
from dnsvip.admin.http.work import aside, turn, worked
from dnsvip.admin.node import NODE
from dnsvip.errors import Conflict, InvalidSite, Problem, UnreadableError
from dnsvip.site.plain import JsonObject, SiteObject, canonical_name, check_counts, collection, dump, merged, parse
from dnsvip.site.plan import Action as Sign
from dnsvip.site.plan import Change
from dnsvip.site.references import new_references
from dnsvip.site.registry import Kind, secrets_of
from dnsvip.site.rights import Action, Rights, new_attributes
from dnsvip.site.rules import warnings_about
from dnsvip.site.size import is_large
from dnsvip.site.unreadable import Unreadable
from dnsvip.store import Listing
from dnsvip.store.objects.listing import COUNTED

TRIES = 5
MANY = 1000
"""Values of a body that are examined in this process, where they are more than a few by a thread."""
GENERATION = "Dnsvip-Generation"
"""Response header of a change: the generation that contains it."""

Check: TypeAlias = Callable[[web.Request, str, JsonObject], Awaitable[None]]
Permit: TypeAlias = Callable[[web.Request, SiteObject | None, SiteObject | None], Awaitable[None]]
Remark: TypeAlias = Callable[[web.Request, SiteObject | None, SiteObject], Awaitable[Sequence[Problem]]]
Make: TypeAlias = Callable[[SiteObject | None], SiteObject | None]
"""From the stored object, None where there is none, to the one to store; None deletes it."""

Mend: TypeAlias = Callable[[Unreadable], SiteObject | None]
"""The same for an object that cannot be read."""

Beside: TypeAlias = Callable[[web.Request, Sequence[SiteObject]], Awaitable[Sequence[JsonObject]]]
"""From the objects of a page to the computed fields of each."""

Seen: TypeAlias = Callable[[SiteObject], JsonObject | None]

log = structlog.get_logger(__name__)


async def _unchecked(_request: web.Request, _name: str, _body: JsonObject) -> None:
    pass


async def _unremarked(_request: web.Request, _before: SiteObject | None, _after: SiteObject) -> Sequence[Problem]:
    return ()


async def _permitted(_request: web.Request, _before: SiteObject | None, _after: SiteObject | None) -> None:
    pass


def _as_wanted(_before: SiteObject | None, after: SiteObject) -> SiteObject:
    return after


async def _alone(_request: web.Request, things: Sequence[SiteObject]) -> Sequence[JsonObject]:
    return [{}] * len(things)


def _nothing(_query: PageQuery) -> Sequence[tuple[str, str]]:
    return ()


def without_secrets(thing: SiteObject) -> JsonObject:
    """An object as answers show it."""
    secrets = secrets_of(type(thing))
    return {key: value for key, value in dump(thing).items() if key not in secrets}


@dataclass(frozen=True, slots=True)
class Resource:
    """How a kind of object is served.

    `shown` and `listed` are its forms in answers. `settled` gives the object to store for the requested one, or raises;
    `check` raises for a body whose examination takes long, `permit` where the caller's rights do not reach what the
    stored object is to become, None where it is to go. `remarks` gives warnings about a change beside those of the
    site's rules, for the answer. `beside` gives the computed fields that a list shows. `discloses` names the objects of
    other kinds, (kind, name), that the answer to a query tells about.
    `limit` names that of a body; a page of a list ends where its stored texts have `page_bytes`.
    With `reserved` no object can be called
    import or export.
    """

    kind: Kind
    shown: Callable[[SiteObject], JsonObject] = without_secrets
    listed: Callable[[SiteObject], JsonObject] = without_secrets
    settled: Callable[[SiteObject | None, SiteObject], SiteObject] = _as_wanted
    check: Check = _unchecked
    remarks: Remark = _unremarked
    permit: Permit = _permitted
    beside: Beside = _alone
    discloses: Callable[[PageQuery], Sequence[tuple[str, str]]] = _nothing
    limit: str = "body_bytes"
    page_bytes: int = PAGE_BYTES
    reserved: bool = False

    @property
    def name(self) -> str:
        """The name of its kind."""
        return self.kind.name

    @property
    def path(self) -> str:
        """The path of its list."""
        return f"{ROOT}/{self.kind.plural}"

    def listing(self, query: PageQuery) -> Listing:
        """The store's listing that a list's query asks for; raises Refusal."""
        return query.listing(self.name)

    def most(self, request: web.Request) -> int:
        """Bytes in a body."""
        return int(getattr(limits_of(request), self.limit))

    def url(self, name: str) -> str:
        """The path of one object."""
        return f"{self.path}/{quote(name, safe='')}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did; `generation` is None where nothing changed. `mended`: what was there could not be read."""

    before: SiteObject | None
    after: SiteObject | None
    generation: int | None
    mended: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The response headers for it."""
        return {} if self.generation is None else {GENERATION: str(self.generation)}


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
    computed = iter(await (_alone if STANDBY in request else resource.beside)(request, readable))

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


def fresh_response(
    request: web.Request, show: Callable[[SiteObject], JsonObject], thing: SiteObject, **headers: str
) -> web.Response:
    """An object as it is shown, or that the caller has it already."""
    shown = show(thing)
    tag = bodies.etag(shown)
    if bodies.is_fresh(request, tag):
        return web.Response(status=304, headers={"ETag": tag, **headers})
    return bodies.answer(shown, headers={"ETag": tag, **headers})


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


def _unmended(broken: Unreadable) -> SiteObject | None:
    raise UnreadableError(broken.why)


async def change(
    resource: Resource,
    request: web.Request,
    name: str,
    make: Make,
    seen: Seen | None = None,
    mend: Mend | None = None,
    *,
    end_flows: bool = False,
    large: bool = False,
) -> Outcome:
    """Store what `make` returns for the stored object; repeated after a concurrent change.

    `seen` gives what the requester knows of it, which the conditions of the request are about. `mend` gives what is to
    be in the place of one that cannot be read; without it UnreadableError is raised. With `end_flows` the known flows
    of a client that is removed end. All of it is made in a thread where the stored object or what is said of it (then
    with `large`) has many values.
    """
    node, show = request.app[NODE], seen or resource.shown

    def computed(stored: SiteObject | Unreadable | None) -> tuple[SiteObject | None, SiteObject | None, bool]:
        """The object before and after, and whether it changes."""
        before, broken = (None, stored) if isinstance(stored, Unreadable) else (stored, None)
        bodies.check_conditions(request, lambda: broken.listed if broken else None if before is None else show(before))
        after = (mend or _unmended)(broken) if broken else make(before)
        after = after and resource.settled(broken.stand_in if broken else before, after)
        changes = broken is not None or after != before
        if changes and after is not None:
            _permit_references(request, resource.name, name, before, after)
        if before is not None and after is None:
            _permit_loss(request, resource.name, name, before)
        return before, after, changes

    for attempt in range(TRIES):
        store = node.store()
        stored = await store.objects.find(resource.name, name)
        broken = stored if isinstance(stored, Unreadable) else None
        heavy = large or is_large(broken.stand_in if broken else stored)
        before, after, changes = await aside(request, computed, stored, large=heavy)
        if not changes:
            return Outcome(before, after, None)
        await resource.permit(request, before, after)
        step = Change(resource.name, name, _action(stored, after), before, after, broken, end_flows)
        try:
            made = await store.objects.make([step], request[ACTOR], "api")
        except Conflict:
            now = await store.objects.find(resource.name, name)
            if attempt + 1 == TRIES or await aside(request, eq, now, stored, large=heavy):
                raise
            continue
        log.info("changed", actor=request[ACTOR], action=step.action, what=step.where, generation=made.generation)
        return Outcome(before, made.changes[0].after, made.generation, mended=broken is not None)
    raise AssertionError("unreachable")


def _permit_references(
    request: web.Request, kind: str, name: str, before: SiteObject | None, after: SiteObject
) -> None:
    """Raise Refusal where an object is to refer to one that the scope which allows to write it does not reach, and
    where a service is to get or lose an attribute that it does not give; of a client's `permit` says that."""
    rights: Rights = request[CALLER].rights
    if kind != "client" and (given := new_attributes(before, after)) and not rights.gives(kind, name, given):
        text = f"This token lacks a scope write:{kind} for {name} that reaches its attributes that it gives or takes."
        raise Refusal("forbidden", text)
    new = new_references(before, after)
    beyond = rights.unreached(kind, name, new) if new else None
    if beyond is not None:
        other, named = beyond
        raise Refusal(
            "forbidden", f"This token lacks a scope write:{kind} for {name} that reaches the {other} {named!r}."
        )


def _permit_loss(request: web.Request, kind: str, name: str, before: SiteObject) -> None:
    """Raise Refusal where an object is to be deleted with an attribute that the scope which allows that does not take:
    made anew it would not have it."""
    rights: Rights = request[CALLER].rights
    taken = new_attributes(before, None)
    if taken and not rights.gives(kind, name, taken, Action.DELETE):
        text = f"This token lacks a scope delete:{kind} for {name} that reaches its attributes, which go with it."
        raise Refusal("forbidden", text)


async def changed_response(resource: Resource, request: web.Request, outcome: Outcome) -> web.Response:
    """The answer to a change: the object as it is now, with what there is to remark on the change."""
    assert outcome.after is not None  # noqa: S101 - a removal has no such answer
    await remark(resource, request, outcome.before, outcome.after)
    status, headers = 200, outcome.headers
    if outcome.before is None and not outcome.mended:
        status, headers = 201, {**headers, "Location": resource.url(name_of_thing(outcome.after))}
    return await large_response(request, resource.shown, outcome.after, headers, status=status)


async def large_response(
    request: web.Request,
    show: Callable[[SiteObject], JsonObject],
    thing: SiteObject,
    headers: dict[str, str],
    *,
    status: int = 200,
) -> web.Response:
    """One object as it is shown, whatever its size."""

    def made() -> web.Response:
        return shown_response(show(thing), headers, status=status)

    return await aside(request, made, large=is_large(thing))


async def remark(resource: Resource, request: web.Request, before: SiteObject | None, after: SiteObject) -> None:
    """Note what there is to remark on a change, for the answer's warnings."""
    remarks = await aside(request, _new_warnings, resource, request, before, after, large=is_large(before, after))
    remarks += await resource.remarks(request, before, after)
    request[WARNINGS] = [*request.get(WARNINGS, ()), *map(str, remarks)]


def _new_warnings(
    resource: Resource, request: web.Request, before: SiteObject | None, after: SiteObject
) -> list[Problem]:
    site = request.app[NODE].snapshot().site
    known = {problem.message for problem in warnings_about(resource.name, before, site)} if before else set()
    return [remark for remark in warnings_about(resource.name, after, site) if remark.message not in known]


def shown_response(shown: JsonObject, headers: dict[str, str] | None = None, *, status: int = 200) -> web.Response:
    """One object as it is shown, with its entity tag."""
    return bodies.answer(shown, status=status, headers={"ETag": bodies.etag(shown), **(headers or {})})


def page_response(request: web.Request, items: list[JsonObject], more: JsonObject | None) -> web.Response:
    """A page of a list; `more` is the query of the next one, None after the last."""
    return bodies.answer({"items": items, "next": f"{request.path}?{urlencode(more)}" if more else None})


def name_of(resource: Resource, request: web.Request) -> str:
    """The name in a request's path, in the form that the kind is filed under."""
    return canonical_name(resource.name, request.match_info["name"])


def absent(resource: Resource, name: str) -> Refusal:
    """The refusal where there is no such object."""
    return Refusal("not-found", f"There is no {resource.name} {name!r}; GET {resource.path} lists them.")


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


def _action(before: SiteObject | Unreadable | None, after: SiteObject | None) -> Sign:
    return "+" if before is None else "-" if after is None else "~"


def name_of_thing(thing: SiteObject | Unreadable) -> str:
    """An object's name, "" where its kind has no names."""
    return getattr(thing, "name", "")
