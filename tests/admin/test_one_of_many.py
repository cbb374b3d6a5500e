"""A node, a counter or a dispatcher that makes the code of /status or of the console's live feed raise hides
no other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from dnsvip.admin.console import live
from dnsvip.admin.http.narrowing import Narrowed
from dnsvip.admin.node import NODE, Node
from dnsvip.admin.operations import nodes, status
from dnsvip.site.epochs import NodeReport
from dnsvip.site.fleet import Trouble, troubles
from tests.admin.conftest import Api

NARROW = Narrowed({"client": ("news*",)})


class Bad(Mapping[str, Any]):
    """Counters that cannot be read."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("iter")

    def __len__(self) -> int:
        return 1


@pytest.fixture
async def fleet(api: Api) -> Api:
    """A node `bad` whose report names what its warnings are about by numbers, and a good one that warns of a client."""
    for name, about in (("bad", [5]), ("good", [["client", "newsreader"]])):
        report = NodeReport(name, frozenset({"dispatch"}), 1, "9.9", time.time(), 5.0, "i")
        await api.store.nodes.report(replace(report, detail={"warnings": ["look"], "about": about}))
    return api


def broken(api: Api) -> Node:
    app = api.client.app
    assert app is not None
    return replace(app[NODE], dns=Bad)


async def test_a_report_that_cannot_be_narrowed(fleet: Api) -> None:
    """A caller who sees some objects sees every node, one of them without its account."""
    app = fleet.client.app
    assert app is not None
    rows = {row["name"]: nodes.as_seen(row, NARROW) for row in (await nodes.fleet(app[NODE])).processes}
    assert rows["good"]["warnings"] == ["look"]
    assert "bad" in rows
    assert "look" not in str(rows["bad"]["warnings"])


async def test_a_node_that_cannot_be_judged(fleet: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status still says what is wrong with the others."""

    def judged(site: Any, reports: Any, generation: int, now: float, drained: Any = None) -> tuple[Trouble, ...]:
        if any(report.name == "bad" for report in reports):
            raise RuntimeError("bad")
        return troubles(site, reports, generation, now, drained)

    await fleet.ok("PUT", "tiers/new", {"code": 9, "pool": "fast"})
    monkeypatch.setattr(nodes, "troubles", judged)
    document = await fleet.ok("GET", "status")
    assert {row["name"] for row in document["nodes"]} == {"bad", "good"}
    assert "good" in [trouble["node"] for trouble in document["troubles"]]


async def test_counters_and_dispatchers_that_cannot_be_read(fleet: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is named in its place, in the status and in the live feed; the rest is there, and charts go on."""

    async def told(_path: Any) -> Any:
        return {"outcomes": {"sent": 5}, "tiers": {"gold": {"sent": "many", "dropped": 2}}}

    node = broken(fleet)
    assert "error" in status.shown_or_named("dns", lambda: dict(node.dns()))
    monkeypatch.setattr(status, "ask_dispatcher", told)
    seen = live.Live()
    now = {**await live._look(node, seen), **await live._database(node, seen)}
    assert "RuntimeError" in now["dns"]["error"]
    assert {row["name"] for row in seen.fleet.processes} == {"bad", "good"}
    totals = live._totals("dispatcher", now["dispatcher"])
    assert totals == {"dispatcher.outcomes.sent": 5, "dispatcher.tiers.gold.dropped": 2}
    assert live._totals("dns", {"outcomes": Bad()}) == {}
