"""/tokens: bearer tokens and their rights. A token is shown once, when it is created or rotated.

Nobody grants more than they have: the rights and the limits of a new or changed token lie within those of the caller,
also where the caller changes its own token; and only who has all rights of a token may change or delete it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

from aiohttp import web
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, CALLER
from dnsvip.admin.http.operation import ROOT, Operation, Page, Patch, query_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import PAGE_BYTES, Flag, ShortQuery, read_body, read_patch
from dnsvip.admin.http.work import small_turn
from dnsvip.admin.node import NODE
from dnsvip.errors import InvalidSite, Problem, UnreadableError
from dnsvip.site import STRICT
from dnsvip.site.patterns import all_inside
from dnsvip.site.plain import JsonObject
from dnsvip.site.rights import EVERYTHING, ROLES, Action, Rights, Scope, excess
from dnsvip.store import Token
from dnsvip.store.access.tokens import token_form

LONGEST = 10 * 366 * 86_400
"""Seconds that a token may live at most."""

EVERYWHERE = Token("", 0.0, "")
"""A caller without a token of its own has no limits."""


def _network(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be an address or a network")
    return str(ip_network(value))


def _not_empty(scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    """A list without scopes would not be nothing but everything."""
    if not scopes:
        raise ValueError("must name a scope; left out it is all that you may")
    return scopes


NetworkText = Annotated[
    str, BeforeValidator(_network), WithJsonSchema({"type": "string", "examples": ["192.0.2.0/24", "::1"]})
]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a token may do and from where: a `role` or `scopes` (with neither all that its maker may), the `networks`
    it may be used from, how long it lives in seconds, and how many requests `per_minute` it may make."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    role: Annotated[str, Field(json_schema_extra={"enum": list(ROLES)})] | None = None
    scopes: Annotated[
        tuple[Scope, ...], Field(max_length=32, json_schema_extra={"minItems": 1}), AfterValidator(_not_empty)
    ] = ()
    networks: Annotated[tuple[NetworkText, ...], Field(max_length=64)] = ()
    expires_in: Annotated[int, Field(ge=1, le=LONGEST)] | None = None
    per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


@dataclass(frozen=True, slots=True)
class NewToken(Allowance):
    """A token to create."""

    name: Annotated[str, Field(max_length=63)] = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A token as it is shown. `rights` spells out its role; times are unix seconds; `token` only in the answer that
    makes or renews it."""

    name: str
    created_at: float
    created_by: str
    role: str | None
    scopes: list[Scope]
    networks: list[str]
    expires_at: float | None
    per_minute: int | None
    last_used_at: float | None
    rights: list[str]
    token: str | None = None
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class TokensQuery(ShortQuery):
    """And of tokens: those of a `role`, and those that have `expired`, or with `false` those that have not."""

    role: Annotated[str, Field(pattern=rf"^({'|'.join(ROLES)})$")] | None = None
    expired: Flag | None = None


async def list_all(request: web.Request) -> web.Response:
    """Every token, without its secret."""
    query, now, tokens = query_of(request, TokensQuery), request.app[NODE].now(), request.app[NODE].store().tokens

    def fits(token: Token) -> bool:
        return query.role in (None, token.role) and query.expired in (None, token.has_expired(now))

    async with small_turn(request):
        page, is_more = await tokens.page(query.after, query.limit, fits, PAGE_BYTES)
        more = {**request.query, "limit": query.limit, "after": page[-1].name} if is_more and page else None
        following = f"{request.path}?{urlencode(more)}" if more else None
        return await asyncio.to_thread(lambda: bodies.answer({"items": list(map(_shown, page)), "next": following}))


async def get(request: web.Request) -> web.Response:
    """One token, without its secret."""
    return bodies.answer(_shown(await _token(request)))


async def own(request: web.Request) -> web.Response:
    """The caller and its rights."""
    caller = request[CALLER]
    return bodies.answer({"actor": caller.actor, "rights": [str(scope) for scope in caller.rights.scopes]})


async def create(request: web.Request) -> web.Response:
    """Create a token; only this response contains it."""
    body = await read_body(request, "token", NewToken)
    name = body.name
    token = _with(request, Token(name, 0.0, ""), body, name)
    _demand_within(request, token)
    clear = await request.app[NODE].store().tokens.create(name, request[ACTOR], token)
    created = await request.app[NODE].store().tokens.get(name) or token
    headers = {"Location": f"{ROOT}/tokens/{name}", "Cache-Control": "no-store"}
    return bodies.answer({**_shown(created), "token": clear}, status=201, headers=headers)


async def patch(request: web.Request) -> web.Response:
    """Change what a token may do, from its next request on; it stays the same token."""
    before = await _readable(request)
    given = {
        "role": before.role,
        **({"scopes": token_form(before)["scopes"]} if before.scopes else {}),
        "networks": list(before.networks),
        "per_minute": before.per_minute,
    }
    body, named = await read_patch(request, f"token.{before.name}", Allowance, given)
    if "scopes" in named and "role" not in named:
        body = replace(body, role=None)
    elif "role" in named and "scopes" not in named:
        body = replace(body, scopes=())
    after = _with(request, before, body, before.name)
    if "expires_in" not in named:
        after = replace(after, expires_at=before.expires_at)
    _demand_all(request, before)
    _demand_within(request, after)
    if after != before:
        await request.app[NODE].store().tokens.change(before, after, request[ACTOR])
    return bodies.answer(_shown(after))


async def rotate(request: web.Request) -> web.Response:
    """Replace the secret of a token: the old one is void, all else stays."""
    before = await _readable(request)
    _demand_all(request, before)
    caller = request[CALLER].token or EVERYWHERE
    lived = before.expires_at - before.created_at if before.expires_at is not None else None
    now = request.app[NODE].now()
    ends = None if lived is None else _earlier(now + lived, caller.expires_at)
    after = replace(before, expires_at=ends)
    _demand_within(request, after)
    clear = await request.app[NODE].store().tokens.change(before, after, request[ACTOR], renew=True)
    return bodies.answer({**_shown(after), "token": clear}, headers={"Cache-Control": "no-store"})


async def delete(request: web.Request) -> web.Response:
    """Revoke a token, from its next request on."""
    name = request.match_info["name"]
    _demand_all(request, await _token(request))
    if not await request.app[NODE].store().tokens.delete(name, request[ACTOR]):
        raise _absent(name)
    return web.Response(status=204)


def _with(request: web.Request, token: Token, body: Allowance, name: str) -> Token:
    """The token with the requested rights, if the caller may grant them."""
    if body.role is not None and body.scopes:
        raise InvalidSite([Problem(f"token.{name}.scopes", "name a role or scopes, not both")])
    if body.role is not None and body.role not in ROLES:
        raise InvalidSite([Problem(f"token.{name}.role", f"{body.role!r} is no role; there is {', '.join(ROLES)}")])
    if body.scopes != token.scopes and (why := excess(body.scopes)) is not None:  # what it has already may stay
        raise InvalidSite([Problem(f"token.{name}.scopes", why)])
    rights, caller = request[CALLER].rights, request[CALLER].token or EVERYWHERE
    ends = None if body.expires_in is None else request.app[NODE].now() + body.expires_in
    scopes = body.scopes
    if body.role is None and not scopes and rights != EVERYTHING:
        scopes = rights.scopes  # not more than the maker has
    renewed = replace(
        token,
        role=body.role,
        scopes=scopes,
        networks=body.networks or caller.networks,  # what the body leaves open is limited as the maker is
        expires_at=caller.expires_at if ends is None else ends,
        per_minute=body.per_minute or caller.per_minute,
    )
    _demand_all(request, renewed)
    return renewed


def _demand_all(request: web.Request, token: Token) -> None:
    """Raise Refusal where a token may do what the caller may not."""
    rights: Rights = request[CALLER].rights
    beyond = next((str(scope) for scope in token.rights.scopes if not rights.cover([scope])), None)
    if beyond is not None:
        seen = not token.created_at or rights.allow(Action.READ, "token")  # a new one, or one that it may look at
        what = f"the scope {beyond}, so it cannot give it or take it" if seen else "a right that the other token has"
        raise Refusal("forbidden", f"This token lacks {what}.")


def _demand_within(request: web.Request, token: Token) -> None:
    """Raise Refusal where a token is less limited than that of the caller."""
    caller = request[CALLER].token or EVERYWHERE
    limits = {
        "networks": not caller.networks or (bool(token.networks) and all_inside(token.networks, caller.networks)),
        "expires_in": _earlier(token.expires_at, caller.expires_at) == token.expires_at,
        "per_minute": _earlier(token.per_minute, caller.per_minute) == token.per_minute,
    }
    for name, kept in limits.items():
        if not kept:
            raise Refusal("forbidden", f"{name}: goes beyond the limit of the token that asks for it.")


def _earlier(one: float | None, other: float | None) -> float | None:
    """The lesser of two limits, of which None is no limit."""
    return one if other is None else other if one is None else min(one, other)


async def _readable(request: web.Request) -> Token:
    token = await _token(request)
    if token.unreadable is not None:
        raise UnreadableError(token.unreadable)
    return token


async def _token(request: web.Request) -> Token:
    name = request.match_info["name"]
    token = await request.app[NODE].store().tokens.get(name)
    if token is None:
        raise _absent(name)
    return token


def _absent(name: str) -> Refusal:
    return Refusal("not-found", f"There is no token {name!r}; GET {ROOT}/tokens lists them.")


def _shown(token: Token) -> JsonObject:
    return {**token_form(token), "rights": [str(scope) for scope in token.rights.scopes]}


_ONE = f"{ROOT}/tokens/{{name}}"

ROUTES = [
    Operation("GET", f"{ROOT}/tokens", list_all, "token", query=TokensQuery, answer=Page[Shown]),
    Operation("POST", f"{ROOT}/tokens", create, "token", body=NewToken, answer=Shown, status=201),
    Operation("GET", f"{ROOT}/whoami", own),
    Operation("GET", _ONE, get, "token", answer=Shown),
    Operation("PATCH", _ONE, patch, "token", body=Patch(Allowance), answer=Shown),
    Operation("DELETE", _ONE, delete, "token", status=204),
    Operation("POST", f"{_ONE}/rotate", rotate, "token", answer=Shown),
]
