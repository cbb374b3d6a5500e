"""Objects on SQLite and PostgreSQL: applied, checked, read, filtered, and owned by a site file or the API."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import (
    ClientState,
    Cluster,
    DnsGroup,
    DnsToken,
    Match,
    Pool,
    SelectRule,
    Server,
    Site,
    Step,
    Tier,
    Transfer,
    TsigKey,
    UpdateRule,
    Zone,
)
from dnsvip.site.plain import collection
from dnsvip.site.plan import Change, plan
from dnsvip.site.registry import COLLECTIONS
from dnsvip.store import Listing, Store
from tests.store.changes import client, drop, put, same


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
    group = DnsGroup("high", ("[2001:db8:53::1]:53",), ("gold",))
    token = DnsToken("acme", "0" * 64)
    await filled.objects.apply([put("dns_group", group), put("dns_token", token)], "me", "api")
    site = replace(site, dns_groups={group.name: group}, dns_tokens={token.name: token})
    for kind in COLLECTIONS:
        objects = collection(site, kind)
        first, *rest = sorted(objects)
        assert await filled.objects.get(kind, first) == objects[first]
        assert await filled.objects.page(Listing(kind, 10, after=(first, first))) == [objects[name] for name in rest]
        assert await filled.objects.page(Listing(kind, 1)) == [objects[first]]
        assert await filled.objects.count(kind) == len(objects)
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


async def test_what_selects_a_pool_stays(filled: Store, site: Site) -> None:
    """Pools, tiers and clients that rules name, and clients' own pools and servers, cannot go, nor a server's name
    become ambiguous; without the rule, or the client's own, they can."""
    web, extra = site.clusters["web"], Pool("extra", (Server("own-1", ip_address("fd00:10::77")),))
    named = ({"client": ("newsreader",)}, "extra"), ({"tier": ("blocked",)}, "fast")
    ruled = replace(web, select=tuple(SelectRule(when, pool) for when, pool in named))
    acme, newsreader = site.clients["acme"], site.clients["newsreader"]
    own, pooled = replace(acme, servers=("own-1",)), replace(newsreader, pool="extra")
    await filled.objects.apply([put("pool", extra), put("cluster", ruled, web)], "me", "api")
    slow = site.pools["slow"]
    second = replace(slow, servers=(*slow.servers, Server("own-1", ip_address("fd00:10::78"))))

    async def refused(change: Change, *messages: str) -> None:
        with pytest.raises(InvalidSite) as caught:
            await filled.objects.apply([change], "me", "api")
        assert all(message in str(caught.value) for message in messages), str(caught.value)

    await refused(drop("client", "newsreader"), "cluster.web.select.0.when.client: 'newsreader' is not a client")
    await refused(drop("tier", "blocked"), "cluster.web.select.1.when.tier: 'blocked' is not a tier")
    await refused(drop("pool", "extra"), "cluster.web.select.0.pool: 'extra' is not a pool")
    await filled.objects.apply([put("cluster", web, ruled)], "me", "api")
    await filled.objects.apply([put("client", own, acme), put("client", pooled, newsreader)], "me", "api")
    await refused(
        drop("pool", "extra"),
        "client.acme.servers: 'own-1' is not a server",
        "client.newsreader.pool: 'extra' is not a",
    )
    await refused(put("pool", replace(extra, servers=()), extra), "client.acme.servers: 'own-1' is not a server")
    await refused(put("pool", second, slow), "client.acme.servers: 'own-1' is in 2 pools (extra, slow): name it as")
    await filled.objects.apply([put("client", replace(own, servers=("extra/own-1",)), own)], "me", "api")
    await filled.objects.apply([put("pool", second, slow)], "me", "api")
    assert (await filled.objects.site()).clients["acme"].servers == ("extra/own-1",)
    await filled.objects.apply([drop("client", "acme"), drop("client", "newsreader")], "me", "api")
    await filled.objects.apply([drop("pool", "extra")], "me", "api")


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


async def test_a_key_of_updates(filled: Store, site: Site) -> None:
    """A zone's update rule must name an existing TSIG key, one in use cannot be removed, and no client may have it."""
    zone, acme = site.zones["example.test"], site.clients["acme"]
    with pytest.raises(InvalidSite, match=r"zone\.example\.test\.update\.0\.tsig: 'nokey' is not a tsig"):
        await filled.objects.apply([put("zone", replace(zone, update=(UpdateRule("nokey"),)), zone)], "me", "api")
    updated = replace(zone, update=(UpdateRule("x_y", ("_acme-challenge.*",), ("TXT",)),))
    await filled.objects.apply([put("tsig", TsigKey("x_y", "c2VjcmV0")), put("zone", updated, zone)], "me", "api")
    assert await filled.objects.get("zone", zone.name) == updated
    with pytest.raises(InvalidSite, match=r"zone\.example\.test\.update\.0\.tsig: 'x_y' is not a tsig"):
        await filled.objects.apply([drop("tsig", "x_y")], "me", "api")
    wanted = replace(acme, match=(*acme.match, Match(Step.TSIG, "x_y")))
    with pytest.raises(InvalidSite, match="'x_y' is a key of zone transfers or updates, which no client may have"):
        await filled.objects.apply([put("client", wanted, acme)], "me", "api")


async def test_changed_cluster_is_checked_against_every_client(filled: Store, site: Site) -> None:
    """A layout too small for a client's id is refused and the client named."""
    web = site.clusters["web"]
    assert isinstance(web, Cluster)
    narrow = replace(web, layout=(("tier", 4), ("client", 8), ("expiry", 7), ("nonce", 18)))
    with pytest.raises(InvalidSite, match=r"client\.acme\.id: id in cluster 'web' is 1001"):
        await filled.objects.apply([put("cluster", narrow, web)], "me", "api")


async def test_zones_are_checked_by_the_given_check(store: Store, site: Site) -> None:
    """A zone that the given check rejects aborts the whole change."""

    def refuse(zone: Zone) -> list[Problem]:
        return [Problem(f"zone.{zone.name}", "no SOA")]

    with pytest.raises(InvalidSite, match=r"zone\.example\.test: no SOA"):
        await store.objects.apply(plan(Site(), site, {}), "me", "site", check_zone=refuse)
    assert await store.generation() == 0


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


async def test_filters_of_each_kind(filled: Store) -> None:
    """Filters match stored values, defaults for unset fields, and references."""
    cases = [
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
    for kind, filters, names in cases:
        wanted = Listing(kind, 10, filters=filters)
        assert [getattr(item, "name", "") for item in await filled.objects.page(wanted)] == names, (kind, filters)
        assert await filled.objects.count_some(wanted) == len(names)


async def test_filters_by_flags_and_numbers(filled: Store, site: Site) -> None:
    """Both databases match flags and numbers, stored or left out as defaults, in JSON and in columns."""
    gold = replace(site.tiers["gold"], require_proof=True)
    stored = await filled.objects.stored()
    with_proof = replace(site, tiers={**site.tiers, "gold": gold})
    await filled.objects.apply(plan(stored.site, with_proof, stored.origins), "me", "site")
    cases = [
        ("tier", {"require_proof": "true"}, ["gold"]),
        ("tier", {"require_proof": "false"}, ["blocked", "standard"]),
        ("tier", {"code": "2"}, ["standard"]),
        ("tier", {"dscp": "34", "require_proof": "true"}, ["gold"]),
        ("tier", {"dscp": "0"}, []),
        ("client", {"id": "1001"}, ["acme"]),
    ]
    for kind, filters, names in cases:
        wanted = Listing(kind, 10, filters=filters)
        assert [getattr(item, "name", "") for item in await filled.objects.page(wanted)] == names, filters
        assert await filled.objects.count_some(wanted) == len(names)


async def test_thousands_of_clients(filled: Store) -> None:
    """Ten thousand clients are applied at once and read in pages, and refreshing after one change is cheap."""
    await filled.objects.apply([put("client", client(n, match=())) for n in range(2000, 12000)], "me", "api")
    snapshot = await filled.snapshots.load()
    assert len(snapshot.site.clients) == 10002
    page = await filled.objects.page(Listing("client", 3, after=("c0005000", "c0005000")))
    assert [item.name for item in page] == ["c0005001", "c0005002", "c0005003"]
    one = client(6000)
    start = time.perf_counter()
    await filled.objects.apply([put("client", replace(one, tier="standard"), one)], "me", "api")
    after = await filled.snapshots.refresh(snapshot)
    assert time.perf_counter() - start < 1.0
    assert after.site.clients[one.name].tier == "standard"
    assert after.site.clients["c0005000"] is snapshot.site.clients["c0005000"]
