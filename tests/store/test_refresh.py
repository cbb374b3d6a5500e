"""Snapshots kept up to date by difference, and notification of new generations."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from dnsvip.site import Site, Tier
from dnsvip.store import Store
from tests.store.changes import client, drop, put, same
from tests.store.conftest import usually_within


async def test_refresh_reads_the_difference(filled: Store, site: Site) -> None:
    """A refresh applies every kind of change, keeps unchanged parts, and without changes returns the same snapshot."""
    old = await filled.snapshots.load()
    assert await filled.snapshots.refresh(old) is old
    acme = site.clients["acme"]
    await filled.objects.apply(
        [put("client", client(1)), put("client", replace(acme, tier="standard"), acme)], "me", "api"
    )
    await filled.objects.apply([drop("client", "newsreader"), put("tier", Tier("new", 3, "fast"))], "me", "api")
    new = await filled.snapshots.refresh(old)
    await same(filled, new)
    assert new.keyrings["web"] is old.keyrings["web"]
    assert new.site.zones is old.site.zones
    assert "newsreader" not in new.site.clients
    await filled.objects.apply([put("client", site.clients["newsreader"])], "me", "api")
    await filled.objects.apply([drop("client", "newsreader")], "me", "api")
    await filled.objects.apply([put("client", replace(site.clients["newsreader"], tier="new"))], "me", "api")
    await filled.objects.apply([put("classify", replace(site.classify, trust_ecs_from=()), site.classify)], "me", "api")
    await same(filled, await filled.snapshots.refresh(new))
    await same(filled, await filled.snapshots.refresh(old))
    await filled.objects.apply([drop("classify", "")], "me", "api")
    await same(filled, await filled.snapshots.refresh(new))


async def test_refresh_from_a_later_generation_loads_whole(filled: Store) -> None:
    """A snapshot newer than the database (after a restore) is replaced by a full load."""
    old = await filled.snapshots.load()
    ahead = replace(old, generation=99, site=Site())
    await same(filled, await filled.snapshots.refresh(ahead))


async def test_watch_tells_generations(filled: Store, url: str, kek: Any) -> None:
    """A change by another node is reported within half a second."""
    other = await Store.open(url, kek)
    watching = filled.watch()
    assert await anext(watching) == 1

    async def changed(number: int) -> list[float]:
        took = []
        for expected in range(2 + 3 * number, 5 + 3 * number):
            task = asyncio.ensure_future(anext(watching))
            await asyncio.sleep(0.15)
            start = time.perf_counter()
            await other.objects.apply([put("client", client(expected))], "me", "api")
            assert await task == expected
            took.append(time.perf_counter() - start)
        return took

    await usually_within(0.5, changed)
    await watching.aclose()
    await other.close()
