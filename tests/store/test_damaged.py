"""Bytes of a SQLite file that have flipped, and values that no version writes: a row costs itself alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dnsvip.errors import Conflict, RevokedError
from dnsvip.node.first_token import make_first_token
from dnsvip.site import Client, Match, Pool, Server, Site, Snapshot, Step
from dnsvip.site.epochs import Reserved
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change, plan
from dnsvip.site.unreadable import Unreadable
from dnsvip.store import KeyEncryptionKey, Listing, SnapshotFollower, Store
from dnsvip.store.access.tokens import Token
from dnsvip.store.database.warrant import IN_FORCE
from dnsvip.store.examine import examine
from dnsvip.store.snapshots import lastgood
from tests.store.changes import drop, put
from tests.store.conftest import until
from tests.store.test_import_run import Import

FLIPPED = b"\xe5"
"""An "e" whose highest bit has flipped: the start of a character that does not go on."""


async def run(store: Store, statement: str, **values: Any) -> None:
    """Do to the database what no program of this project does."""
    async with store._session.write_unordered() as connection:
        await connection.execute(text(statement), values)


async def flip(store: Store, table: str, column: str, where: str = "1 = 1") -> None:
    """Put a flipped byte into the middle of a text."""
    half = f"CAST(substr({column}, 1, length({column}) / 2) AS BLOB)"
    rest = f"CAST(substr({column}, length({column}) / 2 + 2) AS BLOB)"
    value = f"CAST({half} || :junk || {rest} AS TEXT)"
    await run(store, f"UPDATE {table} SET {column} = {value} WHERE {where}", junk=FLIPPED)  # noqa: S608


@pytest.fixture
async def lite(tmp_path: Path, kek: KeyEncryptionKey, site: Site) -> Any:
    """A SQLite store with the example site."""
    store = await Store.open(f"sqlite:///{tmp_path}/dnsvip.db", kek)
    await store.objects.apply(plan(Site(), site, {}), "test", "site")
    yield store
    await store.close()


def clean(value: Any) -> None:
    """What is shown, logged and saved can be encoded."""
    json.dumps(value, ensure_ascii=False, default=str).encode()


@pytest.mark.parametrize("kind", ["cluster", "tier", "pool", "zone", "service", "client", "tsig"])
async def test_a_flipped_byte_costs_its_object(
    lite: Store, site: Site, kind: str, tmp_path: Path, kek: KeyEncryptionKey
) -> None:
    """The site loads, whole and by difference, the object is named, listed, saved and removed."""
    before = await lite.snapshots.load()
    held = await lite.objects.page(Listing(kind, 100))
    name = min(one.name for one in held)  # type: ignore[union-attr]
    await flip(lite, kind, "spec", f"name = '{name}'")
    snapshot = await lite.snapshots.load()
    assert [problem.where for problem in snapshot.unreadable] == [f"{kind}.{name}"]
    clean([str(problem) for problem in snapshot.unreadable])
    lastgood.save(tmp_path / "state", snapshot, lite.identity, kek)
    assert lastgood.load(tmp_path / "state", kek).generation == snapshot.generation
    listed = await lite.objects.page(Listing(kind, 100))
    assert [one.name for one in listed if isinstance(one, Unreadable)] == [name]
    await lite.keys.roll_cookies("me")  # another change goes on
    assert (await lite.snapshots.refresh(before)).generation == snapshot.generation + 1
    await lite.backups.write(tmp_path / "backup", 0)


@pytest.mark.parametrize("value", ["CAST(CAST('ac' AS BLOB) || :junk AS TEXT)", "CAST('ac' AS BLOB) || :junk"])
async def test_a_name_that_is_no_text(lite: Store, site: Site, value: str, tmp_path: Path) -> None:
    """It is named in a form that can be shown and reaches the row: found, passed by pages, removed, in nobody's way."""
    await run(lite, "PRAGMA foreign_keys = OFF")
    await run(lite, "DELETE FROM client_match")
    await run(lite, f"UPDATE client SET name = {value} WHERE name = 'acme'", junk=FLIPPED)  # noqa: S608
    snapshot = await lite.snapshots.load()
    (problem,) = snapshot.unreadable
    clean(str(problem))
    name = problem.where.removeprefix("client.")
    assert "\\xe5" in name
    assert isinstance(snapshot.site.clients[name], Client)
    names: list[str] = []
    after: tuple[str, str] | None = None
    while page := await lite.objects.places(Listing("client", 1, after=after)):
        ((item, _),) = page
        names.append(item.name)  # type: ignore[union-attr]
        after = (names[-1], names[-1])
    assert sorted(names) == sorted({*site.clients, name} - {"acme"})
    assert isinstance(await lite.objects.find("client", name), Unreadable)
    await lite.objects.apply([drop("client", name)], "me", "api")
    after_it = await lite.snapshots.refresh(snapshot)
    assert name not in after_it.site.clients
    assert after_it.unreadable == ()


OLD_STATE = (
    "DROP INDEX ix_client_state_name",
    "ALTER TABLE client DROP COLUMN state",
    "ALTER TABLE client ADD COLUMN state VARCHAR(16) GENERATED ALWAYS AS (json_extract(spec, '$.state')) VIRTUAL",
    "CREATE INDEX ix_client_state_name ON client (state, name)",
)
"""As databases of version 0.2.0 compute it."""


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("how", ["removed", "replaced", "imported", "restored"])
async def test_a_client_that_is_no_json(tmp_path: Path, kek: KeyEncryptionKey, site: Site, how: str, old: bool) -> None:
    """Whichever byte of it has flipped on the disk, it is removed, replaced, imported or restored, and its index is
    whole again."""
    path = tmp_path / "dnsvip.db"
    lite = await Store.open(f"sqlite:///{path}", kek)
    await lite.objects.apply(plan(Site(), site, {}), "test", "site")
    for statement in OLD_STATE if old else ():
        await run(lite, statement)
    await lite.backups.write(tmp_path / "backup", 0)
    await lite.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    path.write_bytes(path.read_bytes().replace(b'{"name":"acme","id":1001', b'{!name":"acme","id":1001'))
    lite = await Store.open(f"sqlite:///{path}", kek)
    assert [problem.where for problem in (await lite.snapshots.load()).unreadable] == ["client.acme"]
    acme = site.clients["acme"]
    if how == "removed":
        await lite.objects.apply([drop("client", "acme")], "me", "api")
    elif how == "replaced":
        assert isinstance(await lite.objects.find("client", "acme"), Unreadable)
        await lite.objects.apply([Change("client", "acme", "~", None, replace(acme, key_generation=1))], "me", "api")
    elif how == "imported":
        work = Import([replace(acme, key_generation=1)])
        work.go.set()
        await work.run(lite, per_line=False)
    else:
        await lite.backups.restore(tmp_path / "backup", "me", replacing=True)
    after = await lite.snapshots.load()
    assert after.unreadable == ()
    assert ("acme" in after.site.clients) is (how != "removed")
    listed = await lite.objects.page(Listing("client", 100, "state"))
    assert sorted(one.name for one in listed) == sorted(after.site.clients)
    async with lite._session.read() as reading:
        assert (await reading.execute(text("PRAGMA integrity_check"))).scalars().all() == ["ok"]
        assert (await reading.execute(text("SELECT name FROM sqlite_master WHERE name = 'ix_client_state_name'"))).all()
    await lite.close()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("epoch", "state"), ("epoch", "cluster"), ("client", "tier"), ("client", "origin"), ("client_match", "value"),
        ("audit", "name"), ("audit", "before"), ("audit", "after"), ("audit", "actor"), ("node", "detail"),
        ("audit", "source"),
        ("node", "version"), ("node", "name"), ("token", "scopes"), ("token", "name"), ("token", "created_by"),
        ("token", "networks"), ("zone_key", "zone"), ("key_slot", "key_id"), ("deleted_client", "name"),
        ("key_slot", "cluster"),
    ],
)  # fmt: skip
async def test_a_flipped_byte_anywhere(
    lite: Store, site: Site, table: str, column: str, tmp_path: Path, node: Callable[[str], NodeConfig]
) -> None:
    """Whatever has it, the site loads, everything can be listed, and nothing that is shown is no text."""
    await lite.tokens.create("robot", "me")
    await run(lite, "UPDATE audit SET source = '2001:db8::7'")
    follower = SnapshotFollower(replace(node("n"), database=lite._session.database.url), ["dns"])
    await lite.nodes.report(follower._own_report())
    await run(lite, "INSERT INTO key_slot VALUES ('web', 2, 'abcd', 9999999999)")
    await run(lite, "INSERT INTO deleted_client VALUES (77, 'gone', 'enabled', 1, false)")
    await flip(lite, table, column, f"{column} IS NOT NULL")
    snapshot = await lite.snapshots.load()
    assert snapshot.site.zones == site.zones
    stored = await lite.objects.stored()
    clean([str(problem) for problem in snapshot.unreadable])
    clean([[*map(str, stored.origins)], [*map(repr, stored.unreadable.values())]])
    clean([repr(row) for row in await lite.audit.rows(100)])
    clean([repr(report) for report in await lite.nodes.all()])
    clean([repr(one) for one in await lite.tokens.all()])
    clean([repr(one) for one in await lite.keys.reserved()])
    await lite.keys.advance(1e9)
    await lite.backups.write(tmp_path / "backup", 0)


SPOILED_TOKENS = [
    ("scopes", "{"), ("scopes", "[]"), ("scopes", ""), ("scopes", '{"scopes": [], "role": null, "later": 1}'),
    ("scopes", '{"scnpes": [{"actions": ["read"], "kinds": ["tier"]}], "role": null}'),
    ("scopes", '{"scopes": [{"actions": ["read"], "kinds": ["tier"], "later": ["*"]}], "role": null}'),
    ("scopes", '{"scopes": 5, "role": null}'), ("scopes", '{"scopes": [], "role": null, "per_minute": "x"}'),
    ("scopes", None), ("networks", None), ("networks", "[]"), ("scopes = NULL, networks", None),
    ("expires_at", None), ("expires_at", 5e9),
    ("networks", "[1"), ("networks", "[1]"), ("networks", ""), ("networks", '["nowhere"]'),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), SPOILED_TOKENS)
async def test_an_unreadable_token_allows_nothing(store: Store, column: str, value: str | None) -> None:
    """It is listed and named as such, has no rights and no time left, is no reason for a first token, and can be
    deleted."""
    clear = await store.tokens.create("robot", "me", Token("", 0, "", networks=("192.0.2.0/24",), expires_at=4e9))
    before = await store.snapshots.load()
    kept = await store.tokens.create("kept", "me")
    await run(store, f"UPDATE token SET {column} = :value WHERE name = 'robot'", value=value)  # noqa: S608
    await make_first_token(store, None)
    kept_token, robot = await store.tokens.all()
    assert (kept_token.unreadable, robot.name, robot.rights.scopes) == (None, "robot", ())
    assert "cannot be read" in (robot.unreadable or "")
    assert robot.has_expired(0.0)
    assert [problem.where for problem in (await store.snapshots.load()).unreadable] == ["token.robot"]
    for same in (await store.tokens.find(clear), await store.tokens.get("robot")):
        assert same == robot
    assert await store.tokens.find(kept) == kept_token
    assert await store.tokens.delete("robot", "me")
    assert [one.name for one in await store.tokens.all()] == ["kept"]
    assert (await store.snapshots.refresh(before)).unreadable == ()


@pytest.mark.parametrize("column", ["created_at", "expires_at", "last_used_at"])
async def test_a_token_with_a_time_that_is_none(lite: Store, column: str) -> None:
    """Likewise; what is under way by it ends."""
    clear = await lite.tokens.create("robot", "me")
    found = await lite.tokens.warranted(clear)
    assert found
    await run(lite, f"UPDATE token SET {column} = 'x'")  # noqa: S608
    (robot,) = await lite.tokens.all()
    assert robot.unreadable
    if column == "expires_at":
        IN_FORCE.set(found[1])
        with pytest.raises(RevokedError):
            await lite.tokens.check_warrant()
        IN_FORCE.set(None)
    assert await lite.tokens.delete("robot", "me")


NUMBERS = ("published_at", "published_generation", "activated_at", "retiring_since", "keep_seconds", "slot")


@pytest.mark.parametrize("column", NUMBERS)
@pytest.mark.parametrize("value", ["x", 1 << 62, -1])
async def test_a_number_of_an_epoch_that_is_none(lite: Store, column: str, value: object) -> None:
    """The epoch is one that cannot be read: named, in nobody's way, replaced by an emergency rotation."""
    if column == "published_generation" and value == 1 << 62:
        return  # a number that there may be
    await run(lite, f"UPDATE epoch SET {column} = :value", value=value)  # noqa: S608
    snapshot = await lite.snapshots.load()
    assert snapshot.unreadable[0].where.startswith("key.web/")
    assert snapshot.keyrings["web"].epochs == ()
    assert await lite.keys.advance(1e9) == []
    await lite.keys.rotate_at_once("web", "me", 1e9)
    mended = await lite.snapshots.refresh(snapshot)
    assert mended.unreadable == ()
    assert len(mended.keyrings["web"].epochs) == 1


@pytest.mark.parametrize("change", ["position = 7", "position = -1", "secret = 'text'", "secret = 5", "secret = x''"])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_damaged_cookie_secret(
    lite: Store, change: str, place: int, tmp_path: Path, kek: KeyEncryptionKey
) -> None:
    """It costs itself alone: a node starts, its place is empty and no other's, it is named, a roll mends it."""
    sound = await lite.snapshots.load()
    await run(lite, f"UPDATE cookie_secret SET {change} WHERE position = {place}")  # noqa: S608
    url = lite._session.database.url
    follower = SnapshotFollower(NodeConfig(url, tmp_path / "dnsvip.key", tmp_path / "n", "n"), ["dns"], {})
    await follower.start()
    secrets = follower.snapshot.cookie_secrets
    assert [*secrets] == [b"" if at == place else secret for at, secret in enumerate(sound.cookie_secrets)]
    assert f"cookies.{place}" in [problem.where for problem in follower.snapshot.unreadable]
    assert any(f"cookies.{place} is left out" in warning for warning in follower._own_report().detail["warnings"])
    await follower.close()
    examined = await examine(url, kek)
    assert f"cookies.{place}" in [one.where for one in examined.unreadable]
    await lite.keys.roll_cookies("me")
    mended = await lite.snapshots.load()
    assert (mended.unreadable, [len(secret) for secret in mended.cookie_secrets]) == ((), [16, 16, 16])


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ("until = 'x'", {2}), ("until = -5", {2}), ("key_id = CAST(:junk AS TEXT)", {2}), ("slot = 77", {0, 1, 2, 3}),
        ("slot = 'x'", {0, 1, 2, 3}), ("cluster = CAST(:junk AS TEXT)", {2}), ("cluster = :junk, until = 'x'", {2}),
    ],
)  # fmt: skip
async def test_a_damaged_reservation_keeps_its_slot(
    lite: Store, change: str, kept: set[int], kek: KeyEncryptionKey
) -> None:
    """A row of a reserved slot that cannot be read is named and keeps all empty that it may mean; a rotation settles
    it, without filling the slot."""
    now = time.time()
    await run(lite, "INSERT INTO key_slot VALUES ('web', 2, 'abcd', :until)", until=int(now) + 5000)
    values = {"junk": FLIPPED} if ":junk" in change else {}
    await run(lite, f"UPDATE key_slot SET {change}", **values)  # noqa: S608
    snapshot = await lite.snapshots.load()
    (problem,) = snapshot.unreadable
    assert "reserved slot" in problem.message
    clean(str(problem))
    assert {slot.slot for slot in await lite.keys.reserved() if slot.cluster == "web"} == kept
    assert [one.where for one in (await examine(lite._session.database.url, kek)).unreadable] == [problem.where]
    await lite.keys.reserve([Reserved("web", 1, "lost", int(now) + 9)], "me", now)
    if len(kept) == 1:
        assert (await lite.keys.rotate("web", "me", now)).slot not in kept
    else:
        with pytest.raises(Conflict):
            await lite.keys.rotate("web", "me", now)
        await lite.keys.rotate_at_once("web", "me", now)
    mended = await lite.snapshots.refresh(snapshot)
    assert mended.unreadable == ()
    ends = {slot.slot: slot.until for slot in await lite.keys.reserved() if slot.cluster == "web"}
    assert kept - {epoch.slot for epoch in mended.keyrings["web"].epochs} <= ends.keys()
    assert max(ends.values()) < now + 10 * 86_400


async def test_a_follower_survives_its_own_faults(
    filled: Store,
    node: Callable[[str], NodeConfig],
    started: Callable[[SnapshotFollower], Awaitable[SnapshotFollower]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What this program cannot make of the database ends no loop: it serves what it has, says so, and goes on after."""
    follower = await started(SnapshotFollower(node("n"), ["dns"]))
    assert follower.store is not None
    good, advance = follower.store.snapshots.follow, follower.store.keys.advance

    async def fail(*_: Any) -> Any:
        raise TypeError("a fault")

    monkeypatch.setattr(follower.store.snapshots, "follow", fail)
    monkeypatch.setattr(follower.store.keys, "advance", fail)
    monkeypatch.setattr(follower, "_is_step_near", lambda: True)
    await filled.keys.roll_cookies("me")

    await until(lambda: "TypeError: a fault" in str(follower._own_report().detail))
    assert follower.snapshot.site.zones
    await asyncio.sleep(0.6)  # the loop that advances keys has failed too
    monkeypatch.setattr(follower.store.snapshots, "follow", good)
    monkeypatch.setattr(follower.store.keys, "advance", advance)
    generation = await filled.generation()
    await until(lambda: follower.snapshot.generation >= generation)


async def test_a_start_from_the_last_good_snapshot(
    filled: Store, node: Callable[[str], NodeConfig], kek: KeyEncryptionKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of this program at loading is no reason not to serve."""
    config = node("n")
    lastgood.save(config.state_dir, await filled.snapshots.load(), filled.identity, kek)

    async def fail(*_: Any) -> Snapshot:
        raise TypeError("a fault")

    monkeypatch.setattr("dnsvip.store.snapshots.snapshots.load", fail)
    follower = SnapshotFollower(config, ["dns"])
    await follower.start()
    assert follower.snapshot.site.zones
    await follower.close()


@pytest.mark.parametrize("column", ["generation", "lease_seconds", "seen_at", "started_at", "taken_at"])
async def test_a_number_of_a_node_that_is_none(lite: Store, column: str, node: Callable[[str], NodeConfig]) -> None:
    """Its report is listed with what can be read; keys do not go on past one that is alive."""
    follower = SnapshotFollower(node("n"), ["dns"])
    await lite.nodes.report(follower._own_report())
    await run(lite, f"UPDATE node SET {column} = 'x'")  # noqa: S608
    (report,) = await lite.nodes.all()
    assert all(isinstance(n, int | float) for n in (report.generation, report.seen_at, report.lease_seconds))
    await lite.keys.advance(report.seen_at)


@pytest.mark.parametrize(
    ("column", "value"), [("before", "{"), ("after", "[1]"), ("at", "x"), ("generation", "x"), ("after", b"\xff")]
)
async def test_an_audit_row_that_cannot_be_read(lite: Store, column: str, value: object) -> None:
    """It is listed with what can be read."""
    rows = await lite.audit.rows(100)
    await run(lite, f"UPDATE audit SET {column} = :value WHERE id = {rows[0].id}", value=value)  # noqa: S608
    damaged = await lite.audit.rows(100)
    assert damaged[1:] == rows[1:]
    clean(repr(damaged[0]))
    if column in ("before", "after"):
        assert "unreadable" in (getattr(damaged[0], column) or {})


async def test_a_wrong_clock_deletes_no_audit_rows(store: Store) -> None:
    """Ages count from the newest row, not from a clock that is years ahead."""
    now, year = 1_800_000_000.0, 365 * 86_400.0
    insert = (
        "INSERT INTO audit (generation, at, actor, action, kind, name) VALUES (1, :at, 'me', '~', 'client', 'acme')"
    )
    async with store._session.write_unordered() as connection:
        await connection.execute(text(insert), [{"at": now - 5000 + second} for second in range(5000)])
    assert await store.audit.prune(now + 2 * year, 5_000_000, year) == 0


async def test_audit_rows_are_bounded(filled: Store, site: Site) -> None:
    """However many short things a large object has; what rules and followers need stays as it is."""
    acme = site.clients["acme"]
    many = tuple(Match(Step.SOURCE, f"2001:db8:{number:x}::/48") for number in range(3000))
    large = replace(acme, match=many, attributes={f"a{number}": "x" * 100 for number in range(30)})
    await filled.objects.apply([put("client", large, acme)], "me", "api")
    (row,) = await filled.audit.rows(1)
    assert row.after is not None
    assert len(json.dumps(row.after)) < 17_000
    (plain,) = [json.dumps([{"source": match.value} for match in many], separators=(",", ":"))]
    digest = hashlib.sha256(plain.encode()).hexdigest()
    assert row.after["match"] == f"sha256:{digest} (3000 items, {len(plain)} characters)"
    assert row.after["attributes"] == large.attributes
    assert (row.after["id"], row.after["state"]) == (large.id, "enabled")


async def test_pools_too(filled: Store, site: Site) -> None:
    """The list of a pool's servers likewise."""
    pool = Pool("many", servers=tuple(Server(f"s{n}", site.clusters["web"].plain + n) for n in range(2000)))  # type: ignore[arg-type,operator]
    await filled.objects.apply([put("pool", pool)], "me", "api")
    (row,) = await filled.audit.rows(1)
    assert len(json.dumps(row.after)) < 17_000
