"""A database restored to an older state under running nodes, and scheduled rotation among many nodes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from dnsvip.address.keyring import EpochState
from dnsvip.site import Client, Cluster, Site
from dnsvip.site.epochs import waiting_for
from dnsvip.site.history import Course
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change, plan
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from dnsvip.store.following.disk import MEMORY_FILE, load_memory
from dnsvip.store.snapshots import lastgood
from tests.store.conftest import until

Node = Callable[[str], NodeConfig]
Start = Callable[[SnapshotFollower], Awaitable[SnapshotFollower]]


def change(name: str, number: int) -> list[Change]:
    return [Change("client", name, "+", None, Client(name, number, "gold"))]


async def test_another_history_with_the_same_numbers_is_read_whole(filled: Store) -> None:
    """If the last change seen is missing from the database, its generations count as another history and load whole."""
    await filled.objects.apply(change("one", 1), "me", "api")
    seen = await filled.snapshots.follow(None, None)
    assert seen.course is Course.ONWARD
    await filled.objects.apply(change("two", 2), "me", "api")
    onward = await filled.snapshots.follow(seen.snapshot, seen.mark)
    assert (onward.course, set(onward.snapshot.site.clients) - {"acme", "newsreader"}) == (
        Course.ONWARD,
        {"one", "two"},
    )
    lost = replace(seen.snapshot, site=replace(seen.snapshot.site, clients={"lost": Client("lost", 9, "gold")}))
    other = replace(seen.mark, stamp=seen.mark.stamp + 1)
    back = await filled.snapshots.follow(lost, other)
    assert back.course is Course.BACK
    assert back.snapshot.site == onward.snapshot.site
    assert (await filled.snapshots.follow(onward.snapshot, onward.mark)).snapshot is onward.snapshot


@pytest.fixture
async def world(tmp_path: Path, kek: KeyEncryptionKey, site: Site) -> Store:
    """A store on a file with the example site."""
    store = await Store.open(f"sqlite:///{tmp_path}/site.db", kek)
    await store.objects.apply(plan(Site(), site, {}), "me", "site")
    return store


def copy(source: Path, target: Path) -> None:
    """Back up the file."""
    with sqlite3.connect(source) as one, sqlite3.connect(target) as other:
        one.backup(other)


def put_back(copied: Path, path: Path) -> None:
    """Put a copy in place of a file and remove that file's journals."""
    for journal in ("-wal", "-shm"):
        path.with_name(path.name + journal).unlink(missing_ok=True)
    copied.rename(path)


async def test_keys_of_a_lost_history_are_not_mixed_up(world: Store, tmp_path: Path, started: Start) -> None:
    """A node whose database file loses two rotations loads it whole, warns, and reserves the lost keys' slots.

    The next key takes another slot, and activation waits for it although the node reported a later generation.
    """
    path, config = tmp_path / "site.db", NodeConfig(f"sqlite:///{tmp_path}/site.db", tmp_path / "dnsvip.key")
    feed = await started(SnapshotFollower(replace(config, state_dir=tmp_path / "s", node="d"), ["dispatch"], {}))
    copy(path, tmp_path / "old.db")
    lost = await world.keys.rotate_at_once("web", "me", time.time())
    await world.objects.apply(change("lost", 5), "me", "api")
    await until(lambda: "lost" in feed.snapshot.site.clients)
    kek = KeyEncryptionKey.load(tmp_path / "dnsvip.key", {})
    await until(lambda: lastgood.load(tmp_path / "s", kek).generation == 3)
    await world.close()
    put_back(tmp_path / "old.db", path)
    world = await Store.open(config.database, kek)
    await world.objects.apply(change("new", 6), "me", "api")
    await until(lambda: "new" in feed.snapshot.site.clients)
    assert "lost" not in feed.snapshot.site.clients
    async with asyncio.timeout(20):
        while lost.key_id not in {each.key_id for each in await world.keys.reserved()}:
            await asyncio.sleep(0.05)
        while "warnings" not in (report := (await world.nodes.all())[0]).detail:
            await asyncio.sleep(0.05)
    assert "the database became an older state of itself: from generation 3 to" in report.detail["warnings"][0]
    epoch = await world.keys.rotate("web", "me", time.time())
    assert epoch.slot not in (0, lost.slot)
    assert waiting_for(epoch, [replace(report, generation=99)], time.time()) == ["d"]
    await until(lambda: any(e.key_id == epoch.key_id for e in feed.snapshot.keyrings["web"].epochs))
    await until(lambda: "new" in lastgood.load(tmp_path / "s", kek).site.clients)
    await world.close()


async def test_node_that_was_down_meanwhile_notices(world: Store, tmp_path: Path, started: Start) -> None:
    """A node that was down finds from its memory file that the database is older."""
    config = NodeConfig(f"sqlite:///{tmp_path}/site.db", tmp_path / "dnsvip.key", tmp_path / "s", "a")
    copy(tmp_path / "site.db", tmp_path / "old.db")
    lost = await world.keys.rotate_at_once("web", "me", time.time())
    feed = SnapshotFollower(config, ["dns"], {})
    await feed.start()
    await feed.close()
    remembered = load_memory(tmp_path / "s")
    assert remembered.mark
    assert (remembered.mark.generation, [known.key_id for known in remembered.keys]) == (2, [lost.key_id])
    await world.close()
    put_back(tmp_path / "old.db", tmp_path / "site.db")
    feed = await started(SnapshotFollower(config, ["dns"], {}))
    await until(lambda: feed.snapshot.generation == 2)  # the reservation is a change
    assert feed.store
    assert [each.key_id for each in await feed.store.keys.reserved()] == [lost.key_id]


async def test_damaged_memory_stops_nothing(world: Store, tmp_path: Path, started: Start) -> None:
    """An unreadable memory file is logged and recreated."""
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / MEMORY_FILE).write_text("{")
    config = NodeConfig(f"sqlite:///{tmp_path}/site.db", tmp_path / "dnsvip.key", folder, "a")
    await started(SnapshotFollower(config, ["dns"], {}))
    await until(lambda: (folder / MEMORY_FILE).read_text() != "{")
    assert load_memory(folder).mark is not None
    await world.close()


async def test_schedule_rotates_once_for_all_nodes(filled: Store, node: Node, started: Start) -> None:
    """With a one-second schedule and four nodes each epoch gets one successor, never sooner than a second."""
    web = (await filled.objects.site()).clusters["web"]
    assert isinstance(web, Cluster)
    quick = replace(web, ttl=0, session_lifetime=1, rotate_every=1)
    await filled.objects.apply([Change("cluster", "web", "~", web, quick)], "me", "site")
    feeds = [await started(SnapshotFollower(node(name), ["dns"], {})) for name in ("a", "b", "c")]
    await started(SnapshotFollower(node("d"), ["dispatch"], {}))
    async with asyncio.timeout(30):
        while True:
            rows = await filled.audit.rows(1000)
            published = [row.after for row in rows if row.kind == "key" and row.action == "+" and row.after]
            if len(published) >= 4:
                break
            await asyncio.sleep(0.1)
    times = sorted(epoch["published_at"] for epoch in published)
    assert all(later - earlier >= 1 for earlier, later in pairwise(times))
    generations = [epoch["published_generation"] for epoch in published]
    assert len(set(generations)) == len(generations)
    states = [epoch.state for epoch in feeds[0].snapshot.keyrings["web"].epochs]
    assert states.count(EpochState.ACTIVE) == 1
