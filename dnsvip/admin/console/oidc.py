"""/console/oidc: users sign in by OpenID Connect, authorization code flow with PKCE (RFC 7636, RFC 9700).

`start` sends the browser to the provider, with what this sign-in is known by in a cookie that lives for ten minutes;
`callback` takes the browser back, compares, has the code exchanged and opens a session. Nothing is remembered here
meanwhile, so strangers fill nothing. Wherever it ends the browser is sent to the console's own page, never elsewhere.
A page of another site begins none and ends none: the cookie stays until the answer to its own sign-in has come.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from dataclasses import asdict, dataclass
from urllib.parse import urlencode, urlsplit

import structlog
from aiohttp import web

from dnsvip.admin.console.id_tokens import SignInError
from dnsvip.admin.console.sessions import SESSIONS
from dnsvip.admin.console.signin import cookies_of, is_own_site, set_cookie
from dnsvip.admin.console.users import PROVIDER, START
from dnsvip.admin.http.auth import Attempts, open_to_all
from dnsvip.admin.http.source import source_of
from dnsvip.admin.node import NODE
from dnsvip.errors import StoreError, TooManySessions
from dnsvip.site.node_oidc import OidcSettings
from dnsvip.store.access.console_sessions import owner_of
from dnsvip.telemetry.paced import Paced

COOKIE, SECURE_COOKIE = "dnsvip-oidc", "__Host-dnsvip-oidc"
FLOW_SECONDS = 600
SECRET_BYTES = 32
MOST_COOKIE, MOST_PARAMETER = 1000, 4096
"""Characters of the cookie, and of a parameter that the browser brings back."""

STRAYS = ("expired", "busy")
"""What may be the answer to no sign-in of this browser, and has cost nothing."""

LONGEST_PLACE = 300
PLACE = re.compile(r"[A-Za-z0-9_./?=&%:~+-]*")
"""A page of the console, what stands behind #/ in its address."""

FAILURES = web.AppKey("failed sign-ins", Attempts)
"""How many sign-ins of each source may fail: each has the provider asked."""

LINES = web.AppKey("lines about failed sign-ins", Paced)
"""Anybody may have one fail, as often as he likes."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Flow:
    """A sign-in that a browser has begun: what comes back with it, what the ID token must have, what proves to the
    provider that the code is exchanged by who asked for it, and the page that is wanted."""

    state: str
    nonce: str
    verifier: str
    place: str

    @classmethod
    def begun(cls, place: str) -> Flow:
        """A new one."""
        state, nonce, verifier = (secrets.token_urlsafe(SECRET_BYTES) for _ in range(3))
        return cls(state, nonce, verifier, place[:LONGEST_PLACE])

    @property
    def challenge(self) -> str:
        """What the provider knows the verifier by (RFC 7636 section 4.2)."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def dump(self) -> str:
        """As the cookie has it."""
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode().rstrip("=")

    @classmethod
    def load(cls, cookie: str) -> Flow:
        """That of a cookie; raises SignInError."""
        try:
            if not 0 < len(cookie) <= MOST_COOKIE:
                raise ValueError
            flow = cls(**json.loads(base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4))))
            if not all(isinstance(text, str) and text for text in (flow.state, flow.nonce, flow.verifier)):
                raise ValueError
            if not f"{flow.state}{flow.nonce}{flow.verifier}".isascii():  # as `begun` makes them; others may not encode
                raise ValueError
            return flow if PLACE.fullmatch(flow.place) else cls(flow.state, flow.nonce, flow.verifier, "")
        except (ValueError, TypeError, RecursionError):
            raise SignInError("expired", "this browser has begun no sign-in in the last ten minutes") from None


@open_to_all
async def start(request: web.Request) -> web.Response:
    """Send the browser to the provider, where the console or the user asks for it."""
    if not is_own_site(request):
        return _sent("/console/#/signin")
    provider = request.app[PROVIDER]
    own, flow = provider.settings, Flow.begun(request.query.get("to", ""))
    try:
        where = (await provider.metadata()).authorize
    except SignInError as error:
        return _failed(request, error)
    asked = {
        "response_type": "code",
        "client_id": own.client_id,
        "redirect_uri": provider.redirect_uri,
        "scope": " ".join(dict.fromkeys(("openid", *own.scopes))),
        "state": flow.state,
        "nonce": flow.nonce,
        "code_challenge": flow.challenge,
        "code_challenge_method": "S256",
    }
    response = _sent(f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}")
    secure = _is_secure(own)
    response.set_cookie(
        SECURE_COOKIE if secure else COOKIE,
        flow.dump(),
        max_age=FLOW_SECONDS,
        path="/",
        secure=secure,
        httponly=True,
        samesite="Lax",  # the provider's page sends the browser back, by a link of another site
    )
    return response


@open_to_all
async def callback(request: web.Request) -> web.Response:
    """Open a session for who comes back from the provider with a code, to the sign-in that this browser has begun."""
    failures, source = request.app[FAILURES], source_of(request)
    ended = True
    try:
        if failures.wait(source, time.monotonic()):
            raise SignInError("busy", "too many sign-ins from there have failed")
        response = await _signed_in(request)
    except SignInError as error:
        ended = error.code not in STRAYS
        if ended:
            failures.fail(source, time.monotonic())
        response = _failed(request, error)
    except TooManySessions as error:
        response = _failed(request, SignInError("full", str(error)))
    except StoreError as error:
        response = _failed(request, SignInError("database", str(error)))
    secure = _is_secure(request.app[PROVIDER].settings)
    if ended:
        response.del_cookie(SECURE_COOKIE if secure else COOKIE, path="/", secure=secure, httponly=True, samesite="Lax")
    return response


async def _signed_in(request: web.Request) -> web.Response:
    provider, node = request.app[PROVIDER], request.app[NODE]
    own, secure = provider.settings, _is_secure(provider.settings)
    flow = Flow.load(cookies_of(request).get(SECURE_COOKIE if secure else COOKIE, ""))
    code = await _code(request, flow)
    user = await provider.user(code, flow.verifier, flow.nonce)
    cookie, _ = await request.app[SESSIONS].open(
        node.store(), owner_of(user), secure=secure, now=node.now(), user=user, seconds=own.session_seconds
    )
    log.info("signed in to the console", actor=f"user {user.name}", roles=user.roles, source=source_of(request))
    response = _sent(f"/console/#/{flow.place}")
    set_cookie(response, cookie, secure=secure, seconds=own.session_seconds)
    return response


async def _code(request: web.Request, flow: Flow) -> str:
    """The code that the provider sent for this sign-in; raises SignInError."""
    provider, brought = request.app[PROVIDER], dict(request.query)
    if len(brought) != len(request.query) or any(len(text) > MOST_PARAMETER for text in brought.values()):
        raise SignInError("expired", "parameters that stand twice, or are too long")
    if not hmac.compare_digest(brought.get("state", "").encode(), flow.state.encode()):
        raise SignInError("expired", "the state is not that of the sign-in that this browser has begun")
    says_issuer = (await provider.metadata()).says_issuer
    if brought.get("iss", None if says_issuer else provider.settings.issuer) != provider.settings.issuer:
        raise SignInError("provider", "the answer is of another provider (iss, RFC 9207)")
    if "error" in brought:
        denied = brought["error"] == "access_denied"
        shown = re.sub(r"[^\x20-\x7e]", "_", brought["error"])[:50]
        raise SignInError("denied" if denied else "provider", f"the provider answers {shown!r}")
    if not brought.get("code"):
        raise SignInError("provider", "the provider sent no code")
    return brought["code"]


def _failed(request: web.Request, error: SignInError) -> web.Response:
    """To the sign-in page, which knows the words of each code: no text of a URL is shown."""
    more = request.app[LINES].passes(error.code, time.monotonic())
    if more is not None:
        told = {"why": str(error), "code": error.code, "source": source_of(request)}
        log.warning("a sign-in by OpenID Connect failed", **told, **more)
    return _sent(f"/console/#/signin?why={error.code}")


def _sent(where: str) -> web.Response:
    return web.Response(status=303, headers={"Location": where, "Cache-Control": "no-store"})


def _is_secure(settings: OidcSettings) -> bool:
    """Whether browsers come by TLS."""
    return urlsplit(settings.url).scheme == "https"


ROUTES = [web.get(START, start), web.get("/console/oidc/callback", callback)]
