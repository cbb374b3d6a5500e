from __future__ import annotations

import time
from typing import Any

import pytest
from aiohttp import ClientResponse
from multidict import CIMultiDict

from dnsvip.admin.console.signin import COOKIE, SECURE_COOKIE, _cookies
from dnsvip.admin.http.auth import ATTEMPTS_KEY
from dnsvip.errors import StoreError
from tests.admin.conftest import Api


async def sign_in(api: Api, **headers: str) -> ClientResponse:
    sent = {"Authorization": f"Bearer {api.token}", "Origin": origin(api), **headers}
    return await api.client.post("/console/session", headers=sent)


def origin(api: Api, scheme: str = "http") -> str:
    return f"{scheme}://{api.client.host}:{api.client.port}"


async def changed(api: Api, **headers: str) -> ClientResponse:
    return await api.client.patch("/api/v1/clients/acme", json={"tier": "standard"}, headers=headers)


async def test_a_session_stands_for_its_token(api: Api) -> None:
    """The cookie is as good as the token, out of reach of scripts, sent to nobody else, and bounded in time."""
    answer = await sign_in(api)
    assert answer.status == 201
    cookie = answer.cookies[COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert cookie["path"] == "/"
    assert 0 < int(cookie["max-age"]) <= 86400
    assert api.token not in str(answer.headers) + await answer.text()
    assert (await api.client.get("/api/v1/clients/acme")).status == 200
    look = await (await api.client.get("/console/session")).json()
    assert look["actor"] == "token test"
    done = await changed(api, **{"X-CSRF-Token": look["csrf"], "Origin": origin(api)})
    assert done.status == 200
    assert (await api.ok("GET", "audit?limit=1"))["items"][0]["actor"] == "token test"


async def test_under_tls_the_cookie_is_secure(api: Api) -> None:
    """A browser that came by https (told by its Origin, as a proxy ends TLS) gets a __Host- cookie, good only so."""
    answer = await sign_in(api, Origin=origin(api, "https"))
    cookie = answer.cookies[SECURE_COOKIE]
    assert cookie["secure"]
    assert cookie["path"] == "/"
    assert not cookie["domain"]
    name = cookie.value
    by_name = {SECURE_COOKIE: 200, COOKIE: 401}
    for cookie_name, status in by_name.items():
        api.client.session.cookie_jar.clear()
        answer = await api.client.get("/api/v1/tiers", headers={"Cookie": f"{cookie_name}={name}"})
        assert answer.status == status


HOSTILE_COOKIES = [
    "a=b; " * 1600,
    "a" * 8000,
    ";" * 8000,
    'a="' + '\\"' * 3900,
    f"{COOKIE}=; " * 440,
    "a=;" * 2600,
    "=" * 8000,
]


@pytest.mark.parametrize("line", HOSTILE_COOKIES, ids=[line[:6] for line in HOSTILE_COOKIES])
async def test_cookies_of_strangers_cost_little(api: Api, line: str) -> None:
    """However many cookies come with a request, in whatever form, they are read in a millisecond, and the session's
    among them still counts."""
    cookie = (await sign_in(api)).cookies[COOKIE]
    api.client.session.cookie_jar.clear()
    for sent, status in ((f"{line}; {COOKIE}={cookie.value}", 200), (line, 401)):
        assert (await api.client.get("/api/v1/tiers", headers={"Cookie": sent})).status == status
    begun = time.thread_time()
    for _ in range(10):
        _cookies([line, line])
    assert time.thread_time() - begun < 0.02


async def test_cookies_without_end(api: Api) -> None:
    """More than browsers send is refused unread, with what is wrong."""
    lines = [("Cookie", "a=b; " * 1600)] * 3
    answer = await api.client.get("/api/v1/tiers", headers=CIMultiDict(lines))
    assert answer.status == 400
    assert "Cookie: has more than 16384 characters" in (await answer.json())["detail"]


@pytest.mark.parametrize(
    "spoilt",
    [
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "x" * 43},
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_forgeries_change_nothing(api: Api, spoilt: dict[str, str]) -> None:
    """A change by the cookie alone, without the CSRF token, or from a page of another origin, is refused."""
    csrf = (await (await sign_in(api)).json())["csrf"]
    before = await api.ok("GET", "status")
    answer = await changed(api, **({"X-CSRF-Token": csrf, "Origin": origin(api)} | spoilt))
    assert answer.status == 403
    assert (await answer.json())["type"].endswith(":forbidden")
    assert (await api.ok("GET", "status"))["generation"] == before["generation"]


async def test_signing_in_is_for_own_pages(api: Api) -> None:
    """Another site cannot sign a browser in to an account of its choice."""
    assert (await sign_in(api, Origin="https://evil.test")).status == 403


async def test_deleting_the_token_ends_its_sessions(api: Api) -> None:
    """The next request is 401, and polls by the dead cookie do not use up the source's attempts."""
    await sign_in(api)
    await api.store.tokens.delete("test", "test")
    for _ in range(30):
        assert (await api.client.get("/api/v1/tiers")).status == 401
    assert api.client.app is not None
    assert api.client.app[ATTEMPTS_KEY].wait("127.0.0.1", time.monotonic()) == 0
    assert (await api.client.get("/console/live")).status == 401


async def test_wrong_tokens_are_limited_here_too(api: Api) -> None:
    """Guessing at the sign-in is limited as it is at the API."""
    answers = [await sign_in(api, Authorization=f"Bearer wrong{number}") for number in range(12)]
    assert [answer.status for answer in answers] == [401] * 10 + [429] * 2


async def test_signing_out(api: Api) -> None:
    """The session is over, not only its cookie forgotten."""
    answer = await sign_in(api)
    value, csrf = answer.cookies[COOKIE].value, (await answer.json())["csrf"]
    headers = {"X-CSRF-Token": csrf, "Origin": origin(api)}
    assert (await api.client.delete("/console/session", headers=headers)).status == 204
    assert (await api.client.get("/api/v1/tiers", headers={"Cookie": f"{COOKIE}={value}"})).status == 401
    assert await (await api.client.get("/console/session/here")).json() == {"signed_in": False}


async def test_live_goes_on_without_the_database(api: Api) -> None:
    """With the database down a session still sees the node's counters, and what is wrong; a stranger sees nothing."""
    assert (await api.client.get("/console/live")).status == 401
    await sign_in(api)
    shown: dict[str, Any] = await (await api.client.get("/console/live")).json()
    assert shown["database"] is None
    assert shown["dns"] == {"answered": 3}
    assert shown["dispatcher"] is None
    api.down.append(StoreError("the database is on holiday"))
    assert (await api.client.get("/api/v1/tiers")).status == 503
    assert (await api.client.get("/console/live")).status == 200


async def test_headers(api: Api) -> None:
    """Console pages run nothing inline and show in no frame; no answer is sniffed, kept or told to other sites."""
    page = await api.client.get("/console/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    for path in ("/console/", "/api/v1/tiers", "/console/session/here", "/nothing"):
        headers = (await api.client.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
    assert (await api.client.get("/api/v1/tiers")).headers["Cache-Control"] == "no-store"


async def test_files(api: Api) -> None:
    """The bare address leads to the console; files have types and entity tags; nothing else is reachable."""
    assert (await api.client.get("/", allow_redirects=False)).headers["Location"] == "/console/"
    page = await api.client.get("/console/")
    assert page.content_type == "text/html"
    again = await api.client.get("/console/", headers={"If-None-Match": page.headers["ETag"]})
    assert again.status == 304
    for path in ("../app.py", "%2e%2e/app.py", "files.py", "..%2fsessions.py"):
        assert (await api.client.get(f"/console/{path}")).status in (401, 404), path


async def test_live_is_for_those_who_may_read_the_status(api: Api) -> None:
    """A session whose token may do something else sees that the node lives, and how many there are of what it
    may read; no counters or nodes."""
    made = await api.ok("POST", "tokens", {"name": "narrow", "role": "client-editor"})
    answer = await sign_in(api, Authorization=f"Bearer {made['token']}")
    scopes = (await answer.json())["scopes"]
    assert {kind for scope in scopes for kind in scope["kinds"]} == {"client", "tier"}
    shown: dict[str, Any] = await (await api.client.get("/console/live")).json()
    assert (shown["dns"], shown["nodes"], shown["dispatcher"], shown["objects"]) == (
        {},
        [],
        None,
        {"clients": 2, "tiers": 3},
    )
    assert shown["series"] == {"times": [], "rates": {}, "heard": {}}
    assert (await api.client.get("/api/v1/status")).status == 403
