"""The audit change by change: an import of a million clients is one entry, whose rows are read when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.store.access.audit import AuditRow, audit_row
from dnsvip.store.access.audit_search import AuditSearch
from dnsvip.store.access.paging import beginning_within, size
from dnsvip.store.database.aside import aside
from dnsvip.store.database.damage import shown
from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import audit

STEP = 1000
"""Rows read at a time."""

MOST_COUNTED = 10_000
"""Rows of one change that are counted; the others are passed over."""

MOST_READ = 50_000
"""Rows read for one page; after so many it ends early."""

NAMES = 3
"""Objects of a part that are named."""

_HEADS = tuple(audit.c[name] for name in ("id", "generation", "at", "actor", "source", "kind", "name", "action"))


@dataclass(slots=True)
class AuditPart:
    """The rows of a change of one kind and action, the first names among them."""

    kind: str
    action: str
    rows: int = 0
    names: list[str] = field(default_factory=list)


@dataclass(slots=True)
class AuditChange:
    """What was changed at once: the rows of one generation, moment (unix seconds) and actor that were searched for.
    `id` is that of the newest; there are more `rows` where they are not `counted`. `row`: the only one, where it is
    one that fits the page."""

    id: int
    generation: int
    at: float
    actor: str
    source: str | None
    rows: int = 0
    counted: bool = True
    parts: list[AuditPart] = field(default_factory=list)
    row: AuditRow | None = None


class AuditChanges:
    """The changes of a store's audit."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def page(self, search: AuditSearch, limit: int, most: int) -> tuple[list[AuditChange], int | None]:
        """The newest changes first, and the id that the next page is before, None after the last. Rows are shown within
        `most` characters of their objects."""
        async with self._session.read() as connection:
            walk = _Walk(connection, search, limit)
            following = await walk.run()
            await _show_rows(connection, walk.changes, most)
        return walk.changes, following


class _Walk:
    """One walk over the rows, newest first."""

    def __init__(self, connection: AsyncConnection, search: AuditSearch, limit: int) -> None:
        self._connection, self._search, self._limit = connection, search, limit
        self.changes: list[AuditChange] = []
        self._key: Any = None
        self._below: int | None = None

    async def run(self) -> int | None:
        """Read until there are enough changes; the id that those after them are before."""
        conditions, read = await self._search.conditions(self._connection), 0
        while conditions is not None:
            rows = await self._rows(conditions)
            for row in rows:
                if not self._take(row):
                    return self._below
            read += len(rows)
            if len(rows) < STEP:
                return None
            if self.changes[-1].rows >= MOST_COUNTED or read >= MOST_READ:
                await self._pass_over(rows[-1])
            if self._below is None or read >= MOST_READ:
                return self._below
        return None

    async def _rows(self, conditions: list[ColumnElement[bool]]) -> Sequence[RowMapping]:
        below = [] if self._below is None else [audit.c.id < self._below]
        query = select(*_HEADS).where(*conditions, *below).order_by(audit.c.id.desc()).limit(STEP)
        return (await self._connection.execute(query)).mappings().all()

    def _take(self, row: RowMapping) -> bool:
        """Add a row to its change; False where that would be one more than wanted."""
        key = row["generation"], row["at"], row["actor"], row["source"]
        if not self.changes or key != self._key:
            if len(self.changes) == self._limit:
                return False
            self._key = key
            self.changes.append(_change_of(audit_row({**row, "before": None, "after": None})))
        _add(self.changes[-1], shown(row["kind"]), shown(row["action"]), shown(row["name"]))
        self._below = int(row["id"])
        return True

    async def _pass_over(self, last: RowMapping) -> None:
        """Go on with the generation before the last row's."""
        self.changes[-1].counted = False
        earlier = select(func.max(audit.c.generation)).where(audit.c.generation < last["generation"]).scalar_subquery()
        query = select(func.max(audit.c.id)).where(audit.c.generation == earlier)
        newest = (await self._connection.execute(query)).scalar()
        self._below = None if newest is None else int(newest) + 1


def _change_of(row: AuditRow) -> AuditChange:
    return AuditChange(row.id, row.generation, row.at, row.actor, row.source)


def _add(change: AuditChange, kind: str, action: str, name: str) -> None:
    change.rows += 1
    part = next((part for part in change.parts if (part.kind, part.action) == (kind, action)), None)
    if part is None:
        part = AuditPart(kind, action)
        change.parts.append(part)
    part.rows += 1
    if len(part.names) < NAMES:
        part.names.append(name)


async def _show_rows(connection: AsyncConnection, changes: Sequence[AuditChange], most: int) -> None:
    """Give the changes of one row that row, as far as all of them fit."""
    single = {change.id: change for change in changes if change.rows == 1}
    query = select(audit).where(audit.c.id.in_(single)).order_by(audit.c.id.desc())
    rows = (await connection.execute(query)).mappings().all() if single else ()
    kept = rows[: beginning_within([size(row["before"], row["after"]) for row in rows], most)]
    for row in await aside(len(kept) > 1, lambda: list(map(audit_row, kept))):
        single[row.id].row = row
