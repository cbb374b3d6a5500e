"""/zones/NAME/keys and /ds: the keys that sign a zone, their rollovers, and what the parent needs of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, cast

from aiohttp import web
from pydantic import ConfigDict, Field

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR
from dnsvip.admin.http.changing import GENERATION
from dnsvip.admin.http.operation import NUMBER, ROOT, Operation
from dnsvip.admin.http.queries import read_body
from dnsvip.admin.node import NODE
from dnsvip.admin.objects.zones import stored
from dnsvip.dns.dnssec.keys import SigningKey, ZoneKeys, ds_text
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.zones.record import labels_of
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import STRICT, Dnssec, ZoneKey
from dnsvip.site.bind_keys import read_bind_key
from dnsvip.site.zone_keys import signs_data, wanted_at_parent

LONGEST_KEY_FILE = 4096
"""Characters of a key file."""

DNSKEY_HEAD = 4
"""Bytes of a DNSKEY before the public key."""


@dataclass(frozen=True, slots=True)
class ZoneDs:
    """What the parent of a zone needs: a DS record for each key that it should have, foreign ones too, in zone file
    form; none where it has never been signed. `signed`: whether it is signed now."""

    zone: str
    signed: bool
    records: list[str]


async def ds(request: web.Request) -> web.Response:
    """The DS records of a signed zone, for its parent (RFC 4034 section 5)."""
    zone = await stored(request)
    held, apex = await request.app[NODE].store().keys.of_zone(zone.name), labels_of(zone.name)
    dnssec = zone.dnssec or Dnssec()
    sets = ZoneKeys.of(apex, held, dnssec).sets if held else {}
    found = sets[Type.CDS].rdatas if Type.CDS in sets else ()
    records = [ds_text(zone.name, cast("bytes", ds)) for (ds,) in found]
    return bodies.answer(asdict(ZoneDs(zone.name, zone.is_signed, records)))


@dataclass(frozen=True, slots=True)
class ZoneKeyShown:
    """A key of a zone, without its secret. `role` is `csk` (signs all), `ksk` or `zsk`; `at_parent` whether the parent
    should have its DS; `since` when it came into its `state`, in unix seconds."""

    number: int
    algorithm: str
    role: str
    state: str
    tag: int
    since: int
    at_parent: bool


@dataclass(frozen=True, slots=True)
class ZoneKeyList:
    """The keys of a zone, and whether it is signed with them."""

    zone: str
    signed: bool
    keys: list[ZoneKeyShown]


async def keys(request: web.Request) -> web.Response:
    """The keys of a zone. No secret is ever shown."""
    zone = await stored(request)
    held = await request.app[NODE].store().keys.of_zone(zone.name)
    combined = {key.number for key in signs_data(held) if key.sep}
    wanted = {key.number for key in wanted_at_parent(held)}
    shown = [
        ZoneKeyShown(
            key.number,
            key.algorithm.value,
            ("csk" if key.number in combined else "ksk") if key.sep else "zsk",
            key.state.value,
            SigningKey.of(key).tag,
            key.since or key.created_at,
            key.number in wanted,
        )
        for key in held
    ]
    return bodies.answer(asdict(ZoneKeyList(zone.name, zone.is_signed, shown)))


class KeyRole(StrEnum):
    """Which key is rolled: that of the DS record, or the zone signing key."""

    KSK = "ksk"
    ZSK = "zsk"


@dataclass(frozen=True, slots=True)
class KeyRoll:
    """Which key of a zone is rolled."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    role: KeyRole


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """A key in BIND's private format: what its `.private` and its `.key` file hold."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    private: Annotated[str, Field(max_length=LONGEST_KEY_FILE)]
    public: Annotated[str, Field(max_length=LONGEST_KEY_FILE)]


async def roll(request: web.Request) -> web.Response:
    """Roll a key: a new one is published now, and takes its place when caches have it."""
    zone, node = await stored(request), request.app[NODE]
    wanted = await read_body(request, "roll", KeyRoll)
    sep = wanted.role is KeyRole.KSK
    return _changed(await node.store().keys.roll_zone(zone.name, request[ACTOR], node.now(), sep=sep))


async def confirm(request: web.Request) -> web.Response:
    """Confirm that the parent has the DS records that it should have, so that the key before can go."""
    zone, node = await stored(request), request.app[NODE]
    return _changed(await node.store().keys.confirm_zone(zone.name, request[ACTOR], node.now()))


async def import_key(request: web.Request) -> web.Response:
    """Import a key into a zone that is not signed yet."""
    zone, node = await stored(request), request.app[NODE]
    files = await read_body(request, "key", KeyFiles)
    try:
        key = read_bind_key(files.private, files.public)
        if SigningKey.of(ZoneKey(1, key.algorithm, key.secret, 0)).dnskey[DNSKEY_HEAD:] != key.public:
            raise ValueError(".key: DNSKEY: is not the public key of .private")
    except ValueError as error:
        raise InvalidSite([Problem(f"zone.{zone.name}.keys", str(error))]) from None
    return _changed(await node.store().keys.import_zone_key(zone.name, key, request[ACTOR], node.now()))


async def remove_key(request: web.Request) -> web.Response:
    """Destroy a key that the zone can do without."""
    zone, node, number = await stored(request), request.app[NODE], int(request.match_info["number"])
    return _changed(await node.store().keys.remove_zone_key(zone.name, number, request[ACTOR], node.now()))


def _changed(generation: int) -> web.Response:
    return bodies.answer({"generation": generation}, headers={GENERATION: str(generation)})


ROUTES = [
    Operation("GET", f"{ROOT}/zones/{{name}}/ds", ds, "zone", answer=ZoneDs),
    Operation("GET", f"{ROOT}/zones/{{name}}/keys", keys, "zone", answer=ZoneKeyList),
    Operation("POST", f"{ROOT}/zones/{{name}}/keys", import_key, "zone", body=KeyFiles),
    Operation("POST", f"{ROOT}/zones/{{name}}/keys/roll", roll, "zone", body=KeyRoll),
    Operation("POST", f"{ROOT}/zones/{{name}}/keys/confirm", confirm, "zone"),
    Operation("DELETE", f"{ROOT}/zones/{{name}}/keys/{{number{NUMBER}}}", remove_key, "zone"),
]
