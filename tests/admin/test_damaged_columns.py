"""Every column of every table with what is none of its kind, one at a time: the site is served and followed, what is
damaged is named, and the API answers."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import Column, Table

from dnsvip.admin.app import make_app
from dnsvip.admin.node import Node
from dnsvip.dispatcher import dispatch_tables
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dns.engine import Engine
from dnsvip.errors import DnsvipError
from dnsvip.site import Classify, ClientState, DnsGroup, Dnssec, DnsToken, Site, Snapshot
from dnsvip.site.io.files import load_site
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plain import collection
from dnsvip.site.plan import plan
from dnsvip.site.registry import COLLECTIONS
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from dnsvip.store.access.console_sessions import StoredSession
from dnsvip.store.database.tables import metadata
from dnsvip.store.snapshots import lastgood
from tests.admin.conftest import EXAMPLE, Api
from tests.dispatcher.conftest import RINGS
from tests.long import LONG
from tests.store.changes import client, drop, put

WRONG: tuple[object, ...] = ("x", -1, None, b"\xe5\x00", 1 << 62, 1.5, "", -1.5)
"""What is put into a column; without DNSVIP_LONG less, by its type."""

TABLES = [table for table in metadata.sorted_tables if table.name != "state"]
"""Those of objects. `state` is the database's own row."""

REFUSED = ("key_check",)
"""Columns of `state` without which no program uses the database."""

GONE, REVOKED = 2001, 2003


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SQLite store in which every table has a row."""
    folder = tmp_path_factory.mktemp("base")
    asyncio.run(_fill(folder))
    return folder


@pytest.fixture(scope="module")
def before(base: Path) -> Snapshot:
    """The site of that store."""

    async def load() -> Snapshot:
        store = await Store.open(f"sqlite:///{base}/test.db", KeyEncryptionKey.load(base / "key", {}))
        snapshot = await store.snapshots.load()
        await store.close()
        return snapshot

    return asyncio.run(load())


@pytest.fixture(autouse=True)
def _rings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the ring of the same servers and weights once."""
    monkeypatch.setattr(dispatch_tables, "build_ring", RINGS)


async def _fill(folder: Path) -> None:
    kek = KeyEncryptionKey.load(folder / "key", {})
    store = await Store.open(f"sqlite:///{folder}/test.db", kek)
    site = load_site(EXAMPLE)
    await store.objects.apply(plan(Site(), site, {}), "test", "site")
    zone = site.zones["example.test"]
    other = replace(zone, name="two.test", text=zone.text.replace("example.test", "two.test"), dnssec=Dnssec(True))
    revoked = replace(client(REVOKED), state=ClientState.REVOKED)
    group, token = DnsGroup("group", ("[2001:db8:53::1]:53",)), DnsToken("token", "0" * 64, "1" * 64)
    await store.objects.apply([put("zone", other), put("dns_group", group), put("dns_token", token)], "me", "api")
    await store.objects.apply([put("classify", Classify(), site.classify)], "me", "api")
    await store.objects.apply([put("client", client(GONE)), put("client", client(2002))], "me", "api")
    await store.objects.apply([drop("client", client(GONE).name), put("client", revoked)], "me", "api")
    await store.tokens.create("robot", "me")
    node = NodeConfig(f"sqlite:///{folder}/test.db", folder / "key", folder / "n", "n")
    await store.nodes.report(SnapshotFollower(node, ["dns"])._own_report())
    await store.client_authorities.create("me", time.time())
    await store.console_sessions.open(StoredSession("0" * 64, "1" * 64, False, time.time() + 9, time.time()))
    await store.drains.drain("n", "me", time.time())
    await store.usage.add("n", {1001: (1, 2, 3, 4)}, time.time())
    await store.close()
    with sqlite3.connect(folder / "test.db") as connection:
        journal = "INSERT INTO zone_change VALUES ('example.test', 3, 1, 2, 'a', 'b', x'00', x'00')"
        connection.execute(journal)
        refresh = "INSERT INTO zone_refresh VALUES ('example.test', 1, 2, 3, 4, 5.0, 6.0, 7.0, 0, 'a', 'b')"
        connection.execute(refresh)
        connection.execute("INSERT INTO key_slot VALUES ('web', 2, 'abcd', 9999999999)")
        connection.execute("INSERT INTO seen_update VALUES ('abcd', 9999999999)")
        connection.execute(f"INSERT INTO dns_token_use VALUES ('{'0' * 64}', 5000.0)")  # noqa: S608 - of the test
        connection.execute("INSERT OR IGNORE INTO client_match VALUES ('source', '2001:db8:77::/48', 'c0002002')")
    connection.close()


def _sample(column: Column[object]) -> tuple[object, ...]:
    if column.nullable:
        return (None,)
    if str(column) in ("client.id", "client_usage.seen_at"):  # those that an answer shows as they are
        return -1, b"\xe5\x00"
    return ("x",) if column.name in ("secret", "slot", "name", "spec") else (-1,)


@asynccontextmanager
async def _node(folder: Path) -> AsyncIterator[tuple[SnapshotFollower, Api]]:
    """A node that starts from the database alone, and its API."""
    url = f"sqlite:///{folder}/test.db"
    follower = SnapshotFollower(NodeConfig(url, folder / "key", folder / "state", "m"), ["dns"], {})
    await follower.start()
    store = follower.store
    assert store is not None
    token = await store.tokens.create("test", "test")
    app = make_app(Node(lambda: store, lambda: follower.snapshot, dict, folder / "dispatch.sock"))
    try:
        async with TestClient(TestServer(app)) as http:
            yield follower, Api(http, store, token, folder)
    finally:
        await follower.close()


def _damage(folder: Path, column: Column[object], value: object) -> bool:
    """Put a value into the newest row of a table; False where the schema refuses it."""
    with sqlite3.connect(folder / "test.db") as connection:
        name, table = column.name, column.table.name
        try:
            newest = f"(SELECT max(rowid) FROM {table})"  # noqa: S608 - a table of ours
            connection.execute(f"UPDATE {table} SET {name} = ? WHERE rowid = {newest}", (value,))  # noqa: S608
        except (sqlite3.IntegrityError, sqlite3.OperationalError):
            return False
    connection.close()
    return True


def _works(snapshot: Snapshot, folder: Path, kek: KeyEncryptionKey) -> None:
    """DNS and the dispatcher take it, and so does a node that starts from the disk."""
    Engine(snapshot), DispatchTables(snapshot)
    lastgood.save(folder / "saved", snapshot, "id", kek)
    assert lastgood.load(folder / "saved", kek).generation == snapshot.generation


def _costs_its_object_alone(before: Snapshot, now: Snapshot, damaged: str) -> None:
    """What a snapshot has not as before is named there, and nothing is allowed that was not."""
    named = {problem.where for problem in now.unreadable}
    for kind in COLLECTIONS:
        was, has = collection(before.site, kind), collection(now.site, kind)
        lost = [name for name in was if has.get(name) != was[name]]
        assert len(lost) <= 1
        assert not lost or damaged in (f"{kind}.name", f"{kind}.origin") or f"{kind}.{lost[0]}" in named
        assert not lost or any(where.startswith(f"{kind}.") for where in named) or damaged == f"{kind}.name"
    accepted = [one for one in now.site.clients.values() if one.id == REVOKED and one.state is ClientState.ENABLED]
    assert accepted == []
    assert GONE in now.deleted or damaged == "deleted_client.id"


async def _check(folder: Path, before: Snapshot, column: Column[object]) -> None:
    kek = KeyEncryptionKey.load(folder / "key", {})
    damaged = str(column)
    async with _node(folder) as (follower, api):
        _costs_its_object_alone(before, follower.snapshot, damaged)
        _works(follower.snapshot, folder, kek)
        await _answers(api)
        revoked = await api("PATCH", "clients/acme", {"state": "revoked"})
        assert revoked.status == 200, revoked.text
        for old in (follower.snapshot, before):
            new = await api.store.snapshots.refresh(old)
            assert new.site.clients["acme"].state is ClientState.REVOKED
            _costs_its_object_alone(replace(before, site=_without_acme(before)), new, damaged)
        Engine(new), DispatchTables(new)
        if column.table.name in COLLECTIONS:
            await _is_removed(api, column.table)
        rotated = await api("POST", "clusters/web/keys/rotate", {"emergency": True})
        assert rotated.status < 500, rotated.text
        await api.store.keys.advance(time.time())
        await api.store.keys.roll_cookies("me")
        await api.store.backups.write(folder / "backup", 0)


def _without_acme(snapshot: Snapshot) -> Site:
    acme = snapshot.site.clients["acme"]
    return replace(snapshot.site, clients={**snapshot.site.clients, "acme": replace(acme, state=ClientState.REVOKED)})


async def _answers(api: Api) -> None:
    """Each GET that needs no name."""
    app = api.client.app
    assert app is not None
    paths = {route.resource.canonical for route in app.router.routes() if route.resource and route.method == "GET"}
    for path in sorted(paths):
        if "{" not in path and path.startswith("/api/v1/") and not path.endswith("openapi.json"):
            answer = await api("GET", path.removeprefix("/api/v1/"))
            assert answer.status != 500, (path, answer.text)


async def _is_removed(api: Api, table: Table) -> None:
    """An object of the table is found, and removed where nothing needs it."""
    plural = f"{table.name.replace('_', '-')}s" if table.name != "tsig" else "tsig"
    for item in (await api.ok("GET", plural))["items"]:
        for method in ("GET", "DELETE"):
            answer = await api(method, f"{plural}/{item['name']}")
            assert answer.status < 500, (method, item, answer.text)


@pytest.mark.parametrize("column", [str(column) for table in TABLES for column in table.columns])
async def test_a_value_that_is_none(base: Path, before: Snapshot, tmp_path: Path, column: str) -> None:
    """It costs its object alone: a node starts from the database, follows a revocation, and answers its API."""
    table, _, name = column.partition(".")
    one = metadata.tables[table].columns[name]
    for number, value in enumerate(WRONG if LONG else _sample(one)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for file in ("test.db", "key"):
            shutil.copy(base / file, folder)
        if _damage(folder, one, value):
            try:
                await _check(folder, before, one)
            except BaseException as error:
                error.add_note(f"with {column} = {value!r}")
                raise


@pytest.mark.parametrize("column", ["generation", "key_check", "identity", "min_reader", "next_key_id", "key_floor"])
async def test_a_damaged_state(base: Path, tmp_path: Path, column: str) -> None:
    """The row of the database itself: what cannot be used is refused in words, and a node serves its last snapshot."""
    for file in ("test.db", "key"):
        shutil.copy(base / file, tmp_path)
    async with _node(tmp_path):
        pass
    _damage(tmp_path, metadata.tables["state"].columns[column], "x")
    config = NodeConfig(f"sqlite:///{tmp_path}/test.db", tmp_path / "key", tmp_path / "state", "m")
    follower = SnapshotFollower(config, ["dns"], {})
    if column in REFUSED:
        with pytest.raises(DnsvipError):
            await follower.start()
    else:
        await follower.start()
        assert follower.snapshot.site.zones
        await follower.close()
