"""Backup and restore: complete, between both databases, all or nothing, and only if unaltered."""

from __future__ import annotations

import asyncio
import json
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import LargeBinary

from dnsvip.errors import Conflict, SecretError, StoreError
from dnsvip.site import Client, DnsToken, Match, Site, Step
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change, plan
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from dnsvip.store import backup as backup_module
from dnsvip.store.backup import PARTS
from dnsvip.store.backup_file import PIECE, read_header
from dnsvip.store.database import tables
from dnsvip.store.keys.rewrap import SECRETS
from tests.postgres import Postgres
from tests.store.conftest import run_dnsvip, until

Start = Callable[[SnapshotFollower], Awaitable[SnapshotFollower]]


@pytest.fixture
async def rich(filled: Store) -> Store:
    """A store that holds objects of every kind."""
    await filled.keys.rotate("web", "me", 1000.0)
    await filled.keys.rotate_at_once("web", "me", 2000.0)
    await filled.tokens.create("t", "me")
    await filled.client_authorities.create("me", 3000.0)
    client, token = Client("ümlaut", 5, "gold", (Match(Step.TOKEN, "x"),)), DnsToken("x", "0" * 64, "1" * 64, 5000)
    changes = [Change("dns_token", "x", "+", None, token), Change("client", "ümlaut", "+", None, client)]
    await filled.objects.apply(changes, "me", "api")
    return filled


async def same(one: Store, other: Store) -> None:
    """Whether two stores are equal except for identity, generation and the restore itself."""
    a, b = await one.snapshots.load(), await other.snapshots.load()
    assert (a.site, a.masters, a.cookie_secrets) == (b.site, b.masters, b.cookie_secrets)
    assert a.client_ca == b.client_ca
    assert {name: ring.epochs for name, ring in a.keyrings.items()} == {n: r.epochs for n, r in b.keyrings.items()}
    assert await one.tokens.all() == await other.tokens.all()
    assert (await one.objects.stored()).origins == (await other.objects.stored()).origins
    assert await one.keys.reserved() == await other.keys.reserved()
    rows = [row for row in await other.audit.rows(1000) if row.kind != "backup"]
    assert [(row.at, row.name, row.after) for row in rows] == [
        (row.at, row.name, row.after) for row in await one.audit.rows(1000)
    ]


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
async def test_round_trip_between_databases(
    rich: Store, kek: KeyEncryptionKey, tmp_path: Path, target: str, postgres: Postgres
) -> None:
    """A backup of either database, restored into either kind, holds everything and can be changed."""
    file = tmp_path / "backup"
    header, count = await rich.backups.write(file, 3000.5)
    assert (header.generation, header.at, file.stat().st_mode & 0o777) == (6, 3000.5, 0o600)
    assert read_header(file) == header
    other = await Store.open(f"sqlite:///{tmp_path}/other.db" if target == "sqlite" else postgres.database(), kek)
    restored, rows = await other.backups.restore(file, "me")
    assert (restored, rows) == (header, count)
    await same(rich, other)
    assert await other.generation() == 7
    assert other.identity != (await other.snapshots.follow(None, None)).mark.identity
    await other.objects.apply([Change("client", "ümlaut", "-", None, None)], "me", "api")
    await other.backups.write(tmp_path / "again", 4000.0)
    await other.close()


def test_no_table_is_forgotten() -> None:
    """A backup holds every table except what nodes report, journals of zones, which updates have been made, and the
    header's data; every secret is rewrapped."""
    left_out = {"node", "client_usage", "console_session", "dns_token_use", "seen_update", "state"}
    left_out |= {"zone_change", "zone_refresh"}
    assert {table.name for table in PARTS} == tables.metadata.tables.keys() - left_out
    secret = {name for name, table in tables.metadata.tables.items() if "secret" in table.c}
    assert SECRETS.keys() == secret
    binary = {
        f"{table.name}.{column.name}"
        for table in tables.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert binary == {f"{name}.secret" for name in secret} | {
        "state.key_check",
        "zone_change.removed",
        "zone_change.added",
    }


async def test_without_audit(rich: Store, kek: KeyEncryptionKey, tmp_path: Path) -> None:
    """A backup can omit the audit; a node loads what was restored from it."""
    await rich.backups.write(tmp_path / "b", 1.0, with_audit=False)
    other = await Store.open(f"sqlite:///{tmp_path}/other.db", kek)
    await other.backups.restore(tmp_path / "b", "me")
    assert [row.kind for row in await other.audit.rows()] == ["backup"]
    assert (await other.snapshots.load()).site == await rich.objects.site()
    await other.close()


async def test_full_database_is_left_alone(rich: Store, tmp_path: Path) -> None:
    """A restore over a site needs the option to replace it; the site is then the backup's, at a later generation."""
    await rich.backups.write(tmp_path / "b", 1.0)
    before = await rich.objects.site()
    await rich.objects.apply([Change("client", "ümlaut", "-", None, None)], "me", "api")
    with pytest.raises(Conflict, match=r"holds a site already \(generation 7\)"):
        await rich.backups.restore(tmp_path / "b", "me")
    await rich.backups.restore(tmp_path / "b", "me", replacing=True)
    assert await rich.objects.site() == before
    assert await rich.generation() == 8


async def test_existing_file_is_kept(rich: Store, tmp_path: Path) -> None:
    """A backup never overwrites a file and leaves no partial one."""
    (tmp_path / "b").write_text("precious")
    with pytest.raises(StoreError, match="exists already; name a new file"):
        await rich.backups.write(tmp_path / "b", 1.0)
    assert (tmp_path / "b").read_text() == "precious"
    assert not list(tmp_path.glob(".*part"))


def _cut(text: str) -> str:
    return text[: text.rindex('{"rows"')]


def _altered(text: str) -> str:
    return text.replace('\\"dscp\\":34', '\\"dscp\\":35')


def _without_row(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:3], *lines[4:]])


def _sealed_again(text: str) -> str:
    lines = _altered(text).splitlines()
    end = json.loads(lines[-1])
    return "\n".join([*lines[:-1], json.dumps({**end, "seal": "0" * 64})]) + "\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "its end is missing"),
        (_altered, "its seal is broken"),
        (_without_row, "its seal is broken"),
        (_sealed_again, "its seal is broken"),
        (lambda text: text + text, "its seal is broken"),
        (lambda _: "nonsense\n", "is no backup of dnsvip"),
        (lambda text: text.replace('"salt"', '"slat"', 1), "is no backup of dnsvip"),
        (lambda text: text.replace('"version":1', '"version":2', 1), "was made by a later version"),
    ],
)
async def test_altered_backups_are_not_used(
    rich: Store, kek: KeyEncryptionKey, tmp_path: Path, damage: Callable[[str], str], message: str
) -> None:
    """A truncated, altered or forged backup is refused, and the database stays empty."""
    file = tmp_path / "b"
    await rich.backups.write(file, 1.0)
    text = file.read_text()
    file.write_text(damage(text))
    assert file.read_text() != text
    other = await Store.open(f"sqlite:///{tmp_path}/other.db", kek)
    with pytest.raises(StoreError, match=message):
        await other.backups.restore(file, "me")
    assert await other.generation() == 0
    await other.close()


def _endless(text: str) -> str:
    return text.replace("\n", "\n" + "x" * (40 * PIECE), 1)


@pytest.mark.parametrize(
    "made", [_endless, lambda _: "x" * (40 * PIECE), lambda _: "[" * (40 * PIECE)], ids=["row", "header", "deep"]
)
async def test_endless_lines_are_not_read_whole(
    rich: Store, kek: KeyEncryptionKey, tmp_path: Path, made: Callable[[str], str]
) -> None:
    """A file that somebody else made takes no more memory than a piece of it, however long its lines are."""
    file = tmp_path / "b"
    await rich.backups.write(file, 1.0)
    file.write_text(made(file.read_text()))
    tracemalloc.start()
    with pytest.raises(StoreError, match=r"its seal is broken|is no backup"):
        backup_module.check(file, kek, lambda _: None)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * PIECE


def _after_a_look(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have `act` done once the seal of a backup has been verified."""
    verify = backup_module.check

    def check(*arguments: Any) -> Any:
        checked = verify(*arguments)
        act()
        return checked

    monkeypatch.setattr(backup_module, "check", check)


async def test_lines_that_grow_after_a_look(
    rich: Store, kek: KeyEncryptionKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one that grows after its seal was verified."""
    file = tmp_path / "b"
    await rich.backups.write(file, 1.0)

    def grow() -> None:
        file.write_text(_endless(file.read_text()))
        tracemalloc.start()

    _after_a_look(monkeypatch, grow)
    other = await Store.open(f"sqlite:///{tmp_path}/other.db", kek)
    with pytest.raises(StoreError, match="is another file now"):
        await other.backups.restore(file, "me")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 * PIECE
    assert await other.generation() == 0
    await other.close()


def _with_row(row: str) -> Callable[[str], str]:
    return lambda text: text.replace("\n", f"\n{row}\n", 1)


NO_ROWS = {
    name: _with_row(row)
    for name, row in {
        "text": "x",
        "short": "[1]",
        "other table": '["sqlite_master",{}]',
        "no table": '[["client"],{}]',
        "no row": '["client",1]',
        "no columns": '["epoch",{}]',
        "deep": "[" * 2000,
    }.items()
}
DAMAGES = {"cut": _cut, "altered": _altered, "without": _without_row, **NO_ROWS}


@pytest.mark.parametrize(
    "damage", [_cut, _altered, _without_row, *NO_ROWS.values()], ids=["cut", "altered", "without", *NO_ROWS]
)
async def test_backups_altered_after_a_look(
    rich: Store, kek: KeyEncryptionKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[str], str]
) -> None:
    """Who alters a backup after its seal was verified gets nothing of it in."""
    file = tmp_path / "b"
    await rich.backups.write(file, 1.0)
    _after_a_look(monkeypatch, lambda: file.write_text(damage(file.read_text())))
    other = await Store.open(f"sqlite:///{tmp_path}/other.db", kek)
    with pytest.raises(StoreError, match=r"its seal is broken|its end is missing|no row of a table|another file now"):
        await other.backups.restore(file, "me")
    assert await other.generation() == 0
    await other.close()


async def test_other_key(rich: Store, kek: KeyEncryptionKey, tmp_path: Path) -> None:
    """A backup made under another key needs that key; its secrets are then wrapped under the current one."""
    await rich.backups.write(tmp_path / "b", 1.0)
    other = await Store.open(f"sqlite:///{tmp_path}/other.db", KeyEncryptionKey.load(tmp_path / "new.key", {}))
    with pytest.raises(SecretError, match="does not unwrap"):
        await other.backups.restore(tmp_path / "b", "me")
    await other.backups.restore(tmp_path / "b", "me", key=kek)
    await same(rich, other)
    await other.close()
    with pytest.raises(SecretError, match="is not the one"):
        await Store.open(f"sqlite:///{tmp_path}/other.db", kek)


KILLED = """
import asyncio, os, signal, sys, threading
from pathlib import Path
from typing import Any
from dnsvip.store import KeyEncryptionKey, Store
def die(rows):  # the file is checked in a thread of its own, before any row is written
    if threading.current_thread() is threading.main_thread() and rows >= 8000:
        os.kill(os.getpid(), signal.SIGKILL)
async def main():
    store = await Store.open(sys.argv[1], KeyEncryptionKey.load(Path(sys.argv[2]), {}))
    await store.backups.restore(Path(sys.argv[3]), "me", progress=die)
asyncio.run(main())
"""


async def test_killed_restore_leaves_nothing(
    filled: Store, kek: KeyEncryptionKey, url: str, tmp_path: Path, postgres: Postgres
) -> None:
    """A restore killed in the middle leaves the database empty, and a second attempt succeeds."""
    clients = [Client(f"k{n}", 10_000 + n, "gold") for n in range(12_000)]
    await filled.objects.apply([Change("client", client.name, "+", None, client) for client in clients], "me", "api")
    await filled.backups.write(tmp_path / "b", 1.0)
    target = f"sqlite:///{tmp_path}/other.db" if url.startswith("sqlite") else postgres.database()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, target, str(tmp_path / "dnsvip.key"), str(tmp_path / "b")
    )
    assert await process.wait() == -9
    other = await Store.open(target, kek)
    assert (await other.generation(), await other.objects.count("client")) == (0, 0)
    await other.backups.restore(tmp_path / "b", "me")
    assert await other.objects.count("client") == 12_002
    await other.close()


async def test_running_nodes_notice(
    rich: Store, url: str, kek: KeyEncryptionKey, tmp_path: Path, started: Start, site: Site
) -> None:
    """After an older backup is restored, running nodes load it whole, warn, and reserve the slots of unknown keys.

    A later rotation waits for dispatchers to hold the new key, whatever generation they reported.
    """
    await rich.backups.write(tmp_path / "b", 1.0)
    feed = await started(
        SnapshotFollower(NodeConfig(url, tmp_path / "dnsvip.key", tmp_path / "s", "n"), ["dispatch"], {})
    )
    later = await rich.keys.rotate_at_once("web", "me", 3000.0)
    await until(lambda: any(e.key_id == later.key_id for e in feed.snapshot.keyrings["web"].epochs))
    await rich.backups.restore(tmp_path / "b", "me", replacing=True)
    await until(lambda: all(e.key_id != later.key_id for e in feed.snapshot.keyrings["web"].epochs))
    async with asyncio.timeout(20):
        while later.key_id not in {each.key_id for each in await rich.keys.reserved()}:
            await asyncio.sleep(0.05)
        while not (nodes := await rich.nodes.all()) or "warnings" not in nodes[0].detail:
            await asyncio.sleep(0.05)
    assert "the database became another one: from generation 7 to 8; keys" in nodes[0].detail["warnings"][0]
    assert (await rich.keys.rotate("web", "me", 3001.0)).slot != later.slot


async def test_commands(url: str, tmp_path: Path, kek: KeyEncryptionKey, site: Site, postgres: Postgres) -> None:
    """`dnsvip backup` and `restore` move a site to the other kind of database and report what happened to its keys."""
    store = await Store.open(url, kek)
    await store.objects.apply(plan(Site(), site, {}), "me", "site")
    target = postgres.database() if url.startswith("sqlite") else f"sqlite:///{tmp_path}/other.db"
    for name, database in (("one", url), ("two", target)):
        (tmp_path / f"{name}.toml").write_text(f'database = "{database}"\n')
    status, said = await run_dnsvip("backup", tmp_path / "b", "--config", tmp_path / "one.toml")
    assert (status, "rows as of generation 1" in said) == (0, True), said
    status, said = await run_dnsvip("restore", tmp_path / "b", "--config", tmp_path / "two.toml")
    assert (status, "cluster web: encodes with epoch 0" in said) == (0, True), said
    status, said = await run_dnsvip("restore", tmp_path / "b", "--config", tmp_path / "two.toml")
    assert (status, "holds a site already" in said) == (2, True), said
    other = await Store.open(target, kek)
    await same(store, other)
    await other.close()
    await store.close()
    status, said = await run_dnsvip("restore", tmp_path / "one.toml", "--config", tmp_path / "two.toml", "--replace")
    assert (status, "is no backup of dnsvip" in said) == (1, True), said
