"""The nodes of a site: what each process last reported. Reports make no generation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site.duty import OFFERS
from dnsvip.site.epochs import NodeReport
from dnsvip.store.database.damage import moment, readable, shown, whole
from dnsvip.store.database.database import BATCH
from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import audit, node
from dnsvip.store.database.upsert import insert_into

N = TypeVar("N")

NOTHING_TAKEN, DAMAGED_LEASE = -1, 5.0
"""Of a report with a generation or lease that cannot be read: it holds no generation, and keys wait for it while it is
alive."""

REMOVE_SECONDS = 10.0
"""Between two looks for reports to remove."""

FORGET_SECONDS = 3600.0
"""How long a node that no longer reports stays listed."""


class Nodes:
    """The reports in a store."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._removed_at = -math.inf
        self._upsert: Any = None
        """Made once: making it takes longer than storing a row."""

    async def all(self) -> list[NodeReport]:
        """Every node's last report, by name; lapsed ones (`not is_live(now)`) are included for an hour."""
        async with self._session.read() as connection:
            return await load_reports(connection)

    async def report(self, report: NodeReport) -> None:
        """Store that a node is alive and which generation it works with.

        Removed are nodes silent for long, and processes of this node that were gone before this one started: once in
        REMOVE_SECONDS, as each look at all of them costs a database of many nodes more than the reports.
        """
        row = _row(report)
        remove = report.seen_at >= self._removed_at + REMOVE_SECONDS or report.seen_at < self._removed_at
        async with self._session.write_unordered(lasting=False) as connection:
            if self._upsert is None:
                insert, keys = insert_into(connection, node), [node.c.name, node.c.roles, node.c.instance]
                changed = {column: insert.excluded[column] for column in row}
                self._upsert = insert.on_conflict_do_update(index_elements=keys, set_=changed)
            await connection.execute(self._upsert, row)
            if not remove:
                return
            lapses_at = node.c.seen_at + node.c.lease_seconds
            started_at = report.seen_at if report.started_at is None else report.started_at
            mine = (node.c.name == row["name"], node.c.roles == row["roles"], node.c.instance != report.instance)
            replaced = and_(*mine, lapses_at < report.seen_at, node.c.seen_at <= started_at)
            await connection.execute(delete(node).where(or_(lapses_at < report.seen_at - FORGET_SECONDS, replaced)))
        self._removed_at = report.seen_at

    async def leave(self, report: NodeReport) -> None:
        """Note that a node has stopped, so that nothing waits for its lease; it stays listed like a silent one, with
        what it offers: what clients believe of it does not change by a restart."""
        detail = {"stopped": True, **{key: report.detail[key] for key in (OFFERS,) if key in report.detail}}
        values = {"seen_at": report.seen_at, "lease_seconds": 0.0, "detail": json.dumps(detail)}
        own = node.c.name == report.name, node.c.instance == report.instance
        async with self._session.write_unordered() as connection:
            await connection.execute(update(node).where(*own).values(values))

    async def forget(self, name: str, now: float) -> int:
        """Remove the processes of a node whose lease has expired; return their number."""
        lapsed = node.c.seen_at + node.c.lease_seconds < now
        async with self._session.write_unordered() as connection:
            return (await connection.execute(delete(node).where(node.c.name == name, lapsed))).rowcount

    async def lagging_since(self, generations: Collection[int]) -> Mapping[int, float]:
        """Generation -> the unix second at which the next one was made; the newest is left out."""
        successors = [generation + 1 for generation in sorted(generations)[:BATCH]]
        query = select(audit.c.generation, func.min(audit.c.at)).where(audit.c.generation.in_(successors))
        async with self._session.read() as connection:
            rows = await connection.execute(query.group_by(audit.c.generation))
            return {generation - 1: at for generation, at in rows if isinstance(at, float)}


async def load_reports(connection: AsyncConnection) -> list[NodeReport]:
    """Every node's last report, by name."""
    rows = await connection.execute(select(node).order_by(node.c.name, node.c.roles, node.c.instance))
    return [_report(row) for row in rows]


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
    held, detail = _json_object(row.keys), _json_object(row.detail)
    return NodeReport(
        shown(row.name),
        frozenset(shown(row.roles).split(",")) - {""},
        _number(whole, row.generation, NOTHING_TAKEN),
        shown(row.version),
        _number(moment, row.seen_at, 0.0),
        _number(moment, row.lease_seconds, DAMAGED_LEASE),
        shown(row.instance),
        _number(moment, row.started_at, None),
        _number(moment, row.taken_at, None),
        frozenset(held["keys"]) if "keys" in held else None,
        frozenset(held["keks"]) if "keks" in held else None,
        detail,
    )


def _number(read: Callable[[Any], N], stored: Any, otherwise: N) -> N:
    """A number of a report; `otherwise` where it has none."""
    try:
        return read(stored)
    except ValueError:
        return otherwise


def _json_object(text: Any) -> dict[str, Any]:
    """What a node of any version has written; nothing where that cannot be read."""
    try:
        value = json.loads(readable(text or "{}"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
