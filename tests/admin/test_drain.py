"""Draining nodes over the API: who may, what is shown of it, and what is refused."""

from __future__ import annotations

import time

from dnsvip.site.epochs import NodeReport
from dnsvip.site.rights import ROLES
from dnsvip.store.access.tokens import Token
from tests.admin.conftest import Api
from tests.admin.test_scopes_model import token_with


def dispatcher(name: str, seen_at: float) -> NodeReport:
    return NodeReport(name, frozenset({"dispatch"}), 1, "9.9", seen_at, 5.0, "i", seen_at - 90, seen_at)


async def test_a_node_is_drained_and_undrained(api: Api) -> None:
    """The list, the status and explain show it with the time, and that nobody is left; undraining ends it."""
    before = time.time()
    await api.store.nodes.report(dispatcher("d1", before))
    answer = await api.ok("POST", "nodes/d1/drain")
    assert before <= answer["drained_at"] <= time.time()
    assert await api.ok("POST", "nodes/d1/drain") == answer
    (shown,) = (await api.ok("GET", "nodes"))["items"]
    assert shown["drained_at"] == answer["drained_at"]
    status = await api.ok("GET", "status")
    assert status["nodes"][0]["drained_at"] == answer["drained_at"]
    texts = {each["text"]: each["severity"] for each in status["troubles"] if each["kind"] == "drained"}
    assert texts == {
        "Every dispatcher is drained: nobody announces the clusters' addresses.": "critical",
        "Node d1 is drained: it gets no traffic.": "warning",
    }
    await api.ok("POST", "nodes/d1/undrain")
    assert (await api.ok("GET", "nodes/d1"))["processes"][0]["drained_at"] is None
    rows = (await api.ok("GET", "audit?kind=node"))["items"]
    assert [(row["name"], row["after"]) for row in rows] == [("d1", {"drained": False}), ("d1", {"drained": True})]


async def test_a_node_that_is_not_there(api: Api) -> None:
    """A mistyped name is refused; a drained node that has been forgotten can be undrained, and a sound one too."""
    for verb in ("drain", "undrain"):
        assert (await api("POST", f"nodes/d9/{verb}")).status == 404
    await api.store.nodes.report(dispatcher("d1", time.time() - 60))
    assert (await api.ok("POST", "nodes/d1/undrain"))["drained_at"] is None
    await api.ok("POST", "nodes/d1/drain")
    await api.ok("DELETE", "nodes/d1")
    assert (await api.ok("POST", "nodes/d1/undrain"))["drained_at"] is None
    assert (await api("POST", "nodes/d1/undrain")).status == 404


async def test_who_may(api: Api) -> None:
    """An operator drains; who may only look, or only forget nodes, does not. Who may not see nodes is not told."""
    await api.store.nodes.report(dispatcher("d1", time.time()))
    allowed = {"operator": 200, "viewer": 403, "zone-editor": 403}
    for role, status in allowed.items():
        clear = await api.store.tokens.create(role, "test", Token(role, 0.0, "", scopes=ROLES[role]))
        headers = {"Authorization": f"Bearer {clear}"}
        assert (await api("POST", "nodes/d1/drain", headers=headers)).status == status, role
    explain = {"qname": "www.example.test", "source": "192.0.2.200"}
    api.snapshots.append(await api.store.snapshots.load())
    assert (await api.ok("POST", "explain", explain))["drained_nodes"] == ["d1"]
    only = await token_with(api, "explains", [{"actions": ["read"], "kinds": ["explain"]}])
    assert (await api.ok("POST", "explain", explain, headers=only))["drained_nodes"] == []
    forgets = await token_with(api, "forgets", [{"actions": ["read", "delete"], "kinds": ["node"]}])
    assert (await api("POST", "nodes/d1/undrain", headers=forgets)).status == 403
