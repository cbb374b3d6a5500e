"""Imports very many clients in one transaction: batch by batch, in bounded memory, each line with its own outcome.

While every batch so far held only new clients, a batch is inserted as it is. Once the database refuses one, the
owners of each batch's names, ids and matches are looked up first, and colliding lines are separated from the rest.
CPU-bound work runs in threads, so that it does not delay the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import asyncpg
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Client, Site
from dnsvip.site.plain import SiteObject, dump_text
from dnsvip.site.registry import KINDS
from dnsvip.site.rights import EVERYTHING, Action, Rights
from dnsvip.site.rules import check_one, transfer_key
from dnsvip.store.objects.applying import Author, keys_of, transfer_keys
from dnsvip.store.objects.client_table import Claim, ClientRow, ClientTable, claims
from dnsvip.store.objects.deleted import Succession, exist, in_use, may_pass, note, release, succession, taken
from dnsvip.store.objects.permit import forbidden
from dnsvip.store.objects.rows import client_of, stored_client

LINES = 4000
"""Lines in one batch; an id or match that one client of a batch gives up, another of it may take."""

MAX_PROBLEMS = 1000
"""Problems that are kept; all refused lines are counted."""

Settle: TypeAlias = Callable[[SiteObject | None, SiteObject], SiteObject]


@dataclass(frozen=True, slots=True)
class Line:
    """A client to store: its canonical JSON, and which of the run-time fields its line names."""

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
    """The outcomes of the lines so far."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    failed: int = 0
    problems: list[LineProblem] = field(default_factory=list)
    rights: Rights = EVERYTHING

    @property
    def seen(self) -> int:
        """Lines with an outcome."""
        return self.created + self.changed + self.unchanged + self.failed

    def fail(self, line: int, problems: Iterable[Problem]) -> None:
        """Count a refused line and keep its problems."""
        self.failed += 1
        room = MAX_PROBLEMS - len(self.problems)
        shown = (self.rights.shown(problem) for problem in list(problems)[:room])
        self.problems += [LineProblem(line, problem.where, problem.message) for problem in shown]


@dataclass(frozen=True, slots=True)
class _Item:
    """A valid line, and the row to insert for it."""

    line: int
    named: frozenset[str]
    row: ClientRow

    @property
    def client(self) -> Client:
        return self.row.client


class Importer:
    """Stores lines inside one write transaction of `author`, and counts their outcomes in `tally`."""

    def __init__(
        self, connection: AsyncConnection, author: Author, site: Site, settle: Settle, rights: Rights, tally: Tally
    ) -> None:
        self._connection, self._generation, self._site = connection, author.generation, site
        self._settle, self._rights, self.tally = settle, rights, tally
        self._table = ClientTable(connection, author)
        self._transfer_keys: frozenset[str] = frozenset()
        self._refusing = False
        self._all_new = rights.writes_any_client

    async def store(self, batches: AsyncIterator[Sequence[Line]]) -> None:
        """Store every batch."""
        self._transfer_keys = await transfer_keys(self._connection)
        self._refusing = await exist(self._connection)
        async for lines in batches:
            items = await asyncio.to_thread(self._parsed, lines)
            if not self._rights.writes_any_client:
                items = await self._permitted(items)
            items = await self._with_free_ids(await asyncio.to_thread(self._valid, items))
            if not (self._all_new and await self._try_insert(items)):
                self._all_new = False
                items = await self._resolved(items)
                unowned = _succession(items).unowned
                await note(self._connection, unowned, self._generation)
                self._refusing = self._refusing or bool(unowned)
                await self._table.delete([item.client.name for item in items if item.row.before is not None])
                await self._table.insert([item.row for item in items])
            if self._refusing:
                await release(self._connection, [item.client.id for item in items])
            created = sum(item.row.before is None for item in items)
            self.tally.created += created
            self.tally.changed += len(items) - created

    async def _with_free_ids(self, items: list[_Item]) -> list[_Item]:
        """The items whose ids were no deleted client's; the others are counted as refused."""
        if not self._refusing:
            return items
        owners = {client.name: owner for client, owner in await taken(self._connection, [i.client for i in items])}
        return [item for item in items if not self._refused_id(item, owners.get(item.client.name))]

    def _refused_id(self, item: _Item, owner: str | None) -> bool:
        if owner is not None:
            self.tally.fail(item.line, [in_use(item.client.name, item.client.id, owner)])
        return owner is not None

    async def _try_insert(self, items: Sequence[_Item]) -> bool:
        """Insert all as new clients; False, and nothing inserted, if the database refuses one."""
        try:
            async with self._connection.begin_nested():
                await self._table.insert([item.row for item in items])
        except (IntegrityError, asyncpg.UniqueViolationError):
            return False
        return True

    def _parsed(self, lines: Sequence[Line]) -> list[_Item]:
        return [_Item(line.number, line.named, ClientRow(client_of(line.text), line.text)) for line in lines]

    def _valid(self, items: Sequence[_Item]) -> list[_Item]:
        good = []
        for item in items:
            client = item.client
            problems = check_one("client", client.name, client, self._site)
            problems += [transfer_key(client.name, key) for key in keys_of(client) if key in self._transfer_keys]
            if problems:
                self.tally.fail(item.line, problems)
            else:
                good.append(item)
        return good

    async def _resolved(self, items: Sequence[_Item]) -> list[_Item]:
        """The items that can be stored together, each with the row it replaces; the others are counted as refused."""
        stored = await self._table.stored([item.client.name for item in items])
        owners = await self._table.owners([item.client for item in items])
        givers = {claim[1]: owner for claim, owner in owners.items() if claim[0] == "id"}
        items = [item for item in items if not self._refused_id(item, _may_not_give(item, givers, stored))]
        return await asyncio.to_thread(self._without_collisions, items, stored, owners)

    async def _permitted(self, items: Sequence[_Item]) -> list[_Item]:
        """The items that the rights reach; the others are noted, before their rules tell what there is."""
        allowed = [item for item in items if self._rights.allow(Action.WRITE, "client", item.client.name)]
        stored = await self._table.stored([item.client.name for item in allowed])
        good = []
        for item in items:
            name, row = item.client.name, stored.get(item.client.name)
            before = stored_client(row) if row is not None else None
            why = await forbidden(self._connection, self._rights, before, _kept(before, item))
            if why is None:
                good.append(item)
            else:
                self.tally.fail(item.line, [Problem(f"client.{name}", f"the token {why}")])
        return good

    def _without_collisions(
        self, items: Sequence[_Item], stored: Mapping[str, Any], owners: Mapping[Claim, str]
    ) -> list[_Item]:
        good = self._with_before(items, stored)
        while True:
            # The claims of this batch's stored clients are free: their new rows replace them, if they stay in it.
            names = {item.client.name for item in good}
            taken = {claim: name for claim, name in owners.items() if name not in names}
            bad: set[int] = set()
            for item in good:
                name = item.client.name
                problems = [
                    _taken(name, _text(claim), taken[claim])
                    for claim in claims(item.client)
                    if taken.setdefault(claim, name) != name
                ]
                if problems:
                    bad.add(item.line)
                    self.tally.fail(item.line, problems)
            if not bad:
                return good
            good = [item for item in good if item.line not in bad]

    def _with_before(self, items: Sequence[_Item], stored: Mapping[str, Any]) -> list[_Item]:
        """The items that change something, each with the row it replaces; the others are counted."""
        changing: list[_Item] = []
        lines: dict[str, int] = {}
        for item in items:
            name = item.client.name
            row = stored.get(name)
            if name in lines or (row is not None and row.generation == self._generation):
                earlier = f"line {lines[name]}" if name in lines else "an earlier line"
                self.tally.fail(item.line, [Problem(f"client.{name}", f"duplicates {earlier}")])
                continue
            lines[name] = item.line
            try:
                replacement = item if row is None else self._replacing(item, row)
            except InvalidSite as error:
                self.tally.fail(item.line, error.problems)
                continue
            if replacement is None:
                self.tally.unchanged += 1
            else:
                changing.append(replacement)
        return changing

    def _replacing(self, item: _Item, row: Any) -> _Item | None:
        """The item as a replacement of a stored client, with the run-time fields it does not name; None: no change."""
        before = stored_client(row)
        if before is None:
            text = "what is stored of it cannot be read; PUT the client, or delete it first"
            raise InvalidSite([Problem(f"client.{row.name}", text)])
        after = self._settle(before, _kept(before, item))
        if after == before:
            return None
        assert isinstance(after, Client)  # noqa: S101 - for mypy
        return replace(item, row=ClientRow(after, dump_text(after), row.origin, row.spec))


def _kept(before: Client | None, item: _Item) -> Client:
    """The client of a line, with the run-time fields of the stored one that the line does not name."""
    names = KINDS["client"].runtime if before is not None else ()
    return replace(item.client, **{key: getattr(before, key) for key in names if key not in item.named})


def _may_not_give(item: _Item, givers: Mapping[int, str], stored: Mapping[str, Any]) -> str | None:
    """The client of this batch whose id an item wants and must not get; None: it has none, or may have it."""
    client, giver = item.client, givers.get(item.client.id)
    if giver is None or giver == client.name or giver not in stored:
        return None
    before = stored_client(stored[giver])
    return None if before and may_pass(before.state, new=client.name not in stored) else giver


def _succession(items: Sequence[_Item]) -> Succession:
    return succession((client_of(item.row.before) if item.row.before else None, item.client) for item in items)


def _taken(name: str, claim: str, owner: str) -> Problem:
    text = f"{claim} belongs to client.{owner} already"
    return Problem(f"client.{name}", text, (("client", owner),), f"{claim} belongs to another client already")


def _text(claim: Claim) -> str:
    return f"id {claim[1]}" if claim[0] == "id" else f"{claim[0]} = {claim[1]}"
