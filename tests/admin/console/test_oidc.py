"""Users by OpenID Connect, against providers that are wrong in every way; tests/console/test_oidc.py has a real one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from structlog.testing import capture_logs

from dnsvip.admin.app import make_app
from dnsvip.admin.console import provider as provider_module
from dnsvip.admin.console import users
from dnsvip.admin.console.id_tokens import ALGORITHMS
from dnsvip.admin.console.provider import MOST_BYTES
from dnsvip.admin.console.signin import COOKIE
from dnsvip.admin.node import Node
from dnsvip.errors import ConfigError, InvalidSite
from dnsvip.site.node_admin import AdminSettings
from dnsvip.site.node_file import build_node
from dnsvip.site.node_oidc import OidcSettings
from dnsvip.site.rights import ROLES, Action, Scope
from dnsvip.telemetry.paced import MOST
from tests.admin.conftest import Api
from tests.ports import free_port

CLIENT = "console"


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def jwk(key: rsa.RSAPrivateKey, kid: str = "one") -> dict[str, Any]:
    return {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}


@dataclass
class Hostile:
    """A provider on loopback that does what a test wants. `claims` and `header` change the next ID token, None removes;
    `signed` makes it."""

    port: int = field(default_factory=free_port)
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    keys: list[Any] = field(default_factory=lambda: [jwk(rsa_key())])
    signed: Any = None
    answers: dict[str, Any] = field(default_factory=dict)
    """Path to the handler that stands in the place of the usual one."""
    asked: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    nonce: str = ""

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def token(self) -> str:
        now = int(time.time())
        usual = {"iss": self.issuer, "sub": "1234", "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": self.nonce}
        usual |= {"preferred_username": "alice", "groups": ["ops"]}
        claims = {key: value for key, value in (usual | self.claims).items() if value is not None}
        header = {key: value for key, value in ({"kid": "one"} | self.header).items() if value is not None}
        if self.signed is not None:
            return str(self.signed(claims, header))
        return jwt.encode(claims, rsa_key(), "RS256", header)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path in self.answers:
            return await self.answers[request.path](request)  # type: ignore[no-any-return]
        match request.path.removeprefix("/elsewhere"):
            case "/.well-known/openid-configuration":
                names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
                usual = {name: f"{self.issuer}/{path}" for name, path in names.items()}
                return web.json_response({"issuer": self.issuer, **usual, **self.metadata})
            case "/jwks":
                return web.json_response({"keys": self.keys})
            case "/token":
                self.forms.append({**dict(await request.post()), "by": request.headers.get("Authorization", "")})  # type: ignore[dict-item]
                return web.json_response({"id_token": self.token(), "access_token": "x", "token_type": "Bearer"})
        raise web.HTTPNotFound


@dataclass
class World:
    """A console that knows the provider, and a browser at it."""

    browser: TestClient[web.Request, web.Application]
    provider: Hostile
    api: Api
    settings: OidcSettings

    async def start(self, **query: str) -> dict[str, str]:
        """Begin to sign in: what the browser brings to the provider."""
        answer = await self.browser.get("/console/oidc/start", params=query, allow_redirects=False)
        assert answer.status == 303
        brought = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
        self.provider.nonce = brought.get("nonce", "")
        return brought | {"to": answer.headers["Location"]}

    async def back(self, **query: str) -> ClientResponse:
        """Come back from the provider."""
        return await self.browser.get("/console/oidc/callback", params=query, allow_redirects=False)

    async def sign_in(self, **query: str) -> ClientResponse:
        begun = await self.start(**query)
        return await self.back(code="c0de", state=begun["state"])

    async def refused(self, code: str, answer: ClientResponse | None = None) -> None:
        """The browser is back at the sign-in page, is told no more than a code, and has no session."""
        answer = answer or await self.sign_in()
        assert answer.headers["Location"] == f"/console/#/signin?why={code}"
        assert COOKIE not in answer.cookies
        assert (await self.browser.get("/api/v1/whoami")).status == 401


@asynccontextmanager
async def world(api: Api, **changed: Any) -> AsyncIterator[World]:
    provider, port = Hostile(), free_port()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider.handle)
    server = TestServer(app, port=provider.port)
    settings = OidcSettings(
        provider.issuer,
        CLIENT,
        f"http://127.0.0.1:{port}",
        {"ops": ROLES["operator"], "one": (Scope((Action.READ,), ("client",), clients=("acme",)),)},
    )
    settings = replace(settings, **changed)
    now = lambda: time.time() + api.ahead[0]  # noqa: E731 - as the fixture's own
    node = Node(lambda: api.store, lambda: api.snapshots[-1], dict, api.folder / "dispatch.sock", now)
    await server.start_server()
    try:
        async with TestClient(TestServer(make_app(node, settings=AdminSettings(oidc=settings)), port=port)) as browser:
            yield World(browser, provider, api, settings)
    finally:
        await server.close()


@pytest.fixture
async def at(api: Api) -> AsyncIterator[World]:
    async with world(api) as made:
        yield made


async def test_signing_in(at: World) -> None:
    """With PKCE, state and nonce; the session has the rights of the user's roles, and the audit names the user."""
    begun = await at.start(to="clients/acme")
    assert begun["to"].startswith(f"{at.provider.issuer}/authorize?")
    assert (begun["response_type"], begun["client_id"], begun["code_challenge_method"]) == ("code", CLIENT, "S256")
    assert begun["scope"].split() == ["openid", "profile"]
    assert begun["redirect_uri"] == f"{at.settings.url}/console/oidc/callback"
    answer = await at.back(code="c0de", state=begun["state"])
    assert (answer.status, answer.headers["Location"]) == (303, "/console/#/clients/acme")
    cookie = answer.cookies[COOKIE]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
    (form,) = at.provider.forms
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == begun["code_challenge"]
    assert (form["code"], form["client_id"], form["redirect_uri"]) == ("c0de", CLIENT, begun["redirect_uri"])
    look = await (await at.browser.get("/console/session")).json()
    assert look["actor"] == "user alice (1234)"
    headers = {"X-CSRF-Token": look["csrf"], "Origin": at.settings.url}
    done = await at.browser.patch("/api/v1/clients/acme", json={"tier": "standard"}, headers=headers)
    assert done.status == 200
    row = (await at.api.ok("GET", "audit?limit=1"))["items"][0]
    assert (row["actor"], row["source"]) == ("user alice (1234)", "127.0.0.1")
    assert (await at.browser.delete("/api/v1/tsig/acme-key", headers=headers)).status == 403
    assert (await at.browser.patch("/api/v1/clients/acme", json={"tier": "gold"})).status == 403  # no CSRF token


async def test_roles(at: World) -> None:
    """Several add up; those that the settings do not have are nothing."""
    at.provider.claims = {"groups": ["one", "unknown", 7, None]}
    await at.sign_in()
    assert (await at.browser.get("/api/v1/clients/acme")).status == 200
    assert (await at.browser.get("/api/v1/clients/newsreader")).status == 403
    assert (await at.browser.get("/api/v1/tiers")).status == 403


@pytest.mark.parametrize(
    ("claim", "value"),
    [("realm_access.roles", {"realm_access": {"roles": ["ops"]}}), ("https://x/roles", {"https://x/roles": "ops"})],
    ids=["nested", "text"],
)
async def test_where_roles_are(api: Api, claim: str, value: dict[str, Any]) -> None:
    """In a claim of any name, a member of one, as a list or a text."""
    async with world(api, role_claim=claim) as at:
        at.provider.claims = {"groups": None, **value}
        assert (await at.sign_in()).headers["Location"] == "/console/#/"


@pytest.mark.parametrize(
    "groups", [[], None, ["OPS"], "op", {"ops": 1}, ["unknown"], 1, [["ops"]], "ops,one"], ids=repr
)
async def test_nobody_without_a_role(at: World, groups: Any) -> None:
    """Who has none of the roles has no session, not one without rights."""
    at.provider.claims = {"groups": groups}
    await at.refused("roles")


PUBLIC = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def by_hmac(secret: bytes) -> Any:
    """A token signed by HS256 with whatever everybody knows."""

    def signed(claims: dict[str, Any], header: dict[str, Any]) -> str:
        import hmac  # noqa: PLC0415 - for this forgery alone

        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
            for part in ({"alg": "HS256", "typ": "JWT", **header}, claims)
        ]
        mac = hmac.digest(secret, b".".join(parts), "sha256")
        return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()

    return signed


def unsigned(claims: dict[str, Any], header: dict[str, Any]) -> str:
    return jwt.encode(claims, None, "none", header)  # type: ignore[arg-type]  # by no key


def other_key(claims: dict[str, Any], header: dict[str, Any]) -> str:
    return jwt.encode(claims, rsa.generate_private_key(65537, 2048), "RS256", header)


def own_key_inside(claims: dict[str, Any], header: dict[str, Any]) -> str:
    """A token that brings the key to verify it with."""
    key = rsa.generate_private_key(65537, 2048)
    return jwt.encode(claims, key, "RS256", {**header, "jwk": jwk(key), "jku": "http://127.0.0.1:1/jwks"})


def elliptic(claims: dict[str, Any], header: dict[str, Any]) -> str:
    return jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", header)


NOW = int(time.time())
FORGED: dict[str, dict[str, Any]] = {
    "other audience": {"claims": {"aud": "another"}},
    "no audience": {"claims": {"aud": None}},
    "for others too": {"claims": {"aud": [CLIENT, "another"]}},
    "issued to another": {"claims": {"azp": "another"}},
    "other issuer": {"claims": {"iss": "https://evil.test"}},
    "issuer and a slash": {"claims": {"iss": "http://127.0.0.1/"}},
    "no issuer": {"claims": {"iss": None}},
    "other nonce": {"claims": {"nonce": "x" * 43}},
    "no nonce": {"claims": {"nonce": None}},
    "expired": {"claims": {"exp": NOW - 120}},
    "no expiry": {"claims": {"exp": None}},
    "not yet": {"claims": {"nbf": NOW + 5000}},
    "from the future": {"claims": {"iat": NOW + 5000}},
    "no subject": {"claims": {"sub": None}},
    "empty subject": {"claims": {"sub": ""}},
    "number as subject": {"claims": {"sub": 7}},
    "long subject": {"claims": {"sub": "x" * 256}},
    "subject that is no text": {"claims": {"sub": "\ud800"}},
    "nonce that is no text": {"claims": {"nonce": "\ud800"}},
    "nonce that is a list": {"claims": {"nonce": ["x"]}},
    "endless": {"claims": {"exp": float("inf")}},
    "expiry that is no number": {"claims": {"exp": {}}},
    "issued nowhen": {"claims": {"iat": float("nan")}},
    "not before a list": {"claims": {"nbf": [1]}},
    "audience that is a number": {"claims": {"aud": 7}},
    "audience of numbers": {"claims": {"aud": [7, CLIENT]}},
    "algorithm none": {"signed": unsigned, "header": {"kid": None}},
    "HS256 by the public key": {"signed": by_hmac(PUBLIC)},
    "HS256 by the key's JSON": {"signed": by_hmac(json.dumps(jwk(rsa_key())).encode())},
    "HS256 by the client": {"signed": by_hmac(CLIENT.encode())},
    "other key": {"signed": other_key},
    "brings its key": {"signed": own_key_inside},
    "other kind of key": {"signed": elliptic},
    "unknown kid": {"header": {"kid": "two"}},
    "kid that is none": {"header": {"kid": "../../etc/passwd"}},
    "critical header": {"header": {"crit": ["exp"]}},
    "no token": {"signed": lambda *_: "nonsense"},
    "empty token": {"signed": lambda *_: ""},
    "huge token": {"signed": lambda *_: "x" * 40_000},
    "symmetric key": {"keys": [{"kty": "oct", "k": "AAAA", "kid": "one"}]},
    "short key": {"keys": [jwk(rsa_key(1024))], "signed": lambda c, h: jwt.encode(c, rsa_key(1024), "RS256", h)},
    "key for encryption": {"keys": [jwk(rsa_key()) | {"use": "enc"}]},
    "key of another algorithm": {"keys": [jwk(rsa_key()) | {"alg": "PS256"}]},
    "two keys of one name": {"keys": [jwk(rsa_key()), jwk(rsa_key())]},
    "broken key": {"keys": [{"kty": "RSA", "kid": "one", "n": "!", "e": "AQAB"}]},
}


@pytest.mark.filterwarnings("ignore:The RSA key is")
@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
async def test_forged_tokens(at: World, forged: dict[str, Any]) -> None:
    """A token that is not this provider's, for this console, for now and for this sign-in, opens nothing."""
    for name, value in forged.items():
        setattr(at.provider, name, value)
    await at.refused("token")


async def test_other_algorithms(at: World) -> None:
    """Every algorithm of the list is taken with a key of its kind; none of it is symmetric."""
    assert not any(name.startswith(("HS", "none")) for name in ALGORITHMS)
    key = ec.generate_private_key(ec.SECP256R1())
    at.provider.keys.append({**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "two"})
    for header, signed in (
        ({"kid": "two"}, lambda c, h: jwt.encode(c, key, "ES256", h)),
        ({"kid": "one"}, lambda c, h: jwt.encode(c, rsa_key(), "PS512", h)),
        ({"kid": None}, lambda c, h: jwt.encode(c, key, "ES256", h)),  # there is one key of this kind
    ):
        at.provider.header, at.provider.signed = header, signed
        assert (await at.sign_in()).headers["Location"] == "/console/#/"


async def test_clock_skew(api: Api) -> None:
    """So far the provider's clock may be away, and no further."""
    async with world(api, clock_skew=30) as at:
        at.provider.claims = {"exp": int(time.time()) - 20, "iat": int(time.time()) + 20}
        assert (await at.sign_in()).headers["Location"] == "/console/#/"
        at.browser.session.cookie_jar.clear()
        at.provider.claims = {"exp": int(time.time()) - 40}
        await at.refused("token")


async def test_a_new_key_of_the_provider(at: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are fetched once, again for a key that is not among them, and then not for a while, whatever comes."""
    await at.sign_in()
    await at.sign_in()
    assert at.provider.asked.count("/jwks") == 1
    other = rsa.generate_private_key(65537, 2048)
    at.provider.keys, at.provider.header = [jwk(other, "two")], {"kid": "two"}
    at.provider.signed = lambda claims, header: jwt.encode(claims, other, "RS256", header)
    monkeypatch.setattr(provider_module, "REFRESH_SECONDS", 0.0)
    assert (await at.sign_in()).headers["Location"] == "/console/#/"
    assert at.provider.asked.count("/jwks") == 2
    monkeypatch.setattr(provider_module, "REFRESH_SECONDS", 30.0)
    at.provider.header = {"kid": "three"}
    for _ in range(5):
        await at.sign_in()
    assert at.provider.asked.count("/jwks") == 2


STOLEN: dict[str, dict[str, str]] = {
    "no state": {"code": "c0de"},
    "other state": {"code": "c0de", "state": "x" * 43},
    "empty state": {"code": "c0de", "state": ""},
}


@pytest.mark.parametrize("brought", STOLEN.values(), ids=STOLEN)
async def test_answers_to_no_sign_in_of_this_browser(at: World, brought: dict[str, str]) -> None:
    """A code of somebody else, sent to a victim's browser, signs it in to nothing, and the provider is not asked."""
    await at.start()
    await at.refused("expired", await at.back(**brought))
    assert at.provider.forms == []


@pytest.mark.parametrize(
    "brought", [*STOLEN.values(), {"error": "access_denied"}, {}], ids=[*STOLEN, "error", "nothing"]
)
async def test_another_site_ends_no_sign_in(at: World, brought: dict[str, str]) -> None:
    """A page of another site that sends the browser here, with an answer of its own or to begin anew, leaves the
    sign-in that is under way as it was."""
    begun = await at.start()
    nonce = at.provider.nonce
    await at.refused("expired", await at.back(**brought))
    foreign = {"Sec-Fetch-Site": "cross-site"}
    answer = await at.browser.get("/console/oidc/start", headers=foreign, allow_redirects=False)
    assert (answer.headers["Location"], dict(answer.cookies)) == ("/console/#/signin", {})
    at.provider.nonce = nonce
    assert (await at.back(code="c0de", state=begun["state"])).headers["Location"] == "/console/#/"


async def test_failed_sign_ins_do_not_fill_the_log(at: World) -> None:
    """Whoever comes back again and again without having begun gets some lines a minute of the log, and no more."""
    with capture_logs() as lines:
        for _ in range(MOST + 10):
            await at.refused("expired", await at.back(code="c0de"))
    assert len(lines) == MOST


async def test_the_sign_in_of_another_browser(at: World) -> None:
    """The state alone is nothing without the cookie; both are good once."""
    begun = await at.start()
    cookies = at.browser.session.cookie_jar
    kept = {cookie.key: cookie.value for cookie in cookies}
    cookies.clear()
    await at.refused("expired", await at.back(code="c0de", state=begun["state"]))
    cookies.update_cookies(kept)
    surrogate = json.dumps({"state": "\ud800", "nonce": "n", "verifier": "v", "place": ""}).encode()
    for spoilt in ("", "x" * 2000, "bm9uZQ", *(base64.b64encode(text).decode() for text in (b"[]", surrogate))):
        cookies.update_cookies(dict.fromkeys(kept, spoilt))
        await at.refused("expired", await at.back(code="c0de", state=begun["state"]))


async def test_an_answer_of_another_provider(at: World) -> None:
    """A mix-up (RFC 9207): `iss` must be this provider, and must be there where it says that it always is."""
    begun = await at.start()
    await at.refused("provider", await at.back(code="c", state=begun["state"], iss="https://evil.test"))
    begun = await at.start()
    answer = await at.back(code="c", state=begun["state"], iss=at.provider.issuer)
    assert answer.headers["Location"] == "/console/#/"


async def test_a_provider_that_always_says_who_it_is(api: Api) -> None:
    """An answer without `iss` is not of this one."""
    async with world(api) as at:
        at.provider.metadata = {"authorization_response_iss_parameter_supported": True}
        await at.refused("provider")


async def test_the_provider_says_no(at: World) -> None:
    """The user is told; nothing that the address has is shown."""
    for error, code in (("access_denied", "denied"), ("<script>alert(1)</script>", "provider")):
        begun = await at.start()
        await at.refused(code, await at.back(error=error, error_description="<b>", state=begun["state"]))


@pytest.mark.parametrize(
    "place",
    ["//evil.test", "https://evil.test", "\\\\evil.test", "x" * 400, "a\r\nSet-Cookie: x=y", "javascript:alert(1)"],
)
async def test_no_open_redirect(at: World, place: str) -> None:
    """Wherever one wants to go, it is a page of the console."""
    answer = await at.sign_in(to=place)
    where = answer.headers["Location"]
    assert where.startswith("/console/#/")
    assert urlsplit(where).netloc == ""
    assert "\r" not in where
    assert urlsplit(where).path == "/console/"


async def sized(_: web.Request) -> web.Response:
    return web.Response(body=b'{"keys": ["' + b"x" * (2 * MOST_BYTES) + b'"]}', content_type="application/json")


async def slow(_: web.Request) -> web.Response:
    await asyncio.sleep(5)
    return web.json_response({})


async def elsewhere(request: web.Request) -> web.Response:
    """To a place that would answer as it should."""
    raise web.HTTPTemporaryRedirect(f"/elsewhere{request.path}")


async def nonsense(_: web.Request) -> web.Response:
    return web.Response(text="<html>", content_type="text/html")


async def deep(_: web.Request) -> web.Response:
    return web.Response(text="[" * 100_000, content_type="application/json")


async def broken(_: web.Request) -> web.Response:
    return web.json_response({"error": "invalid_grant"}, status=400)


PLACES = ("/.well-known/openid-configuration", "/jwks", "/token")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("answer", [sized, slow, elsewhere, nonsense, deep, broken], ids=lambda each: each.__name__)
async def test_a_provider_that_misbehaves(at: World, place: str, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sends without end, nothing, nonsense or elsewhere costs a bounded time, and the user is told."""
    monkeypatch.setattr(provider_module, "SECONDS", 0.3)
    at.provider.answers[place] = answer
    begun = time.monotonic()
    if place == PLACES[0]:
        start = await at.browser.get("/console/oidc/start", allow_redirects=False)
        assert start.headers["Location"] == "/console/#/signin?why=provider"
        await at.browser.get("/console/oidc/start", allow_redirects=False)
        assert at.provider.asked.count(place) == 1  # a failure is not asked for again at once
    else:
        await at.refused("provider")
    assert time.monotonic() - begun < 4


async def test_many_wait_for_a_silent_provider(at: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many begin to sign in, they wait for one answer together, not for one each after the other."""
    monkeypatch.setattr(provider_module, "SECONDS", 1.0)
    monkeypatch.setattr(provider_module, "FAILED_SECONDS", 1.0)
    at.provider.answers[PLACES[0]] = slow
    starts = [at.browser.get("/console/oidc/start", allow_redirects=False) for _ in range(10)]
    for answer in await asyncio.gather(*starts):
        assert answer.headers["Location"] == "/console/#/signin?why=provider"
    assert at.provider.asked.count(PLACES[0]) <= 2


WRONG: list[dict[str, Any]] = [
    {"issuer": "http://127.0.0.1:1"},
    {"issuer": None},
    {"token_endpoint": "http://evil.test/token"},
    {"jwks_uri": "file:///etc/passwd"},
    {"authorization_endpoint": "javascript:alert(1)"},
    {"token_endpoint": 7},
]


@pytest.mark.parametrize("metadata", WRONG, ids=str)
async def test_metadata_of_another(at: World, metadata: dict[str, Any]) -> None:
    """Metadata that names another issuer, or endpoints that are not safe, is not followed."""
    at.provider.metadata = metadata
    start = await at.browser.get("/console/oidc/start", allow_redirects=False)
    assert start.headers["Location"] == "/console/#/signin?why=provider"
    assert COOKIE not in start.cookies


async def test_too_many_keys(at: World) -> None:
    """More keys than any provider has are not looked at."""
    at.provider.keys = [jwk(rsa_key(), str(number)) for number in range(65)]
    await at.refused("provider")


async def test_guesses_are_limited(at: World) -> None:
    """Who brings wrong codes again and again is let wait, before the provider is asked."""
    at.provider.claims = {"nonce": "wrong"}
    for _ in range(12):
        await at.sign_in()
    assert len(at.provider.forms) == 10
    await at.refused("busy")


async def test_the_end_of_a_session(at: World) -> None:
    """It ends at its time, when it is signed out of, and when the settings no longer have the role."""
    await at.sign_in()
    assert (await at.browser.get("/api/v1/tiers")).status == 200
    at.api.ahead[0] = at.settings.session_seconds + 1.0
    assert (await at.browser.get("/api/v1/tiers")).status == 401
    at.api.ahead[0] = 0.0
    await at.sign_in()
    look = await (await at.browser.get("/console/session")).json()
    headers = {"X-CSRF-Token": look["csrf"], "Origin": at.settings.url}
    assert (await at.browser.delete("/console/session", headers=headers)).status == 204
    assert (await at.browser.get("/api/v1/tiers")).status == 401
    await at.sign_in()
    assert at.browser.app is not None
    provider = at.browser.app[users.PROVIDER]
    for changed in (replace(at.settings, roles={"other": ROLES["viewer"]}), replace(at.settings, issuer="https://x")):
        provider.settings = at.settings
        await at.sign_in()
        assert (await at.browser.get("/api/v1/tiers")).status == 200
        provider.settings = changed
        assert (await at.browser.get("/api/v1/tiers")).status == 401


async def test_signing_out_there(at: World) -> None:
    """Who signs out is led to the provider's own sign-out, and from there back."""
    at.provider.metadata = {"end_session_endpoint": f"{at.provider.issuer}/end"}
    await at.sign_in()
    look = await (await at.browser.get("/console/session")).json()
    headers = {"X-CSRF-Token": look["csrf"], "Origin": at.settings.url}
    answer = await (await at.browser.delete("/console/session", headers=headers)).json()
    assert answer["provider"].startswith(f"{at.provider.issuer}/end?client_id={CLIENT}&post_logout_redirect_uri=")


@pytest.mark.parametrize(("name", "shown"), [
    ("token first", "user token first (1234)"),
    ("bob (1)\n", "user bob _1__ (1234)"),
    ("x" * 500, f"user {'x' * 64} (1234)"),
    (None, "user 1234"),
    (["a"], "user 1234"),
    ("\u202egold", "user _gold (1234)"),
])  # fmt: skip
async def test_what_the_audit_calls_a_user(at: World, name: Any, shown: str) -> None:
    """A name that the provider lets users choose never looks like another's, nor like a token's."""
    at.provider.claims = {"preferred_username": name}
    await at.sign_in()
    assert (await (await at.browser.get("/console/session")).json())["actor"] == shown


async def test_a_client_with_a_secret(api: Api) -> None:
    """It is sent as the provider takes it; the file is for its owner alone."""
    path = api.folder / "secret"
    path.write_text("s3cret:\n")
    with pytest.raises(ConfigError, match=r"client_secret_file: .*chmod 600"):
        async with world(api, client_secret_file=path):
            pass
    path.chmod(0o600)
    for by_post in (False, True):
        async with world(api, client_secret_file=path) as at:
            if by_post:
                at.provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
            await at.sign_in()
            (form,) = at.provider.forms
            basic = f"Basic {base64.b64encode(b'console:s3cret%3A').decode()}"
            assert (form["by"], form.get("client_secret")) == (("", "s3cret:") if by_post else (basic, None))


async def test_without_a_provider(api: Api) -> None:
    """There is no such path, and the sign-in page offers none."""
    assert (await api.client.get("/console/oidc/start")).status in (401, 404)
    assert (await (await api.client.get("/console/session/here")).json())["users"] is None


GOOD = {"issuer": "https://id.test", "client_id": "x", "url": "https://c.test", "roles": {"ops": "operator"}}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"issuer": "http://id.test"}, "admin.oidc.issuer: must be https"),
    ({"issuer": "https://user@id.test"}, "admin.oidc.issuer: must be a URL without user"),
    ({"url": "https://c.test/console"}, "admin.oidc.url: must have no path"),
    ({"url": "ftp://c.test"}, "admin.oidc.url: must be a URL"),
    ({"roles": {"ops": "boss"}}, "admin.oidc.roles.ops: must be scopes or a role: admin, operator"),
    ({"roles": {"ops": [{"actions": ["fly"], "kinds": ["client"]}]}}, "admin.oidc.roles.ops.0.actions.0"),
    ({"session_seconds": 1}, "admin.oidc.session_seconds"),
    ({"colour": "red"}, "admin.oidc.colour: unknown key"),
    ({"client_id": ""}, "admin.oidc.client_id"),
]


@pytest.mark.parametrize(("changed", "said"), BAD, ids=[said for _, said in BAD])
def test_wrong_settings(changed: dict[str, Any], said: str) -> None:
    """What is wrong with a setting is said with file and key."""
    tables = {"database": "sqlite:///x", "admin": {"oidc": GOOD | changed}}
    with pytest.raises(InvalidSite) as wrong:
        build_node(tables, Path("/etc/dnsvip/node.toml"))
    assert f"/etc/dnsvip/node.toml: {said}" in str(wrong.value)
