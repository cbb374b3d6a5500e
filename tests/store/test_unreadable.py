"""A stored row that cannot be read: found by its name, replaced, removed, and in nobody's way; on both databases."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dnsvip.errors import Conflict, InvalidSite, SecretError, UnreadableError
from dnsvip.site import Classify, ClientState, Cluster, DnsGroup, DnsToken, Pool, ServerState, Site, Zone
from dnsvip.site.io.files import load_site
from dnsvip.site.plan import Change, plan
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.site.unreadable import Unreadable
from dnsvip.store import KeyEncryptionKey, Listing, Store
from dnsvip.store.keys.cookies import load_cookie_secrets
from tests.node.serving import EXAMPLES
from tests.store.changes import client, drop, put, same

FUTURE = '{"future": "secret words"}'

COLLECTED = {kind: attribute for kind, attribute in COLLECTIONS.items() if kind != SINGLE}


@pytest.fixture(scope="session")
def site() -> Site:
    """The example site, with an object of every kind."""
    group = DnsGroup("high", ("[2001:db8:53::1]:53",), ("gold",))
    token = DnsToken("acme", "0" * 64)
    dns = {"dns_groups": {group.name: group}, "dns_tokens": {token.name: token}}
    return replace(load_site(EXAMPLES / "site.toml"), **dns)  # type: ignore[arg-type]  # fields of a site


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
    """It is left empty in the snapshot and named, which a roll mends, also where none unwraps."""
    async with filled._session.write_unordered() as connection:
        await connection.execute(
            text("UPDATE cookie_secret SET secret = :junk WHERE position = 1"), {"junk": b"\1junk"}
        )
    broken = await filled.snapshots.load()
    assert [len(secret) for secret in broken.cookie_secrets] == [16, 0, 16]
    assert [problem.where for problem in broken.unreadable] == ["cookies.1"]
    await filled.keys.roll_cookies("me")
    rolled = await filled.snapshots.refresh(broken)
    assert [len(secret) for secret in rolled.cookie_secrets] == [16, 16, 16]
    assert rolled.cookie_secrets[2] == broken.cookie_secrets[0]
    async with filled._session.write_unordered() as connection:
        await connection.execute(text("UPDATE cookie_secret SET secret = :junk"), {"junk": b"\1junk"})
    none = (await filled.snapshots.follow(None, None)).snapshot
    assert [problem.where for problem in none.unreadable] == ["cookies.0", "cookies.1", "cookies.2"]
    await filled.keys.roll_cookies("me")
    mended = await filled.snapshots.refresh(none)
    assert (mended.unreadable, [len(secret) for secret in mended.cookie_secrets]) == ((), [16, 16, 16])


async def test_cookie_secrets_under_another_key(filled: Store, tmp_path: Path) -> None:
    """Where none unwraps as the key is another one, that is an error, not so many damaged rows."""
    other = KeyEncryptionKey.load(tmp_path / "other.key", {})
    async with filled._session.read() as connection:
        with pytest.raises(SecretError):
            await load_cookie_secrets(connection, other)


async def spoil_key(store: Store, table: str, cluster: str, column: str = "secret") -> None:
    """Put junk into the keys of a cluster."""
    junk = b"\1junk" if column == "secret" else "mislaid"
    async with store._session.write_unordered() as connection:
        await connection.execute(
            text(f"UPDATE {table} SET {column} = :junk WHERE cluster = :cluster"),  # noqa: S608 - names of ours
            {"junk": junk, "cluster": cluster},
        )


@pytest.fixture
async def two(filled: Store, site: Site) -> Store:
    """A store with another IPv6 cluster, `other`, beside `web`."""
    web = site.clusters["web"]
    assert isinstance(web, Cluster)
    prefix = IPv6Network("2001:db8:77::/64")
    other = replace(web, name="other", prefix=prefix, plain=prefix.network_address + 1)
    await filled.objects.apply([put("cluster", other)], "me", "api")
    return filled


@pytest.mark.parametrize("column", ["secret", "state"])
async def test_a_broken_epoch_breaks_its_cluster_alone(two: Store, column: str) -> None:
    """An epoch that does not unwrap, or of an unknown state, is left out and named; other clusters have their keys and
    rotate, the site loads and changes. An emergency rotation, and nothing less, mends it."""
    before = await two.snapshots.load()
    await spoil_key(two, "epoch", "web", column)
    broken = await two.snapshots.load()
    assert [problem.where for problem in broken.unreadable] == [f"key.web/{before.keyrings['web'].epochs[0].slot}"]
    assert broken.keyrings["web"].epochs == ()
    assert broken.keyrings["other"].epochs == before.keyrings["other"].epochs
    assert broken.masters == before.masters
    assert list(await two.keys.epochs()) == ["other"]
    with pytest.raises(InvalidSite, match="--emergency"):
        await two.keys.rotate("web", "me", 1e9)
    await two.keys.rotate("other", "me", 1e9)
    assert await two.keys.advance(1e9 + 1e6)
    await two.objects.apply([put("client", client(77))], "me", "api")
    changed = await two.snapshots.refresh(broken)
    assert changed.unreadable == broken.unreadable
    await two.keys.rotate_at_once("web", "me", 1e9)
    mended = await two.snapshots.refresh(changed)
    assert mended.unreadable == ()
    assert len(mended.keyrings["web"].epochs) == 1
    assert mended.masters == before.masters
    await same(two, mended)


async def test_a_broken_client_master_breaks_its_cluster_alone(two: Store) -> None:
    """So it is with the master of a cluster's client keys: an emergency rotation makes another one."""
    before = await two.snapshots.load()
    await spoil_key(two, "client_master", "web")
    broken = await two.snapshots.load()
    assert [problem.where for problem in broken.unreadable] == ["key.web/master"]
    assert broken.masters == {"other": before.masters["other"]}
    assert {name: ring.epochs for name, ring in broken.keyrings.items()} == {
        name: ring.epochs for name, ring in before.keyrings.items()
    }
    await two.keys.rotate_at_once("web", "me", 1e9)
    mended = await two.snapshots.refresh(broken)
    assert mended.unreadable == ()
    assert mended.masters.keys() == before.masters.keys()


async def test_a_cluster_with_broken_keys_is_removed(two: Store) -> None:
    """With its keys."""
    for table in ("epoch", "client_master"):
        await spoil_key(two, table, "other")
    await two.objects.apply([drop("cluster", "other")], "me", "api")
    assert (await two.snapshots.load()).unreadable == ()


async def test_another_key_is_no_damage(filled: Store) -> None:
    """Where no key of any cluster unwraps, the key-encryption key is another one, and nothing is loaded."""
    for table in ("epoch", "client_master"):
        await spoil_key(filled, table, "web")
    with pytest.raises(SecretError):
        await filled.snapshots.load()


@pytest.mark.parametrize("spec", ["", "no JSON", '{"cut'])
async def test_filters_pass_it_by(filled: Store, site: Site, spec: str) -> None:
    """A list with a filter does not fail for a row that is no JSON, which fits none; one without shows it."""
    for kind, filters in (
        ("tier", {"pool": "fast"}),
        ("service", {"cluster": "web"}),
        ("zone", {}),
        ("cluster", {"on_invalid": "drop"}),
    ):
        await spoil(filled, kind, min(getattr(site, COLLECTED[kind])), spec)
        listed = await filled.objects.page(Listing(kind, 100, filters=filters))
        assert bool(filters) is not any(isinstance(one, Unreadable) for one in listed)


@pytest.mark.parametrize("emergencies", [1, 2])
async def test_the_slot_of_a_broken_epoch_stays_empty(two: Store, emergencies: int) -> None:
    """After an emergency rotation the slot of a key that could not be read is reserved: its addresses may live."""
    (before,) = (await two.keys.epochs("web"))["web"]
    async with two._session.write_unordered() as connection:
        await connection.execute(text("UPDATE epoch SET secret = :bad WHERE cluster = 'web'"), {"bad": b"bad"})
    now = 2_000_000_000.0
    for number in range(emergencies):
        epoch = await two.keys.rotate_at_once("web", "me", now + number)
        assert epoch.slot != before.slot
    reserved = [slot for slot in await two.keys.reserved() if slot.cluster == "web"]
    assert before.slot in {slot.slot for slot in reserved}
    assert all(slot.until > now + before.keep_seconds - 1 for slot in reserved)


async def test_rewrap_passes_what_cannot_be_read(two: Store, tmp_path: Path) -> None:
    """The others are wrapped with the new key, it stays as it is and is named."""
    async with two._session.write_unordered() as connection:
        await connection.execute(text("UPDATE epoch SET secret = :bad WHERE cluster = 'web'"), {"bad": b"bad"})
    new = KeyEncryptionKey.load(tmp_path / "new.key", {})
    done = await two.keys.rewrap(new, "me")
    (name,) = done.unreadable
    assert name.startswith("epoch/web/")
    assert done.count > 3
    opened = await Store.open(two._session.database.url, new)
    snapshot = await opened.snapshots.load()
    await opened.close()
    assert [problem.where for problem in snapshot.unreadable] == [name.replace("epoch/", "key.")]
