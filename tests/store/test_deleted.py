"""A deleted client's id stays refused, and nobody's, until the keys of its time have retired: through every way that a
site is stored, and from databases of earlier versions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import delete, insert

from dnsvip.errors import InvalidSite
from dnsvip.site import Client, ClientState, Site
from dnsvip.site.plain import dump_text
from dnsvip.site.plan import plan
from dnsvip.site.rights import EVERYTHING
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database import tables
from dnsvip.store.database.database import Database, make_file
from dnsvip.store.objects.bulk import Line, Tally
from dnsvip.store.snapshots import lastgood
from tests.store.changes import client, drop, put, same
from tests.store.conftest import alembic
from tests.store.test_upgrade import _rows, _tables

ACME = 1001


async def take(store: Store, number: int) -> None:
    """Give an id to a new client."""
    await store.objects.apply([put("client", replace(client(1), name="new", id=number))], "me", "api")


@pytest.mark.parametrize("state", [ClientState.ENABLED, ClientState.REVOKED])
async def test_until_the_keys_of_its_time_have_retired(
    filled: Store, site: Site, state: ClientState, tmp_path: Path, kek: KeyEncryptionKey
) -> None:
    """A deleted client is in every form of the snapshot, revoked before or not, until all keys of its time are gone;
    keys published later do not count."""
    acme = site.clients["acme"]
    if state is not acme.state:
        await filled.objects.apply([put("client", replace(acme, state=state), acme)], "me", "api")
    before = await filled.snapshots.load()
    assert dict(before.deleted) == {}
    await filled.objects.apply([drop("client", "acme")], "me", "api")
    refreshed = await filled.snapshots.refresh(before)
    assert dict(refreshed.deleted) == {ACME: refreshed.generation}
    assert dict((await filled.snapshots.load()).deleted) == dict(refreshed.deleted)
    lastgood.save(tmp_path / "state", refreshed, "db", kek)
    assert dict(lastgood.load(tmp_path / "state", kek).deleted) == dict(refreshed.deleted)
    await filled.keys.rotate("web", "me", 2e9)
    assert dict((await filled.snapshots.refresh(refreshed)).deleted) == dict(refreshed.deleted)
    now = 2e9 + 4000.0
    await filled.keys.advance(2e9)
    await filled.keys.advance(now)
    after = await filled.snapshots.refresh(refreshed)
    assert dict(after.deleted) == {}
    assert dict((await filled.snapshots.load()).deleted) == {}
    await same(filled, after)
    await take(filled, ACME)


async def test_nobody_gets_the_id(filled: Store, site: Site) -> None:
    """A new client, a renamed one and a line of an import are refused the id; an emergency rotation frees it."""
    acme, reader = site.clients["acme"], site.clients["newsreader"]
    with pytest.raises(InvalidSite, match=r"client\.acme2\.id: 1001 was the id of client 'acme': .* take another id"):
        await filled.objects.apply([drop("client", "acme"), put("client", replace(acme, name="acme2"))], "me", "api")
    await filled.objects.apply([drop("client", "acme")], "me", "api")
    with pytest.raises(InvalidSite, match=r"client\.new\.id: 1001 was the id of client 'acme'"):
        await take(filled, ACME)
    with pytest.raises(InvalidSite, match=r"client\.newsreader\.id: 1001 was"):
        await filled.objects.apply([put("client", replace(reader, id=ACME), reader)], "me", "api")
    tally = await imported(filled, replace(client(1), id=ACME), client(2))
    assert (tally.created, tally.failed) == (1, 1)
    assert "1001 was the id of client 'acme'" in tally.problems[0].message
    await filled.keys.rotate_at_once("web", "me", 2e9)
    assert dict((await filled.snapshots.load()).deleted) == {}
    await take(filled, ACME)


@pytest.mark.parametrize("by_import", [False, True])
async def test_the_same_client_comes_back(filled: Store, site: Site, *, by_import: bool) -> None:
    """A client that was enabled when it was deleted can be made again with its id; a revoked one only as revoked."""
    acme, reader = site.clients["acme"], site.clients["newsreader"]
    revoked = replace(reader, state=ClientState.REVOKED)
    await filled.objects.apply([put("client", revoked, reader)], "me", "api")
    await filled.objects.apply([drop("client", "acme"), drop("client", "newsreader")], "me", "api")
    gone = await filled.snapshots.load()
    assert set(gone.deleted) == {ACME, reader.id}
    if by_import:
        tally = await imported(filled, acme, reader)
        assert (tally.created, tally.failed) == (1, 1)
    else:
        with pytest.raises(InvalidSite, match=r"client\.newsreader\.id: 1002 was the id of client 'newsreader'"):
            await filled.objects.apply([put("client", acme), put("client", reader)], "me", "api")
        await filled.objects.apply([put("client", acme)], "me", "api")
    assert set((await filled.snapshots.refresh(gone)).deleted) == {reader.id}
    assert set((await filled.snapshots.load()).deleted) == {reader.id}
    await filled.objects.apply([put("client", revoked)], "me", "api")
    assert set((await filled.snapshots.refresh(gone)).deleted) == set()


async def test_a_line_that_fails_frees_no_id(filled: Store, site: Site) -> None:
    """A deleted client that an import would make again, but for a match that another has, stays refused."""
    acme, reader = site.clients["acme"], site.clients["newsreader"]
    await filled.objects.apply([drop("client", "acme")], "me", "api")
    tally = await imported(filled, replace(acme, match=reader.match), client(2))
    assert (tally.created, tally.failed) == (1, 1)
    assert set((await filled.snapshots.load()).deleted) == {ACME}


@pytest.mark.parametrize("by_import", [False, True])
async def test_an_id_that_is_changed_is_given_up(filled: Store, site: Site, *, by_import: bool) -> None:
    """The former id of a client whose id changes is refused too, and no new client can take it in the same step."""
    acme = site.clients["acme"]
    moved, new = replace(acme, id=5), replace(client(1), id=ACME)
    if by_import:
        tally = await imported(filled, moved, new)
        assert (tally.changed, tally.failed) == (1, 1)
    else:
        with pytest.raises(InvalidSite, match="1001 was the id of client 'acme'"):
            await filled.objects.apply([put("client", moved, acme), put("client", new)], "me", "api")
        await filled.objects.apply([put("client", moved, acme)], "me", "api")
    assert list((await filled.snapshots.load()).deleted) == [ACME]


async def test_a_revoked_client_gives_its_id_to_nobody(filled: Store, site: Site) -> None:
    """Clients that stay may exchange ids, but not with a revoked one: its addresses would be good again."""
    acme, reader = site.clients["acme"], site.clients["newsreader"]
    revoked = replace(acme, state=ClientState.REVOKED)
    await filled.objects.apply([put("client", revoked, acme)], "me", "api")
    swapped = [replace(revoked, id=reader.id), replace(reader, id=acme.id)]
    with pytest.raises(InvalidSite, match="1001 was the id of client 'acme'"):
        await filled.objects.apply([put("client", swapped[0], revoked), put("client", swapped[1], reader)], "me", "api")
    tally = await imported(filled, *swapped)
    assert (tally.changed, tally.failed) == (0, 2)


async def test_without_keys_nothing_is_refused(store: Store, site: Site) -> None:
    """Where no cluster has keys no address can be authentic, and an id is free at once."""
    await store.objects.apply(plan(Site(), replace(site, clusters={}, services={}), {}), "me", "api")
    await store.objects.apply([drop("client", "acme")], "me", "api")
    assert dict((await store.snapshots.load()).deleted) == {}
    await take(store, ACME)


async def test_a_backup_holds_it(filled: Store, tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """A restored database refuses what the one of the backup refused."""
    await filled.objects.apply([drop("client", "acme")], "me", "api")
    await filled.backups.write(tmp_path / "backup", 3000.0)
    other = await Store.open(f"sqlite:///{tmp_path}/other.db", kek)
    await other.backups.restore(tmp_path / "backup", "me")
    assert list((await other.snapshots.load()).deleted) == [ACME]
    with pytest.raises(InvalidSite, match="1001 was the id"):
        await take(other, ACME)
    await other.close()


async def test_a_backup_of_an_earlier_version_is_completed(
    filled: Store, url: str, tmp_path: Path, kek: KeyEncryptionKey
) -> None:
    """A restore finds clients that a version without notes deleted in the audit rows of the backup."""
    await filled.objects.apply([drop("client", "acme")], "me", "api")
    database = Database(url)
    async with database.write_unordered() as connection:
        await connection.execute(delete(tables.deleted_client))
    await database.close()
    await filled.backups.write(tmp_path / "backup", 3000.0)
    other = await Store.open(f"sqlite:///{tmp_path}/other.db", kek)
    await other.backups.restore(tmp_path / "backup", "me")
    assert dict((await other.snapshots.load()).deleted) == {ACME: 2}
    await other.close()


@pytest.mark.parametrize("version", ["0002", "0003"])
async def test_clients_deleted_before_the_upgrade(url: str, kek: KeyEncryptionKey, site: Site, version: str) -> None:
    """An upgrade finds the ids given up since the oldest key, except those that a client has again."""
    database = Database(url)
    if database.is_sqlite:
        make_file(database.path)
    async with database.write_unordered() as connection:
        await connection.run_sync(lambda plain: command.upgrade(alembic(plain), version))
        known = await connection.run_sync(_tables)
        for name, row in _rows(kek, site):
            await connection.execute(insert(known[name]).values(row))
        for generation, name, before, after in _history():
            row = {"generation": generation, "at": 1.5, "actor": "me", "kind": "client", "name": name}
            texts = {"before": dump_text(before) if before else None, "after": dump_text(after) if after else None}
            await connection.execute(insert(known["audit"]).values(row | texts | {"action": "-"}))
    await database.close()
    store = await Store.open(url, kek)
    assert dict((await store.snapshots.load()).deleted) == {21: 4, 23: 6}
    await store.close()


def _history() -> list[tuple[int, str, Client | None, Client | None]]:
    """Changes of clients: (generation, name, before, after). The only epoch is of generation 1."""
    return [
        (1, "old", client(20), None),
        (2, "a", None, client(21)),
        (4, "a", client(21), None),
        (5, "b", client(ACME), None),
        (6, "c", client(23), client(24)),
        (7, "c", client(24), replace(client(24), tier="standard")),
    ]


async def imported(store: Store, *clients: Client) -> Tally:
    """The outcome of an import of clients, in one batch."""
    tally = Tally()

    async def batches() -> AsyncIterator[list[Line]]:
        yield [Line(number, dump_text(item)) for number, item in enumerate(clients, 1)]

    await store.objects.import_clients(batches, "me", lambda _, after: after, EVERYTHING, tally, per_line=True)
    return tally


@pytest.mark.parametrize("before", [False, True])
async def test_whose_flows_end(
    filled: Store, site: Site, tmp_path: Path, kek: KeyEncryptionKey, *, before: bool
) -> None:
    """A client that is removed with `end_flows`, or had it, is among the ended ones in every form of the snapshot,
    until it is back; others are not."""
    acme = site.clients["acme"]
    stored = replace(acme, state=ClientState.DISABLED, end_flows=True) if before else acme
    if before:
        await filled.objects.apply([put("client", stored, acme)], "me", "api")
    await filled.objects.apply([put("client", replace(client(1), name="other", id=7))], "me", "api")
    old = await filled.snapshots.load()
    gone = replace(drop("client", "acme"), end_flows=not before)
    await filled.objects.apply([gone, drop("client", "other")], "me", "api")
    refreshed = await filled.snapshots.refresh(old)
    assert set(refreshed.deleted) == {ACME, 7}
    assert refreshed.ended == {ACME} == (await filled.snapshots.load()).ended
    lastgood.save(tmp_path / "state", refreshed, "db", kek)
    assert lastgood.load(tmp_path / "state", kek).ended == {ACME}
    await filled.objects.apply([put("client", stored)], "me", "api")
    assert (await filled.snapshots.refresh(refreshed)).ended == frozenset() == (await filled.snapshots.load()).ended
