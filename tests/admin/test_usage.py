"""What clients have used, through the API: sums over nodes, orders, pages, rights."""

from __future__ import annotations

import pytest

from tests.admin.conftest import Api

ROWS = {"acme": (10, 5000, 2, 1), "c1": (20, 900, 9, 0), "c2": (5, 700, 1, 7)}


@pytest.fixture
async def used(api: Api) -> Api:
    """Three clients that have used something, one of them at two nodes."""
    for number in (1, 2):
        await api.ok("PUT", f"clients/c{number}", {"id": 3000 + number, "tier": "gold"})
    ids = {"acme": (await api.ok("GET", "clients/acme"))["id"], "c1": 3001, "c2": 3002}
    await api.store.usage.add("d1", {ids[name]: row for name, row in ROWS.items()} | {999_999: (1, 1, 1, 1)}, 100.0)
    await api.store.usage.add("d2", {ids["acme"]: (1, 100, 1, 0)}, 200.0)
    await api.store.usage.add("d2", {ids["acme"]: (1, 100, 0, 2)}, 300.0)
    return api


async def test_one_client(used: Api) -> None:
    """A client's usage is the sum of what nodes have reported, and each node's; one that has used nothing has zeros."""
    answer = await used.ok("GET", "clients/acme/usage")
    assert [answer[field] for field in ("packets", "bytes", "flows", "drops")] == [12, 5200, 3, 3]
    assert answer["nodes"][1] == {
        "node": "d2", "packets": 2, "bytes": 200, "flows": 1, "drops": 2, "since": 200.0, "seen_at": 300.0,
    }  # fmt: skip
    await used.ok("PUT", "clients/idle", {"id": 4000, "tier": "gold"})
    assert (await used.ok("GET", "clients/idle/usage"))["bytes"] == 0
    assert (await used("GET", "clients/nobody/usage")).status == 404


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("-bytes", ["acme", "c1", "c2"]),
        ("bytes", ["c2", "c1", "acme"]),
        ("-packets", ["c1", "acme", "c2"]),
        ("-flows", ["c1", "acme", "c2"]),
        ("-drops", ["c2", "acme", "c1"]),
        ("name", ["acme", "c1", "c2"]),
        ("-name", ["c2", "c1", "acme"]),
    ],
)
async def test_list(used: Api, sort: str, names: list[str]) -> None:
    """The list is sorted by every column, in pages; ids that are no client's are not in it."""
    assert [item["name"] for item in (await used.ok("GET", f"usage?sort={sort}"))["items"]] == names
    page = await used.ok("GET", f"usage?sort={sort}&limit=2")
    rest = await used.ok("GET", page["next"].removeprefix("/api/v1/"))
    assert [item["name"] for item in page["items"] + rest["items"]] == names
    assert rest["next"] is None
    assert (await used("GET", "usage?sort=colour")).status == 400


async def test_who_may_read_a_client_may_read_its_usage(used: Api) -> None:
    """A token sees the usage of exactly the clients that it may read; without a right to any it sees none."""

    async def token(name: str, scope: dict[str, object]) -> str:
        made = await used.ok("POST", "tokens", {"name": name, "scopes": [scope]})
        return f"Bearer {made['token']}"

    some = {"Authorization": await token("some", {"actions": ["read"], "kinds": ["client"], "clients": ["c*"]})}
    items = (await used.ok("GET", "usage", headers=some))["items"]
    assert [item["name"] for item in items] == ["c1", "c2"]
    assert (await used("GET", "clients/c1/usage", headers=some)).status == 200
    assert (await used("GET", "clients/acme/usage", headers=some)).status == 403
    none = {"Authorization": await token("none", {"actions": ["read"], "kinds": ["tier"]})}
    assert (await used("GET", "usage", headers=none)).status == 403
    assert (await used("GET", "clients/c1/usage", headers=none)).status == 403


async def test_a_client_that_is_gone(used: Api) -> None:
    """What a deleted client has used is in no list, and is removed with the next pruning."""
    await used.ok("DELETE", "clients/c1")
    assert [item["name"] for item in (await used.ok("GET", "usage"))["items"]] == ["acme", "c2"]
    await used.store.usage.prune()
    await used.ok("PUT", "clients/c1", {"id": 3001, "tier": "gold"})
    assert (await used.ok("GET", "clients/c1/usage"))["bytes"] == 0
