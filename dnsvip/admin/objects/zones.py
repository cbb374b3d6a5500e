"""/zones: zones as the text of their zone files (RFC 1035 section 5), in JSON or as text/dns (RFC 4027)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import cast

from aiohttp import web

from dnsvip.admin.http import bodies, collection
from dnsvip.admin.http.collection import Resource, absent, change, changed_response, name_of, routes
from dnsvip.admin.http.operation import ROOT
from dnsvip.admin.http.problems import WARNINGS, Refusal
from dnsvip.admin.node import NODE
from dnsvip.dns.zones.catalog import check_services
from dnsvip.dns.zones.record import labels_of
from dnsvip.dns.zones.sets import read_sets
from dnsvip.dns.zones.zone import check_zone, serial_warnings
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Service, Site, Zone
from dnsvip.site.io.files import zone_text
from dnsvip.site.plain import JsonObject, SiteObject, dump, parse
from dnsvip.site.registry import KINDS

TEXT_DNS = "text/dns"
ADDRESS_TYPES = {"A": 1, "AAAA": 28}


def without_text(thing: SiteObject) -> JsonObject:
    """A zone as a list shows it: with its length instead of its text."""
    zone = cast("Zone", thing)
    return {"name": zone.name, "bytes": len(zone.text.encode())}


async def check(request: web.Request, name: str, body: JsonObject) -> None:
    """Raise InvalidSite where a body's text is no zone, or hides a service; in a thread, off the event loop."""
    text = body.get("text")
    if not isinstance(text, str):
        return
    zone, site = Zone(name, text), request.app[NODE].snapshot().site
    inside = {service: each for service, each in site.services.items() if closest(service, site.zones) == name}
    problems = await asyncio.to_thread(check_zone, zone)
    problems = problems or await asyncio.to_thread(check_services, Site(zones={name: zone}, services=inside))
    if problems:
        raise InvalidSite(problems)
    if inside:
        request[WARNINGS] = await asyncio.to_thread(_unserved, zone, inside)


def _unserved(zone: Zone, services: Mapping[str, Service]) -> list[str]:
    """What is said of address records at the names of services, which are never served."""
    try:
        sets = read_sets(zone).sets
    except InvalidSite:  # only remarks, which the records of a checked zone do not need
        return []
    synthesized = [(name, "AAAA") for name in services]
    synthesized += [(name, "A") for name, service in services.items() if service.cluster4]
    text = "service.{}: its {} records in zone {} are not served: the service's addresses are made per client"
    return [
        text.format(name, rtype, zone.name)
        for name, rtype in synthesized
        if (labels_of(name), ADDRESS_TYPES[rtype]) in sets
    ]


def remarks(before: SiteObject | None, after: SiteObject) -> list[Problem]:
    """A warning where the records have changed and the serial has not been raised."""
    return serial_warnings([(cast("Zone | None", before), cast("Zone", after))])


def closest(name: str, zones: Collection[str]) -> str | None:
    """The zone that a name is in: the longest suffix of it that is a zone."""
    labels = name.split(".")
    around = [".".join(labels[at:]) for at in range(len(labels))] + ["."]
    return next((zone for zone in around if zone in zones), None)


ZONE = Resource(KINDS["zone"], listed=without_text, check=check, remarks=remarks, limit="zone_bytes")


async def get(request: web.Request) -> web.Response:
    """One zone, as text/dns where the request accepts that."""
    if TEXT_DNS not in request.headers.get("Accept", ""):
        return await collection.get(ZONE, request)
    name = name_of(ZONE, request)
    zone = await request.app[NODE].store().objects.get("zone", name)
    if zone is None:
        raise absent(ZONE, name)
    headers = {"ETag": bodies.etag(dump(zone))}
    return web.Response(text=cast("Zone", zone).text, content_type=TEXT_DNS, headers=headers)


async def put(request: web.Request) -> web.Response:
    """Create or replace a zone; `curl --data-binary @FILE` with Content-Type text/dns takes a zone file as it is."""
    if request.content_type != TEXT_DNS:
        return await collection.put(ZONE, request)
    name = name_of(ZONE, request)
    text = zone_text(await bodies.read_bytes(request, ZONE.most(request)))
    if "\0" in text:
        raise Refusal("bad-request", "The zone file has a character U+0000.")
    await check(request, name, {"text": text})
    return await changed_response(ZONE, await change(ZONE, request, name, lambda old: _with_text(name, old, text)))


def _with_text(name: str, old: SiteObject | None, text: str) -> SiteObject:
    """The zone with another text and its transfer settings."""
    return parse("zone", name, {**(dump(old) if old else {}), "text": text})


_SPECIAL = {("GET", f"{ROOT}/zones/{{name}}"): get, ("PUT", f"{ROOT}/zones/{{name}}"): put}

ROUTES = [replace(each, handle=_SPECIAL.get((each.method, each.path), each.handle)) for each in routes(ZONE)]
