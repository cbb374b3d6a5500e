"""Which nodes an operator has drained: those that get no traffic although they could serve it.

They are part of the snapshot, so a node knows it after a restart and while the database is away.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Conflict, Problem
from dnsvip.store.access.audit import AuditEntry, record_change
from dnsvip.store.database.damage import moment, readable, shown
from dnsvip.store.database.session import Rollback, Session
from dnsvip.store.database.tables import drained_node, node

DRAINED = "node"
"""The kind of a drained node in problems, scopes and audit rows; its name is the node's."""

MOST = 1000
"""Nodes that are drained at a time: where there are as many, those that report no more make room."""


class Drains:
    """The drained nodes of a store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def all(self) -> Mapping[str, float]:
        """Name of a drained node -> since when, in unix seconds."""
        async with self._session.read() as connection:
            return await load_drained(connection, [])

    async def drain(self, name: str, actor: str, now: float) -> bool:
        """Let a node have no traffic; False where it is drained already. Raises Conflict where too many are."""
        try:
            async with self._session.change() as change:
                connection, here = change.connection, drained_node.c.name == name
                if (await connection.execute(select(drained_node.c.name).where(here))).first() is not None:
                    raise Rollback
                count = (await connection.execute(select(func.count()).select_from(drained_node))).scalar_one()
                gone = await _longest_gone(connection) if count >= MOST else None
                if count >= MOST and gone is None:
                    raise Conflict([Problem(f"{DRAINED}.{name}", f"{MOST} nodes are drained; undrain some")])
                entries = [AuditEntry("~", DRAINED, name, _OFF, _ON)]
                if gone is not None:
                    await connection.execute(delete(drained_node).where(drained_node.c.name == gone))
                    entries.append(AuditEntry("~", DRAINED, shown(gone), _ON, _OFF))
                await connection.execute(insert(drained_node).values(name=name, since=now))
                await record_change(change, actor, entries, now)
        except Rollback:
            return False
        return True

    async def undrain(self, name: str, actor: str, now: float) -> bool:
        """Let a drained node have traffic again; False where it is not drained."""
        try:
            async with self._session.change() as change:
                gone = await change.connection.execute(delete(drained_node).where(drained_node.c.name == name))
                if not gone.rowcount:
                    raise Rollback
                await record_change(change, actor, [AuditEntry("~", DRAINED, name, _ON, _OFF)], now)
        except Rollback:
            return False
        return True


async def load_drained(connection: AsyncConnection, broken: list[Problem]) -> Mapping[str, float]:
    """The drained nodes by name, and since when. One whose name cannot be read drains nobody, and is added to
    `broken`; one whose time cannot be read is drained all the same, since 0."""
    drained = {}
    for row in await connection.execute(select(drained_node).order_by(drained_node.c.name)):
        try:
            drained[readable(row.name)] = _since(row.since)
        except ValueError as error:
            name = shown(row.name)
            text = f"what is stored of this drained node cannot be read ({error}); drain it again"
            broken.append(Problem(f"{DRAINED}.{name}", text, about=(DRAINED, name)))
    return drained


async def _longest_gone(connection: AsyncConnection) -> str | None:
    """Of the drained nodes of which no process has reported for an hour, the one that was drained first."""
    reported = select(node.c.name).where(node.c.name == drained_node.c.name).exists()
    query = select(drained_node.c.name).where(~reported).order_by(drained_node.c.since, drained_node.c.name)
    found = (await connection.execute(query.limit(1))).first()
    return None if found is None else found.name


def _since(stored: object) -> float:
    try:
        return moment(stored)
    except ValueError:
        return 0.0


_ON, _OFF = '{"drained":true}', '{"drained":false}'
"""A node in audit rows."""
