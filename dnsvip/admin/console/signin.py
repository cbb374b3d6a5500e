"""/console/session: exchanges a bearer token for a session cookie, and checks the requests that carry one.

A browser sends a cookie with any request, so a changing one also needs the session's CSRF token in a header, which no
other site's page can read or set, and must come from a page of this origin. While the database is away, a session that
this process has seen before may look, with the rights that it had, and change nothing.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from urllib.parse import SplitResult, urlsplit

import structlog
from aiohttp import web

from dnsvip.admin.console.sessions import LIFETIME, SESSIONS, Session
from dnsvip.admin.console.users import caller_of_user, end_there, users_sign_in
from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import (
    ACTOR,
    CALLER,
    Attempts,
    Caller,
    bearer,
    caller_of,
    is_open,
    open_to_all,
    unauthorized,
)
from dnsvip.admin.http.operation import READS
from dnsvip.admin.http.problems import Handler, Refusal
from dnsvip.admin.http.source import source_of
from dnsvip.admin.http.standby import STANDBY
from dnsvip.admin.node import NODE
from dnsvip.errors import DatabaseBusy, DiskFull, StoreError, UnreadableError
from dnsvip.site.rights import NARROWED
from dnsvip.store.access.console_sessions import Holder
from dnsvip.store.access.tokens import hash_of

PATH = "/console/session"
HERE = f"{PATH}/here"
LIVE_PATH = "/console/live"
COOKIE, SECURE_COOKIE = "dnsvip-session", "__Host-dnsvip-session"
OWN = "dnsvip-"
"""What is in the name of each cookie of the console."""

CSRF = "X-CSRF-Token"
MOST_BYTES = 1 << 14
"""Characters of a request's cookies, those of other programs of this host among them; browsers send some 8,000."""

SAFE = ("GET", "HEAD", "OPTIONS")
OWN_SITE = ("same-origin", "none")

BUSY = DatabaseBusy, DiskFull, UnreadableError
"""What a database that is at hand says, too."""

SESSION = web.RequestKey("session", Session)
"""The session that a request came with."""

HOLDER = web.RequestKey("holder", Holder)
"""Session and token as the database has them; not there while it is away."""

COOKIE_ATTEMPTS = web.AppKey("cookie attempts", Attempts)
"""How many unknown cookies each source may still have looked up: those of dead sessions come again and again."""

log = structlog.get_logger(__name__)


@web.middleware
async def by_session(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find the session of a request for `caller_of_session`, further in; raises Refusal for a forgery."""
    if "Authorization" in request.headers or (is_open(request) and request.path not in (HERE, LIVE_PATH)):
        return await handler(request)
    session = await _session_of(request)
    if session is None:
        return await handler(request)
    if request.method not in SAFE:
        _check_intended(request, session)
    request[SESSION] = session
    try:
        return await handler(request)
    except Refusal as refusal:
        if refusal.kind == "unauthorized":  # its token is gone
            with suppress(StoreError):
                await request.app[SESSIONS].close(request.app[NODE].store(), session)
        raise


async def caller_of_session(request: web.Request) -> Caller | None:
    """Who holds the session of a request; raises Refusal where its token is not good any more."""
    if SESSION not in request:
        return None
    session = request[SESSION]
    session.caller = caller = _holding(request, request[HOLDER]) if HOLDER in request else _remembered(request, session)
    return caller


def _holding(request: web.Request, holder: Holder) -> Caller:
    if holder.session.user is not None:
        return caller_of_user(request, holder)
    if holder.token is None or holder.warrant is None:
        text = "The token of this session is not (or no longer) known; sign in with another one."
        raise unauthorized(text, ', error="invalid_token"')
    return caller_of(request, holder.token, holder.warrant)


def _remembered(request: web.Request, session: Session) -> Caller:
    """Who held a session when the database was last at hand, to look at what this node has."""
    before = session.caller
    if before is None or request.method not in READS:
        text = "The database is away, so nothing can be changed now; what is shown is this node's last good snapshot."
        raise Refusal("unavailable", text, headers={"Retry-After": "2"})
    request[STANDBY] = True
    if before.token is not None and before.warrant is not None:
        return caller_of(request, before.token, before.warrant)
    return before  # a user, until the session ends


async def sign_in(request: web.Request) -> web.Response:
    """Open a session for the token in the Authorization header, which `authenticate` has accepted."""
    _check_origin(request)
    if SESSION in request:
        raise Refusal("bad-request", "Send the token in the header `Authorization: Bearer TOKEN`.")
    node = request.app[NODE]
    secure = request.secure or _origin(request).scheme == "https"
    owner = hash_of(bearer(request))
    cookie, session = await request.app[SESSIONS].open(node.store(), owner, secure=secure, now=node.now())
    session.caller = request[CALLER]
    log.info("signed in to the console", actor=request[ACTOR], source=source_of(request))
    response = bodies.answer(_shown(request, session), status=201)
    set_cookie(response, cookie, secure=secure, seconds=LIFETIME)
    return response


def set_cookie(response: web.Response, cookie: str, *, secure: bool, seconds: float) -> None:
    """Give a browser the cookie of its session, for this host's own pages and out of reach of scripts."""
    response.set_cookie(
        SECURE_COOKIE if secure else COOKIE,
        cookie,
        max_age=int(seconds),
        path="/",
        secure=secure,
        httponly=True,
        samesite="Strict",
    )


async def look(request: web.Request) -> web.Response:
    """Who is signed in, with the CSRF token for this session's changes; 401 once its token is gone."""
    if SESSION not in request:
        raise Refusal("bad-request", "A bearer token needs no session; this describes the session of a cookie.")
    return bodies.answer(_shown(request, request[SESSION]))


@open_to_all
async def signed_in(request: web.Request) -> web.Response:
    """Whether this request carries a session, for a page that has just been opened, and where users sign in; never
    401."""
    return bodies.answer({"signed_in": SESSION in request, "users": users_sign_in(request)})


async def sign_out(request: web.Request) -> web.Response:
    """End the session and its cookie."""
    session = request.get(SESSION)
    secure = session is not None and session.stored.secure
    end = None
    if session is not None:
        await request.app[SESSIONS].close(request.app[NODE].store(), session)
        end = await end_there(request) if session.stored.user else None
    response = bodies.answer({"provider": end}) if end else web.Response(status=204)
    response.del_cookie(SECURE_COOKIE if secure else COOKIE, path="/", secure=secure, httponly=True, samesite="Strict")
    return response


async def _session_of(request: web.Request) -> Session | None:
    """The session of a request's cookie; one opened under TLS is accepted only under the name that needs TLS. Raises
    StoreError with the database away, unless this process remembers the session."""
    sessions, node = request.app[SESSIONS], request.app[NODE]
    for cookie, secure in _sent(request):
        remembered = sessions.remembered(cookie, secure=secure, now=node.now())
        if remembered is None and _waits(request, cookie):
            continue
        try:
            found = await sessions.find(node.store(), cookie, secure=secure, now=node.now())
        except StoreError as error:
            if remembered is None or isinstance(error, BUSY):
                raise
            return remembered
        if found is not None:
            request[HOLDER] = found[1]
            return found[0]
        request.app[COOKIE_ATTEMPTS].fail(source_of(request), time.monotonic(), cookie)
    return None


def _waits(request: web.Request, cookie: str) -> bool:
    """Whether too many unknown cookies have come from a source for this one to be looked up."""
    return request.app[COOKIE_ATTEMPTS].wait(source_of(request), time.monotonic(), cookie) > 0


def _sent(request: web.Request) -> Iterator[tuple[str, bool]]:
    """The session cookies of a request, and whether each is one that needs TLS."""
    cookies = cookies_of(request)
    for name, secure in ((SECURE_COOKIE, True), (COOKIE, False)):
        if cookie := cookies.get(name, ""):
            yield cookie, secure


def cookies_of(request: web.Request) -> dict[str, str]:
    """The console's own cookies of a request; raises Refusal."""
    return _cookies(request.headers.getall("Cookie", ()))


def _cookies(lines: Sequence[str]) -> dict[str, str]:
    """The console's cookies of a request (RFC 6265 section 4.2.1); raises Refusal. Python's own parser takes 30 ms for
    what anybody may send before it is known who asks."""
    if sum(map(len, lines)) > MOST_BYTES:
        raise Refusal("bad-request", f"Cookie: has more than {MOST_BYTES} characters.")
    pairs = (pair.partition("=") for line in lines for pair in line.split(";") if OWN in pair)
    return {name.strip(): value.strip() for name, _, value in pairs if value.isascii()}  # as all that this sets are


def _check_intended(request: web.Request, session: Session) -> None:
    _check_origin(request)
    if not hmac.compare_digest(request.headers.get(CSRF, "").encode(errors="replace"), session.csrf.encode()):
        raise Refusal("forbidden", f"A change by a session's cookie needs the header {CSRF} from GET {PATH}.")


def _check_origin(request: web.Request) -> None:
    """Raise Refusal unless a page of this server sent the request; browsers set these headers, and no page can."""
    if _origin(request).netloc.lower() != request.host.lower() or not is_own_site(request):
        raise Refusal("forbidden", "Only the console's own pages may send this; use a bearer token elsewhere.")


def is_own_site(request: web.Request) -> bool:
    """Whether the browser says that a page of this server, or its user, sent a request, or says nothing."""
    return request.headers.get("Sec-Fetch-Site", "none") in OWN_SITE


def _origin(request: web.Request) -> SplitResult:
    """Where the page that sent a request comes from; raises Refusal where that is no URL."""
    try:
        return urlsplit(request.headers.get("Origin", ""))
    except ValueError:
        raise Refusal("forbidden", "Origin: is no URL.") from None


def _shown(request: web.Request, session: Session) -> dict[str, object]:
    left = max(0.0, session.stored.ends_at - request.app[NODE].now())
    scopes = [asdict(scope) for scope in request[CALLER].rights.scopes]
    return {
        "actor": request[ACTOR],
        "scopes": scopes,
        "narrowed_by": NARROWED,
        "csrf": session.csrf,
        "seconds_left": round(left),
    }


ROUTES = [
    web.post(PATH, sign_in),
    web.get(PATH, look),
    web.delete(PATH, sign_out),
    web.get(HERE, signed_in),
]
