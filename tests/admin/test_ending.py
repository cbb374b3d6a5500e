"""Ending the known flows of a client with its addresses: `end_flows`."""

from __future__ import annotations

from typing import Any

from tests.admin.conftest import Api


async def acme(api: Api) -> dict[str, Any]:
    client = await api.ok("GET", "clients/acme")
    return {key: client[key] for key in ("state", "end_flows", "key_generation")}


async def test_revoke(api: Api) -> None:
    """`revoke` takes `end_flows`, false by default, and never takes it back; enabling does."""
    assert await acme(api) == {"state": "enabled", "end_flows": False, "key_generation": 0}
    await api.ok("POST", "clients/acme/revoke")
    assert await acme(api) == {"state": "revoked", "end_flows": False, "key_generation": 0}
    await api.ok("POST", "clients/acme/revoke", {"end_flows": True})
    await api.ok("POST", "clients/acme/revoke", {"end_flows": False})
    assert (await acme(api))["end_flows"] is True
    await api.ok("PATCH", "clients/acme", {"state": "enabled"})
    assert await acme(api) == {"state": "enabled", "end_flows": False, "key_generation": 1}
    await api.ok("PATCH", "clients/acme", {"state": "disabled", "end_flows": True})
    assert await acme(api) == {"state": "disabled", "end_flows": True, "key_generation": 1}


async def test_delete(api: Api) -> None:
    """`end_flows` of a removal is kept with the id that is given up."""
    await api.ok("PUT", "clients/one", {"id": 2001, "tier": "gold"})
    await api.ok("PUT", "clients/two", {"id": 2002, "tier": "gold"})
    assert (await api("DELETE", "clients/one?end_flows=true")).status == 204
    assert (await api("DELETE", "clients/two")).status == 204
    snapshot = await api.store.snapshots.load()
    assert set(snapshot.deleted) >= {2001, 2002}
    assert snapshot.ended == {2001}


async def test_refusals(api: Api) -> None:
    """What is wrong is named with what would be right."""
    for method, path, body, named in (
        ("POST", "clients/acme/revoke", {"end_flows": "yes"}, "revoke.end_flows"),
        ("POST", "clients/acme/revoke", {"flows": True}, "revoke.flows"),
        ("DELETE", "clients/acme?end_flows=maybe", None, "end_flows"),
        ("DELETE", "clients/acme?flows=true", None, "flows"),
    ):
        answer = await api(method, path, body)
        assert answer.status in (400, 422), answer.text
        assert named in answer.text
    assert (await api("POST", "clients/nobody/revoke")).status == 404
    assert (await acme(api))["state"] == "enabled"
