"""No pair of an id and a key generation is ever given twice, whatever the order of changes and the way they come: who
copied the key of a client that is gone has nobody's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import insert, text

from dnsvip.errors import Conflict, InvalidSite
from dnsvip.site import Client, ClientState, Site
from dnsvip.site.plain import dump_text
from dnsvip.site.plan import Change, plan
from dnsvip.site.rights import EVERYTHING
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database.database import Database, make_file
from dnsvip.store.objects import key_floor
from dnsvip.store.objects.bulk import Line, Tally
from dnsvip.store.objects.rows import audit_form
from tests.long import LONG
from tests.postgres import Postgres
from tests.store.changes import client, drop, put
from tests.store.conftest import alembic
from tests.store.test_deleted import imported
from tests.store.test_import_run import Import
from tests.store.test_upgrade import _rows, _tables

ACME = 1001


async def clients_of(store: Store) -> dict[str, Client]:
    """The clients that are stored."""
    return dict((await store.objects.site()).clients)


async def refused_line(store: Store, wanted: Client) -> bool:
    """Whether the line of an import that names a key generation is refused."""
    tally = Tally()

    async def batches() -> AsyncIterator[list[Line]]:
        yield [Line(1, dump_text(wanted), frozenset({"key_generation"}))]

    await store.objects.import_clients(batches, "me", lambda _, after: after, EVERYTHING, tally, per_line=False)
    return tally.failed == 1


async def test_a_client_that_is_made_again(filled: Store, site: Site) -> None:
    """Deleted and made again it has another key, and so has one whose id goes to another and comes back."""
    acme, reader = site.clients["acme"], site.clients["newsreader"]
    await filled.objects.apply([put("client", replace(acme, key_generation=3), acme)], "me", "api")
    await filled.objects.apply([drop("client", "acme")], "me", "api")
    made = await filled.objects.make([put("client", acme)], "me", "api")
    again = (await clients_of(filled))["acme"]
    assert again.key_generation == 4
    assert made.changes[0].after == again
    swapped = [replace(again, id=reader.id), replace(reader, id=ACME)]
    await filled.objects.apply([put("client", swapped[0], again), put("client", swapped[1], reader)], "me", "api")
    now = await clients_of(filled)
    assert {now["acme"].key_generation, now["newsreader"].key_generation} == {5}


@pytest.mark.parametrize("by_import", [False, True])
async def test_what_can_be_asked_for(filled: Store, site: Site, *, by_import: bool) -> None:
    """Not less than a client has, and not so much that nobody else could have a key any more."""
    acme = site.clients["acme"]
    await filled.objects.apply([put("client", replace(acme, key_generation=7), acme)], "me", "api")
    acme = replace(acme, key_generation=7)
    for number, said in ((6, r"cannot go down \(it is 7\)"), (1 << 31, "must be at most 2147483647")):
        wanted = replace(acme, key_generation=number)
        if by_import:
            assert await refused_line(filled, wanted)
        else:
            with pytest.raises(InvalidSite, match=rf"client\.acme\.key_generation: {said}"):
                await filled.objects.apply([put("client", wanted, acme)], "me", "api")
    largest = replace(acme, key_generation=key_floor.BY_HAND)
    await filled.objects.apply([put("client", largest, acme)], "me", "api")
    await filled.objects.apply([drop("client", "acme")], "me", "api")
    assert (await imported(filled, client(1))).created == 1
    assert (await clients_of(filled))[client(1).name].key_generation == 1 << 31


async def test_an_import_while_the_floor_rises(filled: Store, site: Site) -> None:
    """What was checked before a client was deleted is stored with a key generation above that client's; in a row that
    is cut for the audit too."""
    large = client(2, attributes={f"a{n}": "x" * 900 for n in range(30)})
    raised = replace(site.clients["acme"], key_generation=9)
    await filled.objects.apply([put("client", raised, site.clients["acme"])], "me", "api")
    work = Import([client(1), large])
    running = asyncio.ensure_future(work.run(filled, per_line=False))
    await work.reached.wait()
    await filled.objects.apply([drop("client", "acme")], "me", "api")
    work.go.set()
    await running
    assert (work.tally.created, work.tally.failed, work.reads) == (2, 0, 1)
    now = await clients_of(filled)
    assert [now[client(n).name].key_generation for n in (1, 2)] == [10, 10]
    for row in (await filled.audit.rows())[:2]:
        assert row.after is not None
        assert row.after["key_generation"] == 10


async def test_a_restore(filled: Store, site: Site, tmp_path: Path, postgres: Postgres, kek: KeyEncryptionKey) -> None:
    """Neither what the replaced database gave, nor what was given since the backup, is given again; a client in the
    backup keeps its key."""
    acme = site.clients["acme"]
    await filled.objects.apply([put("client", client(1))], "me", "api")
    await filled.backups.write(tmp_path / "backup", 0)
    await filled.objects.apply([put("client", replace(acme, key_generation=90), acme)], "me", "api")
    await filled.backups.restore(tmp_path / "backup", "me", replacing=True)
    assert (await clients_of(filled))["acme"] == acme
    await filled.objects.apply([put("client", replace(acme, key_generation=1), acme)], "me", "api")
    assert (await clients_of(filled))["acme"].key_generation > 90
    lost = await Store.open(postgres.database(), kek)
    await lost.backups.restore(tmp_path / "backup", "me")
    await lost.objects.apply([drop("client", client(1).name), put("client", client(3))], "me", "api")
    assert (await clients_of(lost))[client(3).name].key_generation >= key_floor.ROOM
    await lost.close()


async def test_a_database_of_before(url: str, kek: KeyEncryptionKey, site: Site, tmp_path: Path) -> None:
    """After the upgrade of a database, clients keep their keys, and who gets one has none that another had."""
    database = Database(url)
    if database.is_sqlite:
        make_file(database.path)
    gone = replace(client(55), key_generation=40)
    async with database.write_unordered() as connection:
        await connection.run_sync(lambda plain: command.upgrade(alembic(plain), "0010"))
        known = await connection.run_sync(_tables)
        for name, row in _rows(kek, site):
            await connection.execute(insert(known[name]).values(row))
        row = {"generation": 6, "at": 1.5, "actor": "me", "kind": "client", "name": gone.name, "action": "-"}
        for before in (audit_form(gone), '{"key_generation":"x', "x", None):
            await connection.execute(insert(known["audit"]).values(row | {"before": before, "after": None}))
    await database.close()
    store = await Store.open(url, kek)
    assert await clients_of(store) == site.clients
    await store.backups.write(tmp_path / "backup", 0)
    await store.objects.apply([put("client", client(56))], "me", "api")
    assert (await clients_of(store))[client(56).name].key_generation == 41
    async with store.objects._session.write_unordered() as connection:
        await connection.execute(text("UPDATE state SET key_floor = 0"))
        assert await key_floor.floor_of_history(connection) == 42
    await store.close()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # PostgreSQL keeps its numbers
async def test_a_floor_that_is_damaged(filled: Store) -> None:
    """Where it cannot be read, it is above all that can have been given."""
    async with filled.objects._session.write_unordered() as connection:
        await connection.execute(text("UPDATE state SET key_floor = 'x'"))
    await filled.objects.apply([drop("client", "acme"), put("client", client(1))], "me", "api")
    assert (await clients_of(filled))[client(1).name].key_generation > key_floor.BY_HAND


class World:
    """A store that is changed at random, and every pair of an id and a key generation that it has given."""

    def __init__(self, store: Store, rng: random.Random, folder: Path) -> None:
        self.store, self.rng, self.folder = store, rng, folder
        self.given: dict[tuple[int, int], str] = {}
        self.had: dict[str, tuple[int, int]] = {}

    async def step(self, number: int) -> None:
        """One change, that may be refused, and a look at what it gave."""
        now = await clients_of(self.store)
        ways = (self.put, self.put, self.drop, self.new_key, self.move, self.swap, self.rename, self.load, self.import_)
        way = self.rng.choice(ways)
        with suppress(Conflict, InvalidSite):
            await (way if len(now) > 1 else self.put)(now)
        if number % 30 == 29:
            await self.restore()
        await self.look(f"{number}: {way.__name__}")

    async def look(self, said: str) -> None:
        now = await clients_of(self.store)
        for name in self.had.keys() - now.keys():
            del self.had[name]
        for name, each in now.items():
            pair = each.id, each.key_generation
            if self.had.get(name) != pair:
                assert pair not in self.given, f"{said}: {name} has {pair} of {self.given[pair]}"
                self.given[pair] = f"{name} at {said}"
            self.had[name] = pair

    def any(self) -> Client:
        number = self.rng.randrange(1, 7)
        state = self.rng.choice([ClientState.ENABLED, ClientState.ENABLED, ClientState.REVOKED])
        key = self.rng.choice([0, 0, 1, self.rng.randrange(12)])
        return replace(client(number), name=f"n{self.rng.randrange(6)}", state=state, key_generation=key)

    async def apply(self, *changes: Change) -> None:
        await self.store.objects.apply(changes, "me", self.rng.choice(["api", "site"]))

    async def put(self, now: Mapping[str, Client]) -> None:
        wanted = self.any()
        await self.apply(put("client", wanted, now.get(wanted.name)))

    async def drop(self, now: Mapping[str, Client]) -> None:
        await self.apply(*(drop("client", name) for name in self.rng.sample(sorted(now), min(len(now), 2))))

    async def new_key(self, now: Mapping[str, Client]) -> None:
        one = now[self.rng.choice(sorted(now))]
        await self.apply(put("client", replace(one, key_generation=one.key_generation + 1), one))

    async def move(self, now: Mapping[str, Client]) -> None:
        one = now[self.rng.choice(sorted(now))]
        await self.apply(put("client", replace(one, id=self.rng.randrange(1, 7)), one))

    async def swap(self, now: Mapping[str, Client]) -> None:
        one, other = (now[name] for name in self.rng.sample(sorted(now), 2))
        await self.apply(put("client", replace(one, id=other.id), one), put("client", replace(other, id=one.id), other))

    async def rename(self, now: Mapping[str, Client]) -> None:
        one = now[self.rng.choice(sorted(now))]
        new = replace(one, name=f"n{self.rng.randrange(6)}", id=self.rng.choice([one.id, 1, 2, 3]))
        await self.apply(drop("client", one.name), put("client", new))

    async def load(self, now: Mapping[str, Client]) -> None:
        stored = await self.store.objects.stored()
        wanted = {one.name: one for one in (self.any() for _ in range(4))}
        changes = plan(stored.site, replace(stored.site, clients=wanted), stored.origins, stored.unreadable)
        await self.store.objects.apply(changes, "me", "site", expected=stored.generation)

    async def import_(self, now: Mapping[str, Client]) -> None:
        await imported(self.store, *{one.name: one for one in (self.any() for _ in range(4))}.values())

    async def restore(self) -> None:
        """Back to an earlier state, whose clients have what they had; their next keys are new again."""
        backup = self.folder / f"backup{len(list(self.folder.iterdir()))}"
        await self.store.backups.write(backup, 0)
        for _ in range(5):
            now = await clients_of(self.store)
            with suppress(Conflict, InvalidSite):
                ways = (self.put, self.new_key, self.import_, self.drop) if now else (self.put,)
                await self.rng.choice(ways)(now)
            await self.look("before a restore")
        await self.store.backups.restore(backup, "me", replacing=True)
        self.had = {one.name: (one.id, one.key_generation) for one in (await clients_of(self.store)).values()}


@pytest.mark.parametrize("seed", range(40 if LONG else 1))
async def test_random_orders(filled: Store, tmp_path: Path, seed: int) -> None:
    """Whatever is put, deleted, renamed, given another id, loaded, imported and restored: a pair is given once."""
    backups = tmp_path / "backups"
    backups.mkdir()
    await filled.keys.rotate_at_once("web", "me", 2e9)
    world = World(filled, random.Random(seed), backups)
    await world.look("at first")
    for number in range(200 if LONG else 60):
        await world.step(number)
        if number % 10 == 9:  # frees the ids of deleted clients
            await filled.keys.rotate_at_once("web", "me", 2e9 + number)
    assert len(world.given) > 30
