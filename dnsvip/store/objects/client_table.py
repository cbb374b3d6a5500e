"""Client rows in bulk: looked up, deleted and inserted thousands at a time, with their match and audit rows.

PostgreSQL takes the rows by COPY, SQLite by executemany: one statement a table instead of one a client.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import delete, literal, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site import Client
from dnsvip.store.access.audit import bounded, shortened
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.state_index import without_state_index
from dnsvip.store.database.tables import IsJson, client, client_match
from dnsvip.store.objects.applying import Author

Claim: TypeAlias = tuple[str, Any]
"""What only one client may have: `("id", number)` or `(step, value)` of a match."""


StoredClient: TypeAlias = tuple[str, int, str, str, str, str | None]
"""A client to insert: name, id, tier, JSON, origin, and the JSON that it replaces (None: it is new)."""


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A client to insert: itself, its stored JSON and origin, the stored JSON it replaces (None: a new client), and the
    key generation that it is given (None: it keeps what it has)."""

    client: Client
    text: str
    origin: str = "api"
    before: str | None = None
    given: int | None = None


def claims(client: Client) -> list[Claim]:
    """The id and the matches of a client."""
    return [("id", client.id), *((match.step.value, match.value) for match in client.match)]


class ClientTable:
    """The client, match and audit tables inside one transaction, which `author` writes (None: it only reads)."""

    def __init__(self, connection: AsyncConnection, author: Author | None = None) -> None:
        self._connection, self._author = connection, author
        self._insert = _copy if connection.dialect.name == "postgresql" else _executemany

    async def stored(self, names: Iterable[str]) -> dict[str, Any]:
        """The rows (name, spec, origin, generation) of those names that are stored."""
        columns = [client.c[name] for name in ("name", "spec", "origin", "generation", "id", "tier")]
        rows: dict[str, Any] = {}
        for batch in in_batches(list(names), BATCH):
            for row in await self._connection.execute(select(*columns).where(client.c.name.in_(batch))):
                rows[row.name] = row
        return rows

    async def owners(self, clients: Sequence[Client]) -> dict[Claim, str]:
        """Who has each id and match of these clients, by name; unowned ones are left out."""
        values: dict[str, list[Any]] = {}
        for step, value in itertools.chain.from_iterable(map(claims, clients)):
            values.setdefault(step, []).append(value)
        owners: dict[Claim, str] = {}
        match = client_match.c
        for step, wanted in values.items():
            for batch in in_batches(wanted, BATCH):
                if step == "id":
                    query = select(client.c.id, client.c.name).where(client.c.id.in_(batch))
                else:
                    query = select(match.value, match.client).where(match.step == step, match.value.in_(batch))
                owners |= {(step, value): name for value, name in await self._connection.execute(query)}
        return owners

    async def delete(self, names: Iterable[str]) -> None:
        """Delete clients; their match rows follow."""
        for batch in in_batches(list(names), BATCH):
            these = client.c.name.in_(batch)
            damaged = select(literal(1)).select_from(client).where(these, not_(IsJson())).limit(1)
            needed = (await self._connection.execute(damaged)).first() is not None
            async with without_state_index(self._connection, needed=needed):
                await self._connection.execute(delete(client).where(these))

    async def insert_clients(self, rows: Sequence[StoredClient]) -> None:
        """Insert clients with their audit rows; raises the driver's error if one is not unique."""
        author = self._author
        assert author is not None  # noqa: S101 - who writes has one
        head = author.actor, bounded(author.source), author.at, author.generation
        clients = [
            (name, number, tier, spec, origin, author.generation) for name, number, tier, spec, origin, _ in rows
        ]
        audit = [
            (*head, "+" if before is None else "~", "client", name, shortened(before), shortened(spec))
            for name, _, _, spec, _, before in rows
        ]
        await self._insert(self._connection, "client", _COLUMNS["client"], clients)
        await self._insert(self._connection, "audit", _COLUMNS["audit"], audit)

    async def insert_matches(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Insert matches (step, value, client); raises as `insert_clients`."""
        await self._insert(self._connection, "client_match", _COLUMNS["client_match"], list(rows))


_COLUMNS: Mapping[str, Sequence[str]] = {
    "client": ("name", "id", "tier", "spec", "origin", "generation"),
    "client_match": ("step", "value", "client"),
    "audit": ("actor", "source", "at", "generation", "action", "kind", "name", "before", "after"),
}


async def _executemany(connection: AsyncConnection, table: str, columns: Sequence[str], rows: list[Any]) -> None:
    names, marks = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
    # Only table and column names of our own are formatted in; every value is bound.
    await connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608


async def _copy(connection: AsyncConnection, table: str, columns: Sequence[str], rows: list[Any]) -> None:
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None  # noqa: S101 - for mypy
    await driver.copy_records_to_table(table, records=rows, columns=columns)
