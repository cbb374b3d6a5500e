"""The audit change by change: what was changed at once is one entry, however many rows it has."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from dnsvip.store.access import audit_changes
from tests.admin.conftest import Api

Json = dict[str, Any]


async def imported(api: Api, stem: str, first: int, number: int) -> None:
    """Clients of one import."""
    lines = [{"name": f"{stem}-{place:04}", "id": first + place, "tier": "gold"} for place in range(number)]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    report = await api.ok("POST", "clients/import", data=data, headers={"Content-Type": "application/x-ndjson"})
    assert report["made"] == number, report


async def walked(api: Api, query: str, **options: Any) -> list[Json]:
    """All pages of changes."""
    changes: list[Json] = []
    path: str | None = f"audit/changes?{query}"
    while path:
        page = await api.ok("GET", path, **options)
        changes += page["items"]
        path = page["next"] and page["next"].removeprefix("/api/v1/")
    return changes


async def test_an_import_is_one_entry(api: Api) -> None:
    """It says how many rows of what it has and names the first; its generation opens to exactly these; a change of one
    row is shown whole."""
    await imported(api, "bulk", 50_000, 120)
    await api.ok("PATCH", "tiers/gold", {"dscp": 46})
    newest, bulk, *_ = await walked(api, "limit=3")
    assert (newest["rows"], newest["row"]["before"]["dscp"], newest["row"]["after"]["dscp"]) == (1, 34, 46)
    assert (bulk["rows"], bulk["counted"], bulk["row"], bulk["actor"]) == (120, True, None, "token test")
    (part,) = bulk["parts"]
    assert (part["kind"], part["action"], part["rows"], len(part["names"])) == ("client", "+", 120, 3)
    opened = await api.ok("GET", f"audit?generation={bulk['generation']}&limit=200")
    assert {row["name"] for row in opened["items"]} == {f"bulk-{place:04}" for place in range(120)}


async def test_searched(api: Api) -> None:
    """By actor, kind and name, and by times at both ends."""
    await imported(api, "some", 51_000, 5)
    assert [change["rows"] for change in await walked(api, "name=some-0003")] == [1]
    assert [change["rows"] for change in await walked(api, "actor=token%20test")] == [5]
    assert {part["kind"] for change in await walked(api, "kind=tier") for part in change["parts"]} == {"tier"}
    (change,) = await walked(api, "actor=token%20test")
    at = change["at"]
    assert [one["generation"] for one in await walked(api, f"since={at}")] == [change["generation"]]
    assert change["generation"] not in {one["generation"] for one in await walked(api, f"until={at - 0.001}")}
    assert [one["generation"] for one in await walked(api, f"since={at}&until={at}")] == [change["generation"]]
    assert await walked(api, f"since={time.time() + 60}") == []
    assert await walked(api, "until=1") == []
    assert (await api.ok("GET", f"audit?until={at - 0.001}"))["items"][0]["generation"] < change["generation"]
    assert (await api("GET", "audit/changes?limit=101")).status == 400


async def test_a_narrowed_token(api: Api) -> None:
    """It counts and names the rows that its scope of the audit reaches."""
    await imported(api, "mine", 52_000, 4)
    await imported(api, "other", 52_100, 4)
    scopes = [{"actions": ["read"], "kinds": ["audit"], "clients": ["mine-000[01]", "mine-0002"], "tiers": ["none"]}]
    scopes[0]["clients"] = ["mine-0001", "mine-0002"]
    token = (await api.ok("POST", "tokens", {"name": "narrow", "scopes": scopes}))["token"]
    changes = await walked(api, "kind=client", headers={"Authorization": f"Bearer {token}"})
    assert [(change["rows"], sorted(change["parts"][0]["names"])) for change in changes] == [
        (2, ["mine-0001", "mine-0002"])
    ]


async def test_very_many_rows(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a large change are passed over, so that a page costs a bounded number; no other change is lost."""
    monkeypatch.setattr(audit_changes, "STEP", 10)
    monkeypatch.setattr(audit_changes, "MOST_COUNTED", 20)
    for number, stem in enumerate(("one", "two", "three")):
        await imported(api, stem, 53_000 + 1000 * number, 75)
        await api.ok("PATCH", "tiers/gold", {"dscp": number})
    for limit in (1, 2, 50):
        changes = await walked(api, f"limit={limit}&actor=token%20test")
        assert [(change["parts"][0]["kind"], change["counted"]) for change in changes] == [
            *[("tier", True), ("client", False)] * 3
        ], limit
        assert all(change["rows"] < 40 for change in changes)
    monkeypatch.setattr(audit_changes, "MOST_READ", 10)
    assert len(await walked(api, "actor=token%20test")) == 6
