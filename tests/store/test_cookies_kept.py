"""DNS cookie secrets: created once, rolled in one step, the same on every node, never in clear."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from alembic import command

from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database.database import Database
from dnsvip.store.snapshots import lastgood
from tests.store.conftest import alembic


async def test_every_node_has_the_same_three(store: Store, url: str, kek: KeyEncryptionKey) -> None:
    """The database is created with three different secrets; a second open reads the same ones."""
    again = await Store.open(url, kek)
    held = (await again.snapshots.load()).cookie_secrets
    await again.close()
    assert [len(secret) for secret in set(held)] == [16, 16, 16]
    assert (await store.snapshots.load()).cookie_secrets == held


async def test_roll_moves_on_by_one(store: Store) -> None:
    """A roll activates the next secret and keeps the previous one; a refresh reads it."""
    old = await store.snapshots.load()
    assert await store.keys.roll_cookies("me") == old.generation + 1
    new = await store.snapshots.refresh(old)
    active, following, before = new.cookie_secrets
    assert (active, before) == (old.cookie_secrets[1], old.cookie_secrets[0])
    assert following not in old.cookie_secrets
    assert new == await store.snapshots.load()
    assert await store.snapshots.refresh(new) is new
    row = (await store.audit.rows(1))[0]
    assert (row.actor, row.kind, row.action, row.before, row.after) == ("me", "cookies", "~", None, None)


async def test_other_changes_keep_them(filled: Store) -> None:
    """A refresh that reads other changes keeps the secrets."""
    old = await filled.snapshots.load()
    await filled.tokens.create("t", "me")
    assert (await filled.snapshots.refresh(old)).cookie_secrets == old.cookie_secrets


async def test_older_databases_and_snapshots_get_them(store: Store, url: str, kek: KeyEncryptionKey) -> None:
    """A database without cookie secrets gets them when it is opened, a snapshot without them when it is refreshed."""
    database = Database(url)
    async with database.write_unordered() as connection:
        await connection.run_sync(lambda plain: command.downgrade(alembic(plain), "0001"))
    await database.close()
    opened = await Store.open(url, kek)
    snapshot = await opened.snapshots.load()
    assert len(snapshot.cookie_secrets) == 3
    assert await opened.snapshots.refresh(replace(snapshot, cookie_secrets=())) == snapshot
    await opened.close()


async def test_on_disk_wrapped(store: Store, tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """The last good snapshot restores the secrets and holds them only wrapped."""
    snapshot = await store.snapshots.load()
    lastgood.save(tmp_path / "state", snapshot, "db", kek)
    assert lastgood.load(tmp_path / "state", kek) == snapshot
    content = (tmp_path / "state" / lastgood.FILE).read_text()
    assert content.count('["cookie_secret"') == 3
    for secret in snapshot.cookie_secrets:
        assert secret.hex() not in content
        assert repr(secret) not in repr(snapshot)
