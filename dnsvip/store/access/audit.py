"""The audit rows: who changed what, in which generation; what the feed reads removals from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site.plain import JsonObject
from dnsvip.store.database.tables import audit


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change to be recorded; `before` and `after` are JSON without secrets."""

    action: str
    kind: str
    name: str
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One recorded change. `at` is in unix seconds; `id` rises with time and is what pages go by."""

    id: int
    generation: int
    at: float
    actor: str
    action: str
    kind: str
    name: str
    before: JsonObject | None
    after: JsonObject | None


async def record(
    connection: AsyncConnection, actor: str, at: float, generation: int, entries: Sequence[AuditEntry]
) -> None:
    """Write entries of one change of generation."""
    if entries:
        head = {"actor": actor, "at": at, "generation": generation}
        await connection.execute(insert(audit), [head | asdict(entry) for entry in entries])


async def recorded(
    connection: AsyncConnection, limit: int, before: int | None, about: Mapping[str, str], since: float
) -> list[AuditRow]:
    """The newest rows first, those with an id under `before` where it is given, not older than `since` (unix seconds);
    `about` says what some columns must be."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    for column, value in about.items():
        query = query.where(audit.c[column] == value)
    if since:
        # By the id, which is the order that is read in: else all that is older would be read for nothing.
        oldest = select(audit.c.id).where(audit.c.at >= since).order_by(audit.c.at, audit.c.id).limit(1)
        first = (await connection.execute(oldest)).scalar()
        if first is None:
            return []
        query = query.where(audit.c.id >= first)
    return [
        AuditRow(**{**row, "before": _read(row["before"]), "after": _read(row["after"])})
        for row in (await connection.execute(query)).mappings()
    ]


def _read(text: str | None) -> JsonObject | None:
    return None if text is None else json.loads(text)
