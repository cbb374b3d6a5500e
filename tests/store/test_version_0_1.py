"""A database of version 0.1 is upgraded: it loads, answers as it did, rotates, and takes what is new.

The fixtures are what version 0.1.0 wrote for its own examples/site.toml (`dnsvip apply`), as `sqlite3 .dump` and
`pg_dump --inserts` give it, with its key file, site file and zone.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import subprocess
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import dns.message
import pytest
from sqlalchemy import text

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.reply import DnsOutcome
from dnsvip.errors import StoreError
from dnsvip.site import DnsGroup, Service, SessionFrom, Snapshot
from dnsvip.site.io.files import load_site
from dnsvip.site.plan import Change, plan
from dnsvip.site.rights import EVERYTHING
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database import tables
from dnsvip.store.database.database import Database
from tests.postgres import newest_bin

OLD = Path(__file__).parent.parent / "fixtures" / "version-0.1"


@pytest.fixture
def old(url: str, tmp_path: Path) -> tuple[str, KeyEncryptionKey]:
    """A database as version 0.1.0 left it, and its key."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.executescript((OLD / "sqlite.sql").read_text())
    else:
        psql = [newest_bin() / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", OLD / "postgresql.sql"]
        subprocess.run(psql, check=True, capture_output=True)
    shutil.copy(OLD / "dnsvip.key", tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    return url, KeyEncryptionKey.load(tmp_path / "key", {})


def asked(snapshot: Snapshot, source: str) -> int:
    """The address that a requester gets."""
    wire = dns.message.make_query("www.example.test", "AAAA").to_wire()
    reply = Engine(snapshot).decide(wire, IPv4Address(source), Arrival("public", Transport.UDP), time.time())
    assert reply.outcome is DnsOutcome.SERVICE
    assert reply.wire
    answer = dns.message.from_wire(reply.wire)
    return int(IPv6Address(answer.answer[0][0].address))


async def test_a_database_of_version_0_1(old: tuple[str, KeyEncryptionKey]) -> None:
    """Its site is the one that version 0.1 was given, and keys rotate: old addresses stay good."""
    url, kek = old
    store = await Store.open(url, kek)
    database = Database(url)
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar() == tables.SCHEMA
    await database.close()
    snapshot = await store.snapshots.load()
    assert (snapshot.generation, snapshot.unreadable) == (1, ())
    assert snapshot.site == load_site(OLD / "site.toml")
    before = asked(snapshot, "203.0.113.7")
    verdict = DispatchTables(snapshot).verifier.verify(before, 0, 0, time.time())
    assert verdict.record
    assert (verdict.record.name, verdict.accepted) == ("newsreader", True)
    epoch = await store.keys.rotate("web", "test", time.time())
    await store.keys.advance(time.time())
    rotated = await store.snapshots.load()
    assert rotated.keyrings["web"].active
    assert rotated.keyrings["web"].active[0].slot == epoch.slot
    assert asked(rotated, "203.0.113.7") != before
    assert DispatchTables(rotated).verifier.verify(before, 0, 0, time.time()).accepted
    await store.close()


@pytest.mark.parametrize("lost", ["scopes = '[]'", "networks = '[]'", "expires_at = 4e9", "created_by = 'x'"])
async def test_a_token_of_version_0_1(old: tuple[str, KeyEncryptionKey], lost: str) -> None:
    """One without end, networks and scopes has all rights; where its row is another afterwards, none."""
    database = Database(old[0])
    digest = hashlib.sha256(b"dnsvip_old").hexdigest()
    async with database.write_unordered() as connection:
        row = f"('old', '{digest}', 1.5, 'me')"
        await connection.execute(text(f"INSERT INTO token(name, hash, created_at, created_by) VALUES {row}"))  # noqa: S608
    store = await Store.open(*old)
    token = await store.tokens.find("dnsvip_old")
    assert token is not None
    assert (token.rights, token.expires_at, token.unreadable) == (EVERYTHING, None, None)
    assert (await store.snapshots.load()).unreadable == ()
    async with database.write_unordered() as connection:
        await connection.execute(text(f"UPDATE token SET {lost}"))  # noqa: S608
    damaged = await store.tokens.find("dnsvip_old")
    assert damaged is not None
    assert damaged.rights.scopes == ()
    assert [problem.where for problem in (await store.snapshots.load()).unreadable] == ["token.old"]
    await store.close()
    await database.close()


DAMAGE = """
PRAGMA foreign_keys = OFF;
UPDATE client SET spec = CAST(x'7b61e561' AS TEXT) WHERE name = 'acme';
UPDATE epoch SET published_generation = CAST(x'61e561' AS TEXT) WHERE cluster = 'legacy';
INSERT INTO token(name, hash, created_at, created_by) VALUES
    ('old', CAST(x'61e561' AS TEXT), 1.5, 'me'), ('good', 'ab', 1.5, 'me');
UPDATE state SET generation = 9;
INSERT INTO audit(at, generation, actor, action, kind, name, "before", "after") VALUES
    (1, CAST(x'61e561' AS TEXT), 'me', '-', 'client', 'a', '{"id": 71, "state": "enabled"}', NULL),
    (1, 3, 'me', '-', 'client', CAST(x'61e561' AS TEXT), '{"id": 72, "state": "enabled"}', NULL),
    (1, 3, 'me', '-', 'client', 'c', '{"id": 1e30, "state": "enabled"}', NULL),
    (1, 3, 'me', '-', 'client', 'd', '{"id": 1e400, "state": "enabled"}', NULL),
    (1, 3, 'me', '-', 'client', 'e', '{"id": 75, "state": {}}', NULL),
    (1, 3, 'me', '-', 'client', 'f', '{"id": 76, "state": "\\ud800"}', NULL),
    (1, 3, 'me', '-', 'client', 'g', '{"id": 77, "state": "enabled"}', NULL);
"""
"""Bytes that have flipped, in each column that a migration reads."""


async def test_a_damaged_database_of_version_0_1(tmp_path: Path) -> None:
    """What is damaged costs itself alone: the database is upgraded, and has all else."""
    path = tmp_path / "dnsvip.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((OLD / "sqlite.sql").read_text())
        connection.executescript(DAMAGE)
    connection.close()
    shutil.copy(OLD / "dnsvip.key", tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    store = await Store.open(f"sqlite:///{path}", KeyEncryptionKey.load(tmp_path / "key", {}))
    snapshot = await store.snapshots.load()
    whole = load_site(OLD / "site.toml")
    assert snapshot.site.clients["newsreader"] == whole.clients["newsreader"]
    assert snapshot.site.zones == whole.zones
    assert set(snapshot.deleted) == {77}
    assert "client.acme" in {problem.where for problem in snapshot.unreadable}
    assert [token.name for token in await store.tokens.all()] == ["good", "old"]
    await store.close()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_an_unreadable_generation_of_version_0_1(old: tuple[str, KeyEncryptionKey]) -> None:
    """Nothing is migrated by a generation that cannot be read, and that is said. PostgreSQL stores no such thing."""
    with sqlite3.connect(old[0].removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE state SET generation = 'abc'")
    connection.close()
    with pytest.raises(StoreError, match="generation of the database cannot be read"):
        await Store.open(*old)


async def test_what_is_new_is_taken(old: tuple[str, KeyEncryptionKey]) -> None:
    """The same site file changes nothing, and objects and fields of this version are stored beside the old ones."""
    store = await Store.open(*old)
    stored = await store.objects.stored()
    site = load_site(OLD / "site.toml")
    assert plan(stored.site, site, stored.origins) == ()
    web = site.clusters["web"]
    layout = (("tier", 4), ("client", 14), ("session", 12), ("nonce", 7))
    wider = replace(web, layout=layout, rotate_every="never")  # type: ignore[arg-type, type-var]
    group = DnsGroup("high", ("192.0.2.53:53",), ("gold",))
    service = Service("*.s.example.test", "web", session=SessionFrom.LABEL)
    changes = [
        Change("cluster", "web", "~", web, wider),
        Change("dns_group", "high", "+", None, group),
        Change("service", service.name, "+", None, service),
    ]
    await store.objects.apply(changes, "test", "api")
    now = (await store.snapshots.load()).site
    assert (now.clusters["web"], now.dns_groups["high"], now.services[service.name]) == (wider, group, service)
    await store.close()
