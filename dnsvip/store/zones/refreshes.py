"""What is known of secondary zones: last check, expiry, what is wrong. It makes no generation."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site.refreshes import RefreshState, Timers
from dnsvip.store.database.damage import moment, readable, shown, whole
from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import zone_refresh
from dnsvip.store.database.upsert import insert_into

MOST_SERIAL = 1 << 32
LONGEST_ERROR = 400


class Refreshes:
    """The states of secondary zones in a store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def all(self) -> dict[str, RefreshState]:
        """The states by zone. One that cannot be read is as new: its zone is asked for at once."""
        async with self._session.read() as connection:
            return await load_refreshes(connection)

    async def put(self, state: RefreshState) -> None:
        """Store the outcome of a check."""
        row = _row(state)
        kept = {key: value for key, value in row.items() if key not in ("zone", "notified_at")}
        await self._upsert([row], kept)

    async def notified(self, zones: Collection[str], now: float) -> None:
        """Note that NOTIFY came for these zones: whoever is on duty asks their primaries."""
        rows = [_row(RefreshState(zone, notified_at=now)) for zone in zones]
        await self._upsert(rows, {"notified_at": now})

    async def forget(self, zones: Collection[str]) -> None:
        """Remove the states of zones that are secondary no more."""
        async with self._session.write_unordered() as connection:
            await connection.execute(delete(zone_refresh).where(zone_refresh.c.zone.in_(list(zones))))

    async def _upsert(self, rows: list[dict[str, Any]], changed: dict[str, Any]) -> None:
        async with self._session.write_unordered() as connection:
            for row in rows:
                statement = insert_into(connection, zone_refresh).values(row)
                await connection.execute(statement.on_conflict_do_update(index_elements=["zone"], set_=changed))


async def load_refreshes(connection: AsyncConnection) -> dict[str, RefreshState]:
    """The states of secondary zones, by zone."""
    rows = await connection.execute(select(zone_refresh).order_by(zone_refresh.c.zone))
    return {shown(row.zone): _state(row) for row in rows}


def _row(state: RefreshState) -> dict[str, Any]:
    timers = {"refresh": state.timers.refresh, "retry": state.timers.retry, "expire": state.timers.expire}
    times = {"checked_at": state.checked_at, "tried_at": state.tried_at, "notified_at": state.notified_at}
    texts = {"primary_server": state.primary, "error": state.error[:LONGEST_ERROR]}
    return {"zone": state.zone, "serial": state.serial, **timers, **times, "failures": state.failures, **texts}


def _state(row: Any) -> RefreshState:
    try:
        refresh, retry, expire = (whole(value, MOST_SERIAL) for value in (row.refresh, row.retry, row.expire))
        return RefreshState(
            readable(row.zone),
            None if row.serial is None else whole(row.serial, MOST_SERIAL),
            Timers(refresh, retry, expire),
            moment(row.checked_at),
            moment(row.tried_at),
            moment(row.notified_at),
            whole(row.failures),
            readable(row.primary_server),
            readable(row.error),
        )
    except (ValueError, TypeError):
        return RefreshState(shown(row.zone))
