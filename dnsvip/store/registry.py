"""The nodes of a site: what each process last reported of itself. It makes no generation."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site.epochs import NodeReport
from dnsvip.store.batches import BATCH
from dnsvip.store.database.tables import audit, node

FORGET_SECONDS = 3600.0
"""How long a node that reports no more stays listed."""


async def put_report(connection: AsyncConnection, report: NodeReport) -> None:
    """Put a node's report in place of its last one; nodes silent for long are forgotten."""
    row = _row(report)
    dialect_insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    statement = dialect_insert(node).values(row)
    keys = [node.c.name, node.c.roles, node.c.instance]
    await connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=row))
    await connection.execute(
        delete(node).where(node.c.seen_at + node.c.lease_seconds < report.seen_at - FORGET_SECONDS)
    )


async def remove_report(connection: AsyncConnection, report: NodeReport) -> None:
    """Forget a node that stops."""
    await connection.execute(delete(node).where(node.c.name == report.name, node.c.instance == report.instance))


async def forget(connection: AsyncConnection, name: str, now: float) -> int:
    """Forget the processes of a node whose lease has run out; how many there were."""
    silent = node.c.seen_at + node.c.lease_seconds < now
    return (await connection.execute(delete(node).where(node.c.name == name, silent))).rowcount


async def all_reports(connection: AsyncConnection) -> list[NodeReport]:
    """Every node's last report, by name."""
    rows = await connection.execute(select(node).order_by(node.c.name, node.c.roles, node.c.instance))
    return [_report(row) for row in rows]


async def lagging_since(connection: AsyncConnection, generations: set[int]) -> dict[int, float]:
    """For each of some generations the unix second at which the one after it was made; none for the newest."""
    next_ones = [generation + 1 for generation in sorted(generations)[:BATCH]]
    query = select(audit.c.generation, func.min(audit.c.at)).where(audit.c.generation.in_(next_ones))
    return {generation - 1: at for generation, at in await connection.execute(query.group_by(audit.c.generation))}


def _row(report: NodeReport) -> dict[str, Any]:
    held = {"keys": report.keys, "keks": report.keks}
    return {
        "name": report.name,
        "roles": ",".join(sorted(report.roles)),
        "instance": report.instance,
        "generation": report.generation,
        "version": report.version,
        "seen_at": report.seen_at,
        "lease_seconds": report.lease_seconds,
        "started_at": report.started_at,
        "taken_at": report.taken_at,
        "keys": json.dumps({name: sorted(ids) for name, ids in held.items() if ids is not None}),
        "detail": json.dumps(dict(report.detail)),
    }


def _report(row: Any) -> NodeReport:
    held = json.loads(row.keys or "{}")
    return NodeReport(
        row.name,
        frozenset(row.roles.split(",")) - {""},
        row.generation,
        row.version,
        row.seen_at,
        row.lease_seconds,
        row.instance,
        row.started_at,
        row.taken_at,
        frozenset(held["keys"]) if "keys" in held else None,
        frozenset(held["keks"]) if "keks" in held else None,
        json.loads(row.detail or "{}"),
    )
