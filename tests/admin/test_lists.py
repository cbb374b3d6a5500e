"""Lists: pages by key in any order, filters, counts, history and audit."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from dnsvip.admin.http.queries import PageQuery
from dnsvip.site.registry import NAMED, Kind
from tests.admin.conftest import Api


@pytest.fixture
async def many(api: Api) -> Api:
    """The API with thirty more clients in tiers and states."""
    for number in range(30):
        body = {
            "id": 5000 - number,
            "tier": ("gold", "standard", "blocked")[number % 3],
            "match": [{"source": f"2001:db8:{number:x}00::/40"}, {"ecs": f"198.18.{number}.0/24"}],
        }
        await api.ok("PUT", f"clients/c{number:02}", body | ({"state": "disabled"} if number % 10 == 0 else {}))
    return api


async def whole(api: Api, query: str) -> list[Any]:
    """All pages of a list."""
    items, path = [], query if "?" in query else f"clients?{query}"
    while path:
        page = await api.ok("GET", path)
        items += page["items"]
        path = (page["next"] or "").removeprefix("/api/v1/")
    return items


SORTS = {"name": "name", "id": "id", "tier": "tier", "state": "state", "changed": None}


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("sort", SORTS)
async def test_every_order_comes_whole_in_pages(many: Api, sort: str, sign: str) -> None:
    """In every order, forward and back, the pages together hold each client once, and in that order."""
    everyone = await whole(many, f"sort={sign}{sort}&limit=7")
    assert len(everyone) == 32
    assert len({client["name"] for client in everyone}) == 32
    if key := SORTS[sort]:
        places = [(client[key], client["name"]) for client in everyone]
        assert places == sorted(places, reverse=bool(sign))
    else:
        assert everyone[0 if sign else -1]["name"] == "c29"


async def test_filters(many: Api) -> None:
    """Clients are found by tier, state, start of a name, what is in it, and what they claim, together too."""
    assert {c["tier"] for c in await whole(many, "tier=gold&limit=4")} == {"gold"}
    assert [c["name"] for c in await whole(many, "state=disabled&limit=2")] == ["c00", "c10", "c20"]
    assert [c["name"] for c in await whole(many, "state=disabled&tier=standard")] == ["c10"]
    assert [c["name"] for c in await whole(many, "q=c1&limit=3&sort=-name")] == [f"c{n}" for n in range(19, 9, -1)]
    assert [c["name"] for c in await whole(many, "contains=ew")] == ["newsreader"]
    assert [c["name"] for c in await whole(many, "q=%25")] == []
    assert [c["name"] for c in await whole(many, "match=2001:db8:5ff::1")] == ["c05"]
    assert [c["name"] for c in await whole(many, "match=198.18.7.0/25")] == ["c07"]
    assert [c["name"] for c in await whole(many, "match=Acme-Key")] == ["acme"]
    assert await whole(many, "match=nobody") == []


FILTERS: list[tuple[str, list[str]]] = [
    ("tiers?pool=fast", ["gold"]),
    ("tiers?action=drop", ["blocked"]),
    ("tiers?action=forward&limit=1", ["gold", "standard"]),
    ("tiers?action=forward&q=s", ["standard"]),
    ("pools?forward=encap", ["tunnelled"]),
    ("pools?forward=direct&limit=1", ["fast", "slow"]),
    ("pools?fallback=slow", ["tunnelled"]),
    ("clusters?default_tier=standard", ["legacy", "web"]),
    ("clusters?default_tier=gold", []),
    ("services?cluster=web", ["www.example.test"]),
    ("services?cluster=legacy", ["www.example.test"]),
    ("services?cluster=other", []),
    ("tsig?algorithm=hmac-sha256", ["acme-key"]),
    ("tsig?algorithm=hmac-sha512", ["spare"]),
    ("tsig?client=acme", ["acme-key"]),
    ("tsig?client=newsreader", []),
    ("tsig?tier=gold", ["acme-key"]),
    ("tsig?tier=standard", []),
    ("pools/slow/servers?state=drain", ["slow-2"]),
    ("pools/slow/servers?state=up", ["slow-1"]),
    ("tokens?role=operator&limit=1", ["one", "two"]),
    ("tokens?expired=true", ["two"]),
    ("tokens?expired=false&limit=1", ["one", "test"]),
    ("tokens?role=viewer", []),
]


async def test_filters_of_each_kind(api: Api) -> None:
    """Each list has the filters of its kind, which hold on its further pages and for what an object leaves unsaid."""
    await api.ok("PUT", "pools/tunnelled", {"forward": "encap", "fallback": "slow"})
    await api.ok("PATCH", "pools/slow/servers/slow-2", {"state": "drain"})
    await api.ok("PUT", "tsig/spare", {"algorithm": "hmac-sha512", "secret": "c2VjcmV0"})
    for name in ("one", "two"):
        await api.ok("POST", "tokens", {"name": name, "role": "operator"})
    two = await api.store.tokens.get("two")
    assert two
    await api.store.tokens.change(two, replace(two, expires_at=1.0), "test")
    for query, names in FILTERS:
        found = [item["name"] for item in await whole(api, query)]
        assert found == names, query


async def test_filters_by_flag(api: Api) -> None:
    """A list is filtered by a flag, and what is no flag is refused."""
    await api.ok("PATCH", "tiers/gold", {"require_proof": True})
    names = {value: [t["name"] for t in await whole(api, f"tiers?require_proof={value}")] for value in ("true", "0")}
    assert names == {"true": ["gold"], "0": ["blocked", "standard"]}
    assert (await api("GET", "tiers?require_proof=x")).status == 400


async def test_counts_of_filters(api: Api) -> None:
    """A count is that of what the filter leaves."""
    page = await api.ok("GET", "tiers?action=forward&count=true&limit=1")
    assert (page["total"], page["total_is"]) == (2, "exact")


@pytest.mark.parametrize("kind", NAMED.values(), ids=lambda kind: kind.name)
async def test_every_declared_filter_and_order_works(api: Api, kind: Kind) -> None:
    """What a kind declares as filtered or sorted is in the document, and the store has a condition or order for it."""
    parameters = (await api.ok("GET", "openapi.json"))["paths"][f"/api/v1/{kind.plural}"]["get"]["parameters"]
    described = {parameter["name"]: parameter["schema"] for parameter in parameters}
    common = {field.name for field in fields(PageQuery)}
    assert described.keys() - common == kind.list_filters.keys()
    if kind.name == "dns_group":  # the example site has none
        await api.ok("PUT", "dns-groups/high", {"servers": ["192.0.2.53:53"], "tiers": ["gold"]})
    if kind.name == "dns_token":
        await api.ok("PUT", "dns-tokens/acme", {"digest": "ab" * 32})
    for name in kind.list_filters:
        assert described[name]["x-ui"]["label"]
        field = kind.fields.get(name)
        value = "true" if field and field.plain_type is bool else field.choices[0] if field and field.choices else "x"
        await api.ok("GET", f"{kind.plural}?{name}={value}")
    for sort in kind.sorts:
        assert (await api.ok("GET", f"{kind.plural}?sort=-{sort}"))["items"]


async def test_the_client_of_a_key_is_shown_to_readers_of_clients(api: Api) -> None:
    """Who may not read a client is not told by which key it is known."""
    scope = {"actions": ["read"], "kinds": ["tsig", "client"], "clients": ["news*"]}
    created = await api.ok("POST", "tokens", {"name": "narrow", "scopes": [scope]})
    narrow = replace(api, token=created["token"])
    assert (await narrow("GET", "tsig?client=newsreader")).status == 200
    for query in ("client=acme", "tier=gold"):
        answer = await narrow("GET", f"tsig?{query}")
        assert (answer.status, "read:client" in answer.text) == (403, True)


async def test_counts(many: Api) -> None:
    """A count is given where it is asked for, of a filter too."""
    many.snapshots.append(await many.store.snapshots.load())
    everyone = await many.ok("GET", "clients?limit=1&count=true")
    assert (everyone["total"], everyone["total_is"]) == (32, "exact")
    gold = await many.ok("GET", "clients?limit=1&count=1&tier=gold")
    assert (gold["total"], gold["total_is"]) == (11, "exact")
    assert "total" not in await many.ok("GET", "clients?limit=1")


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("clients?sort=age", "sort"),
        ("clients?state=gone", "state"),
        ("clients?colour=red", "colour"),
        ("tiers?tier=gold", "tier"),
        ("pools?forward=tunnel", "forward"),
        ("pools/slow/servers?state=gone", "state"),
        ("tokens?role=king", "role"),
        ("nodes?role=king", "role"),
        ("health?state=gone", "state"),
        ("zones?type=MX", "type"),
        ("tiers?count=maybe", "count"),
        ("status?x=1", "x"),
        ("audit?since=yesterday", "since"),
        ("audit?action=!", "action"),
    ],
)
async def test_wrong_queries(api: Api, path: str, where: str) -> None:
    """A query parameter that is not known or not right is refused by name."""
    answer = await api("GET", path)
    assert answer.status == 400
    assert answer.json["errors"][0]["where"] == where
    assert (await api("GET", "clients?sort=id&after=x")).status == 400
    assert (await api("GET", "clients?limit=1&limit=2")).status == 400


async def test_history(api: Api) -> None:
    """A client's history says who changed what from what to what, also after the client is gone."""
    await api.ok("PATCH", "clients/acme", {"tier": "standard"})
    await api.ok("PATCH", "clients/newsreader", {"tier": "gold"})
    assert (await api("DELETE", "clients/acme")).status == 204
    page = await api.ok("GET", "clients/acme/history?limit=2")
    gone, moved = page["items"]
    assert (gone["action"], gone["before"]["tier"], gone["after"]) == ("-", "standard", None)
    assert (moved["action"], moved["actor"]) == ("~", "token test")
    assert (moved["before"]["tier"], moved["after"]["tier"]) == ("gold", "standard")
    (made,) = (await api.ok("GET", page["next"].removeprefix("/api/v1/")))["items"]
    assert (made["action"], made["actor"]) == ("+", "test")


async def test_audit_filters(api: Api) -> None:
    """The audit is searched by kind, name, actor, action and time."""
    await api.ok("PATCH", "clients/acme", {"tier": "standard"})
    await api.ok("PATCH", "tiers/gold", {"dscp": 3})

    async def found(query: str) -> list[tuple[str, str]]:
        return [(row["kind"], row["name"]) for row in (await api.ok("GET", f"audit?{query}"))["items"]]

    assert await found("actor=token%20test") == [("tier", "gold"), ("client", "acme")]
    assert await found("kind=client&action=~") == [("client", "acme")]
    assert await found("kind=tier&name=gold&limit=1") == [("tier", "gold")]
    assert await found("since=4000000000") == []
    (first,) = (await api.ok("GET", "audit?kind=client&action=~"))["items"]
    assert (await found(f"since={first['at']}"))[-1] == ("client", "acme")
    assert len(await found("since=2020-01-01T00:00:00Z")) > 5
