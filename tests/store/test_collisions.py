"""Collisions and concurrent writers: both parties are named, and no two operators break a rule together."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from dnsvip.errors import Conflict, InvalidSite
from dnsvip.site import Match, Site, Step, Tier
from dnsvip.site.plan import Change
from dnsvip.store import Store
from tests.store.changes import client, drop, put


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("client", client(1001)), "client.c0001001.id: 1001 belongs to client.acme already"),
        (
            put("client", client(5, match=(Match(Step.SOURCE, "203.0.113.0/24"),))),
            """client.c0000005.match: { source = "203.0.113.0/24" } belongs to client 'newsreader' already""",
        ),
        (put("tier", Tier("new", 1, "fast")), "tier.new.code: 1 belongs to tier.gold already"),
        (put("tier", Tier("gold", 9, "fast")), "tier.gold: exists already"),
        (drop("tier", "nobody"), "tier.nobody: does not exist (any more)"),
        (put("tier", Tier("gold", 9, "fast"), Tier("gold", 8, "fast")), "tier.gold: has been changed meanwhile"),
    ],
)
async def test_collisions_name_both_parties(filled: Store, change: Change, message: str) -> None:
    """A collision with a stored object raises Conflict naming both, and changes nothing."""
    with pytest.raises(Conflict) as caught:
        await filled.objects.apply([put("client", client(7)), change], "me", "api")
    assert message in str(caught.value)
    assert await filled.generation() == 1
    assert await filled.objects.get("client", client(7).name) is None


async def test_collisions_within_one_set_of_changes(filled: Store) -> None:
    """Two new clients with one id are refused before the database is queried."""
    twins = [put("client", client(5)), put("client", replace(client(5), name="twin"))]
    with pytest.raises(Conflict, match=r"client\.twin\.id: 5 belongs to client\.c0000005 already"):
        await filled.objects.apply(twins, "me", "api")
    with pytest.raises(Conflict, match="is changed twice at once"):
        await filled.objects.apply([put("client", client(5)), put("client", client(5))], "me", "api")


async def test_unique_numbers_can_be_swapped(filled: Store, site: Site) -> None:
    """Two tiers can swap codes, and two clients matches, in one transaction."""
    gold, standard = site.tiers["gold"], site.tiers["standard"]
    acme, reader = site.clients["acme"], site.clients["newsreader"]
    changes = [
        put("tier", replace(gold, code=standard.code), gold),
        put("tier", replace(standard, code=gold.code), standard),
        put("client", replace(acme, match=reader.match, id=reader.id), acme),
        put("client", replace(reader, match=acme.match, id=acme.id), reader),
    ]
    await filled.objects.apply(changes, "me", "api")
    assert (await filled.objects.site()).clients["acme"].id == reader.id


async def test_expected_generation(filled: Store) -> None:
    """With an expected generation, changes are refused if the database has moved on."""
    await filled.objects.apply([put("client", client(1))], "me", "api", expected=1)
    with pytest.raises(Conflict, match="generation 2, not 1"):
        await filled.objects.apply([put("client", client(2))], "me", "api", expected=1)


async def test_concurrent_appliers_follow_each_other(filled: Store, url: str, kek: Any) -> None:
    """Twenty concurrent writers on two connections create twenty generations and lose nothing."""
    other = await Store.open(url, kek)
    writes = [(filled, other)[n % 2].objects.apply([put("client", client(n + 1))], "me", "api") for n in range(20)]
    assert sorted(await asyncio.gather(*writes)) == list(range(2, 22))
    assert await other.objects.count("client") == 22
    await other.close()


async def test_concurrent_changes_cannot_break_a_rule_together(filled: Store, url: str, kek: Any) -> None:
    """Of two concurrent changes, one removing a tier and one assigning it, exactly one succeeds."""
    other = await Store.open(url, kek)
    await filled.objects.apply([put("tier", Tier("new", 3, "fast"))], "me", "api")
    results = await asyncio.gather(
        filled.objects.apply([drop("tier", "new")], "me", "api"),
        other.objects.apply([put("client", client(1, "new"))], "me", "api"),
        return_exceptions=True,
    )
    await other.close()
    assert sorted(type(result) for result in results if isinstance(result, InvalidSite)) == [InvalidSite]
    assert len([result for result in results if isinstance(result, int)]) == 1


async def test_dry_run_finds_problems_and_writes_nothing(filled: Store) -> None:
    """A dry run raises the same problems as applying and writes nothing."""
    assert await filled.objects.apply([put("client", client(1))], "me", "api", dry_run=True) == 1
    assert await filled.objects.get("client", client(1).name) is None
    with pytest.raises(Conflict):
        await filled.objects.apply([put("client", client(1001))], "me", "api", dry_run=True)
