"""Which audit rows go: the oldest. Those that a node wrote for a primary, a catalog, a DNS update or
the certificate that a client asked for by DNS go before those of people, as whoever makes these may make as many as
they like.

A follower reads from the rows what has changed since its own generation, and looks for that first. Where rows go in the
order in which they were written, it finds its own gone and loads everything. Where some between others go, the last one
of them stays as a mark (GAP): who has to read that one loads everything.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import ColumnElement, delete, func, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import audit

LEAST_SECONDS, LEAST_ROWS = 86_400.0, 1000
"""What stays for nodes that were away: rows of a day, and some whatever their age."""

ENDLESS_SECONDS = 3600.0
"""What stays of rows that are not of people: a catalog that has other zones each time makes a hundred million a day."""

PRUNED_AT_ONCE, PRUNING_PAUSE = 5000, 0.25
"""Rows deleted in one transaction, and seconds until the next: others' changes come between."""

GAP = "audit"
"""The kind of a row that says that rows of transfers, catalogs and updates up to it have been deleted."""

TRANSFER = "transfer ("
ENDLESS = (TRANSFER, "catalog (", "catalogs", "signed transfers", "tsig ", "client ")
"""How the actors of rows begin that no person waits for. No token and no user has such a name."""

_MARK = {
    "kind": GAP,
    "name": "transfers, catalogs, updates",
    "action": "-",
    "actor": "audit",
    "before": None,
    "after": None,
    "source": None,
}


async def prune(session: Session, now: float, keep_rows: int, keep_seconds: float) -> int:
    """Delete the oldest rows: those older than `keep_seconds` before `now` (unix seconds), and where there are more
    than `keep_rows`, first what is not of people and older than ENDLESS_SECONDS, and of people's what is older than
    LEAST_SECONDS and beyond `keep_rows` by itself; their number.

    The newest LEAST_ROWS stay whatever their age. Ages count from the newest row where that is older than `now`: a
    clock that is wrong does not make them old. Nor does a row of a wrong time make people's old: they go in the order
    in which they were written, up to the first one that is young.
    """
    async with session.read() as connection:
        last_at = (await connection.execute(select(audit.c.at).order_by(audit.c.id.desc()).limit(1))).scalar()
        now = min(now, last_at) if isinstance(last_at, float) else now
        kept = await _newest(connection, LEAST_ROWS)
        old = await _first_young(connection, kept, now - keep_seconds, now)
        excess = await _excess(connection, keep_rows)
        if excess:
            beyond = min(kept, await _newest(connection, keep_rows, not_(_is_endless())))
            old = max(old, await _first_young(connection, beyond, now - LEAST_SECONDS, now))
    count = await _delete_before(session, old)
    if excess > count:
        count += await _delete_endless(session, excess - count, kept, now - ENDLESS_SECONDS)
    return count


def _is_endless() -> ColumnElement[bool]:
    return or_(audit.c.kind == GAP, *(audit.c.actor.startswith(begin, autoescape=True) for begin in ENDLESS))


async def _newest(connection: AsyncConnection, number: int, *conditions: ColumnElement[bool]) -> int:
    """The id of the last of so many of the newest rows; 0 where there are fewer."""
    query = select(audit.c.id).where(*conditions).order_by(audit.c.id.desc()).offset(number - 1).limit(1)
    return (await connection.execute(query)).scalar() or 0


async def _excess(connection: AsyncConnection, keep_rows: int) -> int:
    """How many rows there are beyond `keep_rows`."""
    beyond = select(func.count(audit.c.id)).where(audit.c.id < await _newest(connection, keep_rows))
    return (await connection.execute(beyond)).scalar_one()


async def _delete_before(session: Session, first_kept: int) -> int:
    """Delete the rows before an id; their number."""
    count = 0
    while True:
        async with session.write_unordered() as connection:
            oldest = select(audit.c.id).where(audit.c.id < first_kept).order_by(audit.c.id).limit(PRUNED_AT_ONCE)
            ids = list((await connection.execute(oldest)).scalars())
            if ids:
                await connection.execute(delete(audit).where(audit.c.id <= ids[-1]))
        count += len(ids)
        if len(ids) < PRUNED_AT_ONCE:
            return count
        await asyncio.sleep(PRUNING_PAUSE)


async def _delete_endless(session: Session, most: int, kept: int, since: float) -> int:
    """Delete so many of the oldest rows before an id and a time that are not of people, and make the next one the mark;
    their number."""
    count, last = 0, 0
    while True:
        old = audit.c.id >= last, audit.c.id < kept, audit.c.at < since, _is_endless()
        oldest = select(audit.c.id).where(*old).order_by(audit.c.id).limit(min(PRUNED_AT_ONCE, most - count + 1))
        async with session.read() as connection:  # it may pass millions of others: no change waits for that
            ids = list((await connection.execute(oldest)).scalars())
        if len(ids) <= 1:  # the mark alone
            return count
        *gone, last = ids
        async with session.write_unordered() as connection:
            await connection.execute(update(audit).where(audit.c.id == last).values(_MARK))
            for some in in_batches(gone, BATCH):
                await connection.execute(delete(audit).where(audit.c.id.in_(some)))
        count += len(gone)
        await asyncio.sleep(PRUNING_PAUSE)


async def _first_young(connection: AsyncConnection, below: int, since: float, now: float) -> int:
    """The id of the first row, of those below an id, of a time from `since` to `now`; `below` where there is none. As
    many rows are read as are older, and go."""
    last = -1
    while True:
        query = select(audit.c.id, audit.c.at).where(audit.c.id > last, audit.c.id < below).order_by(audit.c.id)
        rows = (await connection.execute(query.limit(PRUNED_AT_ONCE))).all()
        for row in rows:
            if isinstance(row.at, float) and since <= row.at <= now:
                return int(row.id)
        if len(rows) < PRUNED_AT_ONCE:
            return below
        last = rows[-1].id
