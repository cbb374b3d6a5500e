"""Whole zones by PowerDNS's API: made, removed, exported, searched and signed.

What this server has no place for is refused with a reason, never dropped: an account, a salt of NSEC3.
"""

from __future__ import annotations

import json
from functools import partial

from aiohttp import web

from dnsvip.admin.http import bodies, collection
from dnsvip.admin.http.auth import demand
from dnsvip.admin.http.changing import change
from dnsvip.admin.http.json_objects import parse_object
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.work import SMALL, turn, worked
from dnsvip.admin.node import NODE
from dnsvip.admin.objects.zones import ZONE, check, of_zone, slowest
from dnsvip.admin.powerdns import forms, zone_forms
from dnsvip.admin.powerdns.forms import SERVER
from dnsvip.admin.powerdns.jobs import exported, found, new_zone, shown_sets, size_of
from dnsvip.admin.powerdns.records import LIMIT, LIST, ONE, details, name_in, operation, zone_in, zone_pages
from dnsvip.admin.powerdns.zone_forms import Creating, Setting
from dnsvip.site import Zone
from dnsvip.site.plain import JsonObject, SiteObject, canonical_name
from dnsvip.site.rights import Action

MOST_FOUND, FOUND = 10_000, 100
"""What a search finds at most, and by default."""

FOUND_SIZE = 4 << 20
"""Characters of what it finds, from which on it ends: a record may have 64 KiB."""


async def create(request: web.Request) -> web.Response:
    """Make a zone, of name servers and record sets or of a zone file."""
    demand(request, Action.WRITE, "zone")
    body = await bodies.read_bytes(request, max(LIMIT, ZONE.most(request)))
    small = len(body) <= SMALL
    given = (await worked(request, parse_object, body, small=small)).get("name")
    if not isinstance(given, str) or not given.endswith("."):
        raise Refusal("invalid", "name: must be the name of a zone with its last dot, such as example.test.")
    name = canonical_name("zone", given)
    demand(request, Action.WRITE, "zone", name)
    zone = await worked(request, new_zone, name, body, int(request.app[NODE].now()), small=small)
    if not zone.is_secondary:
        await check(request, name, {"text": zone.text})
    await change(ZONE, request, name, partial(_new, zone))
    shown = await details(request, zone)
    sets = await of_zone(request, shown_sets, zone, None, None)
    text = json.dumps(shown, ensure_ascii=False)
    return web.Response(status=201, text=f'{text[:-1]}, "rrsets": {sets}}}\n', content_type="application/json")


def _new(zone: Zone, before: SiteObject | None) -> Zone:
    if before is not None:
        raise Refusal("conflict", f"There is a zone {zone.name!r} already.")
    return zone


async def settings(request: web.Request) -> web.Response:
    """Change whether a zone is signed, its masters, or the keys of its transfers; the rest must be what it is."""
    name = name_in(request)
    demand(request, Action.WRITE, "zone", name)
    wanted = forms.validated(name, Setting, parse_object(await bodies.read_bytes(request, SMALL)))
    before = await zone_in(request, Action.WRITE)
    if wanted.kind is not None and (wanted.kind in zone_forms.SECONDARY) is not before.is_secondary:
        raise Refusal("invalid", "kind: a zone with records does not become one of masters, nor the other way round.")
    if wanted.masters is not None and bool(wanted.masters) is not before.is_secondary:
        raise Refusal("invalid", "masters: are for zones of the kind Slave, which have one at least.")
    await change(ZONE, request, name, partial(_set, wanted))
    return web.Response(status=204)


def _set(wanted: Setting, before: SiteObject | None) -> SiteObject | None:
    return wanted.set(before) if isinstance(before, Zone) else before


async def remove(request: web.Request) -> web.Response:
    """Remove a zone with its keys."""
    name = name_in(request)
    demand(request, Action.DELETE, "zone", name)
    request.match_info["name"] = name
    return await collection.delete(ZONE, request)


async def export(request: web.Request) -> web.Response:
    """The records of a zone, one a line, or with Accept: application/json as JSON."""
    text = await of_zone(request, exported, await zone_in(request))
    if "application/json" in request.headers.get("Accept", ""):
        return bodies.answer({"zone": text})
    return web.Response(text=text + "\n", content_type="text/plain", charset="us-ascii")


async def rectify(request: web.Request) -> web.Response:
    """Nothing is to be done: proofs are made as answers are."""
    await zone_in(request, Action.WRITE)
    return bodies.answer({"result": "Rectified"})


async def search(request: web.Request) -> web.Response:
    """Zones, records and comments that fit `q`, in which * and ? stand for others; of the zones that one may read."""
    query = request.query
    pattern, most, wanted = query.get("q", ""), query.get("max", str(FOUND)), query.get("object_type", "all")
    if not 0 < len(pattern) <= zone_forms.LONGEST_PATTERN:
        raise Refusal("bad-request", f"q: must have 1 to {zone_forms.LONGEST_PATTERN} characters.")
    if not most.isdecimal() or len(most) > len(str(MOST_FOUND)) or not 0 < int(most) <= MOST_FOUND:
        raise Refusal("bad-request", f"max: must be 1 to {MOST_FOUND}.")
    if wanted not in ("all", "zone", "record", "comment"):
        raise Refusal("bad-request", "object_type: must be all, zone, record or comment.")
    some: list[JsonObject] = []
    left = FOUND_SIZE
    async with turn(request):  # a look at everything
        async for page in zone_pages(request, None):
            if page and len(some) < int(most) and left > 0:
                more = await of_zone(request, found, slowest(*page), page, pattern, wanted, int(most) - len(some), left)
                left -= sum(map(size_of, more))
                some += more
    return bodies.answer(some)


ROUTES = [
    operation("POST", f"{SERVER}/zones", create, body=Creating, status=201),
    operation("PUT", ONE, settings, body=Setting, status=204),
    operation("DELETE", ONE, remove, status=204),
    operation("GET", f"{ONE}/export", export),
    operation("PUT", f"{ONE}/rectify", rectify),
    operation("GET", f"{SERVER}/search-data", search, answer=LIST),
]
