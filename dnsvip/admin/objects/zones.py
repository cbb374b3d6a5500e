"""/zones: zones as the text of their zone files (RFC 1035 section 5), in JSON or as text/dns (RFC 4027)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, TypeVar, cast

from aiohttp import web

from dnsvip.admin.http import bodies, collection, standby
from dnsvip.admin.http.auth import CALLER
from dnsvip.admin.http.changing import change, changed_response
from dnsvip.admin.http.collection import routes
from dnsvip.admin.http.limits import limits_of
from dnsvip.admin.http.operation import ROOT
from dnsvip.admin.http.problems import WARNINGS, Refusal
from dnsvip.admin.http.resource import Resource, absent, name_of
from dnsvip.admin.http.work import aside, is_small, worked
from dnsvip.admin.node import NODE
from dnsvip.dns.zones.examine import examined
from dnsvip.dns.zones.zone import serial_warnings
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Zone
from dnsvip.site.io.files import zone_text
from dnsvip.site.plain import JsonObject, SiteObject, dump, parse
from dnsvip.site.plan import unsigned_warning
from dnsvip.site.references import closest
from dnsvip.site.registry import KINDS
from dnsvip.site.rights import Action
from dnsvip.site.server_forms import parse_server
from dnsvip.site.size import is_large

TEXT_DNS = "text/dns"
T = TypeVar("T")


def without_text(thing: SiteObject) -> JsonObject:
    """A zone as a list shows it: with its length instead of its text."""
    zone = cast("Zone", thing)
    return {"name": zone.name, "bytes": len(zone.text.encode())}


async def check(request: web.Request, name: str, body: JsonObject) -> None:
    """Raise InvalidSite where a body's text is no zone, or hides a service."""
    text = body.get("text")
    if not isinstance(text, str):
        return
    zone, site = Zone(name, text), request.app[NODE].snapshot().site
    inside = {service: declared for service, declared in site.services.items() if closest(service, site.zones) == name}
    report = await of_zone(request, examined, zone, inside)
    if report.problems:
        raise InvalidSite(report.problems)
    if report.warnings:
        shown = request[CALLER].rights.shown
        request[WARNINGS] = list(dict.fromkeys(str(shown(remark)) for remark in report.warnings))


async def of_zone(request: web.Request, function: Callable[..., T], zone: Zone, *arguments: Any) -> T:
    """What a function says of a zone: in a thread where the zone is small, else in a process, in the caller's turn."""
    return await worked(request, function, zone, *arguments, small=is_small(zone.text))


async def remarks(request: web.Request, before: SiteObject | None, after: SiteObject) -> Sequence[Problem]:
    """A warning where the zone is no longer signed, and where its records have changed and the serial has not been
    raised."""
    old, new = cast("Zone | None", before), cast("Zone", after)
    if old is None:
        return ()
    unsigned = [warning] if (warning := unsigned_warning(old, new)) else []
    if old.text == new.text:
        return unsigned
    return [*unsigned, *await of_zone(request, _serial_warnings, slowest(old, new), old, new)]


def slowest(*zones: Zone) -> Zone:
    """The one of some zones that takes longest to read: a short text may make many records."""
    return max(zones, key=lambda zone: (not is_small(zone.text), len(zone.text)))


def _serial_warnings(_slowest: Zone, before: Zone, after: Zone) -> Sequence[Problem]:
    return serial_warnings([(before, after)])


def settled(before: SiteObject | None, after: SiteObject) -> SiteObject:
    """A zone to store; raises InvalidSite where it has no text, or one that only its primaries give."""
    old, new = cast("Zone | None", before), cast("Zone", after)
    where = f"zone.{new.name}.text"
    if not new.is_derived:
        if not new.text:
            raise InvalidSite([Problem(where, "missing")])
        return new
    kept = old.text if old is not None and old.is_derived else ""
    if new.text not in ("", kept) and not (old is not None and new.text == old.text):
        raise InvalidSite([Problem(where, "leave it out: the zone is transferred from its primaries; change it there")])
    return replace(new, text=kept)


async def permit(request: web.Request, before: SiteObject | None, after: SiteObject | None) -> None:
    """Raise Refusal where the caller's rights do not reach all zones, and one is to be a catalog, or has been: it makes
    zones of any name, tells which there are, and takes those that it made with it."""
    some, action = (
        [cast("Zone", zone) for zone in (before, after) if zone],
        Action.DELETE if not after else Action.WRITE,
    )
    if any(zone.catalog is not None for zone in some) and request[CALLER].rights.patterns(action, "zone") is not None:
        text = f"This token lacks a scope {action}:zone for all zones, which a catalog zone needs."
        raise Refusal("forbidden", text)
    _permit_member(request, cast("Zone | None", before), cast("Zone | None", after))
    _permit_targets(request, cast("Zone | None", before), cast("Zone | None", after))


def _permit_member(request: web.Request, before: Zone | None, after: Zone | None) -> None:
    """Raise Refusal where a zone gets a catalog, which may remove it, and the caller may not delete it."""
    given = after.member_of if after else None
    if after is None or given is None or (before is not None and before.member_of == given):
        return
    if not request[CALLER].rights.allow(Action.DELETE, "zone", after.name):
        text = f"This token lacks a scope delete:zone for {after.name}, which goes with its catalog."
        raise Refusal("forbidden", text)


def _permit_targets(request: web.Request, before: Zone | None, after: Zone | None) -> None:
    """Raise Refusal where a caller with rights to some zones has nodes send to where the node file does not let it."""
    if after is None or request[CALLER].rights.patterns(Action.WRITE, "zone") is None:
        return
    known = set(before.targets) if before else set()
    denied = limits_of(request).denied_targets
    for target in [target for target in after.targets if target not in known]:
        host = ip_address(parse_server(target).host)
        if any(host.version == network.version and host in network for network in denied):
            text = f"This token may not have nodes send to {target}: it lacks a scope write:zone for all zones."
            raise Refusal("forbidden", text)


ZONE = Resource(
    KINDS["zone"],
    permit=permit,
    listed=without_text,
    settled=settled,
    check=check,
    remarks=remarks,
    limit="zone_bytes",
    page_bytes=16 << 20,
)


async def get(request: web.Request) -> web.Response:
    """One zone, as text/dns where the request accepts that."""
    if TEXT_DNS not in request.headers.get("Accept", ""):
        return await collection.get(ZONE, request)
    zone = await stored(request)
    tag = await aside(request, lambda: bodies.etag(dump(zone)), large=is_large(zone))
    return web.Response(text=zone.text, content_type=TEXT_DNS, headers={"ETag": tag})


async def stored(request: web.Request) -> Zone:
    """The zone that a request names; raises Refusal without one."""
    name = name_of(ZONE, request)
    zone = await standby.stored(request, "zone", name)
    if zone is None:
        raise absent(ZONE, name)
    return cast("Zone", zone)


async def put(request: web.Request) -> web.Response:
    """Create or replace a zone; `curl --data-binary @FILE` with Content-Type text/dns takes a zone file as it is."""
    if request.content_type != TEXT_DNS:
        return await collection.put(ZONE, request)
    name = name_of(ZONE, request)
    text = zone_text(await bodies.read_bytes(request, ZONE.most(request)))
    if "\0" in text:
        raise Refusal("bad-request", "The zone file has a character U+0000.")
    await check(request, name, {"text": text})
    outcome = await change(
        ZONE,
        request,
        name,
        lambda old: _with_text(name, old, text),
        mend=lambda _: _with_text(name, None, text),
        large=is_large(text),
    )
    return await changed_response(ZONE, request, outcome)


def _with_text(name: str, old: SiteObject | None, text: str) -> SiteObject:
    """The zone with another text and its other settings."""
    return parse("zone", name, {**(dump(old) if old else {}), "text": text}, counted=True)


_SPECIAL = {("GET", f"{ROOT}/zones/{{name}}"): get, ("PUT", f"{ROOT}/zones/{{name}}"): put}

ROUTES = [
    replace(operation, handle=_SPECIAL.get((operation.method, operation.path), operation.handle))
    for operation in routes(ZONE)
]
