"""What a store makes of PostgreSQL servers that come and go: which it uses, and what it says of a commit that it lost.

tests/node/test_failover.py has the same with Patroni and nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from alembic import command
from sqlalchemy import text

from dnsvip.admin.http.problems import PROBLEMS, refusal_of
from dnsvip.errors import StoreError, UncertainCommit
from dnsvip.site import Client, Site
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change, plan
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from dnsvip.store.database.database import Database
from dnsvip.store.database.servers import FORMER_SECONDS, Servers, Timelines
from dnsvip.store.secrets.kek import CHECK_CONTEXT, CHECK_VALUE
from tests.postgres import Postgres, replicated, running
from tests.store.conftest import alembic, until

Start = Callable[[SnapshotFollower], Awaitable[SnapshotFollower]]


def new_client(number: int) -> list[Change]:
    return [Change("client", f"k{number}", "+", None, Client(f"k{number}", 2000 + number, "gold"))]


def both(url: str, *servers: Postgres) -> str:
    """The URL of a database on several servers."""
    folders = ",".join(str(server.folder) for server in servers)
    return f"{url.partition('host=')[0]}host={folders}"


def test_a_former_leader_is_known_for_a_while() -> None:
    """A timeline that is older than one of the same system is refused, until no newer one has been seen for long."""
    timelines = Timelines()
    assert timelines.admits(1, 1, 0.0)
    assert timelines.admits(1, 2, 10.0)
    assert not timelines.admits(1, 1, 11.0)
    assert timelines.admits(2, 1, 11.0)
    assert timelines.admits(1, 0, 11.0)
    assert timelines.admits(1, 2, 20.0)
    assert not timelines.admits(1, 1, 19.0 + FORMER_SECONDS)
    assert timelines.admits(1, 1, 20.0 + FORMER_SECONDS)
    assert timelines.admits(1, 1, 21.0 + FORMER_SECONDS)


async def test_many_look_for_the_server_at_once(postgres: Postgres) -> None:
    """Of two servers the one that answers is found by each of many that look for it at the same time."""
    url = postgres.database()
    servers = Servers([both(url, postgres).replace(str(postgres.folder), "/nowhere"), url], 10)
    found = await asyncio.gather(*(servers.connect() for _ in range(10)))
    servers.cut()
    assert all(connection.is_closed() for connection in found)
    postgres.drop(url)


@pytest.mark.slow
async def test_a_process_waits_for_no_silent_server(kek: KeyEncryptionKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import or export in a process of its own ends soon after its server has stopped to answer."""
    monkeypatch.setattr("dnsvip.store.database.watch.SILENT_SECONDS", 1.0)
    monkeypatch.setattr("dnsvip.store.database.watch.SLOW_POLL_SECONDS", 0.2)
    monkeypatch.setattr("dnsvip.store.database.servers.CONNECT_SECONDS", 2.0)
    with running() as server:
        own = await Store.open(server.database(), kek)
        async with Store.joined(own.access) as store, asyncio.timeout(30):
            await store.generation()
            with server.paused(), pytest.raises(StoreError):
                await store.generation()
            assert await store.generation() == await own.generation()
        await own.close()


@pytest.mark.slow
async def test_a_leader_that_was_replaced_is_not_asked_any_more() -> None:
    """Once a newer leader has been seen, connections to the former one end and it gets no new ones."""
    with replicated() as (primary, standby):
        url = primary.database()
        servers = Servers([both(url, primary), both(url, standby)], 10)
        old = await servers.connect()
        await asyncio.to_thread(standby.promote)
        standby.sql("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        assert await old.fetchval("SELECT pg_is_in_recovery()") is False
        servers._good = 1
        new = await servers.connect()
        assert await new.fetchval("SELECT 1") == 1
        assert old.is_closed()
        new.terminate()
        standby.stop()
        with pytest.raises(StoreError, match="another one has taken over"):
            await servers._connect(both(url, primary))


@pytest.mark.slow
async def test_a_commit_that_was_lost_is_uncertain(kek: KeyEncryptionKey, site: Site) -> None:
    """A change that waits for its standby when the server dies is neither said to be made nor to have failed."""
    with replicated() as (primary, standby):
        store = await Store.open(primary.database(), kek)
        await store.objects.apply(plan(Site(), site, {}), "me", "site")
        standby.stop()
        writing = asyncio.create_task(store.objects.apply(new_client(1), "me", "api"))
        await asyncio.sleep(1)
        assert not writing.done()
        await asyncio.to_thread(primary.kill)
        with pytest.raises(UncertainCommit):
            await writing
        primary.start()
        assert await store.generation() == 2  # this time it had been made
        await store.close()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["middle", "commit"])
async def test_a_leader_is_lost_amid_a_migration(place: str, kek: KeyEncryptionKey) -> None:
    """The standby has none of a migration that its leader did not finish: the next start makes it whole there."""
    with replicated() as (primary, standby):
        url = primary.database()
        database = Database(url)
        async with database.write_unordered() as connection:
            await connection.run_sync(lambda plain: command.upgrade(alembic(plain), "0002"))
            known = {"identity": "i" * 32, "key_check": kek.wrap(CHECK_VALUE, CHECK_CONTEXT)}
            await connection.execute(text("INSERT INTO state (id, generation, identity, key_check) "
                                          "VALUES (1, 7, :identity, :key_check)"), known)  # fmt: skip
        async with AsyncExitStack() as stack:
            if place == "middle":  # a reader of a table that is to change holds the migration up
                reader = await stack.enter_async_context(database.read())
                await reader.execute(text("LOCK TABLE audit IN ACCESS SHARE MODE"))
            else:
                standby.stop()
            migrating = asyncio.create_task(Store.open(url, kek))
            await asyncio.sleep(2)
            assert not migrating.done()
            await asyncio.to_thread(primary.kill)
            with pytest.raises(StoreError):
                await migrating
            with suppress(StoreError):
                await stack.aclose()
        await database.close()
        if place == "commit":
            await asyncio.to_thread(standby.start)
        await asyncio.to_thread(standby.promote)
        standby.sql("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        store = await Store.open(both(url, primary, standby), kek)
        assert await store.generation() == 7
        assert (await store.snapshots.load()).generation == 7
        await store.close()


def test_an_uncertain_commit_has_a_problem_of_its_own() -> None:
    """A caller of the API reads 503 `uncertain`, what it means, and nothing of where the database is."""
    request = make_mocked_request("PUT", "/api/v1/clients/a")
    refusal = refusal_of(UncertainCommit("database postgresql://me@db1/x: was lost while it committed"), request)
    assert (refusal.kind, PROBLEMS[refusal.kind][0]) == ("uncertain", 503)
    assert "postgresql" not in str(refusal)
    assert "If-Match" in str(refusal)


@pytest.mark.slow
async def test_a_standby_without_the_last_changes(
    tmp_path: Path, kek: KeyEncryptionKey, site: Site, started: Start
) -> None:
    """Where a standby that lacks changes is promoted, a node follows it, says so, and takes part in its new history."""
    with replicated() as (primary, standby):
        primary.sql("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        url = both(primary.database(), primary, standby)
        store = await Store.open(url, kek)
        await store.objects.apply(plan(Site(), site, {}), "me", "site")
        feed = await started(
            SnapshotFollower(NodeConfig(url, tmp_path / "dnsvip.key", tmp_path / "a", "a"), ["dns"], {})
        )
        await asyncio.sleep(1)  # the standby has it, too
        standby.stop()
        await store.objects.apply(new_client(1), "me", "api")
        await store.objects.apply(new_client(2), "me", "api")
        await until(lambda: "k2" in feed.snapshot.site.clients)
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.start)
        await asyncio.to_thread(standby.promote)
        await until(lambda: feed.snapshot.generation == 1)
        assert "k1" not in feed.snapshot.site.clients
        await store.objects.apply(new_client(3), "me", "api")
        await until(lambda: "k3" in feed.snapshot.site.clients)
        assert "k2" not in feed.snapshot.site.clients
        async with asyncio.timeout(10):
            while not (warnings := (await store.nodes.all())[0].detail.get("warnings")):
                await asyncio.sleep(0.1)
        assert "an older state of itself: from generation 3 to 1" in warnings[0]
        await store.close()
