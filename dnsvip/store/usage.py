"""What each client has used at each node: sums that dispatchers add to.

They make no generation, and no backup has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, delete, exists, func, select

from dnsvip.store.access.visible import Visible, name_fits
from dnsvip.store.database.damage import moment, shown
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import client, client_usage
from dnsvip.store.database.upsert import insert_into

Amounts: TypeAlias = tuple[int, int, int, int]
"""Packets and bytes forwarded, flows opened, packets dropped."""

AMOUNTS = ("packets", "bytes", "flows", "drops")
ORDERS = ("name", *AMOUNTS)


@dataclass(frozen=True, slots=True)
class AtNode:
    """What a client has used at one node; times in unix seconds."""

    node: str
    packets: int
    bytes: int
    flows: int
    drops: int
    since: float
    seen_at: float


@dataclass(frozen=True, slots=True)
class InAll:
    """What a client has used at all nodes."""

    name: str
    packets: int
    bytes: int
    flows: int
    drops: int
    seen_at: float


class ClientUsage:
    """The sums in a store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, node: str, used: Mapping[int, Amounts], now: float) -> None:
        """Add what clients, by id, have used at a node; those of whom the store has none are left out."""
        async with self._session.write_unordered() as connection:
            for ids in in_batches(list(used), BATCH):
                known = set((await connection.execute(select(client.c.id).where(client.c.id.in_(ids)))).scalars())
                rows = [
                    {"client": number, "node": node, "since": now, "seen_at": now}
                    | dict(zip(AMOUNTS, used[number], strict=True))
                    for number in ids
                    if number in known
                ]
                if not rows:
                    continue
                statement = insert_into(connection, client_usage).values(rows)
                sums: dict[str, ColumnElement[Any]] = {
                    name: client_usage.c[name] + statement.excluded[name] for name in AMOUNTS
                }
                keys = [client_usage.c.client, client_usage.c.node]
                changed = {**sums, "seen_at": statement.excluded.seen_at}
                await connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))

    async def prune(self) -> None:
        """Remove the sums of clients that are gone."""
        async with self._session.write_unordered() as connection:
            held = exists().where(client.c.id == client_usage.c.client)
            await connection.execute(delete(client_usage).where(~held))

    async def of(self, name: str) -> Sequence[AtNode]:
        """What the client with a name has used, by node."""
        columns = [client_usage.c[field] for field in ("node", *AMOUNTS, "since", "seen_at")]
        query = select(*columns).join(client, client.c.id == client_usage.c.client).where(client.c.name == name)
        async with self._session.read() as connection:
            rows = await connection.execute(query.order_by(client_usage.c.node))
            return [
                AtNode(shown(row.node), **_amounts(row), since=_time(row.since), seen_at=_time(row.seen_at))
                for row in rows
            ]

    async def page(self, sort: str, limit: int, skip: int, visible: Visible = None) -> Sequence[InAll]:
        """Clients that have used something, summed over all nodes, in an order of ORDERS (with a leading `-` from the
        highest); only those whose names fit `visible`."""
        sums = {name: func.sum(client_usage.c[name]).label(name) for name in AMOUNTS}
        query = select(client.c.name, *sums.values(), func.max(client_usage.c.seen_at).label("seen_at"))
        query = query.join(client, client.c.id == client_usage.c.client).group_by(client.c.name)
        if visible is not None:
            query = query.where(name_fits(client.c.name, "client", visible))
        column = {"name": client.c.name, **sums}[sort.removeprefix("-")]
        order = column.desc() if sort.startswith("-") else column
        query = query.order_by(order, client.c.name).limit(limit).offset(skip)
        async with self._session.read() as connection:
            rows = await connection.execute(query)
            return [InAll(shown(row.name), **_amounts(row), seen_at=_time(row.seen_at)) for row in rows]


def _amounts(row: Any) -> dict[str, int]:
    """Sums as they are stored, 0 where they are damaged; PostgreSQL adds up whole numbers into decimals."""
    values = ((name, getattr(row, name)) for name in AMOUNTS)
    return {name: int(value) if isinstance(value, int | Decimal) else 0 for name, value in values}


def _time(value: Any) -> float:
    """A time as it is stored, in unix seconds; 0 where it is damaged."""
    try:
        return moment(value)
    except ValueError:
        return 0.0
