"""One change of one object, whatever its kind: made from the stored object, permitted, stored, remarked on.

It is one `store.objects.make` of one object; after a concurrent change it is computed again, so a patch never undoes
another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import eq
from typing import TypeAlias

import structlog
from aiohttp import web

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, CALLER
from dnsvip.admin.http.problems import WARNINGS, Refusal
from dnsvip.admin.http.resource import Resource, name_of_thing
from dnsvip.admin.http.shown import large_response
from dnsvip.admin.http.work import aside
from dnsvip.admin.node import NODE
from dnsvip.errors import Conflict, Problem, UnreadableError
from dnsvip.site.plain import JsonObject, SiteObject
from dnsvip.site.plan import Action as Sign
from dnsvip.site.plan import Change
from dnsvip.site.references import new_references
from dnsvip.site.rights import Action, Rights, new_attributes
from dnsvip.site.rules import warnings_about
from dnsvip.site.size import is_large
from dnsvip.site.unreadable import Unreadable

TRIES = 5
GENERATION = "Dnsvip-Generation"
"""Response header of a change: the generation that contains it."""

Make: TypeAlias = Callable[[SiteObject | None], SiteObject | None]
"""From the stored object, None where there is none, to the one to store; None deletes it."""

Mend: TypeAlias = Callable[[Unreadable], SiteObject | None]
"""The same for an object that cannot be read."""

Seen: TypeAlias = Callable[[SiteObject], JsonObject | None]

log = structlog.get_logger(__name__)


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


def _action(before: SiteObject | Unreadable | None, after: SiteObject | None) -> Sign:
    return "+" if before is None else "-" if after is None else "~"
