"""One import of clients against the database: checks in read transactions, writes in short ones.

Promise: however long its checks take, an import holds the write lock only while its rows go in, and gives way between
two of its transactions, so that a revocation gets in beside it. What others change between a check and its write is
looked at under the lock; where it could change an outcome, the check is made again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import closing
from typing import Any, TypeAlias

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Conflict, Problem
from dnsvip.site import OBJECT_STEPS, Step
from dnsvip.site.rights import PREFIX_STEPS, Action, Rights
from dnsvip.store.database.database import current_generation, taken_errors
from dnsvip.store.database.session import Rollback, Session, Transaction
from dnsvip.store.database.tables import audit
from dnsvip.store.objects.applying import Author
from dnsvip.store.objects.bulk import LINES, Importer, Line, Settle, Tally
from dnsvip.store.objects.reading import load_rules
from dnsvip.store.objects.staging import Staging

Batches: TypeAlias = Callable[[], AsyncIterator[Sequence[Line]]]

TRIES = 4
"""Checks of the same lines; a last one of few lines is made under the write lock."""

GIVE_WAY = 0.25
"""Seconds between two transactions of an import: those who wait for SQLite's write lock look every 0.1 s."""

MOST_CHANGES = 2000
"""Audit rows of others that are looked at under the write lock; after more the lines are checked again."""

_RULES = ("cluster", "tier", "pool", *OBJECT_STEPS.values())
"""Kinds that the rules of a client refer to, beside the keys of zones' transfers."""

_NAMED = {step.value for step in (*PREFIX_STEPS, Step.GEO)}
"""Matches of others that bound what a narrow token may give its clients."""


class ImportRun:
    """One import by `actor`, who has `rights`; `settle` gives the client to store in place of a stored one."""

    def __init__(self, session: Session, actor: str, settle: Settle, rights: Rights, tally: Tally) -> None:
        self._session, self._actor, self._settle = session, actor, settle
        self._rights, self._tally = rights, tally
        self._own: set[int] = set()

    async def whole(self, batches: Batches, *, dry_run: bool) -> int | None:
        """Store all lines in one generation, or none where one is refused; a dry run never writes. Raises Conflict
        where others keep changing what the lines depend on."""
        return await self._store(batches, dry_run=dry_run, all_or_none=True)

    async def each(self, batches: Batches) -> int | None:
        """Store the good lines, each batch in a generation of its own; what is stored stays."""
        last = None
        async for lines in batches():
            generation = await self._store(lambda lines=lines: _once(lines), dry_run=False, all_or_none=False)  # type: ignore[misc]
            if generation is not None:
                last = generation
                await asyncio.sleep(GIVE_WAY)
        return last

    async def _store(self, batches: Batches, *, dry_run: bool, all_or_none: bool) -> int | None:
        before = self._tally.copy()
        for attempt in range(TRIES):
            self._tally.go_back(before)
            async with self._session.read() as connection:
                staging = Staging(connection)
                since = await current_generation(connection)
                await self._stage(connection, staging, batches)
            with closing(staging):
                if dry_run or not staging.count or (all_or_none and self._tally.failed):
                    await self._session.confirm()  # the tally tells of what is stored
                    return None
                generation = await self._write(staging, since)
            if generation is not None:
                return generation
            if attempt + 2 == TRIES and self._tally.seen - before.seen <= LINES:
                self._tally.go_back(before)
                return await self._under_lock(batches, all_or_none=all_or_none)
        raise Conflict([Problem("site", "keeps changing meanwhile; try again, or import with mode=per-line")])

    async def _under_lock(self, batches: Batches, *, all_or_none: bool) -> int | None:
        """Check and store few lines in one transaction: what others change cannot come between."""
        try:
            async with self._session.change() as change:
                with closing(Staging(change.connection)) as staging:
                    await self._stage(change.connection, staging, batches)
                    if not staging.count or (all_or_none and self._tally.failed):
                        raise Rollback
                    await staging.write(change.connection, self._author(change))
        except Rollback:
            return None
        self._own.add(change.generation)
        return change.generation

    async def _stage(self, connection: AsyncConnection, staging: Staging, batches: Batches) -> None:
        site = await load_rules(connection, self._session.kek)
        importer = Importer(connection, staging, site, self._settle, self._rights, self._tally, self._own)
        try:
            await importer.stage(batches())
        except BaseException:
            staging.close()
            raise

    async def _write(self, staging: Staging, since: int) -> int | None:
        """Write what is staged; its generation, None where it has to be checked again."""
        try:
            async with self._session.change(staging.prepare) as change:
                if change.generation - 1 != since and await self._is_disturbed(change.connection, staging, since):
                    raise Rollback
                try:
                    await staging.write(change.connection, self._author(change))
                except taken_errors():
                    raise Rollback from None
        except Rollback:
            return None
        self._own.add(change.generation)
        return change.generation

    def _author(self, change: Transaction) -> Author:
        return Author(self._actor, "api", change.at, change.generation, change.source)

    async def _is_disturbed(self, connection: AsyncConnection, staging: Staging, since: int) -> bool:
        """Whether changes after a generation may change the outcome of a line, but by a claim that is taken: that the
        database itself refuses. One that its audit row does not tell may have."""
        columns = audit.c.kind, audit.c.name, audit.c.before, audit.c.after
        later = audit.c.generation.between(since + 1, await current_generation(connection))
        rows = list(await connection.execute(select(*columns).where(later).limit(MOST_CHANGES + 1)))
        try:
            return await self._may_matter(rows, staging)
        except _UNTOLD:
            return True

    async def _may_matter(self, rows: Sequence[Any], staging: Staging) -> bool:
        clients = [row for row in rows if row.kind == "client"]
        return (
            len(rows) > MOST_CHANGES
            or any(row.kind in _RULES or (row.kind == "zone" and _transfers_change(row)) for row in rows)
            or await staging.concerned([row.name for row in clients], _ids_given_up(clients))
            or (not self._rights.writes_any_client and any(map(self._bounds, clients)))
        )

    def _bounds(self, row: Any) -> bool:
        """Whether another's client has got a network or a place."""
        if row.after is None or self._rights.allow(Action.WRITE, "client", row.name):
            return False
        return not _places(row.after) <= (_places(row.before) if row.before else set())


_UNTOLD = (ValueError, TypeError, AttributeError, KeyError, RecursionError)
"""What reading a damaged audit row raises, or one that has been shortened."""


def _ids_given_up(rows: Iterable[Any]) -> list[int]:
    """The ids that changes of clients took from them."""
    pairs = ((json.loads(row.before), json.loads(row.after) if row.after else {}) for row in rows if row.before)
    return [before["id"] for before, after in pairs if "id" in before and before["id"] != after.get("id")]


def _transfers_change(row: Any) -> bool:
    """Whether a change of a zone gave it keys of transfers or updates, or others."""
    fields = [json.loads(text) if text else {} for text in (row.before, row.after)]
    before, after = ((field.get("transfer"), field.get("update")) for field in fields)
    return before != after


def _places(text: str) -> set[tuple[str, str]]:
    """The networks and places that the JSON of a client names."""
    matches = json.loads(text).get("match", ())
    return {(step, value) for match in matches for step, value in match.items() if step in _NAMED}


async def _once(lines: Sequence[Line]) -> AsyncIterator[Sequence[Line]]:
    yield lines
