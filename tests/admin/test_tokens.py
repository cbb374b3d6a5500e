"""What a token may do: roles, scopes, networks, expiry, rates; handing out, changing and renewing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from dnsvip.admin.http.auth import Rates
from dnsvip.admin.http.queries import PAGE_BYTES
from dnsvip.site.rights import EVERYTHING, ROLES, Action, Rights, Scope
from dnsvip.store import Token
from tests.admin.conftest import Answer, Api
from tests.admin.test_refusals import check


async def made(api: Api, name: str = "robot", **body: Any) -> dict[str, str]:
    """The headers of a new token."""
    answer = await api("POST", "tokens", {"name": name} | body)
    assert answer.status == 201, answer.text
    return {"Authorization": f"Bearer {answer.json['token']}"}


Asked = tuple[str, str, Any, bool]

CASES: dict[str, tuple[dict[str, Any], list[Asked]]] = {
    "viewer": (
        {"role": "viewer"},
        [
            ("GET", "clients", None, True),
            ("PATCH", "clients/acme", {"tier": "gold"}, False),
            ("GET", "tokens", None, False),
            ("GET", "audit", None, False),
            ("POST", "explain", {}, True),
            ("GET", "clients/acme/history", None, True),
        ],
    ),
    "operator": (
        {"role": "operator"},
        [
            ("PATCH", "clients/acme", {"tier": "standard"}, True),
            ("POST", "keys/web/rotate", None, True),
            ("POST", "tokens", {"name": "x"}, False),
            ("PATCH", "clusters/web", {"ttl": 3}, False),
            ("PATCH", "pools/slow/servers/slow-1", {"state": "drain"}, True),
            ("PUT", "tsig/a", {}, False),
        ],
    ),
    "client": (
        {"scopes": [{"actions": ["read", "write"], "kinds": ["client"], "clients": ["ac*"]}]},
        [
            ("GET", "clients/acme", None, True),
            ("GET", "clients/newsreader", None, False),
            ("PATCH", "clients/acme", {"tier": "standard"}, True),
            ("DELETE", "clients/acme", None, False),
            ("GET", "clients/newsreader/history", None, False),
            ("GET", "tiers", None, False),
        ],
    ),
    "cluster": (
        {"scopes": [{"actions": ["rotate", "read"], "kinds": ["key"], "clusters": ["other"]}]},
        [("POST", "keys/web/rotate", None, False), ("GET", "keys/web", None, False)],
    ),
    "zone": (
        {"scopes": [{"actions": ["write"], "kinds": ["zone", "service"], "zones": ["example.test"]}]},
        [
            ("PATCH", "zones/Example.TEST.", {}, True),
            ("PUT", "zones/other.test", {"text": ""}, False),
            ("PUT", "services/www.example.test", {"cluster": "web"}, True),
            ("GET", "zones", None, False),
            ("PUT", "services/www.other.test", {"cluster": "web"}, False),
        ],
    ),
}


@pytest.mark.parametrize(("body", "requests"), CASES.values(), ids=CASES)
async def test_rights(api: Api, body: dict[str, Any], requests: list[tuple[str, str, Any, bool]]) -> None:
    """What a token's scopes do not allow is refused with the scope that is missing."""
    headers = await made(api, **body)
    for method, path, json, allowed in requests:
        answer = await api(method, path, json, headers=headers)
        assert (answer.status != 403) is allowed, (method, path, answer.text)
        if not allowed:
            check(answer, "forbidden")
            assert "lacks the scope" in answer.text


async def test_lists_show_what_may_be_seen(api: Api) -> None:
    """A token for some clients sees those in lists and exports, and no others."""
    scope = {"actions": ["read", "write"], "kinds": ["client"], "clients": ["news*"]}
    headers = await made(api, scopes=[scope])
    assert [c["name"] for c in (await api.ok("GET", "clients", headers=headers))["items"]] == ["newsreader"]
    assert (await api("GET", "clients/export", headers=headers)).text.count("\n") == 1
    lines = '{"name": "news2", "id": 5, "tier": "gold"}\n{"name": "acme", "id": 1001, "tier": "gold"}\n'
    answer = await api("POST", "clients/import?mode=per-line", data=lines.encode(), headers=headers)
    assert (answer.json["made"], answer.json["failed"]) == (1, 1)
    assert "lacks the scope" in answer.json["errors"][0]["message"]


async def test_no_more_than_one_has(api: Api) -> None:
    """A token cannot hand out, take or renew rights that it has not itself."""
    scopes = [{"actions": ["read", "write"], "kinds": ["token", "tier"]}]
    headers = await made(api, scopes=scopes)
    for body in ({"role": "admin"}, {"scopes": [{"actions": ["delete"], "kinds": ["tier"]}]}):
        check(await api("POST", "tokens", {"name": "more"} | body, headers=headers), "forbidden")
    check(await api("PATCH", "tokens/test", {"per_minute": 1}, headers=headers), "forbidden")
    check(await api("POST", "tokens/test/rotate", headers=headers), "forbidden")
    same = await api.ok("POST", "tokens", {"name": "same"}, headers=headers)
    assert same["rights"] == ["read,write:token,tier"]
    less = {"name": "less", "scopes": [{"actions": ["read"], "kinds": ["tier"]}]}
    assert (await api("POST", "tokens", less, headers=headers)).status == 201


async def test_whoami(api: Api) -> None:
    """Everybody may ask who he is and what he may do."""
    headers = await made(api, role="metrics")
    caller = await api.ok("GET", "whoami", headers=headers)
    assert caller == {"actor": "token robot", "rights": ["read:metrics,status"]}


async def test_expiry(api: Api) -> None:
    """An expired token is good no more; renewed it lives as long again."""
    headers = await made(api, expires_in=1000)
    assert (await api("GET", "status", headers=headers)).status == 200
    token = await api.store.tokens.get("robot")
    assert token is not None
    assert token.expires_at == pytest.approx(token.created_at + 1000, abs=5)
    await api.store.tokens.change(token, replace(token, expires_at=1.0), "test")
    answer = await api("GET", "status", headers=headers)
    check(answer, "unauthorized")
    assert "expired" in answer.text


async def test_networks(api: Api) -> None:
    """A token is refused from elsewhere than its networks."""
    here = await made(api, "here", networks=["127.0.0.0/8", "::1"])
    assert (await api("GET", "status", headers=here)).status == 200
    elsewhere = await made(api, "elsewhere", networks=["192.0.2.0/24"])
    check(await api("GET", "status", headers=elsewhere), "forbidden")
    assert Token("x", 0, "", networks=("127.0.0.1/32",)).is_from("")
    assert not Token("x", 0, "", networks=("192.0.2.0/24",)).is_from("")


async def test_rate(api: Api) -> None:
    """A token makes no more requests a minute than it may, others are not concerned."""
    headers = await made(api, per_minute=3)
    answers = [await api("GET", "status", headers=headers) for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    check(answers[-1], "rate-limited")
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 20
    assert (await api("GET", "status")).status == 200


async def test_a_request_of_many_changes(api: Api) -> None:
    """It counts as many requests as it makes changes: those that follow wait for them."""
    headers = await made(api, per_minute=10)
    pools = [pool["name"] for pool in (await api.ok("GET", "pools"))["items"] if pool["servers"]]
    pools += [f"no-{number}" for number in range(30)]
    states = {f"{pool}/{number}": "up" for pool in pools for number in range(3)}
    assert (await api("POST", "server-states", {"states": states}, headers=headers)).status == 200
    answer = await api("GET", "status", headers=headers)
    check(answer, "rate-limited")
    assert 6 * (len(pools) - 10) < int(answer.headers["Retry-After"]) <= 6 * (len(pools) - 8)


def test_rates_refill() -> None:
    """A token's requests come back evenly over the minute, up to its rate."""
    rates = Rates()
    assert [rates.wait("a", 60, 0.0) for _ in range(61)][-2:] == [0.0, pytest.approx(1.0)]
    assert rates.wait("a", 60, 0.5) == pytest.approx(0.5)
    assert rates.wait("a", 60, 1.0) == 0.0
    assert rates.wait("b", 60, 0.0) == 0.0


async def test_last_use_is_noted(api: Api) -> None:
    """When a token was last used is kept, coarsely, and makes no generation."""
    before = await api.store.generation()
    for _ in range(3):
        await api.ok("GET", "tokens")
    for _ in range(100):
        (token,) = (await api.ok("GET", "tokens"))["items"]
        if token["last_used_at"]:
            break
        await asyncio.sleep(0.1)
    first = token["last_used_at"]
    assert first > token["created_at"]
    assert (await api.ok("GET", "tokens/test"))["last_used_at"] == first
    assert await api.store.generation() == before


async def test_rotation_and_change(api: Api) -> None:
    """A renewed token has another secret and the same rights, a changed one the reverse; both are audited."""
    old = await made(api, role="viewer")
    renewed = await api.ok("POST", "tokens/robot/rotate")
    new = {"Authorization": f"Bearer {renewed['token']}"}
    assert (await api("GET", "clients", headers=old)).status == 401
    assert (await api("GET", "clients", headers=new)).status == 200
    changed = await api.ok("PATCH", "tokens/robot", {"scopes": [{"actions": ["read"], "kinds": ["tier"]}]})
    assert (changed["role"], changed["rights"]) == (None, ["read:tier"])
    assert (await api("GET", "clients", headers=new)).status == 403
    assert (await api("GET", "tiers", headers=new)).status == 200
    rows = (await api.ok("GET", "audit?kind=token&name=robot"))["items"]
    assert [row["action"] for row in rows] == ["~", "~", "+"]
    assert (rows[0]["before"]["role"], rows[0]["after"]["scopes"][0]["kinds"]) == ("viewer", ["tier"])
    assert renewed["token"] not in str(rows)


def naming(patterns: list[str], scopes: int) -> dict[str, Any]:
    """So many scopes, each with these patterns."""
    return {"scopes": scopes * [{"actions": ["read"], "kinds": ["zone"], "zones": patterns}]}


MOST = [f"{number:03}{'x' * 29}" for number in range(64)]
"""Patterns of which 16 scopes are the most that a token may name: 1,024 with 32 characters each."""

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"role": "king"}, "token.x.role"),
    ({"role": "viewer", "scopes": [{"actions": ["read"], "kinds": ["tier"]}]}, "token.x.scopes"),
    ({"scopes": [{"actions": ["eat"], "kinds": ["tier"]}]}, "token.scopes.0.actions.0"),
    ({"scopes": [{"actions": ["read"], "kinds": ["king"]}]}, "token.scopes.0.kinds.0"),
    ({"scopes": []}, "token.scopes"),
    (naming(MOST, 17), "token.x.scopes"),
    (naming([*MOST[1:], f"{MOST[0]}y"], 16), "token.x.scopes"),
    ({"networks": ["192.0.2.1/24"]}, "token.networks.0"),
    ({"expires_in": 0}, "token.expires_in"),
    ({"colour": 1}, "token.colour"),
]


@pytest.mark.parametrize(("body", "where"), WRONG, ids=[f"{at} {where}" for at, (_, where) in enumerate(WRONG)])
async def test_wrong_tokens(api: Api, body: dict[str, Any], where: str) -> None:
    """What no token can be is refused by its key."""
    errors = check(await api("POST", "tokens", {"name": "x"} | body), "invalid")
    assert [error["where"] for error in errors] == [where]


async def test_as_many_patterns_as_may_be(api: Api) -> None:
    """A token names so many and no more; one from before that limit keeps its own, whatever else of it changes."""
    await made(api, **naming(MOST, 16))
    scopes = tuple(Scope((Action.READ,), ("zone",), zones=tuple(MOST)) for _ in range(17))
    await api.store.tokens.create("old", "test", Token("old", 0.0, "", scopes=scopes))
    assert (await api.ok("PATCH", "tokens/old", {"per_minute": 9}))["per_minute"] == 9
    check(await api("PATCH", "tokens/old", naming(MOST, 18)), "invalid")


async def test_a_page_of_large_tokens_ends(api: Api) -> None:
    """A list of tokens that name very many patterns has a few on each page, and all of them on its pages together."""
    scopes = tuple(Scope((Action.READ,), ("zone",), zones=tuple(MOST)) for _ in range(16))
    for number in range(20):
        like = Token("", 0.0, "", scopes=scopes, expires_at=1.0 if number % 2 else None)
        await api.store.tokens.create(f"large-{number:02}", "test", like)
    for filters, wanted in (("", range(20)), ("expired=true&", range(1, 20, 2)), ("role=viewer&", ())):
        following, names, pages = f"tokens?{filters}", list[str](), 0
        while following is not None:
            answer = await api("GET", following.removeprefix("/api/v1/"))
            assert len(answer.text) < 3 * PAGE_BYTES
            names += [item["name"] for item in answer.json["items"]]
            following, pages = answer.json["next"], pages + 1
        assert [name for name in names if name.startswith("large")] == [f"large-{number:02}" for number in wanted]
        assert (pages > 1) is (len(wanted) == 20)
    some = await api.ok("GET", "tokens?limit=3&after=large-04")
    assert [item["name"] for item in some["items"]] == ["large-05", "large-06", "large-07"]


async def test_a_list_without_scopes_is_not_everything(api: Api) -> None:
    """Who takes the last scope from a token does not give it all of them; other changes leave them as they are."""
    await made(api, scopes=[{"actions": ["read"], "kinds": ["tier"]}])
    errors = check(await api("PATCH", "tokens/robot", {"scopes": []}), "invalid")
    assert [error["where"] for error in errors] == ["token.robot.scopes"]
    assert (await api.ok("PATCH", "tokens/robot", {"per_minute": 9}))["rights"] == ["read:tier"]
    await made(api, "all")
    assert (await api.ok("PATCH", "tokens/all", {"per_minute": 9}))["rights"] == ["read,write,delete,rotate:*"]


async def test_by_key_header(api: Api) -> None:
    """A token may come as X-API-Key too, and a wrong one there is refused as any other."""
    answers: list[Answer] = []
    for key in (api.token, "wrong"):
        async with api.client.get("/api/v1/tiers", headers={"X-API-Key": key}) as response:
            answers.append(Answer(response.status, response.headers, await response.text()))
    assert answers[0].status == 200
    check(answers[1], "unauthorized")


def test_scopes_cover() -> None:
    """A scope covers another where it allows all that the other does, patterns as they are written."""
    wide = Scope((Action.READ, Action.WRITE), ("*",))
    narrow = Scope((Action.READ,), ("client",), clients=("a*",))
    assert wide.covers(narrow)
    assert not narrow.covers(wide)
    assert not narrow.covers(replace(narrow, clients=("abc",)))
    assert EVERYTHING.cover(scope for role in ROLES.values() for scope in role)
    assert not Rights(ROLES["viewer"]).cover(ROLES["operator"])
    assert str(narrow) == "read:client clients=a*"


def test_a_role_from_the_future_allows_nothing() -> None:
    """A role that this version does not know gives no rights; no role and no scopes gives all."""
    assert not Token("x", 0, "", role="emperor").rights.allow(Action.READ, "tier")
    assert Token("x", 0, "").rights == EVERYTHING
