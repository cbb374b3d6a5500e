"""The snapshot follower: fast, incremental, robust in outages, started from disk, and accurate in its reports."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dnsvip.address.keyring import EpochState
from dnsvip.errors import SecretError, StoreError
from dnsvip.site import Client, Site, Snapshot
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change, plan
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from dnsvip.store.snapshots import lastgood
from tests.postgres import Postgres, running
from tests.store.conftest import until, usually_within

Node = Callable[[str], NodeConfig]
Start = Callable[[SnapshotFollower], Awaitable[SnapshotFollower]]


def new_client(number: int) -> list[Change]:
    """The change that creates one client."""
    return [Change("client", f"c{number}", "+", None, Client(f"c{number}", number, "gold"))]


@pytest.fixture(scope="module")
def mortal() -> Iterator[Postgres]:
    """A PostgreSQL that tests may kill."""
    with running() as server:
        yield server


@pytest.mark.usefixtures("filled")
async def test_nodes_see_each_others_changes(node: Node, started: Start) -> None:
    """A change through one node reaches every other node's subscribers within half a second."""
    feeds = [await started(SnapshotFollower(node(name), ["dns"], {})) for name in ("a", "b")]
    seen: asyncio.Queue[tuple[str, int, float]] = asyncio.Queue()
    for feed in feeds:
        feed.subscribe(lambda new, name=feed.name: seen.put_nowait((name, new.generation, time.perf_counter())))  # type: ignore[misc]

    async def changed(number: int) -> list[float]:
        took = []
        for turn in range(6):
            store = feeds[turn % 2].store
            assert store
            await asyncio.sleep(0.07 * turn)
            start, new = time.perf_counter(), 6 * number + turn + 1
            generation = await store.objects.apply(new_client(new), "me", "api")
            for _ in feeds:
                _, taken, at = await asyncio.wait_for(seen.get(), 20)
                assert taken == generation
                took.append(at - start)
            assert all(f"c{new}" in feed.snapshot.site.clients for feed in feeds)
        return took

    await usually_within(0.5, changed)


@pytest.mark.usefixtures("filled")
async def test_unsubscribed_hears_no_more(node: Node, started: Start) -> None:
    """After unsubscribing no snapshot is delivered."""
    feed = await started(SnapshotFollower(node("a"), ["dns"], {}))
    heard: list[int] = []
    stop = feed.subscribe(lambda new: heard.append(new.generation))
    assert feed.store
    await feed.store.objects.apply(new_client(1), "me", "api")
    await until(lambda: heard == [2])
    stop()
    await feed.store.objects.apply(new_client(2), "me", "api")
    await until(lambda: feed.snapshot.generation == 3)
    assert heard == [2]


async def test_snapshot_on_disk_follows(filled: Store, node: Node, started: Start, kek: KeyEncryptionKey) -> None:
    """Each change replaces the last good snapshot on disk."""
    feed = await started(SnapshotFollower(node("a"), ["dns"], {}))
    await filled.objects.apply(new_client(1), "me", "api")
    await until(lambda: feed.snapshot.generation == 2)
    folder = node("a").state_dir
    await until(lambda: (folder / lastgood.FILE).exists() and lastgood.load(folder, kek).generation == 2)


@pytest.mark.usefixtures("filled")
async def test_a_failing_subscriber(node: Node, started: Start, store: Store) -> None:
    """Where a subscriber raises, the others get this snapshot and later ones, and the node warns until it is well."""
    feed, heard, failing = await started(SnapshotFollower(node("a"), ["dns"], {})), list[int](), True

    def take(_: Snapshot) -> None:
        if failing:
            raise ValueError("cannot compile")

    feed.subscribe(take)
    feed.subscribe(lambda new: heard.append(new.generation))
    feed.describe(lambda: {"warnings": ["of its own"], "more": 1})
    await store.objects.apply(new_client(1), "me", "api")
    await until(lambda: heard == [2])
    await asyncio.sleep(1.2)
    detail = (await store.nodes.all())[0].detail
    assert detail["warnings"] == ["generation 2 could not be applied: ValueError: cannot compile", "of its own"]
    assert detail["more"] == 1
    failing = False
    await store.objects.apply(new_client(2), "me", "api")
    await until(lambda: heard == [2, 3])
    await asyncio.sleep(1.2)
    assert (await store.nodes.all())[0].detail["warnings"] == ["of its own"]


@pytest.mark.usefixtures("filled")
async def test_generation_is_reported_after_subscribers_took_it(node: Node, started: Start, store: Store) -> None:
    """A node reports a generation only after its subscribers have applied it."""
    feed = await started(SnapshotFollower(node("a"), ["dispatch"], {}))
    gate, failing = asyncio.Event(), True

    async def take(_: Snapshot) -> None:
        await gate.wait()
        if failing:
            raise ValueError("cannot compile")

    feed.subscribe(take)

    async def reported() -> int:
        return (await store.nodes.all())[0].generation

    await store.objects.apply(new_client(1), "me", "api")
    await until(lambda: feed.snapshot.generation == 2)
    await asyncio.sleep(1.2)  # longer than the pause between two reports
    assert await reported() == 1
    gate.set()
    await asyncio.sleep(1.2)
    assert await reported() == 1
    failing = False
    await store.objects.apply(new_client(2), "me", "api")
    start = time.monotonic()
    while await reported() != 3:
        assert time.monotonic() - start < 0.8, "reported too late"
        await asyncio.sleep(0.02)


@pytest.mark.usefixtures("filled")
async def test_rotation_goes_by_itself_and_waits(node: Node, started: Start, store: Store) -> None:
    """A published epoch is activated automatically, but only after the slow dispatcher holds it."""
    dns = await started(SnapshotFollower(node("ns"), ["dns"], {}))
    dispatcher = await started(SnapshotFollower(node("d"), ["dispatch"], {}))
    gate = asyncio.Event()
    await until(lambda: dns.connected and dispatcher.connected)
    await asyncio.sleep(0.2)  # the dispatcher has reported once

    async def take(_: Snapshot) -> None:
        await gate.wait()

    dispatcher.subscribe(take)
    await store.keys.rotate("web", "me", time.time())
    await asyncio.sleep(1.5)
    ring = dns.snapshot.keyrings["web"]
    assert [epoch.state for epoch in ring.epochs] == [EpochState.ACTIVE, EpochState.PUBLISHED]
    gate.set()
    await until(lambda: dns.snapshot.keyrings["web"].epochs[1].state is EpochState.ACTIVE, 3)


async def test_node_signs_off(filled: Store, node: Node) -> None:
    """A node that closes is listed as stopped, and does not live from that moment on."""
    feed = SnapshotFollower(node("a"), ["dispatch"], {})
    await feed.start()
    task = asyncio.create_task(feed.run())
    while not await filled.nodes.all():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await feed.close()
    (report,) = await filled.nodes.all()
    assert (report.stopped, report.is_live(report.seen_at)) == (True, False)


async def test_outage_of_the_database_is_survived(
    mortal: Postgres, tmp_path: Path, site: Site, started: Start, kek: KeyEncryptionKey
) -> None:
    """Without PostgreSQL a node continues, another starts from disk, and both follow again when it is back."""
    url = mortal.database()
    configs = [NodeConfig(url, tmp_path / "dnsvip.key", tmp_path / name, name) for name in ("a", "b")]
    feed = await started(SnapshotFollower(configs[0], ["dns"], {}))
    assert feed.store
    await feed.store.objects.apply(plan(Site(), site, {}), "me", "site")
    await until(lambda: feed.snapshot.generation == 1)
    await until(lambda: lastgood.load(tmp_path / "a", kek).generation == 1)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    mortal.stop()
    try:
        await until(lambda: not feed.connected)
        assert feed.snapshot.site == site
        late = await started(SnapshotFollower(configs[1], ["dns"], {}))
        assert late.snapshot.site == site
        assert late.snapshot.masters == feed.snapshot.masters
        assert not late.connected
        await asyncio.sleep(1)
    finally:
        mortal.start()
    await until(lambda: feed.connected and late.connected)

    async def changed(number: int) -> list[float]:
        start = time.perf_counter()
        await feed.store.objects.apply(new_client(number + 1), "me", "api")  # type: ignore[union-attr]
        await until(lambda: feed.snapshot.generation == late.snapshot.generation == number + 2)
        return [time.perf_counter() - start]

    await usually_within(0.5, changed)


async def test_neither_database_nor_disk(tmp_path: Path) -> None:
    """With neither database nor snapshot, the error gives both reasons."""
    config = NodeConfig("postgresql://me@/x?host=/nowhere", tmp_path / "k", tmp_path / "state")
    with pytest.raises(StoreError, match=r"(?s)nowhere.* and there is no snapshot to start from \(.*snapshot\.jsonl"):
        await SnapshotFollower(config, ["dns"], {}).start()


@pytest.mark.usefixtures("filled")
async def test_wrong_key_stops_the_start(node: Node) -> None:
    """A node with another key does not start from a snapshot that it cannot decrypt."""
    with pytest.raises(SecretError, match="is not the one that the secrets"):
        await SnapshotFollower(node("a"), ["dns"], {"DNSVIP_KEY": "00" * 32}).start()


@pytest.mark.usefixtures("filled")
async def test_unwritable_state_stops_nothing(node: Node, started: Start, tmp_path: Path, store: Store) -> None:
    """A node whose state folder is not writable still follows."""
    (tmp_path / "file").write_text("in the way")
    feed = await started(SnapshotFollower(replace(node("a"), state_dir=tmp_path / "file" / "state"), ["dns"], {}))
    for number in (1, 2):
        await store.objects.apply(new_client(number), "me", "api")
        await until(lambda: f"c{number}" in feed.snapshot.site.clients)  # noqa: B023 - run within the turn


async def test_replaced_database_file_is_followed(
    tmp_path: Path, site: Site, started: Start, kek: KeyEncryptionKey
) -> None:
    """A SQLite file that replaces the old one is loaded whole, whatever its generation."""
    for name, clients in (("one", site.clients), ("two", {"acme": site.clients["acme"]})):
        store = await Store.open(f"sqlite:///{tmp_path}/{name}.db", kek)
        await store.objects.apply(plan(Site(), replace(site, clients=clients), {}), "me", "site")
        await store.close()
    config = NodeConfig(f"sqlite:///{tmp_path}/one.db", tmp_path / "dnsvip.key", tmp_path / "state", "a")
    feed = await started(SnapshotFollower(config, ["dns"], {}))
    await until(lambda: feed.connected)
    (tmp_path / "two.db").rename(tmp_path / "one.db")
    await until(lambda: set(feed.snapshot.site.clients) == {"acme"})
