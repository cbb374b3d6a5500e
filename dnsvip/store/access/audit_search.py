"""Which audit rows are wanted, as conditions of a query that an index leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.store.access.visible import Visible, rows_visible
from dnsvip.store.database.tables import audit

LATEST = 253_402_300_800.0
"""The year 10000, unix seconds."""

MOST_WRONG = 1000
"""Rows of wrong times that a look at the audit since or until a time gets by."""


@dataclass(frozen=True, slots=True)
class VisibleKinds:
    """The objects that a caller may see: by kind, and whether rows of `others` are visible too."""

    kinds: Mapping[str, Visible]
    others: bool = False


@dataclass(frozen=True, slots=True)
class AuditSearch:
    """Rows before the row with the id `before`, from `since` until `until` (unix seconds), that have what `about` says
    of their columns, and that are `visible`."""

    about: Mapping[str, str | int] = field(default_factory=dict)
    before: int | None = None
    since: float = 0.0
    until: float = LATEST
    visible: VisibleKinds | None = None

    async def conditions(self, connection: AsyncConnection) -> list[ColumnElement[bool]] | None:
        """The conditions; None where no row can fulfil them."""
        found = [audit.c[column] == value for column, value in self.about.items()]
        if self.before is not None:
            found.append(audit.c.id < self.before)
        if self.visible is not None:
            found.append(rows_visible(audit.c.kind, audit.c.name, self.visible.kinds, others=self.visible.others))
        for time in await self._times(connection):
            if time is None:
                return None
            found.append(time)
        return found

    async def _times(self, connection: AsyncConnection) -> list[ColumnElement[bool] | None]:
        """By id, the order of the scan: a condition on `at` reads and discards every row before. Of some rows at the
        edge the outermost counts, as a few may have a time that is wrong."""
        edges: list[ColumnElement[bool] | None] = []
        if self.since:
            query = select(audit.c.id).where(audit.c.at >= self.since).order_by(audit.c.at, audit.c.id)
            ids = list((await connection.execute(query.limit(MOST_WRONG))).scalars())
            edges.append(audit.c.id >= min(ids) if ids else None)
        if self.until < LATEST:
            query = select(audit.c.id).where(audit.c.at <= self.until).order_by(audit.c.at.desc(), audit.c.id.desc())
            ids = list((await connection.execute(query.limit(MOST_WRONG))).scalars())
            edges.append(audit.c.id <= max(ids) if ids else None)
        return edges
