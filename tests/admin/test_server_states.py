"""Many servers drained by one request, and put back by another."""

from __future__ import annotations

from typing import Any

from tests.admin.conftest import Api


async def states(api: Api, pool: str) -> dict[str, str]:
    listed = await api.ok("GET", f"pools/{pool}/servers")
    return {server["name"]: server["state"] for server in listed["items"]}


async def many(api: Api, number: int) -> list[str]:
    """A pool of servers."""
    servers = [{"name": f"s-{place:03}", "address": f"fd00:20::{place + 1:x}"} for place in range(number)]
    await api.ok("PUT", "pools/rack", {"servers": servers})
    return [f"rack/{server['name']}" for server in servers]


async def test_a_rack_is_drained_and_put_back(api: Api) -> None:
    """One generation for each pool, whatever the number of servers; the answer's states before undo it."""
    keys = await many(api, 400)
    keys.append("slow/slow-1")
    await api.ok("PATCH", "pools/rack/servers/s-007", {"state": "maint"})
    before = await api.store.generation()
    answer = await api.ok("POST", "server-states", {"states": dict.fromkeys(keys, "drain")})
    assert answer["generation"] == before + 2
    assert [item["server"] for item in answer["items"]] == keys
    assert {item["after"] for item in answer["items"]} == {"drain"}
    assert set((await states(api, "rack")).values()) == {"drain"}
    back = {item["server"]: item["before"] for item in answer["items"]}
    assert back["rack/s-007"] == "maint"
    await api.ok("POST", "server-states", {"states": back})
    assert (await states(api, "rack"))["s-007"] == "maint"
    assert list((await states(api, "rack")).values()).count("up") == 399
    assert (await states(api, "slow"))["slow-1"] == "up"


async def test_each_server_has_its_outcome(api: Api) -> None:
    """What is not there is said of that server; the others are drained."""
    asked = {"fast/fast-1": "drain", "fast/nobody": "drain", "nowhere/x": "drain"}
    answer = await api.ok("POST", "server-states", {"states": asked})
    told: dict[str, Any] = {item["server"]: (item["after"], item["error"]) for item in answer["items"]}
    assert told == {
        "fast/fast-1": ("drain", None),
        "fast/nobody": (None, "there is no such server"),
        "nowhere/x": (None, "there is no such pool"),
    }
    again = await api.ok("POST", "server-states", {"states": {"fast/fast-1": "drain"}})
    assert again["generation"] is None


async def test_what_is_refused(api: Api) -> None:
    """No state that is none, no key without a pool, not more than the bound, nothing without the right."""
    for body in (
        {},
        {"states": {}},
        {"states": {"fast/fast-1": "sideways"}},
        {"states": {"fast-1": "up"}},
        {"states": {f"fast/{place}": "up" for place in range(2001)}},
    ):
        assert (await api("POST", "server-states", body)).status == 422, str(body)[:60]
    token = (await api.ok("POST", "tokens", {"name": "looks", "role": "viewer"}))["token"]
    answer = await api(
        "POST", "server-states", {"states": {"fast/fast-1": "drain"}}, headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status == 403
    assert await states(api, "fast") == {"fast-1": "up"}
