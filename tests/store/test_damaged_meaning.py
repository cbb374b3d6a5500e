"""Damage that leaves something which can be read: it never gives back what was taken from a client."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import dns.message
import pytest
from sqlalchemy import text

from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Ecs, Requester
from dnsvip.site import Client, ClientState, Match, Site, Snapshot, Step, Zone
from dnsvip.site.plan import plan
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.snapshots import lastgood
from tests.store.changes import client, drop, put

HIGH = 1 << 20
"""A bit of a generation that has flipped."""

REFUSED = (AddressReason.REVOKED, None)


async def run(store: Store, statement: str) -> None:
    """Do to one row of the database what no program of this project does."""
    async with store._session.write_unordered() as connection:
        assert (await connection.exec_driver_sql(statement)).rowcount == 1


@pytest.fixture
async def lite(tmp_path: Path, kek: KeyEncryptionKey, site: Site) -> AsyncIterator[Store]:
    """A SQLite store with the example site."""
    store = await Store.open(f"sqlite:///{tmp_path}/dnsvip.db", kek)
    await store.objects.apply(plan(Site(), site, {}), "test", "site")
    yield store
    await store.close()


def verdict(snapshot: Snapshot, number: int, tier: int = 1) -> AddressVerdict:
    """The verdict on an address that a client had been given in a tier, by its code (1: gold)."""
    _, codec = snapshot.keyrings["web"].active  # type: ignore[misc]
    layout = codec.layout
    never = (1 << layout.bits("expiry")) - 1
    address = codec.seal(layout.pack({"tier": tier, "client": number, "lang": 1, "expiry": never, "nonce": 1}))
    return AddressVerifier(snapshot).verify(address, 0, 0, time.time())


def judged(snapshot: Snapshot, number: int, tier: int = 1) -> tuple[AddressReason, str | None]:
    """Its reason, and the tier that it gets."""
    found = verdict(snapshot, number, tier)
    return found.reason, found.tier.name if found.tier else None


async def changed(store: Store, old: Snapshot) -> list[Snapshot]:
    """The site after another change, by difference and whole."""
    await store.objects.apply([put("client", client(4000))], "me", "api")
    return [await store.snapshots.refresh(old), await store.snapshots.load()]


async def revoke(store: Store, name: str = "acme") -> Client:
    """Revoke a client; the client."""
    before = (await store.snapshots.load()).site.clients[name]
    after = replace(before, state=ClientState.REVOKED)
    await store.objects.apply([put("client", after, before)], "me", "api")
    return after


async def test_an_old_audit_row_takes_no_object_away(lite: Store, site: Site) -> None:
    """The removal of a client that is there again, whose generation has become a later one."""
    acme = site.clients["acme"]
    await lite.objects.apply([drop("client", "acme")], "me", "api")
    await lite.objects.apply([put("client", acme)], "me", "api")
    await revoke(lite)
    before = await lite.snapshots.load()
    row = "kind = 'client' AND name = 'acme' AND action = '-'"
    await run(lite, f"UPDATE audit SET generation = generation | {HIGH} WHERE {row}")  # noqa: S608
    for snapshot in await changed(lite, before):
        assert snapshot.site.clients["acme"].state is ClientState.REVOKED
        assert judged(snapshot, acme.id) == REFUSED
    await run(lite, f"UPDATE audit SET generation = {before.generation + 2} WHERE {row}")  # noqa: S608
    await lite.objects.apply([put("client", client(4001))], "me", "api")
    assert "acme" in (await lite.snapshots.refresh(before)).site.clients


@pytest.mark.parametrize("value", [f"published_generation | {HIGH}", "'x'", "-1"])
async def test_an_epoch_of_another_time(lite: Store, site: Site, value: str) -> None:
    """Other objects change as before, and the id of a deleted client stays refused; the epoch is named."""
    acme, sound = site.clients["acme"], await lite.snapshots.load()
    await run(lite, f"UPDATE epoch SET published_generation = {value}")  # noqa: S608
    await revoke(lite)
    await lite.objects.apply([drop("client", "acme")], "me", "api")
    snapshot = await lite.snapshots.load()
    assert acme.id in snapshot.deleted
    assert [problem.where for problem in snapshot.unreadable] == ["key.web/0"]
    assert judged(replace(snapshot, keyrings=sound.keyrings), acme.id) == REFUSED


@pytest.mark.parametrize("value", ["'x'", "-1", f"generation | {HIGH}"])
async def test_a_deleted_client_of_another_time(lite: Store, site: Site, value: str) -> None:
    """Its id stays refused, also when the site is loaded anew, and it is named until its epochs have gone."""
    acme = site.clients["acme"]
    before = await lite.snapshots.load()
    await lite.objects.apply([drop("client", "acme")], "me", "api")
    await run(lite, f"UPDATE deleted_client SET generation = {value}")  # noqa: S608
    snapshot = (await changed(lite, before))[1]
    assert judged(snapshot, acme.id) == REFUSED
    assert [problem.where for problem in snapshot.unreadable] == ["deleted_client.acme"]
    before = snapshot
    await lite.keys.rotate_at_once("web", "me", time.time())
    rotated = await lite.snapshots.refresh(before)
    assert (rotated.unreadable, rotated.deleted.get(acme.id)) == ((), None)


@pytest.mark.parametrize("column", ["generation = -1", "generation = 'x'", f"generation = generation | {HIGH}"])
async def test_a_row_of_another_time(lite: Store, site: Site, column: str) -> None:
    """A client stays what it is."""
    before = await lite.snapshots.load()
    await revoke(lite)
    await run(lite, f"UPDATE client SET {column} WHERE name = 'acme'")  # noqa: S608
    for snapshot in (await changed(lite, before))[1:]:
        assert judged(snapshot, site.clients["acme"].id) == REFUSED


@pytest.mark.parametrize("damaged", ["spec = replace(spec, '\"id\":1001', '\"id\":1003')", "id = 1009", "id = 'x'"])
async def test_no_client_gets_the_identity_of_another(lite: Store, site: Site, damaged: str) -> None:
    """A client whose id is told twice, and not the same, is neither: all addresses that may be its are refused."""
    before = await lite.snapshots.load()
    await lite.objects.apply([put("client", replace(client(1003), name="abuser"))], "me", "api")
    await revoke(lite, "abuser")
    assert judged(await lite.snapshots.load(), site.clients["acme"].id) == (AddressReason.ISSUED, "gold")
    await run(lite, f"UPDATE client SET {damaged} WHERE name = 'acme'")  # noqa: S608
    whole = await lite.snapshots.load()
    await revoke(lite, "partner" if "partner" in site.clients else "abuser")
    for snapshot in (whole, await lite.snapshots.refresh(replace(before, generation=0))):
        assert [problem.where for problem in snapshot.unreadable] == ["client.acme"]
        assert judged(snapshot, 1003) == REFUSED
        assert judged(snapshot, 1001) == REFUSED


@pytest.mark.parametrize(
    "damaged",
    [
        ("tier", "spec = replace(spec, '\"drop\"', '\"dsop\"') WHERE name = 'blocked'"),
        ("tier", "name = 'blockee' WHERE name = 'blocked'"),
        ("tier", "code = 77 WHERE name = 'blocked'"),
        ("client", 'spec = replace(spec, \'"tier":"blocked"\', \'"tier":"blockee"\') WHERE name = \'acme\''),
        ("client", "tier = 'gold' WHERE name = 'acme'"),
    ],
)
async def test_a_lost_tier_gives_no_tier_back(lite: Store, site: Site, damaged: tuple[str, str]) -> None:
    """The address of a client of before it was moved to a tier that drops is not accepted where that tier is lost."""
    acme, before = site.clients["acme"], await lite.snapshots.load()
    await lite.objects.apply([put("client", replace(acme, tier="blocked"), acme)], "me", "api")
    await run(lite, f"UPDATE {damaged[0]} SET {damaged[1]}")  # noqa: S608
    for snapshot in (await lite.snapshots.load(), (await changed(lite, before))[1]):
        assert judged(snapshot, acme.id) == REFUSED
        assert snapshot.unreadable


async def test_the_networks_of_an_unreadable_client_stay_its_own(lite: Store) -> None:
    """No wider network of another client takes their place."""
    match = (Match(Step.ECS, "198.51.100.128/25"),)  # inside a network of acme
    abuser = replace(client(1003), name="abuser", match=match, state=ClientState.REVOKED)
    before = await lite.snapshots.load()
    await lite.objects.apply([put("client", abuser)], "me", "api")
    asks = Requester(ip_address("127.0.0.1"), "x", Ecs(ip_address("198.51.100.200"), 32))
    known = Engine(before).tables.classifier.classify(asks).client
    assert known == before.site.clients["acme"]
    damages = ("spec = replace(spec, '\"revoked\"', '\"revokef\"')", "spec = '{\"match\": 7}'")
    for damage in damages:
        await run(lite, f"UPDATE client SET {damage} WHERE name = 'abuser'")  # noqa: S608
        for snapshot in (await lite.snapshots.load(), await lite.snapshots.refresh(before)):
            assert [problem.where for problem in snapshot.unreadable] == ["client.abuser"]
            assert Engine(snapshot).tables.classifier.classify(asks).client is None


@pytest.mark.parametrize(
    ("damage", "name"),
    [("zone SET spec = 'x' WHERE name = 'sub.example.test'", "a.sub.example.test"),
     ("service SET spec = 'x' WHERE name = 'www.example.test'", "www.example.test")],
)  # fmt: skip
async def test_a_name_is_not_denied(
    lite: Store, site: Site, damage: str, name: str, tmp_path: Path, kek: KeyEncryptionKey
) -> None:
    """What is below a zone that cannot be read, and a service that cannot, get SERVFAIL and not the denial of the zone
    around; also from the last good snapshot."""
    zone = Zone("sub.example.test", site.zones["example.test"].text.replace("example.test", "sub.example.test"))
    await lite.objects.apply([put("zone", zone)], "me", "api")
    before = replace(await lite.snapshots.load(), generation=0)
    await run(lite, f"UPDATE {damage}")
    whole = await lite.snapshots.load()
    lastgood.save(tmp_path / "state", whole, "id", kek)
    asked = dns.message.make_query(name, "AAAA").to_wire()
    for snapshot in (whole, await lite.snapshots.refresh(before), lastgood.load(tmp_path / "state", kek)):
        answer = Engine(snapshot).decide(asked, ip_address("192.0.2.1"), Arrival("x", Transport.UDP), time.time())
        assert answer.rcode == 2


async def test_a_wrong_time_deletes_no_audit_rows(lite: Store) -> None:
    """One recent row that says that it is old, and rows of before are not pruned nor hidden."""
    now, day = 1_800_000_000.0, 86_400.0
    insert = "INSERT INTO audit (generation, at, actor, action, kind, name) VALUES (1, :at, 'x', '~', 'client', 'acme')"
    async with lite._session.write_unordered() as connection:
        await connection.execute(text("DELETE FROM audit"))
        times = [{"at": now - (6000 - second) * day / 60} for second in range(6000)]
        await connection.execute(text(insert), times)
        for number, at in ((10, now - 300 * day), (20, now - 900 * day), (3, now + 900 * day)):
            row = "(SELECT min(id) FROM audit) + 6000 - :number"
            await connection.execute(text(f"UPDATE audit SET at = :at WHERE id = {row}"), {"at": at, "number": number})  # noqa: S608
    assert await lite.audit.prune(now, 5_000_000, 400 * day) == 0
    assert len(await lite.audit.rows(10_000, since=now - 301 * day)) == 6000
    assert await lite.audit.prune(now, 5_000_000, 50 * day) == 2999
    assert await lite.audit.prune(now, 2000, 50 * day) == 1001


async def test_who_refers_to_what_is_lost_can_be_revoked(lite: Store, site: Site) -> None:
    """A client keeps what it says while its state changes, also where its key has lost its name."""
    await run(lite, "UPDATE tsig SET name = 'other' WHERE name = 'acme-key'")
    await revoke(lite)
    assert judged(await lite.snapshots.load(), site.clients["acme"].id) == REFUSED
