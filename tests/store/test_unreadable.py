"""A stored row that cannot be read: found by its name, replaced, removed, and in nobody's way; on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from dnsvip.errors import Conflict, InvalidSite, SecretError, UnreadableError
from dnsvip.site import Classify, ClientState, Pool, ServerState, Site, Zone
from dnsvip.site.plan import Change, plan
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.site.unreadable import Unreadable
from dnsvip.store import Listing, Store
from tests.store.changes import client, drop, put, same

FUTURE = '{"future": "secret words"}'

COLLECTED = {kind: attribute for kind, attribute in COLLECTIONS.items() if kind != SINGLE}


async def spoil(store: Store, kind: str, name: str, spec: str = FUTURE) -> None:
    """Put what no version has written into the row of an object."""
    async with store._session.write_unordered() as connection:
        await connection.execute(
            text(f"UPDATE {kind} SET spec = :spec WHERE name = :name"),  # noqa: S608 - the name of a table
            {"spec": spec, "name": name},
        )


async def test_every_kind_is_named_and_replaced_by_apply(filled: Store, site: Site) -> None:
    """With one object of every kind unreadable, the rest is read, each is listed and named without a word of what is
    stored, the site file replaces all, and the new site is what a node loads by difference."""
    names = {kind: min(getattr(site, attribute)) for kind, attribute in COLLECTED.items()}
    old = await filled.snapshots.load()
    for kind, name in names.items():
        await spoil(filled, kind, name)
    await spoil(filled, "classify", "", '{"order": ["telepathy"]}')
    stored = await filled.objects.stored()
    assert set(stored.unreadable) == {*names.items(), ("classify", "")}
    for kind, name in names.items():
        listed = await filled.objects.page(Listing(kind, 100))
        (broken,) = [one for one in listed if isinstance(one, Unreadable)]
        assert (broken.name, "secret" in broken.why.replace("'secret'", "")) == (name, False)
        with pytest.raises(UnreadableError, match=kind):
            await filled.objects.get(kind, name)
    damaged = await filled.snapshots.load()
    assert {problem.where for problem in damaged.unreadable} == {
        *(f"{kind}.{name}" for kind, name in names.items()),
        "classify",
    }
    assert damaged.site.classify.order == ()
    changes = plan(stored.site, site, stored.origins, stored.unreadable)
    assert {(change.kind, change.name, change.action) for change in changes} == {
        *((kind, name, "~") for kind, name in names.items()),
        ("classify", "", "~"),
    }
    await filled.objects.apply(changes, "me", "site", expected=stored.generation)
    new = await filled.snapshots.refresh(damaged)
    assert new.unreadable == ()
    assert new.site.classify == site.classify
    assert new.site.zones == site.zones
    assert new.keyrings["web"].epochs == old.keyrings["web"].epochs
    await same(filled, new)
    rows = await filled.audit.rows(100, about={"action": "~"})
    assert all("unreadable" in (row.before or {}) for row in rows if row.generation == new.generation)


@pytest.mark.parametrize("kind", ["client", "service"])
async def test_removal(filled: Store, site: Site, kind: str) -> None:
    """An unreadable object is removed by its name; a client's id is then that of a deleted one."""
    name = min(getattr(site, COLLECTED[kind]))
    before = await filled.snapshots.load()
    await spoil(filled, kind, name)
    await filled.objects.apply([drop(kind, name)], "me", "api")
    assert await filled.objects.find(kind, name) is None
    after = await filled.snapshots.refresh(before)
    assert name not in getattr(after.site, COLLECTED[kind])
    if kind == "client":
        number = site.clients[name].id
        with pytest.raises(InvalidSite, match="was the id of client"):
            await filled.objects.apply([put("client", client(number, site.clients[name].tier))], "me", "api")


async def test_a_site_file_without_it_removes_it(filled: Store, site: Site) -> None:
    """What a site file made and no longer names is removed, also where it cannot be read."""
    name = min(site.clients)
    await spoil(filled, "client", name)
    stored = await filled.objects.stored()
    rest = Site(**{**_fields(site), "clients": {n: c for n, c in site.clients.items() if n != name}})
    changes = plan(stored.site, rest, stored.origins, stored.unreadable)
    assert [(change.action, change.name) for change in changes] == [("-", name)]
    await filled.objects.apply(changes, "me", "site")
    assert await filled.objects.find("client", name) is None


def _fields(site: Site) -> dict[str, Any]:
    return {name: getattr(site, name) for name in site.__slots__}


async def test_revocation_survives(filled: Store, site: Site) -> None:
    """A revoked client that cannot be read comes back revoked and with no smaller key generation, a drained server
    drained: by what is stored, and where that says nothing, by the last audit row."""
    name = min(site.clients)
    acme = site.clients[name]
    revoked = replace(acme, state=ClientState.REVOKED, key_generation=7)
    await filled.objects.apply([put("client", revoked, acme)], "me", "api")
    pool = next(iter(site.pools.values()))
    drained: Pool = replace(pool, servers=(replace(pool.servers[0], state=ServerState.DRAIN), *pool.servers[1:]))
    await filled.objects.apply([put("pool", drained, pool)], "me", "api")
    await spoil(filled, "client", name, '{"state": "enabled", "key_generation": "x"}')
    await spoil(filled, "pool", pool.name, '{"servers": 5}')
    stored = await filled.objects.stored()
    await filled.objects.apply(plan(stored.site, site, stored.origins, stored.unreadable), "me", "site")
    assert await filled.objects.get("client", name) == revoked
    assert await filled.objects.get("pool", pool.name) == drained


async def test_it_is_in_nobodys_way(filled: Store, site: Site) -> None:
    """While a cluster, tier and pool cannot be read, clients that name them are made and changed, and keys advance."""
    for kind, name in (("cluster", "web"), ("tier", "gold"), ("pool", next(iter(site.pools)))):
        await spoil(filled, kind, name)
    await filled.objects.apply([put("client", client(77))], "me", "api")
    await filled.objects.apply([put("zone", Zone("new.test", "@ 60 IN SOA a b 1 2 3 4 5\n"))], "me", "api")
    assert await filled.keys.advance(1e9) == []


async def test_mended_meanwhile(filled: Store, site: Site) -> None:
    """A replacement that was planned for an unreadable object is refused once that has changed."""
    await spoil(filled, "classify", "")
    broken = await filled.objects.find("classify", "")
    assert isinstance(broken, Unreadable)
    await spoil(filled, "classify", "", "{}")
    change = Change("classify", "", "~", None, Classify(), broken)
    with pytest.raises(Conflict, match="changed meanwhile"):
        await filled.objects.apply([change], "me", "api")


async def test_a_cookie_secret_that_does_not_unwrap(filled: Store) -> None:
    """It is left empty in the snapshot, which a roll mends; where none unwraps the key is another one."""
    async with filled._session.write_unordered() as connection:
        await connection.execute(
            text("UPDATE cookie_secret SET secret = :junk WHERE position = 1"), {"junk": b"\1junk"}
        )
    broken = await filled.snapshots.load()
    assert [len(secret) for secret in broken.cookie_secrets] == [16, 0, 16]
    await filled.keys.roll_cookies("me")
    rolled = await filled.snapshots.refresh(broken)
    assert [len(secret) for secret in rolled.cookie_secrets] == [16, 16, 16]
    assert rolled.cookie_secrets[2] == broken.cookie_secrets[0]
    async with filled._session.write_unordered() as connection:
        await connection.execute(text("UPDATE cookie_secret SET secret = :junk"), {"junk": b"\1junk"})
    with pytest.raises(SecretError):
        await filled.snapshots.load()
