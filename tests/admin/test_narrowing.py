"""Looks at the whole site, by tokens whose scope of the look is narrowed: nothing tells of what it does not reach."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.core import GaugeMetricFamily, Metric

from dnsvip.admin.app import make_app
from dnsvip.admin.http.narrowing import Narrowed
from dnsvip.admin.node import NODE
from dnsvip.admin.operations.nodes import as_seen
from dnsvip.site import Zone
from dnsvip.site.epochs import NodeReport
from dnsvip.site.rights import Action, Scope
from dnsvip.store import Token
from dnsvip.telemetry.observed import Observed
from tests.admin.conftest import Api, read
from tests.admin.test_refusals import check
from tests.admin.test_tokens import made

GOLD = Narrowed({"tier": ("gold",), "zone": ("a.test",), "cluster": ("web",), "client": ("a*",)})


def test_documents() -> None:
    """Tables by name, lists of names and rows that name an object lose what is hidden, however deep they are."""
    status = {
        "generation": 3,
        "tiers": {"gold": 1, "standard": 2},
        "new_flows": {"standard": {"tcp": 1}, "gold": {"tcp": 2}},
        "servers": [{"name": "s", "tier": "standard"}, {"name": "t", "tier": "gold"}, {"name": "u"}],
        "deep": [{"more": {"broken_zones": ["a.test", "b.test"]}}],
        "rcodes": {"NOERROR": 5},
        "broken_objects": ["client.acme", "client.b", "pool.p"],
        "problems": [{"where": "client.b", "message": "x"}, {"where": "pool.p", "message": "y"}],
    }
    assert GOLD.document(status) == {
        "generation": 3,
        "tiers": {"gold": 1},
        "new_flows": {"gold": {"tcp": 2}},
        "servers": [{"name": "t", "tier": "gold"}, {"name": "u"}],
        "deep": [{"more": {"broken_zones": ["a.test"]}}],
        "rcodes": {"NOERROR": 5},
        "broken_objects": ["client.acme", "pool.p"],
        "problems": [{"where": "pool.p", "message": "y"}],
    }
    assert Narrowed({}).document(status) is status
    assert GOLD.totals(["dns.tiers.gold", "dns.tiers.standard", "dns.rcodes.NOERROR", "dns.x"]) == {
        "dns.tiers.gold",
        "dns.rcodes.NOERROR",
        "dns.x",
    }


async def test_warnings_of_nodes(api: Api) -> None:
    """A node's warning about a zone, and the zone's name, are for those whose look reaches the zone."""
    detail: dict[str, Any] = {
        "warnings": [
            "generation 9 cannot be taken: zone.b.test",
            "zone.a.test gets SERVFAIL",
            "zone.b.test gets SERVFAIL",
        ],
        "about": ["", ["zone", "a.test"], ["zone", "b.test"]],
        "broken_zones": ["a.test", "b.test"],
    }
    report = NodeReport("n", frozenset({"dns"}), 1, "0", api.store and 4e9, 5.0, "x", detail=detail)
    await api.store.nodes.report(report)
    whole = (await api.ok("GET", "nodes/n"))["processes"][0]
    assert whole["warnings"] == detail["warnings"]
    assert whole["detail"] == {"broken_zones": detail["broken_zones"]}
    look = {"actions": ["read"], "kinds": ["node", "status"], "zones": ["a.test"]}
    headers = await made(api, scopes=[look])
    for path in ("nodes", "nodes/n", "status"):
        answer = await api("GET", path, headers=headers)
        assert answer.status == 200
        assert "zone.a.test gets SERVFAIL" in answer.text
        assert "2 more, which this token may not see" in answer.text
        assert "b.test" not in answer.text


def test_warnings_of_older_nodes() -> None:
    """A node of a version that does not say what its warnings are about tells a narrowed look their number only."""
    row = {"name": "n", "warnings": ["zone.a.test gets SERVFAIL"], "about": [""], "detail": {}}
    assert as_seen(row, GOLD) == {"name": "n", "warnings": ["1 more, which this token may not see"], "detail": {}}
    assert as_seen(row, Narrowed({})) == {"name": "n", "warnings": row["warnings"], "detail": {}}


async def test_metrics(api: Api) -> None:
    """Samples with the label of a hidden object are left out, and so are counts of objects of a narrowed kind."""

    async def families() -> list[Metric]:
        flows = GaugeMetricFamily("flows", "Flows.", labels=["tier"])
        objects = GaugeMetricFamily("objects", "Objects.", labels=["kind"])
        for name in ("gold", "standard"):
            flows.add_metric([name], 1)
        for name in ("tier", "pool"):
            objects.add_metric([name], 7)
        return [flows, objects]

    app: web.Application = api.client.server.app  # type: ignore[attr-defined]  # a TestServer of an application
    look = {"actions": ["read"], "kinds": ["metrics"]}
    texts = []
    for name, scope in (("whole", look), ("part", look | {"tiers": ["gold"]})):
        headers = await made(api, name, scopes=[scope])
        observed = make_app(app[NODE], Observed(families, list))
        async with TestClient(TestServer(observed)) as client, client.get("/metrics", headers=headers) as response:
            texts.append((await read(response)).text)
    assert 'tier="standard"' in texts[0]
    assert 'kind="tier"' in texts[0]
    assert 'tier="gold"' in texts[1]
    assert 'kind="pool"' in texts[1]
    assert "standard" not in texts[1]
    assert 'kind="tier"' not in texts[1]


async def test_what_an_object_refers_to(api: Api) -> None:
    """What a cluster, a service or a zone names newly lies within the scope that writes it."""
    await api.ok("PUT", "tsig/spare-key", {"secret": "c2VjcmV0IHNlY3JldCBzZWNyZXQ="})
    scope = {"actions": ["read", "write"], "kinds": ["cluster", "service", "zone"]}
    headers = await made(api, scopes=[scope | {"tiers": ["gold"], "clusters": ["web"], "tsig": ["acme-*"]}])
    for path, body in (
        ("clusters/web", {"default_tier": "blocked"}),
        ("services/new.example.test", {"cluster": "web", "cluster4": "legacy"}),
        ("zones/example.test", {"transfer": {"tsig": "spare-key"}}),
    ):
        method = "PUT" if "new" in path else "PATCH"
        answer = await api(method, path, body, headers=headers)
        check(answer, "forbidden")
        assert "that reaches the" in answer.text
    assert (await api("PATCH", "clusters/web", {"default_tier": "gold"}, headers=headers)).status == 200
    await api.ok("PUT", "services/new.example.test", {"cluster": "web"}, headers=headers)
    assert (await api("PATCH", "services/www.example.test", {"cluster4": "legacy"}, headers=headers)).status == 200


async def test_a_whole_site_needs_a_whole_scope(api: Api) -> None:
    """Who may write some objects of every kind does not thereby replace the whole site."""
    headers = await made(api, scopes=[{"actions": ["read", "write", "delete"], "kinds": ["*"], "clients": ["a*"]}])
    check(await api("POST", "apply?dry_run=true", {}, headers=headers), "forbidden")
    assert (await api("PATCH", "tiers/gold", {"dscp": 12}, headers=headers)).status == 200


async def test_an_import_does_not_tell_which_tiers_there_are(api: Api) -> None:
    """A line is refused for its rights before the rules of the site are asked, so a hidden tier is like none."""
    scope = {"actions": ["write"], "kinds": ["client"], "tiers": ["standard"]}
    headers = await made(api, scopes=[scope])
    told = []
    for tier in ("blocked", "nowhere"):
        line = f'{{"name": "new", "id": 70, "tier": "{tier}"}}\n'.encode()
        told.append((await api("POST", "clients/import", data=line, headers=headers)).text.replace(tier, "TIER"))
    assert told[0] == told[1]
    assert "lacks a scope" in told[0]


async def test_decode_does_not_map_hidden_clusters(api: Api) -> None:
    """To who may not see a cluster, an address in it is like one in none, and no prefix is named."""
    headers = await made(api, scopes=[{"actions": ["read"], "kinds": ["decode"], "clusters": ["legacy"]}])
    told = [
        (await api("GET", f"decode?address={each}", headers=headers)) for each in ("2001:db8:a:1::1", "2001:db8::1")
    ]
    assert [answer.status for answer in told] == [403, 403]
    assert told[0].text == told[1].text
    assert "2001:db8" not in told[0].text
    assert (await api("GET", "decode?address=192.0.2.8", headers=headers)).status == 200


async def test_explain_shows_no_hidden_zone(api: Api) -> None:
    """An explained answer with records of a zone is for those whose look reaches the zone."""
    scope = {"actions": ["read"], "kinds": ["explain"]}
    path = "explain?qname=mail.example.test&qtype=A&source=192.0.2.99"
    whole = await made(api, "whole", scopes=[scope])
    part = await made(api, "part", scopes=[scope | {"zones": ["other.test"]}])
    assert "192.0.2.25" in (await api("GET", path, headers=whole)).text
    check(await api("GET", path, headers=part), "forbidden")


async def test_catalogs_need_all_zones(api: Api) -> None:
    """A token for some zones makes none of them a catalog, which would make zones of any name, or tell all."""
    scope = {"actions": ["read", "write"], "kinds": ["zone"]}
    part = await made(api, "part", scopes=[scope | {"zones": ["*.test"]}])
    whole = await made(api, "whole", scopes=[scope])
    wanted = {"primaries": ["192.0.2.1:53"], "catalog": "consume"}
    for token, status in ((part, 403), (whole, 201)):
        assert (await api("PUT", "zones/catalog.test", wanted, headers=token)).status == status
    for changed in ({"primaries": ["192.0.2.2:53"]}, {"catalog": "produce", "primaries": []}):
        assert (await api("PATCH", "zones/catalog.test", changed, headers=part)).status == 403
    assert (await api("PUT", "zones/secondary.test", {"primaries": ["192.0.2.1:53"]}, headers=part)).status == 201


async def test_thousands_of_patterns_take_no_time(api: Api) -> None:
    """A token that names more patterns than a new one may keeps nobody waiting: what it looks at takes the event loop's
    time, which DNS has too."""
    dice = random.Random(3)

    def patterns() -> tuple[str, ...]:
        return tuple("".join(f"*{dice.choice('abc')}" for _ in range(30)) for _ in range(64))

    kinds = ("clusters", "zones", "clients", "tiers", "tsig")
    scopes = tuple(Scope((Action.READ,), ("*",), **{kind: patterns() for kind in kinds}) for _ in range(16))
    token = await api.store.tokens.create("many", "test", Token("many", 0.0, "", scopes=scopes))
    served = api.snapshots[-1].site
    zones = {name: Zone(name, primaries=("192.0.2.1:53",)) for name in (f"z{number}.test" for number in range(800))}
    api.snapshots.append(replace(api.snapshots[-1], site=replace(served, zones={**served.zones, **zones})))
    longest = await asyncio.wait_for(_longest_turn(api, token), 60)
    assert longest < 0.3


async def _longest_turn(api: Api, token: str) -> float:
    """For how long, in processor seconds, a caller that looks at everything holds the event loop at a time."""
    longest, done = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        before = time.process_time()
        while not done.is_set():
            await asyncio.sleep(0)
            longest, before = max(longest, time.process_time() - before), time.process_time()

    watching = asyncio.create_task(watch())
    for path in ("clients/acme", "search?q=acme", "clients", "services", "audit", "status", "usage"):
        answer = await api("GET", path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status == (403 if path == "clients/acme" else 200), (path, answer.text)
    done.set()
    await watching
    return longest
