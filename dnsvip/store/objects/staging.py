"""Clients that are to be stored: checked and gathered in a file beside the database, then written in one go.

A check may take minutes, and every other change of the site would wait for it behind the write lock. So it reads the
database in a read transaction and keeps what it wants to write here, where the next lines see it as if it were stored.
The write lock is only held while the rows go in, which examines nothing. Into SQLite they go from temporary tables of
the connection that writes: within the database, in half of the time that they take one by one.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site import Client
from dnsvip.store.access.audit import bounded, shortened
from dnsvip.store.database.database import BATCH, ROWS, in_batches
from dnsvip.store.database.state_index import without_state_index
from dnsvip.store.objects import deleted
from dnsvip.store.objects.applying import Author
from dnsvip.store.objects.client_table import Claim, ClientRow, ClientTable, claims
from dnsvip.store.objects.key_floor import check_left, raised

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE item(name TEXT PRIMARY KEY, id INTEGER, tier TEXT, spec TEXT, origin TEXT, before TEXT, given INTEGER)
 WITHOUT ROWID;
CREATE TABLE claim(step TEXT, value, client TEXT, PRIMARY KEY(step, value)) WITHOUT ROWID;
"""


_PREPARED = """
DROP TABLE IF EXISTS temp.new_client;
DROP TABLE IF EXISTS temp.new_match;
CREATE TEMP TABLE new_client(name, id, tier, spec, origin, given, replaces, before, after);
CREATE TEMP TABLE new_match(step, value, client);
"""
"""`replaces` a stored client; `before` and `after` are the audit row's, NULL where that is the whole `spec`. `given` is
a key generation that the client has not had before."""

_GIVE = "SET given = {floor}, spec = json_set(spec, '$.key_generation', {floor}) WHERE given < {floor}"
_GIVE_AUDITED = "SET after = json_set(after, '$.key_generation', {floor}) WHERE given < {floor} AND after IS NOT NULL"

_REPLACED = "FROM client WHERE name IN (SELECT name FROM temp.new_client WHERE replaces)"
_DELETE, _REPLACES_DAMAGED = f"DELETE {_REPLACED}", f"SELECT 1 {_REPLACED} AND NOT json_valid(spec) LIMIT 1"
_WRITE = (
    "INSERT INTO client(name, id, tier, spec, origin, generation)"
    " SELECT name, id, tier, spec, origin, :generation FROM temp.new_client",
    "INSERT INTO audit(actor, source, at, generation, action, kind, name, before, after)"
    " SELECT :actor, :source, :at, :generation, CASE WHEN replaces THEN '~' ELSE '+' END, 'client', name, before,"
    " COALESCE(after, spec) FROM temp.new_client",
    "INSERT INTO client_match(step, value, client) SELECT step, value, client FROM temp.new_match",
    "DROP TABLE temp.new_client",
    "DROP TABLE temp.new_match",
)


_CLIENTS = "SELECT name, id, tier, spec, origin, before FROM item"
_PREPARED_CLIENTS = "SELECT name, id, tier, spec, origin, before, given FROM item"
_MATCHES = "SELECT step, value, client FROM claim WHERE step <> 'id'"


@dataclass(frozen=True, slots=True)
class StagedRow:
    """A client as it will be stored, in the form of a row of the database; `staged` tells it from one."""

    name: str
    spec: str
    origin: str
    staged: bool = True


class Staging:
    """What an import has accepted so far, in a temporary file; `connection` reads the database below it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._table = ClientTable(connection)
        self._connection = connection
        self._file = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._file.executescript(_TABLES)
        self._noted: dict[int, deleted.Owner] = {}
        self.released: set[int] = set()
        self.floor = 0
        """Above the key generations of the clients that give up their ids."""
        self.count = 0
        self._is_prepared = self._replaces_damaged = False

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    async def stored(self, names: Sequence[str]) -> dict[str, Any]:
        """The rows of those names that are stored, or will be."""
        return await self._table.stored(names) | await asyncio.to_thread(self._staged, names)

    async def owners(self, clients: Sequence[Client]) -> dict[Claim, str]:
        """Who has each id and match of these clients, by name, once all is written; unowned ones are left out."""
        below = await self._table.owners(clients)
        return await asyncio.to_thread(self._owners, below, clients)

    async def insert(self, rows: Sequence[ClientRow]) -> None:
        """Keep clients that are to be stored, and whose claims are free."""
        await asyncio.to_thread(self._insert, rows)
        self.count += len(rows)

    async def deleted_owners(self, numbers: Iterable[int]) -> dict[int, deleted.Owner]:
        """The deleted clients that had any of these ids."""
        wanted = list(numbers)
        below = await deleted.owners_of(self._connection, wanted)
        noted = {number: self._noted[number] for number in wanted if number in self._noted}
        return {number: owner for number, owner in below.items() if number not in self.released} | noted

    def note(self, ids: Mapping[int, deleted.Owner]) -> None:
        """Note ids that clients give up."""
        self._noted |= ids

    def release(self, ids: Iterable[int]) -> None:
        """Refuse these ids no longer."""
        for number in ids:
            self._noted.pop(number, None)
            self.released.add(number)

    async def concerned(self, names: Sequence[str], ids: Sequence[int]) -> bool:
        """Whether one of these clients, or of these ids, will be stored."""
        claimed = "SELECT 1 FROM claim WHERE step = 'id' AND value = ?"
        return bool(self._staged(names)) or any(self._file.execute(claimed, [n]).fetchone() for n in ids)

    async def replaced(self) -> list[tuple[str, str]]:
        """The stored clients that will be replaced: name and stored JSON."""
        query = "SELECT name, before FROM item WHERE before IS NOT NULL"
        return await asyncio.to_thread(lambda: self._file.execute(query).fetchall())

    async def prepare(self, driver: Any) -> None:
        """Bring all to the SQLite connection that will write it, before it takes the write lock."""
        await driver.executescript(_PREPARED)
        await driver.execute("BEGIN")
        for rows in in_batches(self._rows(_PREPARED_CLIENTS), ROWS):
            await driver.executemany("INSERT INTO new_client VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_prepared, rows))
        for rows in in_batches(self._rows(_MATCHES), ROWS):
            await driver.executemany("INSERT INTO new_match VALUES (?, ?, ?)", rows)
        async with driver.execute(_REPLACES_DAMAGED) as found:
            self._replaces_damaged = await found.fetchone() is not None
        await driver.execute("COMMIT")
        self._is_prepared = True

    async def write(self, connection: AsyncConnection, author: Author) -> None:
        """Put all in its place; raises the driver's error where something is not unique."""
        floor = await raised(connection, self.floor)
        await self._give(connection, floor)
        await (self._write_prepared if self._is_prepared else self._write_rows)(connection, author)
        await deleted.release(connection, self.released)
        await deleted.note(connection, self._noted, author.generation)

    async def _give(self, connection: AsyncConnection, floor: int) -> None:
        """Give no key generation below the floor, which may have risen since a line was checked; raises InvalidSite."""
        lowest = (await asyncio.to_thread(lambda: self._file.execute("SELECT min(given) FROM item").fetchone()))[0]
        if lowest is None or lowest >= floor:
            return
        check_left(floor)
        if self._is_prepared:
            await connection.execute(text(f"UPDATE temp.new_client {_GIVE_AUDITED.format(floor=floor)}"))
            await connection.execute(text(f"UPDATE temp.new_client {_GIVE.format(floor=floor)}"))
        else:
            give = f"UPDATE item {_GIVE.format(floor=floor)}"
            await asyncio.to_thread(lambda: self._file.execute(give))

    async def _write_prepared(self, connection: AsyncConnection, author: Author) -> None:
        values = {
            "actor": author.actor,
            "source": bounded(author.source),
            "at": author.at,
            "generation": author.generation,
        }
        async with without_state_index(connection, needed=self._replaces_damaged):
            await connection.execute(text(_DELETE))
        for statement in _WRITE:
            await connection.execute(text(statement), values if ":generation" in statement else {})

    async def _write_rows(self, connection: AsyncConnection, author: Author) -> None:
        table = ClientTable(connection, author)
        await table.delete(name for name, _ in await self.replaced())
        for rows in in_batches(self._rows(_CLIENTS), ROWS):
            await table.insert_clients(rows)
        for rows in in_batches(self._rows(_MATCHES), ROWS):
            await table.insert_matches(rows)

    def _rows(self, query: str) -> Iterator[Any]:
        return iter(self._file.execute(query))

    def _staged(self, names: Sequence[str]) -> dict[str, StagedRow]:
        rows: dict[str, StagedRow] = {}
        for some in in_batches(names, BATCH):
            query = f"SELECT name, spec, origin FROM item WHERE name IN ({_marks(some)})"  # noqa: S608 - marks only
            rows |= {row[0]: StagedRow(*row) for row in self._file.execute(query, list(some))}
        return rows

    def _owners(self, below: Mapping[Claim, str], clients: Sequence[Client]) -> dict[Claim, str]:
        moved = self._staged(sorted(set(below.values())))  # what these had, they have only where it is staged
        owners = {claim: name for claim, name in below.items() if name not in moved}
        wanted: dict[str, list[Any]] = {}
        for claim in (claim for client in clients for claim in claims(client)):
            wanted.setdefault(claim[0], []).append(claim[1])
        for step, values in wanted.items():
            for some in in_batches(values, BATCH):
                marks = _marks(some)
                query = f"SELECT value, client FROM claim WHERE step = ? AND value IN ({marks})"  # noqa: S608 - as above
                owners |= {(step, value): name for value, name in self._file.execute(query, [step, *some])}
        return owners

    def _insert(self, rows: Sequence[ClientRow]) -> None:
        items = [(r.client.name, r.client.id, r.client.tier, r.text, r.origin, r.before, r.given) for r in rows]
        owned = [(*claim, row.client.name) for row in rows for claim in claims(row.client)]
        self._file.execute("BEGIN")
        self._file.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", items)
        self._file.executemany("INSERT INTO claim VALUES (?, ?, ?)", owned)
        self._file.execute("COMMIT")


def _prepared(row: Sequence[Any]) -> tuple[Any, ...]:
    name, number, tier, spec, origin, before, given = row
    after = shortened(spec)
    kept = None if after is spec else after
    return name, number, tier, spec, origin, given, before is not None, shortened(before), kept


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
