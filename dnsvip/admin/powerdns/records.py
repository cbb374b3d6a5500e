"""/api/v1/servers/localhost/zones: the part of PowerDNS's API that programs use to maintain records; whole zones are
in zones.py.

ACME clients, external-dns, lego and the like list zones, read one and patch its record sets; X-API-Key is a token.
Zones stay texts in the store (dns/zones/edit.py says what an edit does to one). A token of the role `acme`
may only change TXT records at `_acme-challenge`. Edits of one zone take turns, so that none is refused for another;
what takes long waits for its token's turn before, as others' edits must not wait for that.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import web

from dnsvip.admin.http import bodies, standby
from dnsvip.admin.http.auth import ACTOR, CALLER, demand
from dnsvip.admin.http.changing import change
from dnsvip.admin.http.limits import limits_of
from dnsvip.admin.http.operation import ROOT, Handle, Operation
from dnsvip.admin.http.problems import Refusal, refusal_of, response
from dnsvip.admin.http.resource import absent
from dnsvip.admin.http.work import SMALL, aside, has_turn, is_small, locked, small_turn, turn, worked
from dnsvip.admin.node import NODE
from dnsvip.admin.objects.zones import ZONE, check, of_zone, slowest
from dnsvip.admin.powerdns import forms
from dnsvip.admin.powerdns.forms import SERVER, SERVERS, Patching
from dnsvip.admin.powerdns.jobs import CHALLENGE, LARGEST, edit, heads, read_patch, shown_sets
from dnsvip.dns.zones.edit import Replacement
from dnsvip.dns.zones.sets import NEAR, near_serial, soa_serial
from dnsvip.errors import Conflict, DnsvipError, Problem
from dnsvip.site import Zone
from dnsvip.site.plain import JsonObject, SiteObject, canonical_name
from dnsvip.site.references import closest
from dnsvip.site.rights import Action
from dnsvip.site.size import is_large
from dnsvip.site.unreadable import Unreadable
from dnsvip.store import Listing

LIMIT = 4 << 20
EDIT_SECONDS = 10.0
"""For how long an edit is made again that another node, or a PUT of the zone, overtakes."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
"""Seconds between its tries, at most: twice as long each time."""

PAGE = 20


def as_powerdns(handle: Handle) -> Handle:
    """Add the key `error` to refusals, where callers of PowerDNS's API expect the message."""

    async def answered(request: web.Request) -> web.StreamResponse:
        try:
            return await handle(request)
        except DnsvipError as error:
            refused = response(refusal_of(error, request))
            body = json.loads(refused.text or "{}")
            refused.text = json.dumps({**body, "error": body.get("detail", "")}, ensure_ascii=False) + "\n"
            return refused

    answered.__doc__ = handle.__doc__
    return answered


async def versions(_request: web.Request) -> web.Response:
    """Which version of PowerDNS's API this is."""
    return bodies.answer([{"version": 1, "url": ROOT}])


async def servers(_request: web.Request) -> web.Response:
    """The one server there is."""
    return bodies.answer([forms.server()])


async def server(_request: web.Request) -> web.Response:
    """The one server there is."""
    return bodies.answer(forms.server())


async def zones(request: web.Request) -> web.Response:
    """The zones that the caller may see, or the one that `zone` names."""
    wanted = request.query.get("zone")
    name = None if wanted is None else canonical_name("zone", wanted)
    shown = [await of_zone(request, heads, slowest(*page), page) async for page in zone_pages(request, name) if page]
    return web.Response(text=f"[{', '.join(shown)}]\n", content_type="application/json")


async def zone(request: web.Request) -> web.Response:
    """A zone with its record sets, or those of `rrset_name`, of `rrset_type`, or of both; with the zone's tag."""
    stored, query = await zone_in(request), request.query
    if (whole := query.get("rrsets", "true")) not in ("true", "false"):
        raise Refusal("bad-request", f"rrsets: is {whole!r}; true and false are known here.")
    shown = await details(request, stored)
    text = json.dumps(shown, ensure_ascii=False)
    if whole == "true":
        sets = await of_zone(request, shown_sets, stored, query.get("rrset_name"), query.get("rrset_type"))
        text = f'{text[:-1]}, "rrsets": {sets}}}'
    tag = await aside(request, lambda: bodies.etag(ZONE.shown(stored)), large=is_large(stored))
    return web.Response(text=text + "\n", content_type="application/json", headers={"ETag": tag})


async def details(request: web.Request, zone: Zone) -> JsonObject:
    """A zone by itself. Its SOA may stand anywhere in its text."""
    serial = await worked(request, near_serial, zone, NEAR, small=True)
    return forms.zone_details(zone, await of_zone(request, soa_serial, zone) if serial is None else serial)


async def patch(request: web.Request) -> web.Response:
    """Replace or delete record sets of a zone, all of them or, where one is wrong, none. With `If-Match` of no other
    state of the zone."""
    name, rights = name_in(request), request[CALLER].rights
    if not rights.allow(Action.WRITE, "acme", name):
        demand(request, Action.WRITE, "zone", name)
    body = await bodies.read_bytes(request, LIMIT)  # whatever Content-Type says, as PowerDNS does
    now = int(request.app[NODE].now())
    most = None if rights.allow(Action.WRITE, "zone", name) else limits_of(request).acme_names
    small = len(body) <= SMALL
    replacements = await worked(request, read_patch, name, body, now, most, small=small)
    if not (all(map(_is_challenge, replacements)) and rights.allow(Action.WRITE, "acme", name)):
        demand(request, Action.WRITE, "zone", name)
    if most is not None and (large := next((wanted.name for wanted in replacements if _size(wanted) > LARGEST), None)):
        raise Refusal("too-large", f"{large}: this token may set {LARGEST} characters of records and comments there.")
    edit_once = partial(_edit, request, name, replacements, most, small=small)
    try:
        async with small_turn(request):
            await _alone(request, name, edit_once, small=small)
    except _TakesLong:
        mine = request.app[NODE].store().turns.of(f"{name} {request[ACTOR]}")
        async with locked(request, mine, f"zone {name!r}, edited by this token,"), turn(request):
            await _alone(request, name, edit_once, small=small)
    return web.Response(status=204)


class _TakesLong(Exception):
    """An edit needs its token's turn, and does not have it."""


async def _alone(request: web.Request, name: str, edit_once: Callable[[], Awaitable[None]], *, small: bool) -> None:
    """Edit a zone while nobody else does; raises _TakesLong where that is not for a request without its turn. `small`:
    what is to change is."""
    _demand_turn(request, await zone_in(request), small=small)  # without having waited for the others first
    async with locked(request, request.app[NODE].store().turns.of(name), f"zone {name!r}"):
        clock = asyncio.get_running_loop().time
        until, pause = clock() + EDIT_SECONDS, FIRST_PAUSE
        while True:
            try:
                await edit_once()
                break
            except Conflict:
                if clock() >= until:
                    raise
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - so that nodes do not keep step
                pause = min(2 * pause, LONGEST_PAUSE)


def _demand_turn(request: web.Request, zone: Zone, *, small: bool) -> None:
    if not ((small and is_small(zone.text)) or has_turn(request)):
        raise _TakesLong


async def notify(request: web.Request) -> web.Response:
    """Not done by request: secondaries are notified when a zone changes."""
    await zone_in(request)
    raise Refusal("not-implemented", "NOTIFY is sent when the zone changes, not by request.")


async def _edit(
    request: web.Request, name: str, replacements: Sequence[Replacement], most: int | None, *, small: bool
) -> None:
    """One edit of the zone as it is stored now, to at most so many challenges; raises Conflict where that changes
    meanwhile."""
    before = await zone_in(request)
    _demand_turn(request, before, small=small)
    after = await worked(request, edit, before, replacements, most, small=small and is_small(before.text))
    _demand_turn(request, after, small=small)
    if after == before:
        return
    if len(after.text.encode()) > ZONE.most(request):
        raise Refusal("too-large", f"The zone's text would have more than {ZONE.most(request)} bytes.")
    if _concerns_services(request, name, replacements):
        await check(request, name, {"text": after.text})
    await change(ZONE, request, name, partial(_unless_changed, before, after))


def _concerns_services(request: web.Request, name: str, replacements: Sequence[Replacement]) -> bool:
    """Whether an edit is at or above the name of a service in the zone; others need no second look at the whole."""
    site = request.app[NODE].snapshot().site
    touched = {touched_name.name.lower().rstrip(".") for touched_name in replacements}
    inside = [service for service in site.services if closest(service, site.zones) == name]
    return any(
        service == touched_name or service.endswith(f".{touched_name}") or not touched_name
        for service in inside
        for touched_name in touched
    )


def _is_challenge(wanted: Replacement) -> bool:
    return wanted.rtype == "TXT" and wanted.name.lower().startswith(f"{CHALLENGE}.")


def _size(wanted: Replacement) -> int:
    records = sum(len(content) for content, _ in wanted.records or ())
    return records + sum(len(comment.content) + len(comment.account) for comment in wanted.comments or ())


def _unless_changed(before: Zone, after: Zone, stored: SiteObject | None) -> Zone:
    if stored != before:
        raise Conflict([Problem(f"zone.{before.name}", "has been changed meanwhile; try again")])
    return after


def name_in(request: web.Request) -> str:
    """The name of the zone in a request's path."""
    return canonical_name("zone", forms.zone_of_id(request.match_info["zone"]))


async def zone_in(request: web.Request, action: Action = Action.READ) -> Zone:
    """The zone in a request's path, to which the caller may do that; raises Refusal."""
    name = name_in(request)
    demand(request, action, "zone", name)
    stored = await standby.stored(request, "zone", name)
    if not isinstance(stored, Zone):
        raise absent(ZONE, name)
    return stored


async def zone_pages(request: web.Request, name: str | None) -> AsyncIterator[list[Zone]]:
    """The zones that the caller may see, some at a time: all texts at once would be too much; or the one named."""
    objects, rights = request.app[NODE].store().objects, request[CALLER].rights
    wanted: Listing | None = Listing("zone", PAGE)
    while wanted is not None:
        page = await objects.page(wanted) if name is None else [await objects.get("zone", name)]
        stored = [zone for zone in page if isinstance(zone, Zone)]
        yield [zone for zone in stored if rights.allow(Action.READ, "zone", zone.name)]
        last = page[-1].name if len(page) == PAGE and isinstance(page[-1], Zone | Unreadable) else None
        wanted = None if last is None else replace(wanted, after=(last, last))


def operation(method: str, path: str, handle: Handle, **more: Any) -> Operation:
    """An operation whose refusals have PowerDNS's form too."""
    return replace(Operation(method, path, as_powerdns(handle), raw=True), **more)


ONE = f"{SERVER}/zones/{{zone}}"
LIST = {"type": "array", "items": {"type": "object"}}

ROUTES = [
    operation("GET", "/api", versions, answer=LIST),
    operation("GET", SERVERS, servers, answer=LIST),
    operation("GET", SERVER, server),
    operation("GET", f"{SERVER}/zones", zones, answer=LIST),
    operation("GET", ONE, zone),
    operation("PATCH", ONE, patch, body=Patching, status=204),
    operation("PUT", f"{ONE}/notify", notify),
]
