"""Checks very many clients that are to be stored: batch by batch, in bounded memory, each line with its own outcome.

What passes is kept apart (staging.py) and written afterwards (import_run.py): no check holds the write lock. CPU-bound
work runs in threads, so that it does not delay the event loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Client, Site
from dnsvip.site.plain import SiteObject, dump_text
from dnsvip.site.registry import KINDS
from dnsvip.site.rights import EVERYTHING, Action, Rights
from dnsvip.site.rules import check_one, transfer_key
from dnsvip.site.unreadable import Unreadable
from dnsvip.store.objects.checking import keeps_its_rules, keys_of, transfer_keys
from dnsvip.store.objects.client_table import Claim, ClientRow, claims
from dnsvip.store.objects.deleted import exist, in_use, may_pass, succession
from dnsvip.store.objects.key_floor import floor_of, given, needed
from dnsvip.store.objects.permit import forbidden_each
from dnsvip.store.objects.reading import with_stand_in
from dnsvip.store.objects.rows import client_of, stored_client, unreadable_client
from dnsvip.store.objects.staging import StagedRow, Staging

LINES = 4000
"""Lines in one batch; an id or match that one client of a batch gives up, another of it may take."""

MAX_PROBLEMS, PROBLEM_BYTES = 1000, 1 << 18
"""Problems that are kept, and bytes of their texts; all refused lines are counted."""

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
    room: int = PROBLEM_BYTES

    @property
    def seen(self) -> int:
        """Lines with an outcome."""
        return self.created + self.changed + self.unchanged + self.failed

    def copy(self) -> Tally:
        """The outcomes as they are now, to go back to."""
        return replace(self, problems=list(self.problems))

    def go_back(self, to: Tally) -> None:
        """Forget the outcomes since a copy."""
        for each in fields(self):
            setattr(self, each.name, getattr(to.copy(), each.name))

    def fail(self, line: int, problems: Iterable[Problem]) -> None:
        """Count a refused line and keep its problems."""
        self.failed += 1
        for problem in map(self.rights.shown, problems):
            size = len(problem.where.encode(errors="replace")) + len(problem.message.encode(errors="replace"))
            if len(self.problems) >= MAX_PROBLEMS or size > self.room:
                self.room = 0
                return
            self.room -= size
            self.problems.append(LineProblem(line, problem.where, problem.message))


@dataclass(frozen=True, slots=True)
class _Item:
    """A valid line, the row to insert for it, and the client that is stored in its place."""

    line: int
    named: frozenset[str]
    row: ClientRow
    before: Client | None = None

    @property
    def client(self) -> Client:
        return self.row.client


class Importer:
    """Checks lines against what `staging` has accepted and `connection` reads, and counts their outcomes in `tally`.

    `own` are the generations that this import has made itself."""

    def __init__(
        self,
        connection: AsyncConnection,
        staging: Staging,
        site: Site,
        settle: Settle,
        rights: Rights,
        tally: Tally,
        own: Collection[int] = (),
    ) -> None:
        self._connection, self._staging, self._site = connection, staging, site
        self._settle, self._rights, self.tally, self._own = settle, rights, tally, own
        self._transfer_keys: frozenset[str] = frozenset()
        self._refusing = False
        self._floor = 0
        self._unreadable: dict[str, Unreadable] = {}

    async def stage(self, batches: AsyncIterator[Sequence[Line]]) -> None:
        """Check every batch, and stage what is good of it."""
        self._transfer_keys = await transfer_keys(self._connection)
        self._refusing = await exist(self._connection)
        self._floor = await floor_of(self._connection)
        async for lines in batches:
            items = await asyncio.to_thread(self._parsed, lines)
            if not self._rights.writes_any_client:
                items = await self._permitted(items)
            items = await self._with_free_ids(await self._valid(items))
            items = await self._resolved(items)
            ids = succession((item.before, item.client) for item in items)
            unowned = ids.unowned
            self._staging.note(unowned)
            self._staging.floor = max(self._staging.floor, needed(ids.gave.values()))
            self._refusing = self._refusing or bool(unowned)
            await self._staging.insert([item.row for item in items])
            if self._refusing:
                self._staging.release(item.client.id for item in items)
            created = sum(item.row.before is None for item in items)
            self.tally.created += created
            self.tally.changed += len(items) - created

    async def _with_free_ids(self, items: list[_Item]) -> list[_Item]:
        """The items whose ids were no deleted client's; the others are counted as refused."""
        if not self._refusing:
            return items
        gone = await self._staging.deleted_owners({item.client.id for item in items})
        owners = {number: owner.name for number, owner in gone.items()}
        back = {i.client.name for i in items if i.client.id in gone and gone[i.client.id].returns_as(i.client)}
        return [
            item for item in items if item.client.name in back or not self._refused_id(item, owners.get(item.client.id))
        ]

    def _refused_id(self, item: _Item, owner: str | None) -> bool:
        if owner is not None:
            self.tally.fail(item.line, [in_use(item.client.name, item.client.id, owner)])
        return owner is not None

    def _parsed(self, lines: Sequence[Line]) -> list[_Item]:
        return [_Item(line.number, line.named, ClientRow(client_of(line.text), line.text)) for line in lines]

    async def _valid(self, items: Sequence[_Item]) -> list[_Item]:
        """The items that break no rule, or change nothing but what is set while the site runs; the others are counted
        as refused."""
        problems = await asyncio.to_thread(self._broken_rules, items)
        if not problems:
            return list(items)
        stored = await self._staging.stored([item.client.name for item in items if item.line in problems])
        good = []
        for item in items:
            if item.line in problems and not keeps_its_rules(self._stored_client(stored, item), item.client):
                self.tally.fail(item.line, problems[item.line])
            else:
                good.append(item)
        return good

    def _broken_rules(self, items: Sequence[_Item]) -> dict[int, list[Problem]]:
        """What is wrong with items, by line."""
        found: dict[int, list[Problem]] = {}
        for item in items:
            client = item.client
            problems = check_one("client", client.name, client, self._site)
            problems += [transfer_key(client.name, key) for key in keys_of(client) if key in self._transfer_keys]
            if problems:
                found[item.line] = problems
        return found

    @staticmethod
    def _stored_client(stored: Mapping[str, Any], item: _Item) -> Client | None:
        row = stored.get(item.client.name)
        return None if row is None else stored_client(row)

    async def _resolved(self, items: Sequence[_Item]) -> list[_Item]:
        """The items that can be stored together, each with the row it replaces; the others are counted as refused."""
        stored = await self._stored([item.client.name for item in items])
        owners = await self._staging.owners([item.client for item in items])
        givers = {claim[1]: owner for claim, owner in owners.items() if claim[0] == "id"}
        items = [item for item in items if not self._refused_id(item, _may_not_give(item, givers, stored))]
        return await asyncio.to_thread(self._without_collisions, items, stored, owners)

    async def _stored(self, names: Sequence[str]) -> dict[str, Any]:
        """The rows of those names that are stored, or will be; what is known of those that cannot be read is kept."""
        stored = await self._staging.stored(names)
        self._unreadable = {
            name: await with_stand_in(self._connection, unreadable_client(row))
            for name, row in stored.items()
            if stored_client(row) is None
        }
        return stored

    def _before(self, row: Any) -> Client | None:
        """The client that is stored, or what is known of one that cannot be read."""
        if (broken := self._unreadable.get(row.name)) is None:
            return stored_client(row)
        return broken.stand_in if isinstance(broken.stand_in, Client) else None

    async def _permitted(self, items: Sequence[_Item]) -> list[_Item]:
        """The items that the rights reach; the others are noted, before their rules tell what there is."""
        allowed = [item for item in items if self._rights.allow(Action.WRITE, "client", item.client.name)]
        stored = await self._stored([item.client.name for item in allowed])
        rows = (stored.get(item.client.name) for item in items)
        befores = [self._before(row) if row is not None else None for row in rows]
        pairs = [(before, _kept(before, item)) for before, item in zip(befores, items, strict=True)]
        reasons = await forbidden_each(self._connection, self._rights, pairs)
        good = []
        for item, why in zip(items, reasons, strict=True):
            if why is None:
                good.append(item)
            else:
                self.tally.fail(item.line, [Problem(f"client.{item.client.name}", f"the token {why}")])
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
            if name in lines or self._is_own(row):
                earlier = f"line {lines[name]}" if name in lines else "an earlier line"
                self.tally.fail(item.line, [Problem(f"client.{name}", f"duplicates {earlier}")])
                continue
            lines[name] = item.line
            try:
                replacement = self._as_given(item, None) if row is None else self._replacing(item, row)
            except InvalidSite as error:
                self.tally.fail(item.line, error.problems)
                continue
            if replacement is None:
                self.tally.unchanged += 1
            else:
                changing.append(replacement)
        return changing

    def _is_own(self, row: Any) -> bool:
        """Whether an earlier line of this import has made a row."""
        return isinstance(row, StagedRow) or (row is not None and row.generation in self._own)

    def _replacing(self, item: _Item, row: Any) -> _Item | None:
        """The item as a replacement of a stored client, with the run-time fields it does not name; None: no change. One
        that cannot be read is replaced, with what is known of these."""
        broken, before = self._unreadable.get(row.name), self._before(row)
        after = self._settle(before, _kept(before, item))
        if after == before and broken is None:
            return None
        assert isinstance(after, Client)  # noqa: S101 - for mypy
        text = row.spec if broken is None else json.dumps(broken.audited)
        settled = replace(item, row=ClientRow(after, dump_text(after), row.origin, text), before=before)
        return self._as_given(settled, before)

    def _as_given(self, item: _Item, before: Client | None) -> _Item:
        """The item, with a key generation that nobody has had where its client gets an id or a new key."""
        client = item.client
        after = given(before, client, max(self._floor, self._staging.floor))
        if before and (before.id, before.key_generation) == (after.id, after.key_generation):
            return item
        text = item.row.text if after is client else dump_text(after)
        return replace(item, row=replace(item.row, client=after, text=text, given=after.key_generation))


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


def _taken(name: str, claim: str, owner: str) -> Problem:
    text = f"{claim} belongs to client.{owner} already"
    return Problem(f"client.{name}", text, (("client", owner),), f"{claim} belongs to another client already")


def _text(claim: Claim) -> str:
    return f"id {claim[1]}" if claim[0] == "id" else f"{claim[0]} = {claim[1]}"
