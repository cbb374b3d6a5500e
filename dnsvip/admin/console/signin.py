"""/console/session: exchanges a bearer token for a session cookie, and checks the requests that carry one.

A browser sends a cookie with any request, so a changing one also needs the session's CSRF token in a header, which no
other site's page can read or set, and must come from a page of this origin.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from dataclasses import asdict
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from dnsvip.admin.console.sessions import LIFETIME, SESSIONS, Session
from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, CALLER, TOKEN, bearer, open_to_all
from dnsvip.admin.http.problems import Handler, Refusal
from dnsvip.admin.http.source import source_of
from dnsvip.site.rights import NARROWED

PATH = "/console/session"
COOKIE, SECURE_COOKIE = "dnsvip-session", "__Host-dnsvip-session"
CSRF = "X-CSRF-Token"
MOST_BYTES = 1 << 14
"""Characters of a request's cookies, those of other programs of this host among them; browsers send some 8,000."""

SAFE = ("GET", "HEAD", "OPTIONS")
OWN_SITE = ("same-origin", "none")

SESSION = web.RequestKey("session", Session)
"""The session that a request came with."""

log = structlog.get_logger(__name__)


@web.middleware
async def by_session(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Pass the token of a request's session on to `authenticate`, further in; raises Refusal for a forgery."""
    _, session = _session_of(request)
    if session is None or "Authorization" in request.headers:
        return await handler(request)
    if request.method not in SAFE:
        _check_intended(request, session)
    request[SESSION], request[TOKEN] = session, session.token
    try:
        return await handler(request)
    except Refusal as refusal:
        if refusal.kind == "unauthorized":  # the token is gone: end its sessions, or their polls count as guesses
            request.app[SESSIONS].close_all(session.token)
        raise


async def sign_in(request: web.Request) -> web.Response:
    """Open a session for the token in the Authorization header, which `authenticate` has accepted."""
    _check_origin(request)
    if SESSION in request:
        raise Refusal("bad-request", "Send the token in the header `Authorization: Bearer TOKEN`.")
    secure = request.secure or urlsplit(request.headers.get("Origin", "")).scheme == "https"
    name, session = request.app[SESSIONS].open(bearer(request), secure=secure, now=time.monotonic())
    log.info("signed in to the console", actor=request[ACTOR], source=source_of(request))
    response = bodies.answer(_shown(request, session), status=201)
    response.set_cookie(
        SECURE_COOKIE if secure else COOKIE,
        name,
        max_age=int(LIFETIME),
        path="/",
        secure=secure,
        httponly=True,
        samesite="Strict",
    )
    return response


async def look(request: web.Request) -> web.Response:
    """Who is signed in, with the CSRF token for this session's changes; 401 once its token is gone."""
    if SESSION not in request:
        raise Refusal("bad-request", "A bearer token needs no session; this describes the session of a cookie.")
    return bodies.answer(_shown(request, request[SESSION]))


@open_to_all
async def signed_in(request: web.Request) -> web.Response:
    """Whether this request carries a session, for a page that has just been opened; never 401."""
    return bodies.answer({"signed_in": SESSION in request})


async def sign_out(request: web.Request) -> web.Response:
    """End the session and its cookie."""
    name, session = _session_of(request)
    request.app[SESSIONS].close(name)
    response = web.Response(status=204)
    secure = session is not None and session.secure
    response.del_cookie(SECURE_COOKIE if secure else COOKIE, path="/", secure=secure, httponly=True, samesite="Strict")
    return response


def _session_of(request: web.Request) -> tuple[str, Session | None]:
    """The id and session of a request's cookie; one opened under TLS is accepted only under the name that needs TLS."""
    sessions, now = request.app[SESSIONS], time.monotonic()
    cookies = _cookies(request.headers.getall("Cookie", ()))
    for cookie, secure in ((SECURE_COOKIE, True), (COOKIE, False)):
        name = cookies.get(cookie, "")
        if name and (session := sessions.find(name, secure=secure, now=now)):
            return name, session
    return "", None


def _cookies(lines: Sequence[str]) -> dict[str, str]:
    """The session cookies of a request (RFC 6265 section 4.2.1); raises Refusal. Python's own parser takes 30 ms for
    what anybody may send before it is known who asks."""
    if sum(map(len, lines)) > MOST_BYTES:
        raise Refusal("bad-request", f"Cookie: has more than {MOST_BYTES} characters.")
    pairs = (pair.partition("=") for line in lines for pair in line.split(";") if COOKIE in pair)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _check_intended(request: web.Request, session: Session) -> None:
    _check_origin(request)
    if not hmac.compare_digest(request.headers.get(CSRF, "").encode(), session.csrf.encode()):
        raise Refusal("forbidden", f"A change by a session's cookie needs the header {CSRF} from GET {PATH}.")


def _check_origin(request: web.Request) -> None:
    """Raise Refusal unless a page of this server sent the request; browsers set these headers, and no page can."""
    origin = urlsplit(request.headers.get("Origin", ""))
    if origin.netloc.lower() != request.host.lower() or request.headers.get("Sec-Fetch-Site", "none") not in OWN_SITE:
        raise Refusal("forbidden", "Only the console's own pages may send this; use a bearer token elsewhere.")


def _shown(request: web.Request, session: Session) -> dict[str, object]:
    left = max(0.0, session.ends - time.monotonic())
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
    web.get(f"{PATH}/here", signed_in),
]
