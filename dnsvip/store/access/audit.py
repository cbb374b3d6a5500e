"""Audit rows: who changed what, in which generation. Followers read removals from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site.plain import JsonObject
from dnsvip.store.access.visible import Visible, rows_visible
from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import audit


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change to record; `before` and `after` are JSON without secrets."""

    action: str
    kind: str
    name: str
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One recorded change. `at` is in unix seconds; `id` rises with time and is the key of pages."""

    id: int
    generation: int
    at: float
    actor: str
    action: str
    kind: str
    name: str
    before: JsonObject | None
    after: JsonObject | None


@dataclass(frozen=True, slots=True)
class VisibleKinds:
    """The objects that a caller may see: by kind, and whether rows of `others` are visible too."""

    kinds: Mapping[str, Visible]
    others: bool = False


class Audit:
    """The audit rows of a store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def rows(
        self,
        limit: int = 100,
        before: int | None = None,
        about: Mapping[str, str] | None = None,
        since: float = 0.0,
        visible: VisibleKinds | None = None,
    ) -> list[AuditRow]:
        """The newest rows first, none older than `since` (unix seconds).

        `before` is the id of the last row of the previous page. `about` maps columns (kind, name, actor, action) to
        the values to match. `visible` narrows them to the objects that a caller may see.
        """
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.id < before)
        for column, value in (about or {}).items():
            query = query.where(audit.c[column] == value)
        if visible is not None:
            query = query.where(rows_visible(audit.c.kind, audit.c.name, visible.kinds, others=visible.others))
        async with self._session.read() as connection:
            if since:
                # By id, the order of the scan: a condition on `at` reads and discards every older row.
                oldest = select(audit.c.id).where(audit.c.at >= since).order_by(audit.c.at, audit.c.id).limit(1)
                first = (await connection.execute(oldest)).scalar()
                if first is None:
                    return []
                query = query.where(audit.c.id >= first)
            return [
                AuditRow(**{**row, "before": _parsed(row["before"]), "after": _parsed(row["after"])})
                for row in (await connection.execute(query)).mappings()
            ]


async def record(
    connection: AsyncConnection, actor: str, at: float, generation: int, entries: Sequence[AuditEntry]
) -> None:
    """Write the entries of the change that makes `generation`."""
    if entries:
        head = {"actor": actor, "at": at, "generation": generation}
        await connection.execute(insert(audit), [head | asdict(entry) for entry in entries])


async def stamp(connection: AsyncConnection, generation: int) -> float | None:
    """When a generation was made (unix seconds), by its audit rows; None if it has none."""
    query = select(audit.c.at).where(audit.c.generation == generation).limit(1)
    return (await connection.execute(query)).scalar()


def _parsed(text: str | None) -> JsonObject | None:
    return None if text is None else json.loads(text)
