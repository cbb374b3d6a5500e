"""Bulk import of clients in one transaction: by batches, in bounded memory, with a result for each line.

A batch of new clients is inserted directly. Once the database has refused a batch, the importer looks up the owners of
each name, id and match first and separates the lines that collide from the others. Threads do the work on rows, so
that queries do not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import asyncpg
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Client, Site
from dnsvip.site.plain import SiteObject, dump_text
from dnsvip.site.registry import KINDS
from dnsvip.site.rules import check_one
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.tables import client, client_match
from dnsvip.store.objects.applying import Author
from dnsvip.store.objects.rows import client_of

LINES = 4000
"""Lines per batch; within one, a client may take an id or match that another gives up."""

MOST_PROBLEMS = 1000
"""The most problems that are kept; all are counted."""

Settle: TypeAlias = Callable[[SiteObject | None, SiteObject], SiteObject]
Allowed: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Line:
    """A client to store: its JSON as stored, and which of the run-time fields its line names."""

    number: int
    text: str
    named: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LineProblem:
    """Why a line is refused."""

    line: int
    where: str
    message: str


@dataclass(slots=True)
class Tally:
    """The results of the lines so far."""

    made: int = 0
    changed: int = 0
    unchanged: int = 0
    failed: int = 0
    problems: list[LineProblem] = field(default_factory=list)

    @property
    def seen(self) -> int:
        """Lines processed."""
        return self.made + self.changed + self.unchanged + self.failed

    def fail(self, line: int, problems: Iterable[Problem]) -> None:
        """Record a refused line."""
        self.failed += 1
        room = MOST_PROBLEMS - len(self.problems)
        self.problems += [LineProblem(line, each.where, each.message) for each in list(problems)[:room]]


@dataclass(frozen=True, slots=True)
class _Item:
    """A valid line; `before` is the stored JSON that it replaces, None for a new client."""

    line: int
    client: Client
    text: str
    named: frozenset[str]
    before: str | None = None
    origin: str = "api"


class Importer:
    """Stores lines inside one write transaction of `author`; `tally` counts the results."""

    def __init__(
        self, connection: AsyncConnection, author: Author, site: Site, settle: Settle, allowed: Allowed, tally: Tally
    ) -> None:
        self._connection, self._author, self._site = connection, author, site
        self._settle, self._allowed, self.tally = settle, allowed, tally
        self._insert = _copy if connection.dialect.name == "postgresql" else _executemany
        self._fresh = True

    async def store(self, batches: AsyncIterator[Sequence[Line]], notify: Callable[[], Any]) -> None:
        """Store every batch; calls `notify` after each."""
        async for lines in batches:
            items = await asyncio.to_thread(self._checked, lines)
            if not (self._fresh and await self._try(items)):
                self._fresh = False
                items = await self._resolved(items)
                await self._remove([item.client.name for item in items if item.before is not None])
                await self._put(items)
            self.tally.made += sum(item.before is None for item in items)
            self.tally.changed += sum(item.before is not None for item in items)
            notify()

    async def _try(self, items: Sequence[_Item]) -> bool:
        """Insert all items as new clients; False if the database refuses."""
        try:
            async with self._connection.begin_nested():
                await self._put(items)
        except (IntegrityError, asyncpg.UniqueViolationError):
            return False
        return True

    def _checked(self, lines: Sequence[Line]) -> list[_Item]:
        items = []
        for line in lines:
            thing = client_of(line.text)
            problems = check_one("client", thing.name, thing, self._site)
            if not self._allowed(thing.name):
                problems.append(Problem(f"client.{thing.name}", "the token lacks the scope write:client for it"))
            if problems:
                self.tally.fail(line.number, problems)
            else:
                items.append(_Item(line.number, thing, line.text, line.named))
        return items

    async def _resolved(self, items: Sequence[_Item]) -> list[_Item]:
        """The items that can be stored together, each with what it replaces; the others are recorded as refused."""
        stored = await self._stored([item.client.name for item in items])
        ids = await self._owners_of_ids([item.client.id for item in items])
        matches = await self._owners_of_matches([item.client for item in items])
        return await asyncio.to_thread(self._without_collisions, items, stored, ids, matches)

    def _without_collisions(
        self,
        items: Sequence[_Item],
        stored: Mapping[str, Any],
        ids: Mapping[Any, str],
        matches: Mapping[Any, str],
    ) -> list[_Item]:
        good = self._with_before(items, stored)
        owners = {**{("id", number): name for number, name in ids.items()}, **matches}
        while True:
            # What this batch's stored clients had is free again if their new form is stored.
            names = {item.client.name for item in good}
            taken = {claim: name for claim, name in owners.items() if name not in names}
            bad: set[int] = set()
            for item in good:
                problems = [
                    Problem(f"client.{item.client.name}", f"{_said(claim)} belongs to client.{taken[claim]} already")
                    for claim in _claims(item.client)
                    if taken.setdefault(claim, item.client.name) != item.client.name
                ]
                if problems:
                    bad.add(item.line)
                    self.tally.fail(item.line, problems)
            if not bad:
                return good
            good = [item for item in good if item.line not in bad]

    def _with_before(self, items: Sequence[_Item], stored: Mapping[str, Any]) -> list[_Item]:
        found: list[_Item] = []
        lines: dict[str, int] = {}
        for item in items:
            name, row = item.client.name, stored.get(item.client.name)
            if name in lines or (row is not None and row.generation == self._author.generation):
                at = f"line {lines[name]}" if name in lines else "a line before"
                self.tally.fail(item.line, [Problem(f"client.{name}", f"stands on {at} already")])
                continue
            lines[name] = item.line
            if row is None:
                found.append(item)
                continue
            try:
                replaced = self._replacing(item, row)
            except InvalidSite as error:
                self.tally.fail(item.line, error.problems)
                continue
            if replaced is None:
                self.tally.unchanged += 1
            else:
                found.append(replaced)
        return found

    def _replacing(self, item: _Item, row: Any) -> _Item | None:
        """The item that replaces a stored client and keeps the run-time fields it does not name; None: no change."""
        before = client_of(row.spec)
        kept = {key: getattr(before, key) for key in KINDS["client"].runtime if key not in item.named}
        after = self._settle(before, replace(item.client, **kept))
        if after == before:
            return None
        assert isinstance(after, Client)  # noqa: S101 - for mypy
        return replace(item, client=after, text=dump_text(after), before=row.spec, origin=row.origin)

    async def _stored(self, names: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        columns = client.c.name, client.c.spec, client.c.origin, client.c.generation
        for some in in_batches(names, BATCH):
            for row in await self._connection.execute(select(*columns).where(client.c.name.in_(some))):
                found[row.name] = row
        return found

    async def _owners_of_ids(self, ids: Sequence[int]) -> dict[int, str]:
        found: dict[int, str] = {}
        for some in in_batches(ids, BATCH):
            rows = await self._connection.execute(select(client.c.id, client.c.name).where(client.c.id.in_(some)))
            found |= {row.id: row.name for row in rows}
        return found

    async def _owners_of_matches(self, clients: Sequence[Client]) -> dict[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        by_step: dict[str, list[str]] = {}
        for thing in clients:
            for match in thing.match:
                by_step.setdefault(match.step.value, []).append(match.value)
        table = client_match.c
        for step, values in by_step.items():
            for some in in_batches(values, BATCH):
                query = select(table.value, table.client).where(table.step == step, table.value.in_(some))
                found |= {(step, row.value): row.client for row in await self._connection.execute(query)}
        return found

    async def _remove(self, names: Sequence[str]) -> None:
        for some in in_batches(names, BATCH):
            await self._connection.execute(delete(client).where(client.c.name.in_(some)))

    async def _put(self, items: Sequence[_Item]) -> None:
        if not items:
            return
        author = self._author
        rows = [(i.client.name, i.client.id, i.client.tier, i.text, i.origin, author.generation) for i in items]
        await self._insert(self._connection, "client", _CLIENT, rows)
        matches = [(m.step.value, m.value, i.client.name) for i in items for m in i.client.match]
        await self._insert(self._connection, "client_match", _MATCH, matches)
        head = author.actor, author.at, author.generation
        entries = [(*head, "+" if i.before is None else "~", "client", i.client.name, i.before, i.text) for i in items]
        await self._insert(self._connection, "audit", _AUDIT, entries)


_CLIENT = ("name", "id", "tier", "spec", "origin", "generation")
_MATCH = ("step", "value", "client")
_AUDIT = ("actor", "at", "generation", "action", "kind", "name", "before", "after")


async def _executemany(connection: AsyncConnection, table: str, columns: Sequence[str], rows: list[Any]) -> None:
    if rows:
        names, marks = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
        # Names of our own tables and columns; every value is bound.
        await connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608


async def _copy(connection: AsyncConnection, table: str, columns: Sequence[str], rows: list[Any]) -> None:
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None  # noqa: S101 - for mypy
    await driver.copy_records_to_table(table, records=rows, columns=columns)


def _claims(thing: Client) -> list[tuple[str, Any]]:
    return [("id", thing.id), *((match.step.value, match.value) for match in thing.match)]


def _said(claim: tuple[str, Any]) -> str:
    return f"id {claim[1]}" if claim[0] == "id" else f"{claim[0]} = {claim[1]}"
