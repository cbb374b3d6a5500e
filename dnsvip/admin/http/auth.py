"""Authentication and authorization: bearer tokens (RFC 6750), other credentials, rights, and rate limits.

A request is let in by the first of the application's AUTHENTICATORS that knows its caller; then the rights
of the caller must allow its operation. A token is compared by looking its hash up, so time tells nothing
of it. It stands in no log line and in no answer but that of its making.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv6Network, ip_address
from typing import TypeAlias

import structlog
from aiohttp import web

from dnsvip.admin.http.known_tokens import KnownTokens
from dnsvip.admin.http.operation import ROOT, operation_of
from dnsvip.admin.http.problems import SHOWN, Handler, Refusal
from dnsvip.admin.http.source import source_of
from dnsvip.admin.node import NODE
from dnsvip.errors import StoreError
from dnsvip.site.plain import canonical_name
from dnsvip.site.rights import EVERYTHING, KINDS, Action, Rights, fits_any, wanted
from dnsvip.store import Token
from dnsvip.store.database.warrant import IN_FORCE, Warrant

ACTOR = web.RequestKey("actor", str)
"""Key of a request's actor, as the audit names it."""

ATTEMPTS = 10
SECONDS_EACH = 6.0
SOURCES = 4096
LONGEST_WAIT = 60.0
"""Seconds that a source or a wrong token waits at most."""

LOCALLY = "unix"
"""In place of an address, of who comes by the Unix socket."""

USED_SECONDS = 600.0
"""Resolution of a token's last use."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request: its name in the audit, and its rights."""

    actor: str
    rights: Rights = EVERYTHING
    token: Token | None = None
    warrant: Warrant | None = None


CALLER = web.RequestKey("caller", Caller)
"""Key of a request's caller."""

Authenticator: TypeAlias = Callable[[web.Request], Awaitable[Caller | None]]
"""Authenticates a request: None without credentials of its kind, a Refusal for wrong ones."""


class Attempts:
    """How many wrong tokens each source may still try: `allowed` at once, one more every `seconds_each`.

    A wrong token that comes again (a program whose token was revoked polls on) is no further guess: it counts against
    itself, not against its source. Nobody waits longer than `longest` seconds. At most `sources` are remembered, the
    one heard of longest ago is forgotten first; an IPv6 /64 is one source. Times are monotonic seconds.
    """

    def __init__(
        self,
        allowed: int = ATTEMPTS,
        seconds_each: float = SECONDS_EACH,
        sources: int = SOURCES,
        longest: float = LONGEST_WAIT,
    ) -> None:
        self._allowed, self._seconds_each, self._sources, self._longest = allowed, seconds_each, sources, longest
        # Source -> when all its attempts are forgiven: each wrong one moves that moment by `seconds_each`.
        self._clear_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, source: str, now: float, clear: str = "") -> float:
        """Seconds until this token may be tried from this source; 0 where it may now."""
        own = _own(clear)
        clear_at = self._clear_at.get(own if own in self._clear_at else _place(source), now)
        return max(0.0, clear_at - now - (self._allowed - 1) * self._seconds_each)

    def fail(self, source: str, now: float, clear: str = "") -> None:
        """Note a wrong token: the first time against its source too."""
        own = _own(clear)
        for key in (own,) if own in self._clear_at else (own, _place(source)) if clear else (_place(source),):
            self._note(key, now)

    def _note(self, key: str, now: float) -> None:
        latest = now + self._longest + (self._allowed - 1) * self._seconds_each
        self._clear_at[key] = min(latest, max(now, self._clear_at.pop(key, now)) + self._seconds_each)
        while len(self._clear_at) > self._sources:
            self._clear_at.popitem(last=False)


class Rates:
    """How many requests each token may still make: `per_minute` at once, and as many each minute. Monotonic seconds."""

    def __init__(self) -> None:
        self._levels: dict[str, tuple[float, float]] = {}

    def wait(self, name: str, per_minute: int, now: float) -> float:
        """Count a request; seconds until the next is allowed where this one is too many, else 0."""
        level, since = self._levels.get(name, (float(per_minute), now))
        level = min(float(per_minute), level + (now - since) * per_minute / 60)
        if level < 1:
            self._levels[name] = (level, now)
            return (1 - level) * 60 / per_minute
        self._levels[name] = (level - 1, now)
        return 0.0

    def count_more(self, name: str, number: int) -> None:
        """Count so many more for the request that has just been let in: those that follow wait for them."""
        if name in self._levels:
            level, since = self._levels[name]
            self._levels[name] = (level - number, since)


class Uses:
    """Records in the database when tokens were last used, in the background and at intervals."""

    def __init__(self) -> None:
        self._noted: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, request: web.Request, token: Token, now: float) -> None:
        """A token was used at `now` (unix seconds)."""
        if now - max(token.last_used_at or 0.0, self._noted.get(token.name, 0.0)) < USED_SECONDS:
            return
        self._noted[token.name] = now
        task = asyncio.create_task(_note(request, token.name, now))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for pending writes."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _note(request: web.Request, name: str, now: float) -> None:
    with suppress(StoreError):
        await request.app[NODE].store().tokens.note_use(name, now)


def count_changes(request: web.Request, number: int) -> None:
    """Count a request that makes so many changes as so many requests of its token."""
    token = request[CALLER].token
    if token is not None and token.per_minute:
        request.app[RATES].count_more(token.name, number - 1)


ATTEMPTS_KEY = web.AppKey("attempts", Attempts)
KNOWN = web.AppKey("known", KnownTokens)
RATES = web.AppKey("rates", Rates)
USES = web.AppKey("uses", Uses)
AUTHENTICATORS = web.AppKey("authenticators", list[Authenticator])
"""Tried in this order. Others (sessions of the console) are added before the application starts."""


def prepare(app: web.Application) -> None:
    """Give an application what authentication needs."""
    app[ATTEMPTS_KEY], app[KNOWN], app[RATES], app[USES] = Attempts(), KnownTokens(), Rates(), Uses()
    known: list[Authenticator] = [by_bearer, by_key]
    app[AUTHENTICATORS] = known

    async def close(_: web.Application) -> None:
        await app[USES].close()

    app.on_shutdown.append(close)


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Pass on requests of authenticated and authorized callers; else 401, 403, or 429 after too many."""
    if not is_open(request):
        async with admitted(request):
            return await handler(request)
    return await handler(request)


@asynccontextmanager
async def admitted(request: web.Request) -> AsyncIterator[None]:
    """Note who makes a request, and do what follows by his warrant. Raises Refusal where nobody known does or he may
    not, StoreError with the database down."""
    await _admit(request)
    # What the request changes is written much later, perhaps: each write looks at the token again.
    before = IN_FORCE.set(request[CALLER].warrant)
    try:
        yield
    finally:
        IN_FORCE.reset(before)


async def _admit(request: web.Request) -> None:
    caller = None
    for known in request.app[AUTHENTICATORS]:
        if caller := await known(request):
            break
    if caller is None:
        raise unauthorized("Send the header `Authorization: Bearer TOKEN`.", "")
    request[CALLER], request[ACTOR], request[SHOWN] = caller, caller.actor, caller.rights.shown
    _check_rights(request)


async def by_bearer(request: web.Request) -> Caller | None:
    """By `Authorization: Bearer TOKEN`."""
    clear = bearer(request)
    return await caller_of_token(request, clear) if clear else None


async def by_key(request: web.Request) -> Caller | None:
    """By `X-API-Key: TOKEN`, as callers of PowerDNS's API send it."""
    clear = request.headers.get("X-API-Key", "").strip()
    return await caller_of_token(request, clear) if clear and clear.isascii() else None


async def caller_of_token(request: web.Request, clear: str) -> Caller:
    """The owner of a token in clear; raises Refusal where it is none, not good any more, not from here or too often."""
    attempts, source, node = request.app[ATTEMPTS_KEY], source_of(request), request.app[NODE]
    store = node.store()
    wait = attempts.wait(source, time.monotonic(), clear)
    if wait and not await request.app[KNOWN].hold(store, clear):
        raise _too_many("too-many-attempts", wait)
    known = await store.tokens.warranted(clear)
    if known is None:
        attempts.fail(source, time.monotonic(), clear)
        if not wait and attempts.wait(source, time.monotonic()):
            log.warning("too many wrong tokens from one source, which has to wait now", source=source)
        raise unauthorized(
            "This token is not (or no longer) known; make one with `dnsvip tokens create NAME --config NODE.toml`.",
            ', error="invalid_token"',
        )
    return caller_of(request, *known)


def caller_of(request: web.Request, token: Token, warrant: Warrant) -> Caller:
    """The owner of a token that there is; raises Refusal where it is not good any more, not from here or too often."""
    node, source = request.app[NODE], source_of(request)
    now = node.now()
    if token.unreadable is not None:
        raise unauthorized("What is stored of this token cannot be read; make another one.", ', error="invalid_token"')
    if token.has_expired(now):
        raise unauthorized(
            "This token has expired; have it rotated (POST /tokens/NAME/rotate).", ', error="invalid_token"'
        )
    if not token.is_from(source):
        raise Refusal("forbidden", "This token may not be used from this address (its networks do not hold it).")
    if token.per_minute and (wait := request.app[RATES].wait(token.name, token.per_minute, time.monotonic())):
        raise _too_many("rate-limited", wait)
    request.app[USES].note(request, token, now)
    return Caller(
        f"token {token.name}", rights_here(request, token.rights), token, replace(warrant, source=source or LOCALLY)
    )


def rights_here(request: web.Request, rights: Rights) -> Rights:
    """Rights with the zones of the site, which services are judged by."""
    return replace(rights, zones=request.app[NODE].snapshot().site.zones)


def is_open(request: web.Request) -> bool:
    """Whether a request needs no caller."""
    operation = operation_of(request)
    return bool(operation and operation.open) or getattr(request.match_info.handler, "open_to_all", False)


def open_to_all(handler: Handler) -> Handler:
    """Mark a handler that needs no token."""
    handler.open_to_all = True  # type: ignore[attr-defined] # functions take attributes, their type does not say so
    return handler


def bearer(request: web.Request) -> str:
    """The token in the Authorization header, empty where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.isascii() else ""


async def confirm(request: web.Request) -> None:
    """Raise RevokedError where the caller may not do any more what it could when it was let in. For what changes
    nothing, and is answered after a body has come, which may be minutes later."""
    await request.app[NODE].store().tokens.confirm()


def demand(request: web.Request, action: Action, kind: str, name: str | None = None) -> None:
    """Raise Refusal, naming the missing scope, where the caller lacks the right."""
    if not request[CALLER].rights.allow(action, kind, name):
        raise Refusal("forbidden", f"This token lacks the scope {wanted(action, kind, name)}.")


def demand_seen(request: web.Request, look: str, kind: str, name: str | None, *, must: bool = False) -> None:
    """Raise Refusal where an answer would tell about an object that the caller's right to look does not reach.

    It does not name the object; with `must` it does not tell either whether there is one (`name` None: there is none).
    """
    rights = request[CALLER].rights
    patterns = rights.patterns(Action.READ, kind, look)
    if patterns is not None and (must if name is None else not fits_any(kind, name, patterns, rights.zones)):
        raise Refusal("forbidden", f"The answer is about no {kind} that this token may see (read:{look}).")


def _check_rights(request: web.Request) -> None:
    operation = operation_of(request)
    if request.match_info.http_exception is not None or not request.path.startswith(ROOT):
        return  # there is no such path, and its own answer says so; or it asks by `demand` itself
    if operation is None:
        action = Action.READ if request.method in ("GET", "HEAD") else Action.WRITE
        demand(request, action, _kind_of_path(request.path))
    elif operation.kind:
        name = operation.target(request)
        demand(request, operation.action, operation.kind, name and canonical_name(operation.kind, name))


def _kind_of_path(path: str) -> str:
    """The kind of a plain route in scopes: the first part of its path, in the singular."""
    first = path.removeprefix(f"{ROOT}/").partition("/")[0]
    return next((kind for kind in (first, first.removesuffix("s")) if kind in KINDS), "site")


def _too_many(kind: str, wait: float) -> Refusal:
    seconds = math.ceil(wait)
    return Refusal(kind, f"Try again in {seconds} seconds.", headers={"Retry-After": str(seconds)})


def unauthorized(detail: str, error: str) -> Refusal:
    """The refusal for who is not known (any more); `error` are further parameters of the challenge (RFC 6750)."""
    return Refusal("unauthorized", detail, headers={"WWW-Authenticate": f'Bearer realm="dnsvip"{error}'})


def _digest(clear: str) -> bytes:
    return hashlib.sha256(clear.encode()).digest()


def _own(clear: str) -> str:
    return f"token {_digest(clear).hex()}"


def _place(source: str) -> str:
    try:
        address = ip_address(source)
    except ValueError:
        return source
    return source if address.version == 4 else str(IPv6Network((int(address) >> 64 << 64, 64)))
