"""/tokens: bearer tokens. One is shown in the answer that makes it, and never again."""

from __future__ import annotations

from aiohttp import web

from dnsvip.admin import bodies
from dnsvip.admin.auth import ACTOR
from dnsvip.admin.node import NODE
from dnsvip.admin.operation import ROOT
from dnsvip.admin.problems import Refusal
from dnsvip.errors import InvalidSite, Problem
from dnsvip.spec import Plain
from dnsvip.store import Token


async def list_all(request: web.Request) -> web.Response:
    """Every token's name and making."""
    items = [_shown(token) for token in await request.app[NODE].store().tokens()]
    return bodies.answer({"items": items, "next": None})


async def create(request: web.Request) -> web.Response:
    """Make a token; the answer is the only place where it stands."""
    name = _name(await bodies.read_object(request))
    clear = await request.app[NODE].store().create_token(name, request[ACTOR])
    headers = {"Location": f"{ROOT}/tokens/{name}", "Cache-Control": "no-store"}
    return bodies.answer({"name": name, "token": clear}, status=201, headers=headers)


async def delete(request: web.Request) -> web.Response:
    """Revoke a token, from its next request on."""
    name = request.match_info["name"]
    if not await request.app[NODE].store().delete_token(name, request[ACTOR]):
        raise Refusal("not-found", f"There is no token {name!r}; GET {ROOT}/tokens lists them.")
    return web.Response(status=204)


def _name(body: Plain) -> str:
    problems = [Problem(f"token.{key}", "unknown key; known here: name") for key in body if key != "name"]
    name = body.get("name")
    if not isinstance(name, str):
        problems.append(Problem("token.name", "must be a string"))
    if problems:
        raise InvalidSite(problems)
    return str(name)


def _shown(token: Token) -> Plain:
    return {"name": token.name, "created_at": token.created_at, "created_by": token.created_by}


ROUTES = [
    web.get(f"{ROOT}/tokens", list_all),
    web.post(f"{ROOT}/tokens", create),
    web.delete(f"{ROOT}/tokens/{{name}}", delete),
]
