"""/client-ca: the site's own authority of client certificates. Its key is never shown."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR
from dnsvip.admin.http.operation import NUMBER, ROOT, Operation, Page
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.node import NODE
from dnsvip.site.plain import JsonObject
from dnsvip.site.rights import Action
from dnsvip.store.keys.certificates import fingerprint
from dnsvip.store.keys.client_authority import Authority


@dataclass(frozen=True, slots=True)
class ShownAuthority:
    """An authority: the SHA-256 of its certificate, that as PEM, when it was replaced (null: it signs), and until when
    it is trusted, in unix seconds."""

    number: int
    fingerprint: str
    certificate: str
    replaced_at: int | None
    trusted_until: int


async def list_all(request: web.Request) -> web.Response:
    """The authorities that are trusted, the one that signs first."""
    node = request.app[NODE]
    now = node.now()
    held = [each for each in await node.store().client_authorities.all() if each.trusted_until > now]
    return bodies.answer({"items": [_shown(authority) for authority in held], "next": None})


async def create(request: web.Request) -> web.Response:
    """Make the authority where there is none yet; the first certificate that is issued does so too."""
    node = request.app[NODE]
    return _made(await node.store().client_authorities.create(request[ACTOR], node.now()))


async def rotate(request: web.Request) -> web.Response:
    """Make another authority, which signs from now on; the one before is trusted while its certificates last."""
    node = request.app[NODE]
    return _made(await node.store().client_authorities.rotate(request[ACTOR], node.now()))


async def remove(request: web.Request) -> web.Response:
    """Trust an authority no more: every certificate that it has issued is void at once."""
    number = int(request.match_info["number"])
    if not await request.app[NODE].store().client_authorities.remove(number, request[ACTOR]):
        raise Refusal("not-found", f"There is no authority {number}; GET {ROOT}/client-ca lists them.")
    return web.Response(status=204)


def _made(authority: Authority) -> web.Response:
    return bodies.answer(_shown(authority), status=201, headers={"Location": f"{ROOT}/client-ca"})


def _shown(authority: Authority) -> JsonObject:
    return {
        "number": authority.number,
        "fingerprint": fingerprint(authority.certificate),
        "certificate": authority.certificate,
        "replaced_at": authority.replaced_at,
        "trusted_until": authority.trusted_until,
    }


_ALL = f"{ROOT}/client-ca"

ROUTES = [
    Operation("GET", _ALL, list_all, "client_ca", answer=Page[ShownAuthority]),
    Operation("POST", _ALL, create, "client_ca", answer=ShownAuthority, status=201),
    Operation("POST", f"{_ALL}/rotate", rotate, "client_ca", does=Action.ROTATE, answer=ShownAuthority, status=201),
    Operation("DELETE", f"{_ALL}/{{number{NUMBER}}}", remove, "client_ca", name="number", status=204),
]
