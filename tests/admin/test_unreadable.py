"""An object that is stored but cannot be read, over the API: listed, named, replaced, removed, by the same rights."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from dnsvip.site.registry import NAMED
from tests.admin.conftest import Api

BODIES = {
    "clusters/legacy": {"prefix": "192.0.2.0/28", "plain": "192.0.2.1", "classes": {}, "default_tier": "standard"},
    "tiers/gold": {"code": 1, "pool": "fast"},
    "pools/fast": {"servers": [{"name": "a", "address": "fd00::1"}]},
    "zones/example.test": {"text": "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.other.test.\n"},
    "services/www.example.test": {"cluster": "web"},
    "tsig/acme-key": {"secret": "c2VjcmV0c2VjcmV0"},
    "clients/acme": {"id": 7, "tier": "gold"},
}


async def spoil(api: Api, path: str) -> None:
    plural, _, name = path.partition("/")
    (kind,) = [kind.name for kind in NAMED.values() if kind.plural == plural]
    async with api.store._session.write_unordered() as connection:
        done = await connection.execute(
            text(f"UPDATE {kind} SET spec = '{{\"future\": true}}' WHERE name = :name"),  # noqa: S608 - a table
            {"name": name},
        )
        assert done.rowcount == 1


@pytest.mark.parametrize(("path", "body"), BODIES.items(), ids=list(BODIES))
async def test_an_unreadable_object_is_shown_and_replaced(api: Api, path: str, body: dict[str, object]) -> None:
    """Its list shows it with what is wrong, a GET and a PATCH say so, a PUT replaces it, and the audit tells of it."""
    plural, _, name = path.partition("/")
    await spoil(api, path)
    items = {item["name"]: item for item in (await api.ok("GET", plural))["items"]}
    assert items[name].keys() == {"name", "unreadable"}
    assert all("unreadable" not in item for other, item in items.items() if other != name)
    for method, sent in (("GET", None), ("PATCH", {})):
        answer = await api(method, path, sent)
        assert (answer.status, answer.json["type"]) == (409, "urn:problem-type:dnsvip:unreadable")
        assert "cannot be read" in answer.json["detail"]
    assert (await api("PUT", path, body, headers={"If-None-Match": "*"})).status == 412
    replaced = await api("PUT", path, body)
    assert replaced.status == 200, replaced.text
    assert await api.ok("GET", path) == replaced.json
    row = (await api.ok("GET", f"audit?limit=1&name={name}"))["items"][0]
    assert (row["action"], "unreadable" in row["before"]) == ("~", True)


async def test_an_unreadable_object_is_removed(api: Api) -> None:
    """DELETE removes it, unless something refers to it; the history of a client goes on."""
    await spoil(api, "clients/acme")
    api.snapshots.append(await api.store.snapshots.load())
    export = await api("GET", "clients/export")
    assert "unreadable" not in export.text
    (warning,) = map(json.loads, export.headers.getall("Dnsvip-Warning"))
    assert warning.startswith("left out: client.acme: ")
    assert (await api("DELETE", "clients/acme")).status == 204
    assert (await api("GET", "clients/acme")).status == 404
    assert [row["action"] for row in (await api.ok("GET", "clients/acme/history"))["items"]][:1] == ["-"]
    await spoil(api, "pools/fast")
    assert (await api("DELETE", "pools/fast")).json["type"].endswith("in-use")


async def test_rights_by_its_name(api: Api) -> None:
    """A token that reaches other names neither sees it nor replaces or removes it."""
    await spoil(api, "clients/acme")
    scope = {"actions": ["read", "write", "delete"], "kinds": ["client"], "clients": ["news*"]}
    token = (await api.ok("POST", "tokens", {"name": "narrow", "scopes": [scope]}))["token"]
    headers = {"Authorization": f"Bearer {token}"}
    listed = await api.ok("GET", "clients", headers=headers)
    assert "acme" not in [item["name"] for item in listed["items"]]
    for method, body in (("GET", None), ("PUT", BODIES["clients/acme"]), ("DELETE", None)):
        assert (await api(method, "clients/acme", body, headers=headers)).status == 403


@pytest.mark.parametrize("mode", ["all-or-nothing", "per-line"])
async def test_an_import_replaces_an_unreadable_client(api: Api, mode: str) -> None:
    """A line for it replaces it, with what is still known of what the line does not name (a revoked client stays
    revoked), and other lines are stored beside it. The audit tells of it."""
    await api.ok("POST", "clients/acme/revoke")
    before = await api.ok("GET", "clients/acme")
    await spoil(api, "clients/acme")
    lines = [
        json.dumps({"name": "acme", "id": before["id"], "tier": "gold"}),
        '{"name": "beside", "id": 777, "tier": "gold"}',
    ]
    answer = await api("POST", f"clients/import?mode={mode}", data="\n".join(lines).encode())
    assert answer.status == 200, answer.text
    assert (answer.json["changed"], answer.json["made"], answer.json["failed"]) == (1, 1, 0)
    after = await api.ok("GET", "clients/acme")
    assert (after["state"], after["id"]) == ("revoked", before["id"])
    assert after["key_generation"] >= before["key_generation"]
    assert (await api.ok("GET", "clients/beside"))["id"] == 777
    row = (await api.ok("GET", "audit?limit=1&name=acme"))["items"][0]
    assert (row["action"], "unreadable" in row["before"]) == ("~", True)


async def test_an_unreadable_token(api: Api) -> None:
    """It lets nobody in, is listed with what is wrong, cannot be changed or rotated, and is deleted."""
    made = (await api("POST", "tokens", {"name": "robot"})).json
    async with api.store._session.write_unordered() as connection:
        await connection.execute(text("UPDATE token SET scopes = '{' WHERE name = 'robot'"))
    assert (await api("GET", "tiers", headers={"Authorization": f"Bearer {made['token']}"})).status == 401
    items = {item["name"]: item for item in (await api.ok("GET", "tokens"))["items"]}
    assert (items["robot"]["rights"], "unreadable" in items["robot"]) == ([], True)
    assert all("unreadable" not in item for name, item in items.items() if name != "robot")
    for method, path in (("PATCH", "tokens/robot"), ("POST", "tokens/robot/rotate")):
        assert (await api(method, path, {})).json["type"].endswith("unreadable")
    assert (await api("DELETE", "tokens/robot")).status == 204
    (row,) = (await api.ok("GET", "audit?limit=1&name=robot"))["items"]
    assert (row["action"], "unreadable" in row["before"]) == ("-", True)
