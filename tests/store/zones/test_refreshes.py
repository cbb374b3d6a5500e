"""What is known of secondary zones: stored beside the site, shared by the nodes, and without a generation."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import update

from dnsvip.site.refreshes import RefreshState, Timers
from dnsvip.store import Store
from dnsvip.store.database.tables import zone_refresh

STATE = RefreshState("a.test", 7, Timers(1, 2, 3), 4.5, 5.5, 0.0, 2, "192.0.2.1:53", "is away")


async def test_kept(store: Store) -> None:
    """A state is stored and replaced; NOTIFY is noted beside it, and a check does not take that back."""
    before = await store.generation()
    await store.refreshes.put(STATE)
    assert await store.refreshes.all() == {"a.test": STATE}
    await store.refreshes.notified(["a.test", "b.test"], 9.0)
    await store.refreshes.put(replace(STATE, failures=0, error=""))
    states = await store.refreshes.all()
    assert states["a.test"] == replace(STATE, failures=0, error="", notified_at=9.0)
    assert states["b.test"] == RefreshState("b.test", notified_at=9.0)
    await store.refreshes.forget(["a.test"])
    assert (await store.refreshes.all()).keys() == {"b.test"}
    assert await store.generation() == before


async def test_damaged(store: Store) -> None:
    """A row that cannot be read is as that of a new zone."""
    await store.refreshes.put(STATE)
    async with store._session.write_unordered() as connection:
        await connection.execute(update(zone_refresh).values(serial=-1))
    assert await store.refreshes.all() == {"a.test": RefreshState("a.test")}
