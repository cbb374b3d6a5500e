"""Audit rows and tokens: who changed what, without secrets, and who may."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from dnsvip.errors import Conflict
from dnsvip.site import Site
from dnsvip.store import Store
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
