"""Key epochs and client masters: created and destroyed with their cluster, rotated when every node has reported."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from dnsvip.address.keyring import EpochState
from dnsvip.errors import Conflict, InvalidSite
from dnsvip.site import ClassCluster, Cluster, Site
from dnsvip.site.epochs import NodeReport
from dnsvip.store import Store
from dnsvip.store.nodes import REMOVE_SECONDS, Nodes
from tests.store.changes import drop, put


async def test_cluster_brings_and_takes_its_keys(filled: Store, site: Site) -> None:
    """A new IPv6 cluster gets one active epoch and a client master; removing it destroys both."""
    web = site.clusters["web"]
    assert isinstance(web, Cluster)
    snapshot = await filled.snapshots.load()
    assert snapshot.keyrings.keys() == snapshot.masters.keys() == {"web"}
    assert snapshot.keyrings["web"].active
    assert len(snapshot.masters["web"]) == 32
    service = site.services["www.example.test"]
    await filled.objects.apply([drop("service", service.name), drop("cluster", "web")], "me", "api")
    gone = await filled.snapshots.refresh(snapshot)
    assert gone.keyrings == gone.masters == {}
    await filled.objects.apply([put("cluster", web)], "me", "api")
    again = await filled.snapshots.refresh(gone)
    assert again.masters["web"] != snapshot.masters["web"]
    assert again.keyrings["web"].epochs[0].secret != snapshot.keyrings["web"].epochs[0].secret


async def test_cluster_that_turns_ipv4_loses_its_keys(filled: Store, site: Site) -> None:
    """A name that changes from an IPv6 to an IPv4 cluster loses its keys."""
    legacy, service = site.clusters["legacy"], site.services["www.example.test"]
    assert isinstance(legacy, ClassCluster)
    changes = [
        drop("service", service.name),
        drop("cluster", "legacy"),
        put("cluster", replace(legacy, name="web"), site.clusters["web"]),
    ]
    await filled.objects.apply(changes, "me", "api")
    snapshot = await filled.snapshots.load()
    assert snapshot.masters == snapshot.keyrings == {}


async def test_rotation_waits_for_dispatchers_and_retires(filled: Store) -> None:
    """A new epoch is published, activated once dispatchers hold it, and the old one retires in time."""
    now = time.time()
    behind = NodeReport("d1", frozenset({"dispatch"}), 1, "1", now, 5.0)
    await filled.nodes.report(behind)
    published = await filled.keys.rotate("web", "me", now)
    assert published.state is EpochState.PUBLISHED
    assert await filled.keys.advance(now) == []
    await filled.nodes.report(replace(behind, generation=published.published_generation))
    assert await filled.keys.advance(now) == ["web/1 active", "web/0 retiring"]
    ring = (await filled.snapshots.load()).keyrings["web"]
    assert ring.active
    assert ring.active[0].slot == 1
    assert ring.active[0].secret == published.secret
    assert await filled.keys.advance(now + 3660) == []
    assert await filled.keys.advance(now + 3662) == ["web/0 retired"]
    assert [epoch.slot for epoch in (await filled.snapshots.load()).keyrings["web"].epochs] == [1]
    actions = [(row.action, row.name) for row in await filled.audit.rows(10) if row.kind == "key"]
    assert actions == [("-", "web/0"), ("~", "web/1"), ("~", "web/0"), ("+", "web/1"), ("+", "web/0")]


async def test_rotation_of_nothing(filled: Store) -> None:
    """Rotating an unknown cluster or one without keys gives an error that names the clusters with keys."""
    for name in ("nobody", "legacy"):
        with pytest.raises(InvalidSite, match=r"is not an IPv6 cluster of this site \(there is: web\)"):
            await filled.keys.rotate(name, "me", 0.0)


async def test_full_slots_say_when_one_is_free(filled: Store) -> None:
    """A fifth epoch is refused with the seconds until a slot is free."""
    now = time.time()
    for _ in range(3):
        await filled.keys.rotate("web", "me", now)
        await filled.keys.advance(now)
    with pytest.raises(
        Conflict, match=r"key\.web: all 4 key slots are taken; the next one becomes free in 36\d\d seconds"
    ):
        await filled.keys.rotate("web", "me", now)
    assert (await filled.keys.rotate("web", "me", now + 3700)).slot == 0


async def test_several_nodes_advance_at_once(filled: Store, url: str, kek: Any) -> None:
    """Of several concurrent advances one performs the step and the others do nothing."""
    other = await Store.open(url, kek)
    now = time.time()
    await filled.keys.rotate("web", "me", now)
    events = await asyncio.gather(*((filled, other)[n % 2].keys.advance(now) for n in range(8)))
    await other.close()
    assert sorted(events) == [*[[]] * 7, ["web/1 active", "web/0 retiring"]]


async def test_longer_ttl_keeps_the_epoch_longer(filled: Store, site: Site) -> None:
    """A TTL that was long while an epoch was active still applies after it is shortened."""
    web = site.clusters["web"]
    assert isinstance(web, Cluster)
    long = replace(web, ttl=7200)
    await filled.objects.apply([put("cluster", long, web)], "me", "api")
    await filled.objects.apply([put("cluster", web, long)], "me", "api")
    now = time.time()
    await filled.keys.rotate("web", "me", now)
    await filled.keys.advance(now)
    assert await filled.keys.advance(now + 10000) == []
    assert await filled.keys.advance(now + 10802) == ["web/0 retired"]


async def test_node_reports(store: Store) -> None:
    """A report replaces the same process's last one; processes of one name are kept apart.

    One that has left is listed as stopped, and does not live whatever the clock says, until its successor reports.
    """
    now = time.time()
    report = NodeReport("n1", frozenset({"dns", "admin"}), 1, "0.1", now, 5.0, "a")
    await store.nodes.report(report)
    await store.nodes.report(replace(report, generation=2))
    twin = replace(report, instance="b")
    await store.nodes.report(twin)
    assert await store.nodes.all() == [replace(report, generation=2), twin]
    await store.nodes.leave(twin)
    states = {node.instance: (node.stopped, node.is_live(now - 1)) for node in await store.nodes.all()}
    assert states == {"a": (False, True), "b": (True, False)}
    successor = Nodes(store.nodes._session)
    await successor.report(replace(report, instance="c", started_at=now + 1, seen_at=now + 1))
    assert [node.instance for node in await store.nodes.all()] == ["a", "c"]
    await successor.report(replace(report, instance="c", started_at=now + 1, seen_at=now + 2 + REMOVE_SECONDS))
    assert [node.instance for node in await store.nodes.all()] == ["c"]
    other = NodeReport("n2", frozenset({"dns"}), 1, "0.1", now + 4000, 5.0, "d")
    await store.nodes.report(other)
    assert [node.instance for node in await store.nodes.all()] == ["d"]
    assert await store.generation() == 0
