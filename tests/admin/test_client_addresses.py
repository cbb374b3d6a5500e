"""What a client is answered now and where that leads, as DNS answers it; and its flows, as the dispatcher has them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from tests.admin.conftest import Api

Json = dict[str, Any]
FLOW: Json = {"protocol": "tcp", "source": "2001:db8:77::1", "vip": "2001:db8:a:1::2", "client": "acme", "tier": "gold"}


async def scoped(api: Api, name: str, **scope: Any) -> dict[str, str]:
    """The header of a token with one scope."""
    made = await api.ok("POST", "tokens", {"name": name, "scopes": [{"actions": ["read"], **scope}]})
    return {"Authorization": f"Bearer {made['token']}"}


async def test_as_dns_answers(api: Api) -> None:
    """At each service the addresses that explain gives for the same client, with the rule, pool and servers."""
    answer = await api.ok("GET", "clients/acme/addresses")
    assert (answer["client"], answer["state"], answer["next"]) == ("acme", "enabled", None)
    six = next(item for item in answer["items"] if item["service"] == "www.example.test" and ":" in item["address"])
    explained = await api.ok("GET", "explain?qname=www.example.test&source=127.0.0.1&ecs=198.51.100.7")
    assert explained["client"]["name"] == "acme"
    assert six["address"] == explained["answer"]["addresses"][0]["address"]
    (flow,) = explained["flows"]
    assert (six["tier"], six["pool"], six["rule"]) == (flow["tier"], flow["pool"], flow["rule"])
    assert six["accepted"]
    assert six["servers"] == [{"server": one["server"], "share": one["share"]} for one in flow["candidates"]]
    detail = next(step["detail"] for step in flow["judgement"]["steps"] if step["title"] == "expiry")
    assert six["expires_at"] or "as long as" in detail
    services = await api.ok("GET", "services")
    assert {item["service"] for item in answer["items"]} == {service["name"] for service in services["items"]}


async def test_pages(api: Api) -> None:
    """Every service once."""
    whole = [item["service"] for item in (await api.ok("GET", "clients/acme/addresses"))["items"]]
    paged, path = [], "clients/acme/addresses?limit=1"
    while path:
        page = await api.ok("GET", path)
        paged += [item["service"] for item in page["items"]]
        path = (page["next"] or "").removeprefix("/api/v1/")
    assert paged == whole


async def test_of_a_client_that_has_just_been_made(api: Api) -> None:
    """The node waits for it, as it serves what the database has a moment later; not for what there is nowhere."""
    await api.ok("PUT", "clients/newest", {"id": 77, "tier": "gold"})

    async def follow() -> None:
        await asyncio.sleep(0.2)
        api.snapshots.append(await api.store.snapshots.refresh(api.snapshots[-1]))

    following = asyncio.create_task(follow())
    assert (await api.ok("GET", "clients/newest/addresses"))["client"] == "newest"
    await following
    begun = time.monotonic()
    assert (await api("GET", "clients/nobody/addresses")).status == 404
    assert time.monotonic() - begun < 0.5


async def test_who_sees_addresses(api: Api) -> None:
    """A right to explain that reaches the client; services of other zones, and other tiers, are left out."""
    seen = await scoped(api, "seen", kinds=["explain"], clients=["acme"])
    assert (await api.ok("GET", "clients/acme/addresses", headers=seen))["items"]
    assert (await api("GET", "clients/nobody/addresses", headers=seen)).status == 403
    assert (await api("GET", "clients/nobody/addresses")).status == 404
    elsewhere = await scoped(api, "elsewhere", kinds=["explain"], zones=["other.test"])
    assert (await api.ok("GET", "clients/acme/addresses", headers=elsewhere))["items"] == []
    tiers = await scoped(api, "tiers", kinds=["explain"], tiers=["standard"])
    assert (await api.ok("GET", "clients/acme/addresses", headers=tiers))["items"] == []
    clients = await scoped(api, "clients", kinds=["client"])
    assert (await api("GET", "clients/acme/addresses", headers=clients)).status == 403


async def test_others_have_their_turn(api: Api) -> None:
    """Many services hold up nobody: the event loop goes on between two of them."""
    www = {key: value for key, value in (await api.ok("GET", "services/www.example.test")).items() if key != "name"}
    for number in range(40):
        await api.ok("PUT", f"services/w{number}.example.test", www)
    api.snapshots.append(await api.store.snapshots.load())
    await api.ok("GET", "clients/acme/addresses?limit=1")  # what has to be made of a new snapshot is made
    turns = [time.thread_time()]

    async def watch() -> None:
        while True:
            await asyncio.sleep(0)
            turns.append(time.thread_time())

    watching = asyncio.create_task(watch())
    answer = await api.ok("GET", "clients/acme/addresses?limit=100")
    watching.cancel()
    assert len(answer["items"]) > 40
    assert max(after - before for before, after in pairwise(turns)) < (turns[-1] - turns[0]) / 3


async def test_a_disabled_client(api: Api) -> None:
    """It is answered nothing of its own."""
    await api.ok("PATCH", "clients/acme", {"state": "disabled"})
    api.snapshots.append(await api.store.snapshots.load())
    answer = await api.ok("GET", "clients/acme/addresses")
    assert (answer["state"], answer["items"]) == ("disabled", [])


@asynccontextmanager
async def dispatcher(api: Api, *lines: Json, pause: float = 0.0) -> AsyncIterator[list[Json]]:
    """Something that answers at the dispatcher's socket, and what it was asked."""
    asked: list[Json] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(json.loads(await reader.readline()))
        await asyncio.sleep(pause)
        for line in lines:
            writer.write(json.dumps(line).encode() + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(serve, api.folder / "dispatch.sock")
    try:
        yield asked
    finally:
        server.close()


async def test_flows(api: Api) -> None:
    """The first that were found, and how many there are; the dispatcher is asked for no more, and for a second."""
    end = {"end": True, "flows": 7, "cut": True}
    async with dispatcher(api, {"dispatch": 1}, {"flow": FLOW}, {"flow": FLOW}, {"flow": FLOW}, end) as asked:
        answer = await api.ok("GET", "clients/acme/flows?limit=2")
    assert answer == {"items": [FLOW, FLOW], "flows": 7, "whole": False, "error": None}
    assert asked == [{"do": "flows", "match": {"client": "acme"}, "limit": 2, "seconds": 1}]


async def test_no_flows(api: Api) -> None:
    """Without a dispatcher, with one that refuses, and with one that is stuck, it says so in time."""
    assert (await api.ok("GET", "clients/acme/flows"))["error"] == "none"
    async with dispatcher(api, {"dispatch": 1}, {"error": "'acme' is not a client"}):
        assert (await api.ok("GET", "clients/acme/flows"))["error"] == "'acme' is not a client"
    async with dispatcher(api, {"flow": "x" * 100_000}):
        assert (await api.ok("GET", "clients/acme/flows"))["error"]
    async with dispatcher(api, pause=4):
        async with asyncio.timeout(3.5):
            assert (await api.ok("GET", "clients/acme/flows"))["error"] == "no answer within 2.5 s"


async def test_who_sees_flows(api: Api) -> None:
    """A right to the client and one to the status that reaches it: a scraper of metrics sees no client's source."""
    async with dispatcher(api, {"dispatch": 1}, {"flow": FLOW}, {"end": True, "flows": 1}):
        both = await scoped(api, "both", kinds=["client", "status"], clients=["acme"])
        assert (await api.ok("GET", "clients/acme/flows", headers=both))["items"] == [FLOW]
        assert (await api("GET", "clients/newsreader/flows", headers=both)).status == 403
        tier = await scoped(api, "tier", kinds=["client", "status"], tiers=["standard"])
        assert (await api.ok("GET", "clients/acme/flows", headers=tier))["items"] == []
        for kinds in (["client"], ["status", "metrics"]):
            headers = await scoped(api, f"only-{kinds[0]}", kinds=kinds)
            assert (await api("GET", "clients/acme/flows", headers=headers)).status == 403
