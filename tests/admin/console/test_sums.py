"""Sums over the reports of a site: what is merged, what a narrowed look sees of it, who is late."""

from __future__ import annotations

from typing import Any

from dnsvip.admin.console.meters import Sample
from dnsvip.admin.console.sums import LATE_SECONDS, flows_of, late, merged_tops, sample_of, tops_of
from dnsvip.admin.http.narrowing import Narrowed
from dnsvip.site.epochs import NodeReport

NOW = 1_000.0


def report(name: str, role: str = "dns", *, age: float = 0.0, instance: str = "", **figures: Any) -> NodeReport:
    detail = {"figures": figures} if figures else {}
    return NodeReport(name, frozenset({role}), 1, "x", NOW - age, 5.0, instance or name, detail=detail)


def test_lists_of_several_nodes() -> None:
    """Rates of the same row add up, over live nodes alone, the most first."""
    asked = {"names": [{"name": "a.", "zone": "z", "rate": 2.0}, {"name": "b.", "zone": "z", "rate": 3.0}]}
    reports = [report("n1", top=asked), report("n2", top=asked), report("old", age=60, top=asked)]
    found = merged_tops(reports, NOW)
    assert found["names"] == [{"name": "b.", "zone": "z", "rate": 6.0}, {"name": "a.", "zone": "z", "rate": 4.0}]
    assert found["clients"] == found["refused"] == []


def test_a_narrowed_look() -> None:
    """Names of other zones and other clients are left out; lists of everybody's networks are not for it."""
    tops = {
        "names": [{"name": "a.", "zone": "mine.test", "rate": 1}, {"name": "b.", "zone": "other.test", "rate": 1}],
        "clients": [{"client": "mine-1", "bytes": 1}, {"client": "other", "bytes": 9}],
        "resolvers": [{"network": "192.0.2.0/24", "rate": 1}],
        "refused": [{"network": "192.0.2.0/24", "reason": "bad-tag", "rate": 1}],
    }
    assert tops_of(tops, Narrowed({})) == tops
    shown = tops_of(tops, Narrowed({"zone": ("mine.test",), "client": ("mine-*",)}))
    assert [row["name"] for row in shown["names"]] == ["a."]
    assert [row["client"] for row in shown["clients"]] == ["mine-1"]
    assert shown["resolvers"] is None
    assert shown["refused"] is None


def test_reports_of_other_versions() -> None:
    """What a node of another version, or a damaged row, says otherwise counts as nothing."""
    strange: list[Any] = [
        7,
        [],
        {"at": "x", "totals": {}},
        {"at": 1, "totals": 5},
        {"top": {"names": [3, {"rate": []}]}},
    ]
    for each in strange:
        one = NodeReport("n", frozenset({"dns"}), 1, "x", NOW, 5.0, detail={"figures": each})
        assert sample_of(one) is None
        assert flows_of([one], NOW) is None
        assert all(row.get("rate", 0.0) == 0 for rows in merged_tops([one], NOW).values() for row in rows)
    totals = {"dns.a": 1, "dns.b": "x", "dns.c": True}
    assert sample_of(report("n", at=3, totals=totals)) == Sample(3.0, {"dns.heard.": 0, "dns.a": 1, "dns.c": True})


def test_flows() -> None:
    """Flows and room of all dispatchers; those of one that is gone are not."""
    flows = {"established": 2, "new": 1, "bound": 10}
    reports = [report("d1", "dispatch", flows=flows), report("d2", "dispatch", flows=flows)]
    assert flows_of([*reports, report("d3", "dispatch", age=9, flows=flows)], NOW) == {
        "established": 4,
        "new": 2,
        "bound": 20,
    }


def test_late_nodes() -> None:
    """A node is late when all of its live processes are silent, before its lease is over; it says where to look."""
    long = LATE_SECONDS + 0.5
    reports = [report("n1", age=long), report("n2", age=9), report("n3", instance="a"), report("n3", instance="b")]
    found = late(reports, {"n1": long, "n2": 9.0, "a": long, "b": 0.2}, NOW)
    assert [(each["node"], each["severity"]) for each in found] == [("n1", "warning")]
    assert "systemctl status dnsvip-serve" in found[0]["text"]
    (dispatcher,) = late([report("d1", "dispatch")], {"d1": long}, NOW)
    assert "systemctl status dnsvip-dispatch" in dispatcher["text"]
