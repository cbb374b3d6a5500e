"""Key epochs and nodes over the API: rotating, rotating at once, who holds what, who is silent, forgetting."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from dnsvip.site.epochs import NodeReport
from dnsvip.store import KeyEncryptionKey
from tests.admin.conftest import Api


def dispatcher(name: str, generation: int, seen_at: float, keys: set[str]) -> NodeReport:
    return NodeReport(
        name, frozenset({"dispatch"}), generation, "9.9", seen_at, 5.0, "i", seen_at - 90, seen_at, frozenset(keys),
        frozenset({"kek"}), {"warnings": ["hot"], "held": 3},
    )  # fmt: skip


async def test_rotation_shows_who_holds_back_and_who_is_passed_over(api: Api) -> None:
    """A published epoch names the live dispatcher without its key as waited for, the silent one as passed over."""
    (old,) = (await api.ok("GET", "keys/web"))["epochs"]
    now = time.time()
    await api.store.nodes.report(dispatcher("late", 1, now, {old["key_id"]}))
    await api.store.nodes.report(dispatcher("gone", 1, now - 60, {old["key_id"]}))
    made = await api.ok("POST", "keys/web/rotate")
    assert (made["state"], made["waiting_for"], made["passed_over"], made["held_by"]) == (
        "published", ["late"], ["gone"], [],
    )  # fmt: skip
    first = (await api.ok("GET", "keys/web"))["epochs"][0]
    assert (first["held_by"], first["passed_over"]) == (["late"], [])
    await api.store.nodes.report(dispatcher("late", 1, now, {old["key_id"], made["key_id"]}))
    assert await api.store.keys.advance(time.time()) == ["web/1 active", "web/0 retiring"]


async def test_emergency_leaves_one_key(api: Api) -> None:
    """An emergency destroys every epoch, makes one that is active at once, and keeps the slots empty that had one."""
    (old,) = (await api.ok("GET", "keys/web"))["epochs"]
    await api.store.nodes.report(dispatcher("late", 1, time.time(), {old["key_id"]}))
    await api.ok("POST", "keys/web/rotate", {"emergency": False})
    made = await api.ok("POST", "keys/web/rotate", {"emergency": True})
    assert (made["state"], made["slot"]) == ("active", 2)
    found = await api.ok("GET", "keys/web")
    assert [epoch["key_id"] for epoch in found["epochs"]] == [made["key_id"]]
    ((slot, key_id, until),) = [(each["slot"], each["key_id"], each["until"]) for each in found["reserved"]]
    assert (slot, key_id) == (0, old["key_id"])
    assert 3600 < until - time.time() < 3700
    rows = (await api.ok("GET", "audit?limit=3"))["items"]
    assert {(row["action"], row["name"]) for row in rows} == {("-", "web/0"), ("-", "web/1"), ("+", "web/2")}


@pytest.mark.parametrize(
    ("body", "where"), [({"emergency": "yes"}, "rotate.emergency"), ({"emergencyy": True}, "rotate.emergencyy")]
)
async def test_rotation_takes_nothing_else(api: Api, body: Any, where: str) -> None:
    """A body that is mistyped rotates nothing and is named."""
    answer = await api("POST", "keys/web/rotate", body)
    assert (answer.status, answer.json["errors"][0]["where"]) == (422, where)
    assert len((await api.ok("GET", "keys/web"))["epochs"]) == 1


async def test_schedule_is_shown(api: Api) -> None:
    """A cluster says when it rotates next and when its expiry field is full; too short a time is refused with the
    least, and never is taken with a warning."""
    shown = await api.ok("GET", "keys/web")
    (epoch,) = shown["epochs"]
    assert shown["rotates_at"] == epoch["published_at"] + 86_400
    assert (shown["expiry_full_at"], shown["expiry_field"]) == (epoch["activated_at"] + 126 * 900 - 120, "fine")
    refused = await api("PATCH", "clusters/web", {"rotate_every": 60})
    assert "must be 1830 or more" in refused.text
    assert (await api("PATCH", "clusters/web", {"rotate_every": "always"})).status == 422
    never = await api("PATCH", "clusters/web", {"rotate_every": "never"})
    assert "cluster.web.rotate_every: is never: keys rotate only by" in never.headers["Dnsvip-Warning"]
    unset = await api("PATCH", "clusters/web", {"rotate_every": None})
    assert "is not set: keys rotate every 1 d 6 h" in unset.headers["Dnsvip-Warning"]
    await api.ok("PATCH", "clusters/web", {"rotate_every": 86_400})
    cluster = await api.ok("GET", "clusters/web")
    assert cluster["rotate_every"] == 86_400


async def test_nodes_are_listed_with_how_far_they_are(api: Api) -> None:
    """A process shows roles, version, uptime, what it says of itself, and how far behind it is since when."""
    now = time.time()
    await api.store.nodes.report(dispatcher("d", 1, now, set()))
    generation = await api.store.generation()
    (shown,) = (await api.ok("GET", "nodes"))["items"]
    assert shown == (await api.ok("GET", "nodes/d"))["processes"][0] | {"lag_seconds": shown["lag_seconds"]}
    assert (shown["name"], shown["roles"], shown["live"], shown["version"]) == ("d", ["dispatch"], True, "9.9")
    assert (shown["generation"], shown["behind"], shown["uptime_seconds"]) == (1, generation - 1, 90)
    assert (shown["warnings"], shown["detail"]) == (["hot"], {"held": 3})
    assert 0 < shown["lag_seconds"] < 60
    assert (await api.ok("GET", "status"))["nodes"][0]["name"] == "d"
    await api.store.nodes.report(dispatcher("d", generation + 5, now, set()))
    (shown,) = (await api.ok("GET", "nodes"))["items"]
    assert (shown["behind"], shown["warnings"][-1]) == (
        0,
        "it works with a generation that the database no longer knows",
    )


async def test_silent_nodes_can_be_forgotten(api: Api) -> None:
    """A silent node goes off the list, a live one does not, and one that is not there is told."""
    await api.store.nodes.report(dispatcher("gone", 1, time.time() - 60, set()))
    await api.store.nodes.report(dispatcher("here", 1, time.time(), set()))
    some = {"live=true": ["here"], "live=false": ["gone"], "role=dns": [], "role=dispatch&limit=1&live=1": ["here"]}
    for query, names in some.items():
        assert [node["name"] for node in (await api.ok("GET", f"nodes?{query}"))["items"]] == names
    first = await api.ok("GET", "nodes?role=dispatch&limit=1")
    assert first["next"] == "/api/v1/nodes?role=dispatch&limit=1&after=gone"
    assert (await api("DELETE", "nodes/gone")).status == 204
    answer = await api("DELETE", "nodes/here")
    assert (answer.status, "Stop it first" in answer.text) == (409, True)
    assert [node["name"] for node in (await api.ok("GET", "nodes"))["items"]] == ["here"]
    assert (await api("DELETE", "nodes/gone")).status == 404
    assert (await api("GET", "nodes/gone")).status == 404


async def test_changed_key_is_an_outage(api: Api, tmp_path: Path) -> None:
    """Where the database's key was changed without this node, changes are refused as unavailable, for its key."""
    await api.store.keys.rewrap(KeyEncryptionKey.load(tmp_path / "new.key", {}), "test")
    answer = await api("PATCH", "clients/acme", {"tier": "standard"})
    assert answer.status == 503
    assert "key-encryption key is not the one" in answer.text
