"""/dns-tokens: what identifies clients over encrypted DNS. Their texts are made here, shown once and stored nowhere."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar, cast

import structlog
from aiohttp import web
from pydantic import ConfigDict, Field

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, demand
from dnsvip.admin.http.changing import GENERATION, change
from dnsvip.admin.http.collection import routes
from dnsvip.admin.http.operation import ROOT, Operation
from dnsvip.admin.http.queries import read_body
from dnsvip.admin.http.resource import Resource, absent, name_of
from dnsvip.admin.node import NODE
from dnsvip.admin.objects.clients import CLIENT, permit
from dnsvip.dns.identity.tokens import RANDOM_BYTES, digest_of, replaced, token_of
from dnsvip.site import STRICT, Client, DnsToken, Match, Name, Step
from dnsvip.site.plain import JsonObject, SiteObject, parse
from dnsvip.site.plan import Change
from dnsvip.site.registry import KINDS
from dnsvip.site.rights import Action

OVERLAP, LONGEST_OVERLAP = 7 * 86_400, 366 * 86_400
"""Seconds that the text before stays good, where nothing else is asked for, and at most."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Minted:
    """The client that the new token is to identify; it gets a match of its name."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    client: Name | None = None


@dataclass(frozen=True, slots=True)
class Renewed:
    """Seconds that the text before stays good; with 0 it ends at once, as it must where it has leaked."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    overlap: Annotated[int, Field(strict=True, ge=0, le=LONGEST_OVERLAP)] = OVERLAP


@dataclass(frozen=True, slots=True)
class NewText:
    """A DNS token with its text, which no other answer has."""

    name: str
    digest: str
    previous: str | None
    previous_until: int | None
    token: str
    client: str | None = None


async def uses(request: web.Request, things: Sequence[SiteObject]) -> Sequence[JsonObject]:
    """When the tokens of a page were last used."""
    tokens = cast("Sequence[DnsToken]", things)
    digests = [digest for token in tokens for digest in (token.digest, token.previous) if digest]
    found = await request.app[NODE].store().dns_token_uses.of(digests) if digests else {}
    return [
        {"used_at": found.get(token.digest), "previous_used_at": found.get(token.previous or "")} for token in tokens
    ]


def owner_of_tokens(query: Any) -> Sequence[tuple[str, str]]:
    """The client that a list of tokens reveals."""
    return [("client", query.client)] if query.client is not None else []


DNS_TOKEN = Resource(KINDS["dns_token"], beside=uses, discloses=owner_of_tokens)


async def mint(request: web.Request) -> web.Response:
    """Make a token, which must not exist yet; only this answer has its text. With `client` it identifies that one from
    now on, in the same transaction."""
    name = name_of(DNS_TOKEN, request)
    wanted = await read_body(request, "mint", Minted) if request.can_read_body else Minted()
    bodies.check_conditions(request, lambda: None)
    text, digest = _new()
    token = cast("DnsToken", parse("dns_token", name, {"digest": digest}))
    changes = [Change("dns_token", name, "+", None, token)]
    if wanted.client is not None:
        changes.append(await _given_to(request, wanted.client, name))
    made = await request.app[NODE].store().objects.make(changes, request[ACTOR], "api")
    log.info("DNS token made", actor=request[ACTOR], token=name, client=wanted.client, generation=made.generation)
    headers = {"Location": DNS_TOKEN.url(name), GENERATION: str(made.generation)}
    return _shown(token, text, headers, client=wanted.client, status=201)


async def _given_to(request: web.Request, client: str, token: str) -> Change:
    """The change that lets a token identify a client; raises Refusal where the caller may not make it."""
    demand(request, Action.WRITE, "client", client)
    before = await request.app[NODE].store().objects.get("client", client)
    if not isinstance(before, Client):
        raise absent(CLIENT, client)
    after = replace(before, match=(*before.match, Match(Step.TOKEN, token)))
    await permit(request, before, after)
    return Change("client", client, "~", before, after)


async def token_for(request: web.Request, client: str) -> str:
    """The text of a token that is called as the client and identifies it: made, or where there is one given a new text
    beside which that before stays good for OVERLAP."""
    for kind in ("client", "dns_token"):
        demand(request, Action.WRITE, kind, client)
    store, (text, digest) = request.app[NODE].store(), _new()
    held = await store.objects.get("dns_token", client)
    if isinstance(held, DnsToken):
        renewed = replaced(held, digest, OVERLAP, request.app[NODE].now())
        changes = [Change("dns_token", client, "~", held, renewed)]
    else:
        changes = [Change("dns_token", client, "+", None, DnsToken(client, digest))]
    owner = await store.objects.get("client", client)
    if isinstance(owner, Client) and Match(Step.TOKEN, client) not in owner.match:
        changes.append(await _given_to(request, client, client))
    made = await store.objects.make(changes, request[ACTOR], "api")
    log.info("DNS token made", actor=request[ACTOR], token=client, client=client, generation=made.generation)
    return text


async def rotate(request: web.Request) -> web.Response:
    """Give a token a new text, which only this answer has; the one before stays good for `overlap` seconds."""
    name, now = name_of(DNS_TOKEN, request), request.app[NODE].now()
    wanted = await read_body(request, "rotate", Renewed) if request.can_read_body else Renewed()
    text, digest = _new()

    def make(before: SiteObject | None) -> SiteObject:
        if before is None:
            raise absent(DNS_TOKEN, name)
        return replaced(cast("DnsToken", before), digest, wanted.overlap, now)

    outcome = await change(DNS_TOKEN, request, name, make)
    return _shown(cast("DnsToken", outcome.after), text, outcome.headers)


def _new() -> tuple[str, str]:
    """A new text and its digest."""
    text = token_of(secrets.token_bytes(RANDOM_BYTES))
    digest = digest_of(text)
    assert digest is not None  # noqa: S101 - for mypy; it is a token
    return text, digest


def _shown(
    token: DnsToken, text: str, headers: dict[str, str], *, client: str | None = None, status: int = 200
) -> web.Response:
    shown = {**asdict(token), "token": text, "client": client}
    return bodies.answer(shown, status=status, headers={**headers, "Cache-Control": "no-store"})


async def last_use(request: web.Request) -> web.Response:
    """When a token and its text before were last used, to the minute (unix seconds)."""
    name = name_of(DNS_TOKEN, request)
    token = await request.app[NODE].store().objects.get("dns_token", name)
    if token is None:
        raise absent(DNS_TOKEN, name)
    (used,) = await uses(request, [token])
    return bodies.answer(used)


@dataclass(frozen=True, slots=True)
class LastUse:
    """When a token and its text before were last used; null where they were not."""

    used_at: float | None
    previous_used_at: float | None


_ONE = f"{ROOT}/dns-tokens/{{name}}"

ROUTES = [
    *routes(DNS_TOKEN),
    Operation("POST", f"{_ONE}/mint", mint, "dns_token", body=Minted, answer=NewText, status=201),
    Operation("POST", f"{_ONE}/rotate", rotate, "dns_token", body=Renewed, answer=NewText),
    Operation("GET", f"{_ONE}/use", last_use, "dns_token", answer=LastUse),
]
