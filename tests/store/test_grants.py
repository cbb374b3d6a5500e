"""A user of PostgreSQL with too few rights: what is missing is named, and what can go on does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from dnsvip.errors import DiskFull, NotAllowed
from dnsvip.site import Site
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import plan
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from dnsvip.store.examine import examine
from tests.postgres import Postgres
from tests.store.changes import client, put
from tests.store.conftest import until

Start = Callable[[SnapshotFollower], Awaitable[SnapshotFollower]]


@pytest.fixture
async def owner(postgres: Postgres, kek: KeyEncryptionKey, site: Site) -> Store:
    """The store of who made the tables, with the example site; a user `few` may read them and do nothing more."""
    store = await Store.open(postgres.database(), kek)
    await store.objects.apply(plan(Site(), site, {}), "me", "site")
    with suppress(AssertionError):  # another test has made the role
        postgres.sql("CREATE ROLE few LOGIN")
    await grant(store, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO few")
    return store


async def grant(store: Store, *statements: str) -> None:
    async with store._session.database.write_unordered() as connection:
        for statement in statements:
            await connection.execute(text(statement))


def of_few(store: Store) -> str:
    return store._session.database.url.replace("dnsvip@", "few@")


async def test_a_missing_right_is_named(owner: Store, kek: KeyEncryptionKey) -> None:
    """What cannot be done says which table refuses which statement, and the examination lists all that is missing."""
    store = await Store.open(of_few(owner), kek)
    with pytest.raises(NotAllowed, match=r"permission denied for table state \(SELECT .*`dnsvip doctor` lists"):
        await store.objects.apply([put("client", client(1))], "me", "api")
    examined = await examine(of_few(owner), kek)
    assert {"INSERT on audit", "UPDATE on state", "USAGE on audit_id_seq"} <= set(examined.lacks)
    assert not any(right.startswith("SELECT") for right in examined.lacks)
    await grant(owner, "GRANT ALL ON ALL TABLES IN SCHEMA public TO few", "GRANT ALL ON audit_id_seq TO few")
    assert (await examine(of_few(owner), kek)).lacks == ()
    assert await store.objects.apply([put("client", client(1))], "me", "api") == 2
    await grant(owner, "REVOKE INSERT ON audit FROM few", "REVOKE SELECT ON client, alembic_version FROM few")
    with pytest.raises(NotAllowed, match=r"denied for table audit \(INSERT INTO audit \.\.\.\)"):
        await store.keys.roll_cookies("me")
    assert (await examine(of_few(owner), kek)).lacks == (
        "SELECT on alembic_version", "INSERT on audit", "SELECT on client"
    )  # fmt: skip
    await store.close()
    await owner.close()


async def test_a_node_that_may_only_read(
    owner: Store, kek: KeyEncryptionKey, tmp_path: Path, started: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """It follows the site, and says once of each of its duties that it is not allowed to do it."""
    config = NodeConfig(of_few(owner), tmp_path / "dnsvip.key", tmp_path / "b", "b")
    feed = await started(SnapshotFollower(config, ["dns"], {}))
    await owner.keys.rotate("web", "me", time.time())
    await until(lambda: "cannot report" in feed._denied and "cannot advance key epochs" in feed._denied)
    await owner.objects.apply([put("client", client(1))], "me", "api")
    await until(lambda: client(1).name in feed.snapshot.site.clients)
    assert feed.connected
    await grant(owner, "GRANT INSERT, UPDATE, DELETE ON node TO few")
    async with asyncio.timeout(20):
        while not (reports := await owner.nodes.all()):
            await asyncio.sleep(0.05)
    (warning, *_) = reports[0].detail["warnings"]
    assert warning.startswith("cannot advance key epochs: ")
    assert "permission denied for table state" in warning
    await owner.close()


async def test_a_full_disk_is_named_whatever_needs_room(owner: Store) -> None:
    """A server whose disk is full says so of a single row as of many."""
    with pytest.raises(DiskFull, match="the disk of its server is full"):
        await grant(owner, "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$")
    await owner.close()
