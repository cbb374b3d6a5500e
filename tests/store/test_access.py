"""Audit rows and tokens: who changed what, without secrets, and who may."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

import pytest

from dnsvip.errors import Conflict
from dnsvip.site import Site
from dnsvip.site.plain import dump
from dnsvip.site.plan import Change
from dnsvip.store import Store
from dnsvip.store.access import audit_pruning
from dnsvip.store.access.audit import AuditEntry, record
from tests.store.changes import put


async def test_audit_says_who_did_what_without_secrets(filled: Store, site: Site) -> None:
    """Each change is audited with actor, object, before and after, without secrets and zone text."""
    gold = site.tiers["gold"]
    await filled.objects.apply([put("tier", replace(gold, dscp=46), gold)], "carol", "api")
    newest, *rest = await filled.audit.rows(1000)
    assert (newest.actor, newest.action, newest.kind, newest.name) == ("carol", "~", "tier", "gold")
    assert newest.before
    assert newest.after
    assert (newest.before["dscp"], newest.after["dscp"]) == (34, 46)
    assert newest.generation == 2
    assert abs(newest.at - time.time()) < 60
    assert [row.id for row in await filled.audit.rows(3, before=rest[4].id)] == [row.id for row in rest[5:8]]
    text = repr(rest)
    assert "acme-key" in text
    assert site.tsig_keys["acme-key"].secret not in text
    assert "hostmaster" not in text


async def test_tokens(store: Store) -> None:
    """A token is identified by its clear text only, is unique by name, and is invalid once deleted."""
    first = await store.tokens.create_first("first", "boot")
    assert first
    assert await store.tokens.create_first("second", "boot") is None
    clear = await store.tokens.create("ops", "me")
    token = await store.tokens.find(clear)
    assert token
    assert (token.name, token.created_by) == ("ops", "me")
    assert await store.tokens.find(clear + "x") is None
    assert [token.name for token in await store.tokens.all()] == ["first", "ops"]
    with pytest.raises(Conflict, match=r"token\.ops: exists already"):
        await store.tokens.create("ops", "me")
    assert await store.tokens.delete("ops", "me")
    assert not await store.tokens.delete("ops", "me")
    assert await store.tokens.find(clear) is None


async def test_old_audit_rows_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By age and by number the oldest go first; those of a day stay, and the newest whatever their age."""
    monkeypatch.setattr(audit_pruning, "LEAST_ROWS", 5)
    monkeypatch.setattr(audit_pruning, "PRUNED_AT_ONCE", 7)
    monkeypatch.setattr(audit_pruning, "PRUNING_PAUSE", 0.0)
    day, now = 86_400.0, 2_000_000_000.0
    async with store._session.write_unordered() as connection:
        for number in range(100):
            entry = AuditEntry("+", "client", f"c{number}", None, "{}")
            await record(connection, "me", now - (99 - number) * day / 2, number + 1, [entry])

    async def left() -> list[str]:
        return [row.name for row in reversed(await store.audit.rows(1000)) if row.kind == "client"]

    assert await store.audit.prune(now, 1000, 400 * day) == 0
    assert await store.audit.prune(now, 1000, 40 * day) == 19
    assert await left() == [f"c{number}" for number in range(19, 100)]
    assert await store.audit.prune(now, 30, 40 * day) == 51
    assert await left() == [f"c{number}" for number in range(70, 100)]
    await store.audit.prune(now, 1, 40 * day)
    assert await left() == [f"c{number}" for number in range(95, 100)]
    assert await store.audit.prune(now + 1000 * day, 1, day) == 0


@pytest.mark.parametrize("actor", ["transfer (2001:db8::53)", "catalog (catalog.test)", "tsig key", "client acme"])
async def test_audit_rows_of_people_outlive_those_of_primaries(
    store: Store, monkeypatch: pytest.MonkeyPatch, actor: str
) -> None:
    """A primary, a catalog, a client or the holder of a key that makes rows without end pushes out those, and none of
    people's, which are bounded by themselves."""
    monkeypatch.setattr(audit_pruning, "LEAST_ROWS", 5)
    monkeypatch.setattr(audit_pruning, "PRUNED_AT_ONCE", 7)
    monkeypatch.setattr(audit_pruning, "PRUNING_PAUSE", 0.0)
    day, now = 86_400.0, 2_000_000_000.0
    monkeypatch.setattr(audit_pruning, "ENDLESS_SECONDS", day)
    people = {0, 3, 40, 60}
    async with store._session.write_unordered() as connection:
        for number in range(100):
            entry = AuditEntry("~", "zone", f"z{number}", "{}", "{}")
            who = "me" if number in people else actor
            await record(connection, who, now - (99 - number) * day / 10, number + 1, [entry])

    async def left() -> list[str]:
        return [row.name for row in reversed(await store.audit.rows(1000)) if row.kind == "zone"]

    assert await store.audit.prune(now, 30, 400 * day) == 70
    assert await left() == [f"z{number}" for number in sorted({*people, *range(75, 100)})]
    assert len(await store.audit.rows(1000)) == 30, "and one that says so"
    await store.audit.prune(now, 6, 400 * day)
    assert await left() == [f"z{number}" for number in sorted({*people, *range(89, 100)})], "those of some time stay"
    await store.audit.prune(now, 2, 400 * day)
    assert await left() == ["z40", "z60", *(f"z{number}" for number in range(89, 100))]
    assert await store.audit.prune(now, 6, 400 * day) == 0


async def test_audit_rows_of_primaries_fill_no_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a primary, or a catalog, makes in a day is bounded too: those beyond `keep_rows` go after an hour, those of
    people stay for a day. Of a zone that was transferred a row has no long texts."""
    monkeypatch.setattr(audit_pruning, "LEAST_ROWS", 5)
    hour, now = 3600.0, 2_000_000_000.0
    zone = json.dumps({"text": "x" * 3000})
    async with store._session.write_unordered() as connection:
        for number in range(60):
            who = "me" if number % 10 == 0 else "transfer (2001:db8::53)"
            entry = AuditEntry("~", "zone", f"z{number}", zone, zone)
            await record(connection, who, now - (59 - number) * hour / 10, number + 1, [entry])
    assert await store.audit.prune(now, 20, 400 * 24 * hour) == 40
    rows = await store.audit.rows(1000)
    people = [row for row in rows if row.actor == "me"]
    assert [row.name for row in people] == ["z50", "z40", "z30", "z20", "z10", "z0"]
    assert all(row.after and len(row.after["text"]) == 3000 for row in people)
    assert [len(str(row.after)) < 200 for row in rows if row.actor.startswith("transfer")] == [True] * 13


async def test_who_was_away_for_deleted_audit_rows_loads_everything(
    filled: Store, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower from before rows that were deleted between others has what they told of: here a zone that a catalog
    made and removed."""
    monkeypatch.setattr(audit_pruning, "LEAST_ROWS", 1)
    monkeypatch.setattr(audit_pruning, "ENDLESS_SECONDS", -60.0)
    old = await filled.snapshots.load()
    zone = replace(next(iter(site.zones.values())), name="other.test", text="")
    await filled.objects.apply([put("zone", zone)], "catalog (catalog.test)", "api")
    between = await filled.snapshots.refresh(old)
    await filled.objects.apply([Change("zone", "other.test", "-", zone, None)], "catalog (catalog.test)", "api")
    gone = (await filled.audit.rows(1))[0].id
    before = site.tiers["gold"]
    for dscp in (1, 2):
        after = replace(before, dscp=dscp)
        await filled.objects.apply([put("tier", after, before)], "me", "api")
        before = after
    assert await filled.audit.prune(time.time(), len(await filled.audit.rows(1000)) - 1, 1e9) == 1
    assert [(row.kind, row.action) for row in await filled.audit.rows(1000) if row.id == gone] == [("audit", "-")]
    assert "other.test" in between.site.zones
    for earlier in (old, between):
        assert (await filled.snapshots.refresh(earlier)).site == (await filled.snapshots.load()).site


async def test_a_large_object_is_short_in_the_audit(filled: Store, site: Site) -> None:
    """Its long texts are told by digest and length, on every way in; what followers and rules need stays as it is."""
    words = {f"a{number}": "x" * 1000 for number in range(100)}
    large = replace(site.clients["acme"], attributes=words)
    await filled.objects.apply([Change("client", "acme", "~", None, large)], "me", "api")
    (row,) = await filled.audit.rows(1)
    assert row.after is not None
    assert len(json.dumps(row.after)) < 30_000
    assert re.fullmatch(r"sha256:[0-9a-f]{64} \(1000 characters\)", row.after["attributes"]["a1"])
    assert (row.after["id"], row.after["match"]) == (large.id, dump(large)["match"])
