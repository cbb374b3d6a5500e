"""Settings of a zone under the names of PowerDNS's metadata: read, added to, replaced and removed.

A kind is a setting of ours (SETTINGS), or says what this server does anyway (FIXED); any other is refused with a
reason, never kept without effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, NamedTuple

from aiohttp import web
from pydantic import ConfigDict, Field

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import demand
from dnsvip.admin.http.changing import change
from dnsvip.admin.http.json_objects import parse_object
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.work import SMALL
from dnsvip.admin.objects.zones import ZONE
from dnsvip.admin.powerdns import forms, zone_forms
from dnsvip.admin.powerdns.forms import NSEC3
from dnsvip.admin.powerdns.records import LIST, ONE, name_in, operation, zone_in
from dnsvip.site import DnssecDenial, Zone
from dnsvip.site.plain import JsonObject, SiteObject, dump, parse
from dnsvip.site.rights import Action


class Kind(NamedTuple):
    """A kind of metadata: its values of a zone, and what of the zone (as JSON) they make otherwise."""

    values: Callable[[Zone], Sequence[str]]
    changed: Callable[[Zone, Sequence[str]], JsonObject]


def _transfer(zone: Zone, **changed: object) -> JsonObject:
    held = dump(zone)["transfer"] or {"to": [], "tsig": None}
    wanted = {**held, **changed}
    return {"transfer": wanted if wanted["to"] or wanted["tsig"] else None}


def _one(kind: str, values: Sequence[str]) -> str | None:
    if len(values) > 1:
        raise Refusal("invalid", f"{kind}: is one key, not {len(values)}.")
    return _key(values[0]) if values else None


def _key(value: str) -> str:
    return value.lower().removesuffix(".")


def _rules(zone: Zone, values: Sequence[str]) -> JsonObject:
    """The rules of these keys, which may change all of the zone where they had none."""
    held, wanted = dump(zone)["update"], dict.fromkeys(map(_key, values))
    new = [{"tsig": key} for key in wanted if all(rule["tsig"] != key for rule in held)]
    return {"update": [*(rule for rule in held if rule["tsig"] in wanted), *new]}


def _denial(zone: Zone, values: Sequence[str]) -> JsonObject:
    if not zone.is_signed or zone.dnssec is None:
        raise Refusal("invalid", "NSEC3PARAM: is for signed zones; sign it first.")
    if any(value != NSEC3 for value in values):
        text = f"NSEC3PARAM: must be {NSEC3!r}: hashes have no salt and no further iterations (RFC 9276)."
        raise Refusal("invalid", text)
    denial = zone_forms.denial_by(zone.dnssec, NSEC3 if values else "")
    return {"dnssec": {**dump(zone)["dnssec"], "denial": denial.value}}


def _hashes(zone: Zone) -> bool:
    return zone.is_signed and zone.dnssec is not None and zone.dnssec.denial is DnssecDenial.NSEC3


SETTINGS: Mapping[str, Kind] = {
    "ALLOW-AXFR-FROM": Kind(
        lambda zone: [str(network) for network in zone.transfer.to] if zone.transfer else [],
        lambda zone, values: _transfer(zone, to=list(values)),
    ),
    "ALSO-NOTIFY": Kind(
        lambda zone: [target.removesuffix(f":{forms.DNS_PORT}") for target in zone.notify],
        lambda _, values: {"notify": [zone_forms.with_port(value) for value in values]},
    ),
    "AXFR-MASTER-TSIG": Kind(
        lambda zone: [f"{zone.primaries_tsig}."] if zone.primaries_tsig else [],
        lambda _, values: {"primaries_tsig": _one("AXFR-MASTER-TSIG", values)},
    ),
    "NSEC3PARAM": Kind(lambda zone: [NSEC3] if _hashes(zone) else [], _denial),
    "TSIG-ALLOW-AXFR": Kind(
        lambda zone: [f"{zone.transfer.tsig}."] if zone.transfer and zone.transfer.tsig else [],
        lambda zone, values: _transfer(zone, tsig=_one("TSIG-ALLOW-AXFR", values)),
    ),
    "TSIG-ALLOW-DNSUPDATE": Kind(lambda zone: sorted({f"{rule.tsig}." for rule in zone.update}), _rules),
}
"""Kinds that are settings of a zone."""

FIXED: Mapping[str, Sequence[str]] = {
    "API-RECTIFY": ("1", "0"),
    "IXFR": ("1",),
    "NOTIFY-DNSUPDATE": ("1",),
    "NSEC3NARROW": ("1",),
    "PUBLISH-CDNSKEY": ("1",),
    "PUBLISH-CDS": ("2",),
    "SLAVE-RENOTIFY": ("1",),
    "SOA-EDIT-API": ("DEFAULT", "INCREASE"),
    "SOA-EDIT-DNSUPDATE": ("DEFAULT", "INCREASE"),
}
"""Kinds whose meaning is what this server does: the values that say so are taken."""

WHY: Mapping[str, str] = {
    "ALLOW-DNSUPDATE-FROM": "updates are allowed by their keys: TSIG-ALLOW-DNSUPDATE",
    "PRESIGNED": "a zone with signatures is served as it is",
    "SOA-EDIT": "a serial changes with its zone, not in answers",
}
"""Why other kinds are refused."""


@dataclass(frozen=True, slots=True)
class Values:
    """The body of a PUT of a kind, and with the `kind` of a POST."""

    __pydantic_config__: ClassVar[ConfigDict] = forms.LOOSE
    metadata: Annotated[tuple[Annotated[str, Field(max_length=1024)], ...], Field(max_length=1024)]
    kind: Annotated[str, Field(max_length=64)] = ""


def with_metadata(zone: Zone, kind: str, values: Sequence[str]) -> Zone:
    """The zone with other values of a kind; raises Refusal, and InvalidSite for a value that is none."""
    if kind in SETTINGS:
        return parse("zone", zone.name, {**dump(zone), **SETTINGS[kind].changed(zone, values)}, counted=True)  # type: ignore[return-value]
    if kind in FIXED:
        if len(values) != 1 or values[0] not in FIXED[kind]:
            right = " or ".join(map(repr, FIXED[kind]))
            raise Refusal("invalid", f"{kind}: must be {right}, as this server does nothing else.")
        return zone
    raise Refusal("invalid", f"{kind[:64]}: cannot be set: {WHY.get(kind, 'this server has no such setting')}.")


def metadata_of(zone: Zone) -> dict[str, list[str]]:
    """The values by kind, of those that a zone has."""
    held = {kind: list(setting.values(zone)) for kind, setting in SETTINGS.items()}
    always = {"SOA-EDIT-API": ["DEFAULT"], "NSEC3NARROW": ["1"] if _hashes(zone) else []}
    return {kind: values for kind, values in sorted({**held, **always}.items()) if values}


async def metadata(request: web.Request) -> web.Response:
    """The settings of a zone that PowerDNS calls metadata."""
    return bodies.answer([_shown(kind, values) for kind, values in metadata_of(await zone_in(request)).items()])


async def one_metadata(request: web.Request) -> web.Response:
    """One of them; empty where the zone has no such setting."""
    kind = request.match_info["kind"]
    return bodies.answer(_shown(kind, metadata_of(await zone_in(request)).get(kind.upper(), [])))


async def add(request: web.Request) -> web.Response:
    """Add values to a kind."""
    wanted = await _body(request)
    if not wanted.kind:
        raise Refusal("invalid", "kind: missing; it names the metadata, as ALSO-NOTIFY does.")
    return await _set(request, wanted.kind, wanted.metadata, 201, adding=True)


async def replace_all(request: web.Request) -> web.Response:
    """Replace the values of a kind."""
    return await _set(request, request.match_info["kind"], (await _body(request)).metadata, 200)


async def remove(request: web.Request) -> web.Response:
    """Remove a kind: the zone has no such setting then."""
    await _set(request, request.match_info["kind"], (), 200)
    return web.Response()


async def _body(request: web.Request) -> Values:
    name = name_in(request)
    demand(request, Action.WRITE, "zone", name)
    return forms.validated(name, Values, parse_object(await bodies.read_bytes(request, SMALL)))


async def _set(
    request: web.Request, kind: str, values: Sequence[str], status: int, *, adding: bool = False
) -> web.Response:
    name = (await zone_in(request, Action.WRITE)).name
    outcome = await change(ZONE, request, name, partial(_with, kind.upper(), values, adding=adding))
    after = outcome.after
    shown = metadata_of(after).get(kind.upper(), list(values)) if isinstance(after, Zone) else []
    return bodies.answer(_shown(kind, shown), status=status)


def _with(kind: str, values: Sequence[str], before: SiteObject | None, *, adding: bool) -> SiteObject | None:
    if not isinstance(before, Zone):
        return before
    held = SETTINGS[kind].values(before) if adding and kind in SETTINGS else ()
    return with_metadata(before, kind, [*dict.fromkeys((*held, *values))])


def _shown(kind: str, values: Sequence[str]) -> JsonObject:
    return {"type": "Metadata", "kind": kind, "metadata": list(values)}


ROUTES = [
    operation("GET", f"{ONE}/metadata", metadata, answer=LIST),
    operation("POST", f"{ONE}/metadata", add, body=Values, status=201),
    operation("GET", f"{ONE}/metadata/{{kind}}", one_metadata),
    operation("PUT", f"{ONE}/metadata/{{kind}}", replace_all, body=Values),
    operation("DELETE", f"{ONE}/metadata/{{kind}}", remove),
]
