"""Who calls: bearer tokens (RFC 6750), and a limit on how often one source may try wrong ones.

A token is compared by looking its hash up, so time tells nothing of it. It stands in no log line and
in no answer but that of its making.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from ipaddress import IPv6Network, ip_address

import structlog
from aiohttp import web

from dnsvip.admin.node import NODE
from dnsvip.admin.problems import Handler, Refusal

ACTOR = web.RequestKey("actor", str)
"""Under which a request holds whom the audit names for it."""

TOKEN = web.RequestKey("token", str)
"""Under which a middleware further out leaves the token it found for a request that carries none itself."""

ATTEMPTS = 10
SECONDS_EACH = 6.0
SOURCES = 4096

log = structlog.get_logger(__name__)


class Attempts:
    """How many wrong tokens each source may still try: `allowed` at once, one more every `seconds_each`.

    At most `sources` are remembered, the one heard of longest ago is forgotten first; an IPv6 /64 is one source.
    Times are monotonic seconds.
    """

    def __init__(self, allowed: int = ATTEMPTS, seconds_each: float = SECONDS_EACH, sources: int = SOURCES) -> None:
        self._allowed, self._seconds_each, self._sources = allowed, seconds_each, sources
        # Source -> when all its attempts are forgiven: each wrong one moves that moment by `seconds_each`.
        self._clear_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, source: str, now: float) -> float:
        """Seconds until this source may try again; 0 where it may now."""
        clear_at = self._clear_at.get(_place(source), now)
        return max(0.0, clear_at - now - (self._allowed - 1) * self._seconds_each)

    def fail(self, source: str, now: float) -> None:
        """Note a wrong token."""
        place = _place(source)
        self._clear_at[place] = max(now, self._clear_at.pop(place, now)) + self._seconds_each
        while len(self._clear_at) > self._sources:
            self._clear_at.popitem(last=False)


class KnownGood:
    """The tokens that were good lately, by hash: their owners need not wait for others at the same address."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._hashes: OrderedDict[bytes, None] = OrderedDict()

    def add(self, clear: str) -> None:
        """Note a token that has just been found in the database."""
        self._hashes[_digest(clear)] = None
        self._hashes.move_to_end(_digest(clear))
        while len(self._hashes) > self._most:
            self._hashes.popitem(last=False)

    def __contains__(self, clear: str) -> bool:
        return _digest(clear) in self._hashes


ATTEMPTS_KEY = web.AppKey("attempts", Attempts)
KNOWN_GOOD = web.AppKey("known_good", KnownGood)


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request with a good token through, its actor noted; else 401, or 429 after too many wrong ones."""
    if not getattr(request.match_info.handler, "open_to_all", False):
        await admit(request)
    return await handler(request)


async def admit(request: web.Request) -> None:
    """Note the actor of a request with a good token; raises Refusal, or StoreError with the database down."""
    clear = bearer(request) or request.get(TOKEN, "")
    if not clear:
        raise _unauthorized("Send the header `Authorization: Bearer TOKEN`.", "")
    attempts, known_good, source = request.app[ATTEMPTS_KEY], request.app[KNOWN_GOOD], request.remote or ""
    wait = attempts.wait(source, time.monotonic())
    if wait and clear not in known_good:
        seconds = math.ceil(wait)
        headers = {"Retry-After": str(seconds)}
        raise Refusal("too-many-attempts", f"Try again in {seconds} seconds.", headers=headers)
    # A token that is known good is looked up all the same: it may have been deleted since, on any node.
    token = await request.app[NODE].store().find_token(clear)
    if token is None:
        attempts.fail(source, time.monotonic())
        if not wait and attempts.wait(source, time.monotonic()):
            log.warning("too many wrong tokens from one source, which has to wait now")
        raise _unauthorized(
            "This token is not (or no longer) known; make one with `dnsvip tokens create NAME --config NODE.toml`.",
            ', error="invalid_token"',
        )
    known_good.add(clear)
    request[ACTOR] = f"token {token.name}"


def open_to_all(handler: Handler) -> Handler:
    """Mark a handler that needs no token."""
    handler.open_to_all = True  # type: ignore[attr-defined] # functions take attributes, their type does not say so
    return handler


def bearer(request: web.Request) -> str:
    """The token in the Authorization header, empty where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.isascii() else ""


def _unauthorized(detail: str, error: str) -> Refusal:
    return Refusal("unauthorized", detail, headers={"WWW-Authenticate": f'Bearer realm="dnsvip"{error}'})


def _digest(clear: str) -> bytes:
    return hashlib.sha256(clear.encode()).digest()


def _place(source: str) -> str:
    try:
        address = ip_address(source)
    except ValueError:
        return source
    return source if address.version == 4 else str(IPv6Network((int(address) >> 64 << 64, 64)))
