"""/search: what is found, in which order, and what it costs; test_scopes_operations.py holds it to rights."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from dnsvip.admin.operations import search
from dnsvip.errors import StoreError
from dnsvip.site.cow_map import CowMap
from dnsvip.store import Listing
from tests.admin.conftest import Api

MANY = 100_000
LONGEST_HOLD = 0.02
"""Seconds of processor time that the event loop may be held; a slice is 0.002."""


async def found(api: Api, text: str, limit: int = 10) -> list[tuple[str, str, str | None]]:
    answer = await api.ok("GET", "search", params={"q": text, "limit": limit})
    return [(item["kind"], item["name"], item["of"]) for item in answer["items"]]


SEARCHES: list[tuple[str, tuple[str, str, str | None]]] = [
    ("acme", ("client", "acme", None)),
    ("CME", ("client", "acme", None)),
    ("1001", ("client", "acme", None)),
    ("acme-key", ("client", "acme", None)),  # which claims it
    ("2001:db8:77::9", ("client", "acme", None)),
    ("2001:db8:77::/48", ("client", "acme", None)),
    ("198.51.100.7", ("client", "acme", None)),
    ("fd00:10::21", ("server", "slow-1", "slow")),
    ("slow-1", ("server", "slow-1", "slow")),
    ("slow", ("pool", "slow", None)),
    ("gold", ("tier", "gold", None)),
    ("web", ("cluster", "web", None)),
    ("2001:db8:a:1::", ("cluster", "web", None)),
    ("2001:db8:a:1::1", ("cluster", "web", None)),
    ("2001:db8:a:1::1", ("address", "2001:db8:a:1::1", None)),
    ("example.test", ("zone", "example.test", None)),
    ("www.example.test.", ("service", "www.example.test", None)),
    ("acme-k", ("tsig", "acme-key", None)),
    ("mail.example.test", ("record", "mail.example.test", "example.test")),
    ("192.0.2.25", ("record", "mail.example.test", "example.test")),
]


@pytest.mark.parametrize(("text", "wanted"), SEARCHES, ids=[f"{text}-{wanted[0]}" for text, wanted in SEARCHES])
async def test_what_is_found(api: Api, text: str, wanted: tuple[str, str, str | None]) -> None:
    """Every kind by a part of its name in any case, clients also by what they claim, addresses by what they mean."""
    assert wanted in await found(api, text)


async def test_no_secret_is_searched(api: Api) -> None:
    """Neither the secret of a TSIG key nor a token's name or hash is looked at."""
    (key,) = [key for key in api.snapshots[-1].site.tsig_keys.values() if key.name == "acme-key"]
    assert await found(api, key.secret) == []
    assert await found(api, api.token) == []


async def test_the_best_comes_first(api: Api) -> None:
    """First what is the text, then what starts with it, then what has it inside, each in the order of names."""
    for name in ("b-goldfish", "goldfinch", "a-gold", "golden"):
        await api.ok("PUT", f"pools/{name}", {"servers": [{"name": "one", "address": "fd00::1"}]})
    api.snapshots.append(await api.store.snapshots.load())
    pools = [name for kind, name, _ in await found(api, "gold") if kind == "pool"]
    assert pools == ["golden", "goldfinch", "a-gold", "b-goldfish"]
    answer = await api.ok("GET", "search", params={"q": "gold", "limit": 2})
    assert [item["name"] for item in answer["items"] if item["kind"] == "pool"] == ["golden", "goldfinch"]
    assert (answer["more"], answer["incomplete"]) == (["pool"], [])


@pytest.mark.parametrize("text", ["", " ", "x" * 255, "a\nb", "\0"])
async def test_no_search(api: Api, text: str) -> None:
    """What is no text to search for is refused, with the parameter's name."""
    answer = await api("GET", "search", params={"q": text})
    assert (answer.status, "q" in answer.json["detail"] or "U+0000" in answer.json["detail"]) == (400, True)


@pytest.mark.parametrize("text", ["[a-z]*", "*", "%", "_", "\\", "'", '"; DROP TABLE client; --', "(?:", "é", "\u202e"])
async def test_a_text_is_only_a_text(api: Api, text: str) -> None:
    """No pattern, no SQL."""
    answer = await api("GET", "search", params={"q": text})
    assert answer.status in (200, 400), answer.text
    assert not answer.json.get("items") or text == "_"


async def test_without_the_database(api: Api) -> None:
    """A session finds what the snapshot has, and is told that what clients claim was not looked up."""
    headers = {"Authorization": f"Bearer {api.token}", "Origin": f"http://{api.client.host}:{api.client.port}"}
    await api.client.post("/console/session", headers=headers)
    api.down.append(StoreError("the database is on holiday"))
    answer = await (await api.client.get("/api/v1/search?q=acme")).json()
    assert answer["incomplete"] == ["client"]
    assert {"client", "tsig"} <= {item["kind"] for item in answer["items"]}


async def test_among_very_many(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop goes on meanwhile; a search that takes too long ends, and says of what it has not seen all."""
    snapshot = api.snapshots[-1]
    one = snapshot.site.clients["acme"]
    names = [f"customer-{number:07}" for number in range(MANY)]
    clients = CowMap([("acme", one), *((name, replace(one, name=name, match=())) for name in names)])
    api.snapshots.append(replace(snapshot, site=replace(snapshot.site, clients=clients)))
    for text, first in (("customer", names[0]), (names[-1], names[-1]), ("nobody", None)):
        holds, answer = await watched(api.ok("GET", "search", params={"q": text}))
        assert [item["name"] for item in answer["items"]][:1] == ([first] if first else [])
        assert answer["incomplete"] == []
        assert sorted(holds)[-3] < LONGEST_HOLD, text
    monkeypatch.setattr(search, "SECONDS", 0.002)
    _, answer = await watched(api.ok("GET", "search", params={"q": "nobody"}))
    assert answer["incomplete"] == ["client", "record"]


async def test_very_many_zones_and_servers(api: Api) -> None:
    """Zones that are small, and servers, have others take turns, too."""
    snapshot = api.snapshots[-1]
    zone, pool = snapshot.site.zones["example.test"], snapshot.site.pools["slow"]
    text = "@ 60 SOA ns1 h 1 2 3 4 5\n@ 60 NS ns1\nns1 60 A 192.0.2.1\n"
    zones = {f"z{number}.test": replace(zone, name=f"z{number}.test", text=text) for number in range(1000)}
    server = pool.servers[0]
    servers = tuple(replace(server, name=f"s{number}") for number in range(20_000))
    site = replace(snapshot.site, zones=zones, pools={"slow": replace(pool, servers=servers)})
    api.snapshots.append(replace(snapshot, site=site))
    await found(api, "z")  # zones are compiled once
    holds, answer = await watched(api.ok("GET", "search", params={"q": "ns1"}))
    assert [item["kind"] for item in answer["items"]].count("record") == 10
    assert sorted(holds)[-3] < LONGEST_HOLD
    holds, answer = await watched(api.ok("GET", "search", params={"q": "nothing-of-it"}))
    assert answer == {"items": [], "more": [], "incomplete": []}
    assert sorted(holds)[-3] < LONGEST_HOLD


async def watched(work: Any) -> tuple[list[float], Any]:
    """How long this thread worked at a time while something was done, and what that gave."""
    task, holds, last = asyncio.ensure_future(work), list[float](), time.thread_time()
    while not task.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        holds.append(now - last)
        last = now
    return [*holds, 0.0, 0.0], task.result()


async def test_one_search_at_a_time(api: Api) -> None:
    """However many are asked for, by whatever tokens, a node has one under way."""
    tokens = [(await api.ok("POST", "tokens", {"name": f"t{number}"}))["token"] for number in range(4)]
    running, most = [], []
    pages = api.store.objects.page

    async def counted(wanted: Listing) -> Any:
        running.append(1)
        most.append(len(running))
        await asyncio.sleep(0.05)
        running.pop()
        return await pages(wanted)

    api.store.objects.page = counted  # type: ignore[method-assign]
    asked = [api.ok("GET", "search?q=acme", headers={"Authorization": f"Bearer {token}"}) for token in tokens * 2]
    await asyncio.gather(*asked)
    assert max(most) == 1
