"""The keys of a signed zone by PowerDNS's API: shown, made, imported, set and removed, each never with its secret.

PowerDNS's keys are what a client makes of them; here a key goes from state to state (`dnsvip.site.zone_keys`), and what
a client asks for is the step to where it wants to be. Where no step leads there, the refusal says which state it is in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, demand
from dnsvip.admin.http.changing import change
from dnsvip.admin.http.json_objects import parse_object
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.work import SMALL
from dnsvip.admin.node import NODE
from dnsvip.admin.objects.zones import ZONE
from dnsvip.admin.powerdns import forms, zone_forms
from dnsvip.admin.powerdns.records import LIST, ONE, name_in, operation, zone_in
from dnsvip.dns.dnssec.keys import SigningKey
from dnsvip.dns.zones.record import labels_of
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Dnssec, DnssecAlgorithm, Zone, ZoneKey
from dnsvip.site.bind_keys import BindKey, read_private
from dnsvip.site.plain import JsonObject, SiteObject
from dnsvip.site.rights import Action
from dnsvip.site.zone_keys import KeyState, listed, signs_data, signs_keys
from dnsvip.store.keys.zone_keys import new_secret

_ALGORITHMS: Mapping[str, DnssecAlgorithm] = {
    "13": DnssecAlgorithm.ECDSAP256SHA256,
    "ecdsa256": DnssecAlgorithm.ECDSAP256SHA256,
    "ecdsap256sha256": DnssecAlgorithm.ECDSAP256SHA256,
    "15": DnssecAlgorithm.ED25519,
    "ed25519": DnssecAlgorithm.ED25519,
}
LONGEST_CONTENT = 4096


def _algorithm(value: Any) -> Any:
    if value in (None, "") or (isinstance(value, int) and value == 0):
        return None
    named = _ALGORITHMS.get(str(value).lower())
    if named is None:
        raise ValueError("must be ecdsap256sha256 (13) or ed25519 (15)")
    return named


@dataclass(frozen=True, slots=True)
class NewKey:
    """The body of a POST of a key; with `content` one from elsewhere, in BIND's private format."""

    __pydantic_config__: ClassVar[ConfigDict] = forms.LOOSE
    keytype: Literal["ksk", "zsk", "csk"]
    active: Annotated[bool, Field(strict=True)] = False
    published: Annotated[bool, Field(strict=True)] = True
    content: str = field(default="", repr=False)
    algorithm: Annotated[DnssecAlgorithm | None, BeforeValidator(_algorithm)] = None


@dataclass(frozen=True, slots=True)
class KeyFlags:
    """The body of a PUT of a key."""

    __pydantic_config__: ClassVar[ConfigDict] = forms.LOOSE
    active: Annotated[bool, Field(strict=True)]
    published: Annotated[bool, Field(strict=True)] = True


class Held(NamedTuple):
    """A zone and its keys."""

    zone: Zone
    keys: tuple[ZoneKey, ...]

    def active(self, key: ZoneKey) -> bool:
        """Whether a key signs, and stays or is awaited to go."""
        return self.zone.is_signed and key.state in (KeyState.ACTIVE, KeyState.OUTGOING)

    def published(self, key: ZoneKey) -> bool:
        """Whether it is in the DNSKEY set, and has a use there."""
        return self.zone.is_signed and key in listed(self.keys) and key.state is not KeyState.RETIRED

    def shown(self, key: ZoneKey) -> JsonObject:
        """A key as PowerDNS shows it, without its secret."""
        combined = key.sep and key in signs_data(self.keys)
        return zone_forms.cryptokey(
            key.number,
            ("csk" if combined else "ksk") if key.sep else "zsk",
            SigningKey.of(key),
            labels_of(self.zone.name),
            active=self.active(key),
            published=self.published(key),
        )

    def is_last(self, key: ZoneKey) -> bool:
        """Whether it is in use, and the only key of its kind that is not going."""
        same = [other for other in self.keys if other.sep is key.sep and other.state is not KeyState.RETIRED]
        return key.state is KeyState.ACTIVE and same == [key]


async def cryptokeys(request: web.Request) -> web.Response:
    """The keys of a signed zone, without their secrets."""
    held = await _held(request)
    return bodies.answer([held.shown(key) for key in held.keys])


async def cryptokey(request: web.Request) -> web.Response:
    """One key of a signed zone, without its secret."""
    held = await _held(request)
    return bodies.answer(held.shown(_named(request, held)))


async def add(request: web.Request) -> web.Response:
    """Make a key, or import one, of a zone that is not signed yet; of one that is, roll the key of that kind."""
    name = _may(request, Action.WRITE)
    wanted = forms.validated(name, NewKey, parse_object(await bodies.read_bytes(request, SMALL)))
    held = await _held(request, Action.WRITE)
    if held.zone.is_signed and not wanted.content:
        await _rolled(request, held, wanted)
    else:
        if wanted.active and wanted.keytype == "zsk" and not signs_keys(held.keys):
            raise Refusal("invalid", "keytype: must be csk or ksk first; a zsk comes beside it.")
        await _taken(request, held, wanted)
        if wanted.active:
            await _sign(request, (await _held(request, Action.WRITE)).keys)
    after = await _held(request, Action.WRITE)
    return bodies.answer(after.shown(after.keys[-1]), status=201)


async def set_flags(request: web.Request) -> web.Response:
    """Bring a key to where it is active, or not."""
    name = _may(request, Action.WRITE)
    wanted = forms.validated(name, KeyFlags, parse_object(await bodies.read_bytes(request, SMALL)))
    held = await _held(request, Action.WRITE)
    key, active = _named(request, held), wanted.active
    if active is held.active(key):
        if held.zone.is_signed and wanted.published is not held.published(key):
            raise Refusal("invalid", f"published: key {key.number} is {key.state}; it follows from that.")
    elif active and not held.zone.is_signed:
        await _sign(request, held.keys)
    elif active:
        raise Refusal("invalid", f"active: key {key.number} is {key.state}; it becomes active by itself, or not again.")
    elif key.state is KeyState.OUTGOING:
        await request.app[NODE].store().keys.confirm_zone(name, request[ACTOR], request.app[NODE].now())
    elif held.is_last(key):
        await _without(request, key)
    else:
        raise Refusal("invalid", f"active: key {key.number} is {key.state}; another of its kind takes its place first.")
    return web.Response(status=204)


async def remove(request: web.Request) -> web.Response:
    """Destroy a key, or have it go when caches need it no more; without its last key a zone is not signed."""
    name = _may(request, Action.DELETE)
    held, node = await _held(request, Action.DELETE), request.app[NODE]
    key = _named(request, held)
    if held.zone.is_signed and key.state is KeyState.OUTGOING:
        _may(request, Action.WRITE)
        await node.store().keys.confirm_zone(name, request[ACTOR], node.now())
        return web.Response(status=204)
    if held.zone.is_signed and held.is_last(key):
        _may(request, Action.WRITE)
        await _without(request, key)
        if not key.sep:
            return web.Response(status=204)
    await node.store().keys.remove_zone_key(name, key.number, request[ACTOR], node.now())
    return web.Response(status=204)


async def _taken(request: web.Request, held: Held, wanted: NewKey) -> None:
    """A key of a zone that is not signed: one from elsewhere, or a new one."""
    node, name = request.app[NODE], held.zone.name
    algorithm = wanted.algorithm or (held.keys[-1].algorithm if held.keys else (held.zone.dnssec or Dnssec()).algorithm)
    try:
        if len(wanted.content) > LONGEST_CONTENT:
            raise ValueError(f"must have at most {LONGEST_CONTENT} characters")
        algorithm, secret = read_private(wanted.content) if wanted.content else (algorithm, new_secret(algorithm))
        key = BindKey(algorithm, secret, sep=wanted.keytype != "zsk", public=b"")
        SigningKey.of(ZoneKey(1, algorithm, secret, 0))
    except ValueError as error:
        raise InvalidSite([Problem(f"zone.{name}.keys", f"content: {error}")]) from None
    await node.store().keys.import_zone_key(name, key, request[ACTOR], node.now())


async def _rolled(request: web.Request, held: Held, wanted: NewKey) -> None:
    """A further key of a zone that is signed."""
    node, dnssec = request.app[NODE], held.zone.dnssec or Dnssec()
    if not (wanted.active and wanted.published):
        raise Refusal("invalid", "active, published: must be true: a further key takes its place when caches have it.")
    if wanted.algorithm not in (None, dnssec.algorithm):
        text = f"algorithm: the zone has {dnssec.algorithm}; dnssec.algorithm of the zone rolls it to another."
        raise Refusal("invalid", text)
    sep = wanted.keytype != "zsk"
    if not sep and not dnssec.split:
        await change(ZONE, request, held.zone.name, partial(_with, {"split": True}))
    else:
        await node.store().keys.roll_zone(held.zone.name, request[ACTOR], node.now(), sep=sep)


async def _sign(request: web.Request, keys: Sequence[ZoneKey]) -> None:
    """Turn signing on, with the keys that there are."""
    split = any(not key.sep for key in keys)
    changed = {"enabled": True, "algorithm": keys[-1].algorithm, "split": split}
    await change(ZONE, request, name_in(request), partial(_with, changed))


async def _without(request: web.Request, key: ZoneKey) -> None:
    """Do without the last key of a kind: one with SEP signs all, or nothing is signed."""
    changed = {"enabled": False} if key.sep else {"split": False}
    await change(ZONE, request, name_in(request), partial(_with, changed))


def _with(changed: Mapping[str, Any], before: SiteObject | None) -> SiteObject | None:
    if not isinstance(before, Zone):
        return before
    return replace(before, dnssec=replace(before.dnssec or Dnssec(), **changed))


def _may(request: web.Request, action: Action) -> str:
    name = name_in(request)
    demand(request, action, "zone", name)
    return name


async def _held(request: web.Request, action: Action = Action.READ) -> Held:
    zone = await zone_in(request, action)
    return Held(zone, await request.app[NODE].store().keys.of_zone(zone.name))


def _named(request: web.Request, held: Held) -> ZoneKey:
    wanted = request.match_info["number"]
    key = next((key for key in held.keys if str(key.number) == wanted), None)
    if key is None:
        raise Refusal("not-found", f"The zone has no key {wanted[:20]!r}.")
    return key


ROUTES = [
    operation("GET", f"{ONE}/cryptokeys", cryptokeys, answer=LIST),
    operation("POST", f"{ONE}/cryptokeys", add, body=NewKey, status=201),
    operation("GET", f"{ONE}/cryptokeys/{{number}}", cryptokey),
    operation("PUT", f"{ONE}/cryptokeys/{{number}}", set_flags, body=KeyFlags, status=204),
    operation("DELETE", f"{ONE}/cryptokeys/{{number}}", remove, status=204),
]
