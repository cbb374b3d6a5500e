"""Upgrading a filled database from the previous schema while programs of that schema keep running."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, MetaData, Table, delete, insert, select, update

from dnsvip.site import Client, Match, Site, Step
from dnsvip.site.plan import plan
from dnsvip.site.rights import Action
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


TOKENS: dict[str, tuple[str | None, str, str]] = {
    "first": (None, "read,write,delete,rotate:*", ""),
    "operating": (
        '{"role": "operator", "scopes": [], "per_minute": null}',
        "read:client write:client delete:tier rotate:key",
        "write:tsig delete:token",
    ),
    "partner": (
        '{"role": null, "scopes": [{"actions": ["read", "write"], "kinds": ["client", "tier"], "clusters": ["*"], '
        '"zones": ["*"], "clients": ["partner-*"]}], "per_minute": 60}',
        "write:client=partner-1 read:tier",
        "write:client=other write:enrolment write:tsig read:zone",
    ),
    "narrow": (
        '{"role": null, "scopes": [{"actions": ["write"], "kinds": ["*"], "clusters": ["web"], "zones": ["a.test"], '
        '"clients": ["*"]}], "per_minute": null}',
        "write:zone=a.test write:key=web write:pool write:enrolment",
        "write:zone=b.test write:site read:client",
    ),
}
"""Token -> what versions 0.1 and 0.2.0 stored of its rights, and some that it has and has not in this version.

Two rights are smaller than they were: enrolment and `tsig` matches need a scope of their own, and a narrowed
scope no longer replaces the whole site.
"""


async def test_tokens_keep_their_rights(
    old: tuple[Database, dict[str, Table]], url: str, kek: KeyEncryptionKey
) -> None:
    """Tokens of older versions work with their rights; those that this one stores stay readable to older ones."""
    database, _ = old
    async with database.write_unordered() as connection:
        await connection.run_sync(
            lambda plain: command.upgrade(alembic(plain), "0003")
        )  # the schema of 0.1.0 and 0.2.0
        known = await connection.run_sync(_tables)
        for name, (scopes, _, _) in TOKENS.items():
            digest = hashlib.sha256(f"dnsvip_{name}".encode()).hexdigest()
            row = {"name": name, "hash": digest, "created_at": 1.5, "created_by": "me", "scopes": scopes}
            await connection.execute(insert(known["token"]).values(row))
    store = await Store.open(url, kek)
    for name, (scopes, may, may_not) in TOKENS.items():
        token = await store.tokens.find(f"dnsvip_{name}")
        assert token is not None
        for texts, allowed in ((may, True), (may_not, False)):
            for text in texts.split():
                action, _, kind_name = text.partition(":")
                kind, _, target = kind_name.partition("=")
                for one in action.split(","):
                    assert token.rights.allow(Action(one), kind, target or None) is allowed, (name, text)
        client = Client("partner-1", 5, "gold", (Match(Step.SOURCE, "192.0.2.0/24"), Match(Step.ECS, "2001:db8::/48")))
        assert token.rights.allow_client(None, client) is token.rights.allow(Action.WRITE, "client", "partner-1")
        await store.tokens.change(token, replace(token, per_minute=7), "me")
        async with database.read() as connection:
            table = known["token"]
            stored = (await connection.execute(select(table.c.scopes).where(table.c.name == name))).scalar()
        if scopes is not None:
            assert json.loads(stored or "") == json.loads(scopes) | {"per_minute": 7}
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
