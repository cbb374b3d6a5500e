"""The journal of zones: written with every change that secondaries can follow, bounded, and cleared by what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest
from sqlalchemy import delete, update

from dnsvip.dns.zones.delta import zone_change
from dnsvip.site import Cluster, Service, Site, Zone
from dnsvip.site.plan import Change, plan
from dnsvip.site.zone_changes import chained, digest_of
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database.tables import zone_change as table
from dnsvip.store.zones.journal import in_thread
from tests.store.changes import drop, put

NAME = "example.test"


@pytest.fixture
async def store(url: str, kek: KeyEncryptionKey, site: Site) -> AsyncIterator[Store]:
    """A store with the example site that keeps journals, as nodes and `apply` open it."""
    store = await Store.open(url, kek, differ=in_thread(zone_change))
    await store.objects.apply(plan(Site(), site, {}), "test", "site")
    yield store
    await store.close()


async def edit(store: Store, serial: int, line: str = "", **more: Any) -> Zone:
    """Put another serial and line into the zone."""
    before = cast("Zone", await store.objects.get("zone", NAME))
    head = f"$ORIGIN {NAME}.\n$TTL 60\n@ SOA ns hostmaster {serial} 3600 600 86400 60\n@ NS ns\nns A 192.0.2.1\n"
    after = replace(before, text=head + line, **more)
    await store.objects.apply([Change("zone", NAME, "~", before, after)], "me", "api")
    return after


async def test_every_change_is_kept(store: Store) -> None:
    """Changes form a chain to the newest text, the same for a node that loads whole and one that follows."""
    first = await store.snapshots.load()
    assert first.journals == {}
    await edit(store, 2030010101)
    await edit(store, 2030010102, "a A 192.0.2.7\n")
    after = await edit(store, 2030010102, "a A 192.0.2.7\n; a remark\n")
    later = await store.snapshots.refresh(first)
    journal = later.journals[NAME]
    assert [(c.old_serial, c.new_serial) for c in journal][1:] == [(2030010101, 2030010102), (2030010102, 2030010102)]
    assert chained(journal, digest_of(after.text)) == journal
    assert (await store.snapshots.load()).journals == later.journals


async def test_other_changes_keep_it(store: Store) -> None:
    """A change of the zone's other settings, or of anything else, leaves its journal as it is."""
    await edit(store, 2030010101)
    before = await store.snapshots.load()
    zone = before.site.zones[NAME]
    await store.objects.apply([put("zone", replace(zone, transfer=None), zone)], "me", "api")
    pool = before.site.pools["fast"]
    await store.objects.apply([put("pool", replace(pool, fallback=None), pool)], "me", "api")
    assert (await store.snapshots.refresh(before)).journals == before.journals


async def test_a_serial_that_did_not_rise_clears_it(store: Store) -> None:
    """Records that changed below the same or a lower serial end the journal: who has that serial has another zone."""
    for serial in (2030010101, 2030010100):
        await edit(store, 2030010101)
        assert NAME in (await store.snapshots.load()).journals or serial == 2030010100
        await edit(store, serial, "a A 192.0.2.7\n")
        assert NAME not in (await store.snapshots.load()).journals


async def test_moved_addresses_clear_it(store: Store) -> None:
    """A service that comes, goes or changes its cluster, and a cluster with another plain address, end the journal."""
    serial = 2030010101
    snapshot = await store.snapshots.load()
    cluster = cast("Cluster", snapshot.site.clusters["web"])
    service = Service(f"new.{NAME}", "web")
    moves = [
        put("service", service),
        put("service", replace(service, cluster="web", cluster4="legacy"), service),
        drop("service", service.name),
        put("cluster", replace(cluster, ttl=cluster.ttl + 1), cluster),
    ]
    for move in moves:
        serial += 1
        await edit(store, serial)
        snapshot = await store.snapshots.refresh(snapshot)
        assert NAME in snapshot.journals
        await store.objects.apply([move], "me", "api")
        snapshot = await store.snapshots.refresh(snapshot)
        assert NAME not in snapshot.journals
        assert (await store.snapshots.load()).journals == snapshot.journals


async def test_it_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest changes go where all take more than the bound."""
    monkeypatch.setattr("dnsvip.site.zone_changes.MOST_CHANGES", 3)
    for serial in range(5):
        await edit(store, 2030010101 + serial)
    journal = (await store.snapshots.load()).journals[NAME]
    assert [change.new_serial for change in journal] == [2030010103, 2030010104, 2030010105]


async def test_it_goes_with_the_zone(store: Store, site: Site) -> None:
    """A zone that is removed leaves no journal, and none of another zone is lost."""
    other = Zone("other.test", site.zones[NAME].text.replace(NAME, "other.test"))
    await store.objects.apply([put("zone", other)], "me", "api")
    raised = replace(other, text=f"{other.text}\nmore A 192.0.2.9\n".replace("2026", "2030"))
    await store.objects.apply([put("zone", raised, other)], "me", "api")
    await edit(store, 2030010101)
    before = await store.snapshots.load()
    await store.objects.apply([drop("zone", "other.test")], "me", "api")
    after = await store.snapshots.refresh(before)
    assert set(before.journals) - set(after.journals) == {"other.test"} & set(before.journals)
    assert after.journals.keys() == {NAME}


async def test_damaged_rows(store: Store) -> None:
    """A row that is missing ends the journal there, and one that cannot be read costs the journal of its zone."""
    for serial in range(3):
        last = await edit(store, 2030010101 + serial)
    middle = table.c.new_serial == 2030010102
    async with store._session.write_unordered() as connection:
        await connection.execute(delete(table).where(middle))
    journal = (await store.snapshots.load()).journals[NAME]
    assert [change.new_serial for change in chained(journal, digest_of(last.text))] == [2030010103]
    async with store._session.write_unordered() as connection:
        await connection.execute(update(table).where(table.c.new_serial == 2030010103).values(old_serial=-1))
    assert (await store.snapshots.load()).journals == {}
