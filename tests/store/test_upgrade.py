"""Upgrading a filled database from the previous schema while programs of that schema keep running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, MetaData, Table, delete, insert, select, update

from dnsvip.site import Site
from dnsvip.site.plan import plan
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database import tables
from dnsvip.store.database.database import Database, make_file
from dnsvip.store.objects.rows import to_row
from dnsvip.store.secrets.kek import CHECK_CONTEXT, CHECK_VALUE
from tests.store.conftest import alembic

BEFORE = "0002"
EPOCH_SECRET = b"e" * 32


def _tables(connection: Connection) -> dict[str, Table]:
    """The tables as a program of the previous schema knows them."""
    known = MetaData()
    known.reflect(connection)
    return dict(known.tables)


@pytest.fixture
async def old(url: str, kek: KeyEncryptionKey, site: Site) -> AsyncIterator[tuple[Database, dict[str, Table]]]:
    """A database of the previous schema, filled as its program fills it, and its tables."""
    database = Database(url)
    if database.is_sqlite:
        make_file(database.path)
    async with database.write_unordered() as connection:
        await connection.run_sync(lambda plain: command.upgrade(alembic(plain), BEFORE))
        known = await connection.run_sync(_tables)
        for name, row in _rows(kek, site):
            await connection.execute(insert(known[name]).values(row))
    yield database, known
    await database.close()


def _rows(kek: KeyEncryptionKey, site: Site) -> list[tuple[str, dict[str, Any]]]:
    check = kek.wrap(CHECK_VALUE, CHECK_CONTEXT)
    rows: list[tuple[str, dict[str, Any]]] = [
        ("state", {"id": 1, "generation": 7, "identity": "i" * 32, "key_check": check}),
        ("token", {"name": "t", "hash": "h" * 64, "created_at": 1.5, "created_by": "me"}),
        ("client_master", {"cluster": "web", "secret": kek.wrap(b"m" * 32, b"client_master/web")}),
        ("node", {"name": "d", "roles": "dispatch", "instance": "x", "generation": 7, "version": "0.1",
                  "seen_at": 1.5, "lease_seconds": 5.0}),
        ("audit", {"generation": 7, "at": 1.5, "actor": "me", "action": "+", "kind": "tier", "name": "gold"}),
        ("epoch", {"cluster": "web", "slot": 2, "state": "active", "published_at": 5, "published_generation": 1,
                   "activated_at": 5, "retiring_since": 0, "keep_seconds": 60,
                   "secret": kek.wrap(EPOCH_SECRET, b"epoch/web/2")}),
    ]  # fmt: skip
    rows += [("cookie_secret", {"position": n, "secret": kek.wrap(b"c" * 16, f"cookie_secret/{n}".encode())})
             for n in range(3)]  # fmt: skip
    made_by = {"origin": "site", "generation": 7}
    for change in plan(Site(), site, {}):
        assert change.after
        rows.append((change.kind, to_row(change.kind, change.name, change.after, kek) | made_by))
    return rows


async def test_data_survives_the_upgrade(
    old: tuple[Database, dict[str, Table]], url: str, kek: KeyEncryptionKey, site: Site
) -> None:
    """Site, keys, tokens, nodes and audit of the previous schema survive the upgrade and can be changed."""
    store = await Store.open(url, kek)
    snapshot = await store.snapshots.load()
    assert (snapshot.site, snapshot.generation) == (site, 7)
    assert [(epoch.slot, epoch.secret) for epoch in snapshot.keyrings["web"].epochs] == [(2, EPOCH_SECRET)]
    assert snapshot.masters == {"web": b"m" * 32}
    assert [token.name for token in await store.tokens.all()] == ["t"]
    assert [(node.name, node.generation) for node in await store.nodes.all()] == [("d", 7)]
    assert [row.name for row in await store.audit.rows()] == ["gold"]
    assert (await store.keys.rotate("web", "me", 100.0)).slot == 3
    assert await store.generation() == 8
    await store.close()


async def test_upgrade_only_adds(old: tuple[Database, dict[str, Table]], url: str, kek: KeyEncryptionKey) -> None:
    """The upgrade keeps every table and column, and a writer may omit the new ones."""
    before, known = old
    await (await Store.open(url, kek)).close()
    async with before.read() as connection:
        now = await connection.run_sync(_tables)
    for name, table in known.items():
        assert name in now
        for column in table.columns:
            kept = now[name].c[column.name]
            assert (repr(kept.type), kept.nullable) == (repr(column.type), column.nullable)
        for column in now[name].columns:
            assert column.name in table.c or column.nullable or column.server_default is not None


async def test_program_of_before_goes_on_beside_the_new_one(
    old: tuple[Database, dict[str, Table]], url: str, kek: KeyEncryptionKey
) -> None:
    """Open connections of the previous schema read, insert, change and delete in every table after the upgrade."""
    database, known = old
    async with database.read() as connection:  # statements prepared before the upgrade
        for table in known.values():
            await connection.execute(select(table))
    store = await Store.open(url, kek)
    await store.keys.rotate("web", "me", 100.0)
    for name, table in known.items():
        if name == "alembic_version":
            continue
        async with database.write_unordered() as connection:
            rows = [dict(row) for row in (await connection.execute(select(table))).mappings()]
            for row in rows:
                where = [column == row[column.name] for column in table.primary_key.columns]
                await connection.execute(update(table).where(*where).values(row))
                await connection.execute(delete(table).where(*where))
                await connection.execute(insert(table).values(row))
            assert [dict(row) for row in (await connection.execute(select(table))).mappings()] == rows, name
    snapshot = await store.snapshots.load()
    assert len(snapshot.keyrings["web"].epochs) == 2
    await store.close()
    assert (await _min_reader(url)) == tables.OLDEST == BEFORE


async def _min_reader(url: str) -> str:
    database = Database(url)
    async with database.read() as connection:
        min_reader: str = (await connection.execute(select(tables.state.c.min_reader))).scalar_one()
    await database.close()
    return min_reader
