"""Rotating the key-encryption key under running nodes: no secret lost, no downtime, a useless old key."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from dnsvip.errors import SecretError
from dnsvip.site import Client, Site
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change, plan
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from dnsvip.store.database import scrub as scrub_module
from dnsvip.store.keys.rewrap import SECRETS, Rewrapped, without_key
from dnsvip.store.secrets.sources import add_to_file
from dnsvip.store.snapshots import lastgood
from tests.store.conftest import run_dnsvip, until

Node = Callable[[str], NodeConfig]
Start = Callable[[SnapshotFollower], Awaitable[SnapshotFollower]]


def change(number: int) -> list[Change]:
    return [Change("client", f"c{number}", "+", None, Client(f"c{number}", number, "gold"))]


async def test_secrets_survive_and_the_old_key_opens_nothing(
    filled: Store, url: str, kek: KeyEncryptionKey, tmp_path: Path
) -> None:
    """After a rewrap every secret is unchanged and wrapped under the new key only."""
    await filled.keys.rotate("web", "me", 1000.0)
    before = await filled.snapshots.load()
    new = KeyEncryptionKey.load(tmp_path / "new.key", {})
    assert await filled.keys.rewrap(new, "me") == Rewrapped(2 + 1 + 1 + 3, ())
    with pytest.raises(SecretError, match="is not the one that the secrets"):
        await Store.open(url, kek)
    with pytest.raises(SecretError, match="is not the one that the secrets"):
        await filled.tokens.create("t", "me")
    store = await Store.open(url, new)
    after = await store.snapshots.load()
    assert (after.site, after.masters, after.cookie_secrets) == (before.site, before.masters, before.cookie_secrets)
    assert after.keyrings["web"].epochs == before.keyrings["web"].epochs
    row = (await store.audit.rows(1))[0]
    assert (row.kind, row.action, row.name) == ("kek", "~", new.active_id)
    await store.close()


@pytest.mark.usefixtures("filled")
async def test_nodes_take_the_new_key_without_a_pause(
    node: Node, started: Start, tmp_path: Path, kek: KeyEncryptionKey, store: Store
) -> None:
    """Running nodes load an announced key themselves, follow without a pause, and write under the new key.

    Their last good snapshot is saved under it too.
    """
    feeds = [await started(SnapshotFollower(node(name), ["dns"], {})) for name in ("a", "b")]
    new = KeyEncryptionKey.load(tmp_path / "new.key", {})
    await store.keys.announce(new.active_id, "me")
    async with asyncio.timeout(20):
        while without_key(await store.nodes.all(), new.active_id, time.time()) != ["a", "b"]:
            await asyncio.sleep(0.05)
    add_to_file(tmp_path / "dnsvip.key", tmp_path / "new.key")
    async with asyncio.timeout(20):
        while without_key(await store.nodes.all(), new.active_id, time.time()):
            await asyncio.sleep(0.05)
    await store.keys.rewrap(new, "me")
    assert feeds[0].store
    await feeds[0].store.objects.apply(change(1), "me", "api")
    await until(lambda: all("c1" in feed.snapshot.site.clients for feed in feeds))
    (tmp_path / "new.key").rename(tmp_path / "dnsvip.key")
    only_new = KeyEncryptionKey.load(tmp_path / "dnsvip.key", {})
    generation = feeds[0].snapshot.generation
    await until(lambda: _saved(tmp_path / "a", only_new) == generation)
    await feeds[0].store.objects.apply(change(2), "me", "api")
    await until(lambda: all("c2" in feed.snapshot.site.clients for feed in feeds))


def _saved(folder: Path, kek: KeyEncryptionKey) -> int:
    try:
        return lastgood.load(folder, kek).generation
    except SecretError:
        return -1


@pytest.mark.usefixtures("filled")
async def test_node_that_missed_the_change_catches_up(node: Node, started: Start, tmp_path: Path, store: Store) -> None:
    """A node without the new key keeps its last snapshot and follows again once it gets the key."""
    feed = await started(SnapshotFollower(node("a"), ["dns"], {}))
    await until(lambda: feed.connected)
    new = KeyEncryptionKey.load(tmp_path / "new.key", {})
    await store.keys.rewrap(new, "me")
    await until(lambda: not feed.connected)
    assert "acme" in feed.snapshot.site.clients
    add_to_file(tmp_path / "dnsvip.key", tmp_path / "new.key")
    await until(lambda: feed.connected and feed.snapshot.generation == 2)


async def test_command_names_what_stays(url: str, tmp_path: Path, filled: Store) -> None:
    """A secret that cannot be read stays as it is: it is named, with what replaces it, and the exit code is 1."""
    node = tmp_path / "node.toml"
    node.write_text(f'database = "{url}"\n')
    async with filled._session.write_unordered() as connection:
        await connection.execute(
            text("UPDATE cookie_secret SET secret = :junk WHERE position = 1"), {"junk": b"\1junk"}
        )
    argv = ["keys", "rewrap", "--config", node, "--new-key-file", tmp_path / "new.key", "--anyway"]
    status, said = await run_dnsvip(*argv)
    assert status == 1, said
    assert "the secret of cookie_secret/1 cannot be read and stays as it is" in said
    assert "dnsvip keys roll-cookies" in said
    assert "secrets are wrapped with the key" in said


async def test_command(url: str, tmp_path: Path, filled: Store) -> None:
    """`dnsvip keys rewrap` adds a new key to this node's file and names live nodes that do not load it in time.

    With --anyway it rewraps every secret regardless; afterwards the new key alone is enough.
    """
    node = tmp_path / "node.toml"
    node.write_text(f'database = "{url}"\n')
    feed = SnapshotFollower(NodeConfig(url, tmp_path / "dnsvip.key", tmp_path / "other", "other"), ["dns"], {})
    await feed.start()
    await feed.close()
    # A live node that never reloads its key; its lease outlasts the start of the command on a busy machine.
    await filled.nodes.report(replace(feed._own_report(), lease_seconds=60.0))
    argv = ["keys", "rewrap", "--config", node, "--new-key-file", tmp_path / "new.key"]
    refused = await run_dnsvip(*argv, "--timeout", "0.1")
    assert refused[0] == 1
    assert "do not hold the key" in refused[1]
    assert "other; nothing is changed yet" in refused[1]
    status, said = await run_dnsvip(*argv, "--anyway")
    assert (status, "secrets are wrapped with the key" in said) == (0, True), said
    (tmp_path / "new.key").rename(tmp_path / "dnsvip.key")
    status, said = await run_dnsvip("encode", "--config", node, "--cluster", "web", "--client", "acme")
    assert status == 0, said


def blobs(path: Path) -> set[bytes]:
    """Every wrapped secret of a SQLite database, read past the store."""
    with closing(sqlite3.connect(path)) as connection:
        queries = [f"SELECT secret FROM {table}" for table in SECRETS]  # noqa: S608 - our own tables
        return {row[0] for query in [*queries, "SELECT key_check FROM state"] for row in connection.execute(query)}


def left(path: Path, secrets: set[bytes]) -> list[str]:
    """The files of a SQLite database that hold any of the wrapped secrets."""
    files = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
    return sorted({file.name for file in files for secret in secrets if secret[8:] in file.read_bytes()})


@pytest.fixture
async def sqlite_store(tmp_path: Path, kek: KeyEncryptionKey, site: Site) -> AsyncIterator[Store]:
    """A SQLite store with the example site, which a second node reads."""
    url = f"sqlite:///{tmp_path}/dnsvip.db"
    one, other = await Store.open(url, kek), await Store.open(url, kek)
    await one.objects.apply(plan(Site(), site, {}), "me", "site")
    await other.snapshots.load()
    async with aclosing(other.watch()) as generations:
        await anext(generations)
        yield one
    await one.close()
    await other.close()


async def test_a_rewrap_leaves_no_old_secret_in_the_files(sqlite_store: Store, tmp_path: Path) -> None:
    """After a rewrap no secret under the old key is in the database file or its log, not even one that a version
    without secure_delete had replaced."""
    path = tmp_path / "dnsvip.db"
    older = blobs(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        for padding in (3000, 0):  # larger rows move, and leave the secret where they were
            for table in SECRETS:
                for row, secret in connection.execute(f"SELECT rowid, secret FROM {table}").fetchall():  # noqa: S608
                    value = next(old for old in older if secret.startswith(old)) + os.urandom(padding)
                    connection.execute(f"UPDATE {table} SET secret = ? WHERE rowid = ?", (value, row))  # noqa: S608
            connection.commit()
    assert blobs(path) == older
    await sqlite_store.keys.rewrap(KeyEncryptionKey.load(tmp_path / "new.key", {}), "me")
    assert left(path, older) == []
    assert left(path, blobs(path)) == ["dnsvip.db"]


async def test_an_emergency_leaves_no_destroyed_key_in_the_files(sqlite_store: Store, tmp_path: Path) -> None:
    """After an emergency rotation the wrapped keys that it destroyed are in no file of the database."""
    path = tmp_path / "dnsvip.db"
    await sqlite_store.keys.rotate("web", "me", 1000.0)
    with closing(sqlite3.connect(path)) as connection:
        destroyed = {row[0] for row in connection.execute("SELECT secret FROM epoch")}
    await sqlite_store.keys.rotate_at_once("web", "me", 2000.0)
    assert len(destroyed) == 2
    assert left(path, destroyed) == []


async def test_a_reader_that_does_not_end_is_reported(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a reader keeps the log in use, the rotation stands and a warning names the file."""
    monkeypatch.setattr(scrub_module, "WAIT_SECONDS", 0.0)
    with closing(sqlite3.connect(tmp_path / "dnsvip.db")) as reader, capture_logs() as logs:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM epoch").fetchall()
        await sqlite_store.keys.rotate_at_once("web", "me", 2000.0)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert "dnsvip.db-wal is in use" in logs[0]["error"]
