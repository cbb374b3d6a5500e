"""Health over the API: each server as each dispatcher finds it."""

from __future__ import annotations

import time

from dnsvip.dispatcher.health.report import MOST_REPORTED, reported
from dnsvip.site.epochs import NodeReport
from tests.admin.conftest import Api


def one(pool: str, name: str, *, passing: bool) -> dict[str, object]:
    state = "up" if passing else "down"
    return {
        "pool": pool, "name": name, "address": "::1", "set": "up", "state": state, "weight": 50, "passing": passing,
        "load": 50, "note": "" if passing else "Connection refused", "since": 5.0, "agent": "", "probes": 1,
    }  # fmt: skip


def report(name: str, health: object, seen_at: float) -> NodeReport:
    detail = reported(health) if isinstance(health, list) else {"health": health}
    return NodeReport(name, frozenset({"dispatch"}), 1, "9", seen_at, 5.0, name, detail=detail)


async def test_each_dispatchers_finding(api: Api) -> None:
    """Servers stand once for each dispatcher, a silent one marked; what makes no sense is left out."""
    now = time.time()
    await api.store.nodes.report(report("d1", [one("fast", "a", passing=True), one("slow", "b", passing=True)], now))
    await api.store.nodes.report(report("d2", [one("fast", "a", passing=False)], now - 60))
    await api.store.nodes.report(report("d3", [], now))
    await api.store.nodes.report(report("d4", {"of": "another version"}, now))
    items = (await api.ok("GET", "health"))["items"]
    told = [(item["pool"], item["name"], item["node"], item["live"], item["state"]) for item in items]
    assert told == [
        ("fast", "a", "d1", True, "up"),
        ("fast", "a", "d2", False, "down"),
        ("slow", "b", "d1", True, "up"),
    ]
    assert items[1]["note"] == "Connection refused"
    assert [item["name"] for item in (await api.ok("GET", "health?pool=slow"))["items"]] == ["b"]
    assert len((await api.ok("GET", "health?server=a"))["items"]) == 2
    assert (await api.ok("GET", "health?node=d1"))["items"] == [items[0], items[2]]
    assert (await api.ok("GET", "health?state=down&pool=fast"))["items"] == [items[1]]


def test_a_report_is_bounded() -> None:
    """Of very many servers those that are not well are told first, and how many are left out."""
    health = [one("p", f"s{n:04}", passing=n != 900) for n in range(1000)]
    told = reported(health)
    assert len(told["health"]) == MOST_REPORTED
    assert told["health"][0]["name"] == "s0900"
    assert told["health_left_out"] == 1000 - MOST_REPORTED
    assert reported([]) == {}
