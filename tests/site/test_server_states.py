"""Servers are counted by their state: an operator's word first, then what any live dispatcher sees."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any

from dnsvip.site import Check, Pool, Server, ServerState, Site
from dnsvip.site.epochs import NodeReport
from dnsvip.site.server_states import SERVER_STATES, server_states

NOW = 1_000.0
UP, DRAIN, MAINT, DOWN = ServerState.UP, ServerState.DRAIN, ServerState.MAINT, ServerState.DOWN


def site(**states: ServerState) -> Site:
    servers = tuple(Server(name, IPv6Address("fd00::1"), state=state) for name, state in states.items())
    return Site(pools={"p": Pool("p", servers=servers, check=Check(tcp=80))})


def told(*rows: dict[str, Any], age: float = 0.0) -> NodeReport:
    health = [{"pool": "p", "passing": True, "set": "up", "state": "up", **row} for row in rows]
    return NodeReport("d", frozenset({"dispatch"}), 1, "x", NOW - age, 5.0, detail={"health": health})


def counted(site: Site, *reports: NodeReport) -> dict[str, int]:
    return {state: number for state, number in server_states(site, reports, NOW).items() if number}


def test_states() -> None:
    """Each state is counted apart; out of service is out of service whatever its check says."""
    some = site(a=UP, b=UP, c=DRAIN, d=MAINT, e=DOWN, f=DRAIN, g=UP)
    failing = [{"name": name, "passing": False, "state": "down"} for name in "bdef"]
    agent = {"name": "g", "state": "drain"}
    assert counted(some, told(*failing, agent)) == {
        "healthy": 1, "failing": 2, "draining": 2, "maintenance": 1, "down": 1,
    }  # fmt: skip
    assert set(server_states(some, (), NOW)) == set(SERVER_STATES)


def test_nobody_looks() -> None:
    """Without a live dispatcher, or a check, nothing is called healthy."""
    some = site(a=UP, b=DRAIN)
    assert counted(some) == {"unchecked": 1, "draining": 1}
    assert counted(some, told({"name": "a", "passing": False}, age=60)) == {"unchecked": 1, "draining": 1}
    bare = Site(pools={"p": replace(some.pools["p"], check=None)})
    assert counted(bare, told()) == {"unchecked": 1, "draining": 1}


def test_strange_reports() -> None:
    """One of another version may say it otherwise, and then says nothing."""
    rows: list[Any] = [
        {"health": 3},
        {"health": ["x", {"pool": "p", "name": "a", "passing": True, "set": 1, "state": []}]},
    ]
    for detail in rows:
        report = NodeReport("d", frozenset({"dispatch"}), 1, "x", NOW, 5.0, detail=detail)
        assert counted(site(a=UP), report) == {"healthy": 1}
