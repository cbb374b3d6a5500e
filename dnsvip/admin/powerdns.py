"""/api/v1/servers/localhost/zones: the part of PowerDNS's API that programs use to maintain records.

ACME clients, external-dns, lego and the like list zones, read one and patch its record sets; X-API-Key is a token.
Zones stay texts in the store (dns/zones/edit.py says what an edit does to one). A token of the role `acme`
may only change TXT records at `_acme-challenge`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from aiohttp import web
from pydantic import ConfigDict, Field, ValidationError

from dnsvip import __version__
from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import CALLER, demand
from dnsvip.admin.http.collection import TRIES, absent, change
from dnsvip.admin.http.operation import ROOT, Handle, Operation, adapter
from dnsvip.admin.http.problems import refusal_of, response
from dnsvip.admin.node import NODE
from dnsvip.admin.objects.zones import ZONE, check
from dnsvip.dns.zones.edit import RecordSet, Replacement, edited, record_sets
from dnsvip.errors import Conflict, DnsvipError, InvalidSite, Problem
from dnsvip.site import Zone
from dnsvip.site.plain import JsonObject, SiteObject, canonical_name, problem_of
from dnsvip.site.rights import Action

SERVERS = f"{ROOT}/servers"
SERVER = f"{SERVERS}/localhost"
LIMIT = 4 << 20
CHALLENGE = "_acme-challenge"
MANY = 1000
LOOSE = ConfigDict(extra="ignore")  # comments, priorities of old versions, set-ptr: what others send along


@dataclass(frozen=True, slots=True)
class Content:
    """One record."""

    __pydantic_config__: ClassVar[ConfigDict] = LOOSE
    content: Annotated[str, Field(min_length=1, max_length=65_535)]
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class RRset:
    """The change of one record set."""

    __pydantic_config__: ClassVar[ConfigDict] = LOOSE
    name: Annotated[str, Field(min_length=1, max_length=1024)]
    type: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,16}$")]
    changetype: Literal["REPLACE", "DELETE"]
    ttl: Annotated[int, Field(ge=0, le=(1 << 31) - 1)] | None = None
    records: tuple[Content, ...] = ()


@dataclass(frozen=True, slots=True)
class Patching:
    """The changes of a PATCH."""

    __pydantic_config__: ClassVar[ConfigDict] = LOOSE
    rrsets: tuple[RRset, ...] = ()


def as_powerdns(handle: Handle) -> Handle:
    """Add the key `error` to refusals, where callers of PowerDNS's API expect the message."""

    async def answered(request: web.Request) -> web.StreamResponse:
        try:
            return await handle(request)
        except DnsvipError as error:
            refused = response(refusal_of(error))
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
    return bodies.answer([_server()])


async def server(_request: web.Request) -> web.Response:
    """The one server there is."""
    return bodies.answer(_server())


async def zones(request: web.Request) -> web.Response:
    """The zones that the caller may see, or the one that `zone` names."""
    store, rights, wanted = request.app[NODE].store(), request[CALLER].rights, request.query.get("zone")
    names = [canonical_name("zone", wanted)] if wanted else list(request.app[NODE].snapshot().site.zones)[:MANY]
    found = [await store.objects.get("zone", name) for name in names if rights.allow(Action.READ, "zone", name)]
    return bodies.answer(
        [await asyncio.to_thread(_shown, zone, whole=False) for zone in found if isinstance(zone, Zone)]
    )


async def zone(request: web.Request) -> web.Response:
    """A zone with its record sets, or those of `rrset_name`, of `rrset_type`, or of both."""
    found = await _zone(request)
    shown = await asyncio.to_thread(_shown, found, whole=request.query.get("rrsets", "true") != "false")
    name, rtype = request.query.get("rrset_name", "").lower(), request.query.get("rrset_type", "").upper()
    if "rrsets" in shown:
        shown["rrsets"] = [
            each for each in shown["rrsets"] if name in ("", each["name"]) and rtype in ("", each["type"])
        ]
    return bodies.answer(shown)


async def patch(request: web.Request) -> web.Response:
    """Replace or delete record sets of a zone, all of them or, where one is wrong, none."""
    name = _name(request)
    wanted = _read(name, await bodies.read_object(request, LIMIT))
    challenges = all(each.type.upper() == "TXT" and each.name.lower().startswith(f"{CHALLENGE}.") for each in wanted)
    if not (challenges and request[CALLER].rights.allow(Action.WRITE, "acme", name)):
        demand(request, Action.WRITE, "zone", name)
    replacements = [_replacement(each) for each in wanted]
    for attempt in range(TRIES):
        before = await _zone(request)
        after = await asyncio.to_thread(edited, before, replacements)
        if after is before:
            break
        await check(request, name, {"text": after.text})
        try:
            await change(ZONE, request, name, partial(_unless_changed, before, after))
            break
        except Conflict:
            if attempt + 1 == TRIES:
                raise
    return web.Response(status=204)


async def notify(request: web.Request) -> web.Response:
    """Accepted without effect: secondaries are notified when a zone changes."""
    await _zone(request)
    return bodies.answer({"result": "Notification queued"})


def _unless_changed(before: Zone, after: Zone, stored: SiteObject | None) -> Zone:
    if stored != before:
        raise Conflict([Problem(f"zone.{before.name}", "has been changed meanwhile; try again")])
    return after


def _read(name: str, body: JsonObject) -> tuple[RRset, ...]:
    try:
        read: Patching = adapter(Patching).validate_python(body)
    except ValidationError as error:
        raise InvalidSite([problem_of(f"zone.{name}", Patching, item) for item in error.errors()]) from None
    return read.rrsets


def _replacement(each: RRset) -> Replacement:
    name = each.name if each.name.endswith(".") else f"{each.name}."
    records = tuple(one.content for one in each.records if not one.disabled) if each.changetype == "REPLACE" else ()
    return Replacement(name, each.type.upper(), 3600 if each.ttl is None else each.ttl, records)


def _name(request: web.Request) -> str:
    """The zone in a path; PowerDNS writes what a path cannot hold as `=XX`."""
    text = request.match_info["zone"]
    for code, character in (("=2F", "/"), ("=2f", "/"), ("=5F", "_"), ("=2A", "*"), ("=3D", "=")):
        text = text.replace(code, character)
    return canonical_name("zone", text)


async def _zone(request: web.Request) -> Zone:
    name = _name(request)
    demand(request, Action.READ, "zone", name)
    found = await request.app[NODE].store().objects.get("zone", name)
    if not isinstance(found, Zone):
        raise absent(ZONE, name)
    return found


def _server() -> JsonObject:
    return {
        "type": "Server",
        "id": "localhost",
        "daemon_type": "authoritative",
        "version": f"dnsvip {__version__}",
        "url": SERVER,
        "config_url": f"{SERVER}/config{{/config_setting}}",
        "zones_url": f"{SERVER}/zones{{/zone}}",
    }


def _shown(zone: Zone, *, whole: bool) -> JsonObject:
    found = record_sets(zone)
    dotted = f"{zone.name.rstrip('.')}."
    soa = next((each.records[0] for each in found if each.rtype == "SOA"), "")
    serial = int(soa.split()[2]) if soa else 0
    head = {"id": dotted, "name": dotted, "type": "Zone", "kind": "Native", "url": f"{SERVER}/zones/{dotted}"}
    more = {"serial": serial, "edited_serial": serial, "notified_serial": serial, "dnssec": False, "account": ""}
    shown = {**head, **more, "masters": [], "api_rectify": False}
    return {**shown, "rrsets": [_rrset(each) for each in found]} if whole else shown


def _rrset(each: RecordSet) -> JsonObject:
    records = [{"content": content, "disabled": False} for content in each.records]
    return {"name": each.name.lower(), "type": each.rtype, "ttl": each.ttl, "records": records, "comments": []}


def _operation(method: str, path: str, handle: Handle, **more: Any) -> Operation:
    return replace(Operation(method, path, as_powerdns(handle), raw=True), **more)


_ONE = f"{SERVER}/zones/{{zone}}"
LIST = {"type": "array", "items": {"type": "object"}}

ROUTES = [
    _operation("GET", "/api", versions, answer=LIST),
    _operation("GET", SERVERS, servers, answer=LIST),
    _operation("GET", SERVER, server),
    _operation("GET", f"{SERVER}/zones", zones, answer=LIST),
    _operation("GET", _ONE, zone),
    _operation("PATCH", _ONE, patch, body=Patching, status=204),
    _operation("PUT", f"{_ONE}/notify", notify),
]
