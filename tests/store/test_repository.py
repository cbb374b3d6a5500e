"""The store on SQLite and PostgreSQL: transactions, rules, collisions, differences, keys."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from dnsvip.address.keyring import EpochState
from dnsvip.errors import Conflict, InvalidSite, Problem
from dnsvip.site import (
    ClassCluster,
    Client,
    ClientState,
    Cluster,
    Match,
    Site,
    Snapshot,
    Step,
    Tier,
    Transfer,
    TsigKey,
    Zone,
)
from dnsvip.site.epochs import NodeReport
from dnsvip.site.plain import collection
from dnsvip.site.plan import Change, plan
from dnsvip.site.registry import COLLECTIONS
from dnsvip.store import Listing, Store


def put(kind: str, after: Any, before: Any = None) -> Change:
    """A change that creates or replaces one object."""
    return Change(kind, "" if kind == "classify" else after.name, "~" if before else "+", before, after)


def drop(kind: str, name: str) -> Change:
    """A change that removes one object."""
    return Change(kind, name, "-", None, None)


def client(number: int, tier: str = "gold", **more: Any) -> Client:
    """A client with default values."""
    return Client(f"c{number:07}", number, tier, **more)


async def same(store: Store, refreshed: Snapshot) -> None:
    """Whether a refreshed snapshot equals one loaded whole."""
    whole = await store.snapshots.load()
    assert refreshed.site == whole.site
    assert refreshed.generation == whole.generation
    assert refreshed.masters == whole.masters
    assert {n: r.epochs for n, r in refreshed.keyrings.items()} == {n: r.epochs for n, r in whole.keyrings.items()}


async def test_site_comes_back_as_applied(store: Store, site: Site) -> None:
    """An applied site reads back equal, and the generation rises by one."""
    assert await store.objects.apply(plan(Site(), site, {}), "me", "site") == 1
    assert await store.objects.site() == site
    assert (await store.snapshots.load()).generation == await store.generation() == 1
    assert set((await store.objects.stored()).origins.values()) == {"site"}


async def test_nothing_to_change_makes_no_generation(filled: Store, site: Site) -> None:
    """Planning a site that is already applied gives no changes and keeps the generation."""
    stored = await filled.objects.stored()
    changes = plan(stored.site, site, stored.origins)
    assert changes == ()
    assert await filled.objects.apply(changes, "me", "site") == 1


async def test_each_kind_by_name_and_page(filled: Store, site: Site) -> None:
    """Objects of every kind are read by name and in pages; an unknown name gives None."""
    for kind in COLLECTIONS:
        things = collection(site, kind)
        first, *rest = sorted(things)
        assert await filled.objects.get(kind, first) == things[first]
        assert await filled.objects.page(Listing(kind, 10, after=(first, first))) == [things[name] for name in rest]
        assert await filled.objects.page(Listing(kind, 1)) == [things[first]]
        assert await filled.objects.count(kind) == len(things)
        assert await filled.objects.get(kind, "nobody") is None
    assert await filled.objects.get("classify", "") == site.classify


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("client", client(1, "platinum")), "client.c0000001.tier: 'platinum' is not a tier of this site"),
        (put("client", client(1 << 20)), "client.c1048576.id: id in cluster 'web' is 1048576: the field 'client'"),
        (put("client", client(1, match=(Match(Step.TSIG, "nokey"),))), "client.c0000001.match: 'nokey' is not a tsig"),
        (put("tier", Tier("new", 3)), "tier.new.pool: missing"),
        (put("tier", Tier("new", 16, "fast")), "tier.new.code: code in cluster 'web' is 16"),
        (drop("pool", "fast"), "tier.gold.pool: 'fast' is not a pool of this site (there is: slow)"),
        (drop("zone", "example.test"), "service.www.example.test: is in none of the zones"),
        (drop("tsig", "acme-key"), "client.acme.match: 'acme-key' is not a tsig of this site"),
        (drop("tier", "gold"), "client.acme.tier: 'gold' is not a tier of this site"),
        (drop("cluster", "legacy"), "service.www.example.test.cluster4: 'legacy' is not an IPv4 cluster"),
    ],
)
async def test_broken_rules_change_nothing(filled: Store, site: Site, change: Change, message: str) -> None:
    """A change that breaks a rule is refused with the reason, together with all changes submitted with it."""
    before, audited = await filled.snapshots.load(), await filled.audit.rows(1000)
    with pytest.raises(InvalidSite) as caught:
        await filled.objects.apply([put("client", client(7)), change], "me", "api")
    assert message in str(caught.value)
    await same(filled, before)
    assert await filled.objects.site() == site
    assert await filled.audit.rows(1000) == audited


async def test_a_key_that_a_transfer_needs_stays(filled: Store, site: Site) -> None:
    """A zone's transfer must name an existing TSIG key, and a key in use cannot be removed."""
    zone = site.zones["example.test"]
    with pytest.raises(InvalidSite, match=r"zone\.example\.test\.transfer\.tsig: 'nokey' is not a tsig"):
        await filled.objects.apply([put("zone", replace(zone, transfer=Transfer(tsig="nokey")), zone)], "me", "api")
    sharing = replace(zone, transfer=Transfer((ip_network("192.0.2.0/24"),), "x_y"))
    key = TsigKey("x_y", "c2VjcmV0")
    await filled.objects.apply([put("tsig", key), put("zone", sharing, zone)], "me", "api")
    assert await filled.objects.get("zone", zone.name) == sharing
    with pytest.raises(InvalidSite, match=r"zone\.example\.test\.transfer\.tsig: 'x_y' is not a tsig"):
        await filled.objects.apply([drop("tsig", "x_y")], "me", "api")
    await filled.objects.apply([put("zone", zone, sharing), drop("tsig", "x_y")], "me", "api")


async def test_changed_cluster_is_checked_against_every_client(filled: Store, site: Site) -> None:
    """A layout too small for a client's id is refused and the client named."""
    web = site.clusters["web"]
    assert isinstance(web, Cluster)
    narrow = replace(web, layout=(("tier", 4), ("client", 8), ("expiry", 7), ("nonce", 18)))
    with pytest.raises(InvalidSite, match=r"client\.acme\.id: id in cluster 'web' is 1001"):
        await filled.objects.apply([put("cluster", narrow, web)], "me", "api")


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


async def test_zones_are_checked_by_who_knows_zones(store: Store, site: Site) -> None:
    """A zone that the given check rejects aborts the whole change."""

    def refuse(zone: Zone) -> list[Problem]:
        return [Problem(f"zone.{zone.name}", "no SOA")]

    with pytest.raises(InvalidSite, match=r"zone\.example\.test: no SOA"):
        await store.objects.apply(plan(Site(), site, {}), "me", "site", check_zone=refuse)
    assert await store.generation() == 0


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


async def test_cluster_brings_and_takes_its_keys(filled: Store, site: Site) -> None:
    """A new IPv6 cluster gets one active epoch and a client master; removing it destroys both."""
    web = site.clusters["web"]
    assert isinstance(web, Cluster)
    snapshot = await filled.snapshots.load()
    assert snapshot.keyrings.keys() == snapshot.masters.keys() == {"web"}
    assert snapshot.keyrings["web"].active
    assert len(snapshot.masters["web"]) == 32
    service = site.services["www.example.test"]
    await filled.objects.apply([drop("service", service.name), drop("cluster", "web")], "me", "api")
    gone = await filled.snapshots.refresh(snapshot)
    assert gone.keyrings == gone.masters == {}
    await filled.objects.apply([put("cluster", web)], "me", "api")
    again = await filled.snapshots.refresh(gone)
    assert again.masters["web"] != snapshot.masters["web"]
    assert again.keyrings["web"].epochs[0].secret != snapshot.keyrings["web"].epochs[0].secret


async def test_cluster_that_turns_ipv4_loses_its_keys(filled: Store, site: Site) -> None:
    """A name that changes from an IPv6 to an IPv4 cluster loses its keys."""
    legacy, service = site.clusters["legacy"], site.services["www.example.test"]
    assert isinstance(legacy, ClassCluster)
    changes = [
        drop("service", service.name),
        drop("cluster", "legacy"),
        put("cluster", replace(legacy, name="web"), site.clusters["web"]),
    ]
    await filled.objects.apply(changes, "me", "api")
    snapshot = await filled.snapshots.load()
    assert snapshot.masters == snapshot.keyrings == {}


async def test_rotation_waits_for_dispatchers_and_retires(filled: Store) -> None:
    """A new epoch is published, activated once dispatchers hold it, and the old one retires in time."""
    now = time.time()
    behind = NodeReport("d1", frozenset({"dispatch"}), 1, "1", now, 5.0)
    await filled.nodes.report(behind)
    published = await filled.keys.rotate("web", "me", now)
    assert published.state is EpochState.PUBLISHED
    assert await filled.keys.advance(now) == []
    await filled.nodes.report(replace(behind, generation=published.published_generation))
    assert await filled.keys.advance(now) == ["web/1 active", "web/0 retiring"]
    ring = (await filled.snapshots.load()).keyrings["web"]
    assert ring.active
    assert ring.active[0].slot == 1
    assert ring.active[0].secret == published.secret
    assert await filled.keys.advance(now + 3660) == []
    assert await filled.keys.advance(now + 3662) == ["web/0 retired"]
    assert [epoch.slot for epoch in (await filled.snapshots.load()).keyrings["web"].epochs] == [1]
    actions = [(row.action, row.name) for row in await filled.audit.rows(10) if row.kind == "key"]
    assert actions == [("-", "web/0"), ("~", "web/1"), ("~", "web/0"), ("+", "web/1"), ("+", "web/0")]


async def test_rotation_of_nothing(filled: Store) -> None:
    """Rotating an unknown cluster or one without keys gives an error that names the clusters with keys."""
    for name in ("nobody", "legacy"):
        with pytest.raises(InvalidSite, match=r"is not an IPv6 cluster of this site \(there is: web\)"):
            await filled.keys.rotate(name, "me", 0.0)


async def test_full_slots_say_when_one_is_free(filled: Store) -> None:
    """A fifth epoch is refused with the seconds until a slot is free."""
    now = time.time()
    for _ in range(3):
        await filled.keys.rotate("web", "me", now)
        await filled.keys.advance(now)
    with pytest.raises(
        Conflict, match=r"key\.web: all 4 key slots are taken; the next one becomes free in 36\d\d seconds"
    ):
        await filled.keys.rotate("web", "me", now)
    assert (await filled.keys.rotate("web", "me", now + 3700)).slot == 0


async def test_several_nodes_advance_at_once(filled: Store, url: str, kek: Any) -> None:
    """Of several concurrent advances one performs the step and the others do nothing."""
    other = await Store.open(url, kek)
    now = time.time()
    await filled.keys.rotate("web", "me", now)
    events = await asyncio.gather(*((filled, other)[n % 2].keys.advance(now) for n in range(8)))
    await other.close()
    assert sorted(events) == [*[[]] * 7, ["web/1 active", "web/0 retiring"]]


async def test_longer_ttl_keeps_the_epoch_longer(filled: Store, site: Site) -> None:
    """A TTL that was long while an epoch was active still applies after it is shortened."""
    web = site.clusters["web"]
    assert isinstance(web, Cluster)
    long = replace(web, ttl=7200)
    await filled.objects.apply([put("cluster", long, web)], "me", "api")
    await filled.objects.apply([put("cluster", web, long)], "me", "api")
    now = time.time()
    await filled.keys.rotate("web", "me", now)
    await filled.keys.advance(now)
    assert await filled.keys.advance(now + 10000) == []
    assert await filled.keys.advance(now + 10802) == ["web/0 retired"]


async def test_site_file_keeps_api_clients_and_runtime_fields(filled: Store, site: Site) -> None:
    """An apply keeps clients created by the API and runtime states, and deletes what the file created and drops."""
    acme = site.clients["acme"]
    revoked = replace(acme, state=ClientState.REVOKED, key_generation=3)
    await filled.objects.apply([put("client", client(1)), put("client", revoked, acme)], "me", "api")
    clients = {"acme": replace(acme, tier="standard")}
    stored = await filled.objects.stored()
    await filled.objects.apply(plan(stored.site, replace(site, clients=clients), stored.origins), "me", "site")
    after = (await filled.objects.site()).clients
    assert after == {client(1).name: client(1), "acme": replace(revoked, tier="standard")}
    origins = (await filled.objects.stored()).origins
    assert origins["client", client(1).name] == "api"
    assert origins["client", "acme"] == "site"


async def test_site_file_takes_over_what_it_names(filled: Store, site: Site) -> None:
    """An object of the API that a site file names belongs to the file from then on."""
    await filled.objects.apply([put("client", client(1))], "me", "api")
    named = replace(site, clients={**site.clients, client(1).name: client(1)})
    for count in (1, 0):
        stored = await filled.objects.stored()
        changes = plan(stored.site, named, stored.origins)
        assert len(changes) == count
        await filled.objects.apply(changes, "me", "site")
    stored = await filled.objects.stored()
    await filled.objects.apply(plan(stored.site, site, stored.origins), "me", "site")
    assert await filled.objects.get("client", client(1).name) is None


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
    found = await store.tokens.find(clear)
    assert found
    assert (found.name, found.created_by) == ("ops", "me")
    assert await store.tokens.find(clear + "x") is None
    assert [token.name for token in await store.tokens.all()] == ["first", "ops"]
    with pytest.raises(Conflict, match=r"token\.ops: exists already"):
        await store.tokens.create("ops", "me")
    assert await store.tokens.delete("ops", "me")
    assert not await store.tokens.delete("ops", "me")
    assert await store.tokens.find(clear) is None


async def test_node_reports(store: Store) -> None:
    """A report replaces the same process's last one; processes of one name are kept apart; leaving deletes them."""
    now = time.time()
    report = NodeReport("n1", frozenset({"dns", "admin"}), 1, "0.1", now, 5.0, "a")
    await store.nodes.report(report)
    await store.nodes.report(replace(report, generation=2))
    twin = replace(report, instance="b")
    await store.nodes.report(twin)
    assert await store.nodes.all() == [replace(report, generation=2), twin]
    await store.nodes.leave(twin)
    assert [node.instance for node in await store.nodes.all()] == ["a"]
    await store.nodes.report(replace(twin, seen_at=now + 4000))
    assert [node.instance for node in await store.nodes.all()] == ["b"]
    assert await store.generation() == 0


async def test_watch_tells_generations(filled: Store, url: str, kek: Any) -> None:
    """A change by another node is reported within half a second."""
    other = await Store.open(url, kek)
    watching = filled.watch()
    assert await anext(watching) == 1
    for expected in (2, 3, 4):
        task = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0.15)
        start = time.perf_counter()
        await other.objects.apply([put("client", client(expected))], "me", "api")
        assert await task == expected
        assert time.perf_counter() - start < 0.5
    await watching.aclose()
    await other.close()


async def test_filters_of_each_kind(filled: Store) -> None:
    """Filters match stored values, defaults for unset fields, and references."""
    some = [
        ("tier", {"pool": "fast"}, ["gold"]),
        ("tier", {"action": "drop"}, ["blocked"]),
        ("tier", {"action": "forward", "pool": "slow"}, ["standard"]),
        ("pool", {"forward": "direct"}, ["fast", "slow"]),
        ("pool", {"fallback": "slow"}, []),
        ("cluster", {"default_tier": "standard"}, ["legacy", "web"]),
        ("service", {"cluster": "web"}, ["www.example.test"]),
        ("service", {"cluster": "legacy"}, ["www.example.test"]),
        ("tsig", {"algorithm": "hmac-sha256"}, ["acme-key"]),
        ("tsig", {"client": "acme"}, ["acme-key"]),
        ("tsig", {"tier": "gold", "client": "acme"}, ["acme-key"]),
        ("tsig", {"tier": "standard"}, []),
        ("client", {"tier": "gold", "state": "enabled", "match": "2001:db8:77::1"}, ["acme"]),
    ]
    for kind, filters, names in some:
        wanted = Listing(kind, 10, filters=filters)
        assert [getattr(thing, "name", "") for thing in await filled.objects.page(wanted)] == names, (kind, filters)
        assert await filled.objects.count_some(wanted) == len(names)


async def test_thousands_of_clients(filled: Store) -> None:
    """Ten thousand clients are applied at once and read in pages, and refreshing after one change is cheap."""
    await filled.objects.apply([put("client", client(n, match=())) for n in range(2000, 12000)], "me", "api")
    snapshot = await filled.snapshots.load()
    assert len(snapshot.site.clients) == 10002
    page = await filled.objects.page(Listing("client", 3, after=("c0005000", "c0005000")))
    assert [thing.name for thing in page] == ["c0005001", "c0005002", "c0005003"]
    one = client(6000)
    start = time.perf_counter()
    await filled.objects.apply([put("client", replace(one, tier="standard"), one)], "me", "api")
    after = await filled.snapshots.refresh(snapshot)
    assert time.perf_counter() - start < 1.0
    assert after.site.clients[one.name].tier == "standard"
    assert after.site.clients["c0005000"] is snapshot.site.clients["c0005000"]
