"""The keys that sign zones: made with the first signing, shared by all, kept while the zone is, never shown."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from dnsvip.dns.dnssec.keys import SigningKey
from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.errors import InvalidSite
from dnsvip.site import Dnssec, DnssecAlgorithm, Zone
from dnsvip.site.bind_keys import BindKey
from dnsvip.site.plan import Change, effects
from dnsvip.site.zone_keys import (
    INTRODUCE_SECONDS,
    PUBLISH_SECONDS,
    RETIRE_SECONDS,
    KeyState,
    signs_data,
    wanted_at_parent,
)
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database.tables import zone_key
from dnsvip.store.snapshots import lastgood
from tests.dns.hotpath.test_fastpath import SOURCES, question

NAME = "example.test"
ACTIVE = KeyState.ACTIVE
P256, ED25519 = DnssecAlgorithm.ECDSAP256SHA256, DnssecAlgorithm.ED25519


async def set_dnssec(store: Store, dnssec: Dnssec | None, text: str = "") -> None:
    """Change the zone, as the API does."""
    before = await store.objects.get("zone", NAME)
    assert isinstance(before, Zone)
    after = replace(before, dnssec=dnssec, text=before.text + text)
    await store.objects.apply([Change("zone", NAME, "~", before, after)], "me", "api")


@pytest.mark.parametrize("algorithm", [P256, ED25519])
async def test_made_once_and_kept(filled: Store, algorithm: DnssecAlgorithm) -> None:
    """The change that turns signing on makes the key; edits, and off and on again, leave it as it is."""
    unsigned = await filled.snapshots.load()
    assert unsigned.zone_keys == {}
    await set_dnssec(filled, Dnssec(True, algorithm))
    first = await filled.snapshots.refresh(unsigned)
    assert first.generation == unsigned.generation + 1
    (key,) = first.zone_keys[NAME]
    assert (key.number, key.algorithm, len(key.secret)) == (1, algorithm, 32)
    assert SigningKey.of(key).sign(b"data")
    for dnssec, text in (
        (Dnssec(True, algorithm), "; a remark\n"),
        (Dnssec(False), ""),
        (None, ""),
        (Dnssec(True, algorithm), ""),
    ):
        await set_dnssec(filled, dnssec, text)
        later = await filled.snapshots.refresh(first)
        assert later.zone_keys == first.zone_keys
        assert (await filled.snapshots.load()).zone_keys == first.zone_keys


async def test_gone_with_the_zone(filled: Store) -> None:
    """A zone that is removed takes its keys along, and gets others when it comes back; the plan warns of the parent."""
    await set_dnssec(filled, Dnssec(True))
    before = await filled.snapshots.load()
    zone = before.site.zones[NAME]
    removal = Change("zone", NAME, "-", zone, None)
    assert "DS record" in effects((removal,))[0].message
    services = [Change("service", name, "-", item, None) for name, item in before.site.services.items()]
    await filled.objects.apply([*services, removal], "me", "api")
    without = await filled.snapshots.refresh(before)
    assert without.zone_keys == {}
    await filled.objects.apply([Change("zone", NAME, "+", None, zone)], "me", "api")
    again = await filled.snapshots.refresh(without)
    assert again.zone_keys[NAME] != before.zone_keys[NAME]


async def test_another_algorithm(filled: Store) -> None:
    """Where a zone is signed, keys of another algorithm take over by steps that any node takes; where it has keys and
    is not, another algorithm is refused, and nothing changes."""
    await set_dnssec(filled, Dnssec(True))
    await set_dnssec(filled, None)
    before = await filled.snapshots.load()
    with pytest.raises(InvalidSite, match="algorithm: must be 'ecdsap256sha256'"):
        await set_dnssec(filled, Dnssec(True, ED25519))
    after = await filled.snapshots.load()
    assert (after.generation, after.zone_keys) == (before.generation, before.zone_keys)
    await set_dnssec(filled, Dnssec(True))
    await set_dnssec(filled, Dnssec(True, ED25519, split=True))
    now, zone = time.time(), f"zone {NAME}"

    async def steps(at: float) -> list[str]:
        """What happens to the zone then."""
        return [event.removeprefix(f"{zone}: ") for event in await filled.keys.advance(at) if event.startswith(zone)]

    with pytest.raises(InvalidSite, match=r"dnssec: .*split stays"):
        await set_dnssec(filled, Dnssec(True, ED25519))
    published = now + INTRODUCE_SECONDS + 1
    assert await steps(published) == ["key 2 published", "key 3 active"]
    assert await steps(published + PUBLISH_SECONDS) == ["key 1 outgoing", "key 2 active"]
    await filled.keys.confirm_zone(NAME, "me", published + 90000)
    gone = published + 90001 + RETIRE_SECONDS
    assert await steps(gone) == ["key 1 withdrawn"]
    assert await steps(gone + PUBLISH_SECONDS) == ["key 1 removed"]
    snapshot = await filled.snapshots.refresh(after)
    left = [(key.number, key.algorithm, key.sep, key.state) for key in snapshot.zone_keys[NAME]]
    assert left == [(2, ED25519, True, ACTIVE), (3, ED25519, False, ACTIVE)]


async def test_they_survive_a_rewrap_a_restore_and_an_outage(
    filled: Store, url: str, kek: KeyEncryptionKey, tmp_path: Path
) -> None:
    """A key is the same after a change of the key-encryption key, in a restored backup and the last good snapshot."""
    await set_dnssec(filled, Dnssec(True))
    keys = (await filled.snapshots.load()).zone_keys
    new = KeyEncryptionKey.load(tmp_path / "new.key", {})
    await filled.keys.rewrap(new, "me")
    rewrapped, other = await Store.open(url, new), await Store.open(f"sqlite:///{tmp_path}/other.db", kek)
    snapshot = await rewrapped.snapshots.load()
    assert snapshot.zone_keys == keys
    await rewrapped.backups.write(tmp_path / "backup", time.time())
    await other.backups.restore(tmp_path / "backup", "me", key=new)
    assert (await other.snapshots.load()).zone_keys == keys
    await rewrapped.close()
    await other.close()
    lastgood.save(tmp_path / "state", snapshot, filled.identity, kek)
    assert lastgood.load(tmp_path / "state", kek).zone_keys == keys
    secret = keys[NAME][0].secret
    for file in (tmp_path / "backup", *(tmp_path / "state").iterdir()):
        assert not any(form in file.read_bytes() for form in (secret, secret.hex().encode(), b64encode(secret)))


async def test_never_shown(filled: Store) -> None:
    """No audit row and no text form of a snapshot has a key's secret."""
    await set_dnssec(filled, Dnssec(True))
    snapshot = await filled.snapshots.load()
    secret = snapshot.zone_keys[NAME][0].secret
    shown = repr(snapshot) + json.dumps([(row.before, row.after) for row in await filled.audit.rows(1000)])
    assert '"dnssec": {"enabled": true' in shown
    assert not any(form in shown for form in (secret.hex(), repr(secret)))


async def test_a_key_that_cannot_be_read_costs_its_zone(filled: Store, kek: KeyEncryptionKey) -> None:
    """The zone gets SERVFAIL, which sends resolvers to another server, rather than answers that are bogus; the snapshot
    and the engine name it, and other zones are served."""
    text = "@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.1\n"
    await filled.objects.apply([Change("zone", "other.test", "+", None, Zone("other.test", text))], "me", "api")
    await set_dnssec(filled, Dnssec(True))
    good = await filled.snapshots.load()
    async with filled._session.database.write() as (connection, _):
        await connection.execute(update(zone_key).values(secret=kek.wrap(b"x" * 32, b"another context")))
    snapshot = await filled.snapshots.load()
    assert snapshot.zone_keys == {}
    assert f"zone_key.{NAME}/1" in {problem.where for problem in snapshot.unreadable}
    for broken in (Engine(snapshot), Engine(snapshot, Engine(good))):
        assert f"zone.{NAME}" in {problem.where for problem in broken.problems}
        replies = [
            broken.decide(question(name, 6), SOURCES[0], Arrival("public", Transport.UDP), 1e9)
            for name in (NAME, "other.test")
        ]
        assert [reply.rcode for reply in replies] == [2, 0]
    assert not Engine(good).problems


async def test_a_rollover(filled: Store) -> None:
    """A zone with two keys: each is rolled by steps that any node takes when they are due, and all snapshots follow;
    steps that cannot be are refused, and nothing changes."""
    await set_dnssec(filled, Dnssec(True, split=True))
    snapshot, now = await filled.snapshots.load(), time.time()
    assert [(key.number, key.sep) for key in snapshot.zone_keys[NAME]] == [(1, True), (2, False)]
    with pytest.raises(InvalidSite, match="no key waits"):
        await filled.keys.confirm_zone(NAME, "me", now)
    await filled.keys.roll_zone(NAME, "me", now, sep=True)
    await filled.keys.roll_zone(NAME, "me", now, sep=False)
    with pytest.raises(InvalidSite, match="key 3 is published"):
        await filled.keys.roll_zone(NAME, "me", now, sep=True)
    assert await filled.keys.advance(now + PUBLISH_SECONDS - 10) == []
    events = await filled.keys.advance(now + PUBLISH_SECONDS + 1)
    assert f"zone {NAME}: key 1 outgoing" in events
    assert f"zone {NAME}: key 2 retired" in events
    snapshot = await filled.snapshots.refresh(snapshot)
    assert [key.number for key in wanted_at_parent(snapshot.zone_keys[NAME])] == [3]
    assert [key.number for key in signs_data(snapshot.zone_keys[NAME])] == [4]
    await filled.keys.confirm_zone(NAME, "me", now + 90000)
    with pytest.raises(InvalidSite, match="key 1 is retired"):
        await filled.keys.remove_zone_key(NAME, 1, "me", now)
    await filled.keys.advance(now + 90000 + RETIRE_SECONDS + 1)
    snapshot = await filled.snapshots.refresh(snapshot)
    assert [(key.number, key.state) for key in snapshot.zone_keys[NAME]] == [(3, ACTIVE), (4, ACTIVE)]
    assert (await filled.snapshots.load()).zone_keys == snapshot.zone_keys
    assert {row.action for row in await filled.audit.rows(20, about={"kind": "zone", "name": NAME})} >= {"~"}


async def test_a_zone_that_cannot_be_read_holds_up_no_other(filled: Store, kek: KeyEncryptionKey) -> None:
    """Its keys stay as they are; those of other zones go on."""
    text = "@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.1\n"
    other = Zone("other.test", text, dnssec=Dnssec(True, split=True))
    await filled.objects.apply([Change("zone", "other.test", "+", None, other)], "me", "api")
    await set_dnssec(filled, Dnssec(True, split=True))
    now = time.time()
    for zone in (NAME, "other.test"):
        await filled.keys.roll_zone(zone, "me", now, sep=False)
    async with filled._session.database.write() as (connection, _):
        broken = update(zone_key).where(zone_key.c.zone == NAME).values(secret=kek.wrap(b"x" * 32, b"another context"))
        await connection.execute(broken)
    events = await filled.keys.advance(now + PUBLISH_SECONDS + 1)
    assert events == ["zone other.test: key 2 retired", "zone other.test: key 3 active"]
    with pytest.raises(InvalidSite, match="cannot be read"):
        await filled.keys.roll_zone(NAME, "me", now, sep=False)


async def test_an_imported_key(filled: Store) -> None:
    """A key from elsewhere is what signing uses from its beginning; once the zone is signed none is taken any more."""
    key = BindKey(ED25519, bytes(range(32)), sep=True, public=b"")
    await filled.keys.import_zone_key(NAME, key, "me", time.time())
    for twice, why in ((key, "has that key already"), (replace(key, algorithm=P256), "key 1 has algorithm ed25519")):
        with pytest.raises(InvalidSite, match=why):
            await filled.keys.import_zone_key(NAME, twice, "me", time.time())
    await set_dnssec(filled, Dnssec(True, ED25519))
    (held,) = (await filled.snapshots.load()).zone_keys[NAME]
    assert (held.secret, held.sep) == (key.secret, True)
    with pytest.raises(InvalidSite, match=r"before dnssec\.enabled is true"):
        await filled.keys.import_zone_key(NAME, replace(key, secret=b"y" * 32), "me", time.time())
    await set_dnssec(filled, Dnssec(False, ED25519))
    await filled.keys.remove_zone_key(NAME, 1, "me", time.time())
    assert NAME not in (await filled.snapshots.load()).zone_keys
