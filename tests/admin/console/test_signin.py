from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict

from dnsvip.admin.app import make_app
from dnsvip.admin.console.signin import COOKIE, SECURE_COOKIE, _cookies
from dnsvip.admin.http.auth import ATTEMPTS_KEY
from dnsvip.admin.node import Node
from dnsvip.errors import DatabaseBusy, StoreError
from tests.admin.conftest import Api

NARROW = [{"actions": ["read"], "kinds": ["client"], "clients": ["acme"]}]


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
    assert await (await api.client.get("/console/session/here")).json() == {"signed_in": False, "users": None}


async def test_live_goes_on_without_the_database(api: Api) -> None:
    """With the database down a session still sees the node's counters, and what is wrong; a stranger sees nothing."""
    assert (await api.client.get("/console/live")).status == 401
    await sign_in(api)
    shown: dict[str, Any] = await (await api.client.get("/console/live")).json()
    assert shown["database"] is None
    assert shown["dns"] == {"answered": 3}
    assert shown["dispatcher"] is None
    api.down.append(StoreError("the database is on holiday"))
    assert (await api.client.get("/api/v1/tokens")).status == 503
    away = await (await api.client.get("/console/live")).json()
    assert (away["database"], away["dns"]) == (None, {"answered": 3})  # as the last poll found it


async def test_objects_without_the_database(api: Api) -> None:
    """With the database down a session that was there before sees the node's last good snapshot, marked as that, with
    the rights that it had; it changes nothing, and a token by itself sees nothing."""
    made = await api.ok("POST", "tokens", {"name": "narrow", "scopes": NARROW})
    csrf = (await (await sign_in(api, Authorization=f"Bearer {made['token']}")).json())["csrf"]
    before = await (await api.client.get("/api/v1/clients")).json()
    api.down.append(StoreError("the database is on holiday"))
    answer = await api.client.get("/api/v1/clients")
    assert (answer.status, answer.headers["Dnsvip-Snapshot"]) == (200, str(api.snapshots[-1].generation))
    assert await answer.json() == before
    assert [item["name"] for item in before["items"]] == ["acme"]
    assert (await api.client.get("/api/v1/clients/acme")).status == 200
    assert (await api.client.get("/api/v1/clients/newsreader")).status == 403
    assert (await api.client.get("/api/v1/tiers")).status == 403
    refused = await changed(api, **{"X-CSRF-Token": csrf, "Origin": origin(api)})
    assert refused.status == 503
    assert "nothing can be changed" in (await refused.json())["detail"]
    assert (await api("GET", "clients")).status == 503
    api.client.session.cookie_jar.clear()
    strange = {"Cookie": f"{COOKIE}={'x' * 43}"}
    assert (await api.client.get("/api/v1/clients", headers=strange)).status == 503


async def test_a_busy_database_is_no_database_away(api: Api) -> None:
    """Who has to wait for it is told so, and shown nothing old."""
    await sign_in(api)
    api.down.append(DatabaseBusy("the database is busy with requests of others"))
    answer = await api.client.get("/api/v1/clients")
    assert (answer.status, (await answer.json())["type"].rpartition(":")[2]) == (503, "busy")


LISTS = [
    "clients?limit=1",
    "clients?q=a",
    "clients?contains=e&sort=-name",
    "clients?tier=gold",
    "clients?state=enabled",
    "clients?match=198.51.100.7",
    "tiers?require_proof=true",
    "tiers?pool=slow",
    "services?cluster=web",
    "pools",
    "pools/slow",
    "pools/slow/servers?state=up",
    "zones/example.test",
    "servers/localhost/zones/example.test",
    "classify",
    "tsig",
    "decode?address=2001:db8:a:1::1",
]


@pytest.mark.parametrize("path", LISTS)
async def test_the_snapshot_is_as_the_database(api: Api, path: str) -> None:
    """What a list, with its filters and order, or an object shows of the snapshot is what the database had."""
    await sign_in(api)
    before = await (await api.client.get(f"/api/v1/{path}")).json()
    api.down.append(StoreError("the database is on holiday"))
    answer = await api.client.get(f"/api/v1/{path}")
    after = await answer.json()
    assert answer.status == 200, after
    if isinstance(before, dict):
        before.pop("next", None), after.pop("next", None)
    assert after == before


async def test_pages_of_the_snapshot_follow_each_other(api: Api) -> None:
    """Whatever order was asked for, the links lead to every object once."""
    await sign_in(api)
    wanted = [item["name"] for item in (await api.ok("GET", "tiers"))["items"]]
    api.down.append(StoreError("the database is on holiday"))
    seen, path = [], "/api/v1/tiers?limit=1&sort=-changed"
    while path:
        page = await (await api.client.get(path)).json()
        seen += [item["name"] for item in page["items"]]
        path = page["next"]
    assert seen == sorted(wanted, reverse=True)


async def test_a_token_that_has_expired_ends_its_sessions_without_the_database_too(api: Api) -> None:
    """What is known of it counts: its end, and the networks it may be used from."""
    made = await api.ok("POST", "tokens", {"name": "short", "expires_in": 600})
    await sign_in(api, Authorization=f"Bearer {made['token']}")
    api.down.append(StoreError("the database is on holiday"))
    assert (await api.client.get("/api/v1/tiers")).status == 200
    api.ahead[0] = 601
    assert (await api.client.get("/api/v1/tiers")).status == 401


@asynccontextmanager
async def restarted(api: Api) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """The API again, as another process or another node would serve it from the same database."""
    node = Node(lambda: api.store, lambda: api.snapshots[-1], dict, api.folder / "dispatch.sock")
    async with TestClient(TestServer(make_app(node))) as client:
        yield client


async def test_a_session_survives_a_restart(api: Api) -> None:
    """The cookie and its CSRF token are as good at the next process, and at another node of the site."""
    answer = await sign_in(api)
    cookie, csrf = answer.cookies[COOKIE].value, (await answer.json())["csrf"]
    async with restarted(api) as again:
        headers = {"Cookie": f"{COOKIE}={cookie}"}
        look = await (await again.get("/console/session", headers=headers)).json()
        assert (look["actor"], look["csrf"]) == ("token test", csrf)
        proof = {"X-CSRF-Token": csrf, "Origin": f"http://{again.host}:{again.port}"}
        patched = await again.patch("/api/v1/clients/acme", json={"tier": "standard"}, headers=headers | proof)
        assert patched.status == 200
        assert (await again.delete("/console/session", headers=headers | proof)).status == 204
    assert (await api.client.get("/api/v1/tiers")).status == 401


async def test_a_narrowed_token_narrows_its_sessions(api: Api) -> None:
    """From the next request on, at every node."""
    made = await api.ok("POST", "tokens", {"name": "wide", "role": "viewer"})
    cookie = (await sign_in(api, Authorization=f"Bearer {made['token']}")).cookies[COOKIE].value
    headers = {"Cookie": f"{COOKIE}={cookie}"}
    async with restarted(api) as again:
        assert (await again.get("/api/v1/clients/newsreader", headers=headers)).status == 200
        await api.ok("PATCH", "tokens/wide", {"scopes": NARROW})
        assert (await again.get("/api/v1/clients/newsreader", headers=headers)).status == 403
        assert (await again.get("/api/v1/clients/acme", headers=headers)).status == 200
        await api.ok("POST", "tokens/wide/rotate")
        assert (await again.get("/api/v1/clients/acme", headers=headers)).status == 401


async def test_unknown_cookies_are_looked_up_a_few_times(api: Api) -> None:
    """Who sends many is not looked up any more for a while; sessions from the same place go on."""
    good = {"Cookie": f"{COOKIE}={(await sign_in(api)).cookies[COOKIE].value}"}
    api.client.session.cookie_jar.clear()
    asked = []
    find = api.store.console_sessions.find

    async def counted(digest: str, now: float) -> Any:
        asked.append(digest)
        return await find(digest, now)

    api.store.console_sessions.find = counted  # type: ignore[method-assign]
    for number in range(50):
        wrong = {"Cookie": f"{COOKIE}={number:043}"}
        assert (await api.client.get("/api/v1/tiers", headers=wrong)).status == 401
    assert len(asked) <= 11
    assert (await api.client.get("/api/v1/tiers", headers=good)).status == 200


async def test_headers(api: Api) -> None:
    """Console pages run nothing inline; no answer is sniffed, kept, shown in a frame, given or told to other sites."""
    page = await api.client.get("/console/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    for path in ("/console/", "/api/v1/tiers", "/console/session/here", "/nothing"):
        headers = (await api.client.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["X-Frame-Options"] == "DENY"
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


async def test_live_of_a_span_and_a_node(api: Api) -> None:
    """Rates are of one of three spans, and of one node where one is named; one that there is not has none."""
    await sign_in(api)
    for query, status in (("span=24h", 200), ("span=1h&node=gone", 200), ("span=1y", 400), (f"node={'x' * 300}", 400)):
        answer = await api.client.get(f"/console/live?{query}")
        assert answer.status == status, query
    gone = await (await api.client.get("/console/live?node=gone")).json()
    assert gone["series"] == {"times": [], "rates": {}, "heard": {}}
    assert gone["flows"] is None
    assert (await api.client.get("/console/live?after=x")).status == 400
