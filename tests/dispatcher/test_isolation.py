"""One pool, tier, client or cluster that makes any code raise costs its own flows alone: they are dropped, counted and
put down to it by name, all others are forwarded, and revocations are taken."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

import pytest

from dnsvip import dispatcher as package
from dnsvip.dispatcher import dispatch_tables
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import outcome
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.health.report import reported
from dnsvip.dispatcher.io.health import checks
from dnsvip.dispatcher.io.health.checks import Health, with_health
from dnsvip.dispatcher.io.health.probes import Result
from dnsvip.dispatcher.reason import Action
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import Check, Client, ClientState, Cluster, Pool, Rate, Server, Site, Snapshot, Tier
from tests.dispatcher.build import (
    CLIENTS,
    CLUSTER,
    EPOCH,
    KEYRING,
    MASTER,
    NOW_NS,
    POOLS,
    SITE,
    TIERS,
    address,
    segment,
    snapshot,
)
from tests.dispatcher.conftest import RINGS
from tests.injection import inject, places

PARTS = (
    "admission",
    "dispatch_tables",
    "engine",
    "known_flows",
    "new_flows",
    "unusual",
    "verify.verifier",
    "flows.maglev",
    "token_bucket",
    "stand_ins",
)
"""What deals with one object at a time."""

OTHER = replace(CLUSTER, name="bad", prefix=IPv6Network("2001:db8:bad::/64"), plain=IPv6Address("2001:db8:bad::1"))
BAD_SERVER = Server("bad", IPv6Address("fd00:bad::1"))
BAD_SITE = Site(
    clusters={**SITE.clusters, "bad": OTHER},
    tiers={**TIERS, "bad": Tier("bad", 14, "bad", rate=Rate(1000, 1000))},
    pools={**POOLS, "bad": Pool("bad", (BAD_SERVER,))},
    clients={**CLIENTS, "bad": Client("bad", 666, "gold")},
)


SEVERAL = ("_admitted", "_count_opened", "_select", "_lives", "_sticky", "admit", "verdict")
"""Functions that deal with several objects at a time: an error in them is put down to any one of these."""


def bad_snapshot(site: Site = BAD_SITE) -> Snapshot:
    """Of each kind good objects and a bad one."""
    assert isinstance(OTHER, Cluster)
    ring = type(KEYRING)(OTHER.address_layout, [EPOCH])
    return Snapshot(1, site, {"web": KEYRING, "bad": ring}, {"web": MASTER, "bad": MASTER})


def packets() -> list[bytes]:
    """First packets of flows: of the bad tier, of the bad client, to the bad cluster."""
    assert KEYRING.active
    tier = KEYRING.active[1].encode({"tier": 14, "client": 0, "expiry": 127, "nonce": 1})
    return [segment(tier), segment(address("gold", 666)), segment(int(OTHER.plain)), segment(int(OTHER.plain) + 99)]


def about_bad(value: object, depth: int = 2) -> bool:
    """Whether an argument is about a bad object."""
    if isinstance(value, str):
        return value == "bad"
    if isinstance(value, int):
        return value in (666, int(OTHER.plain))
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return depth > 0 and any(about_bad(item, depth - 1) for item in value[:8])
    parts = ("name", "cluster", "pool", "client", "address")
    return depth > 0 and any(about_bad(getattr(value, part, None), depth - 1) for part in parts)


@pytest.mark.parametrize(
    ("module", "name"), list(places(package, PARTS)), ids=lambda value: value.removeprefix("dnsvip.dispatcher.")
)
def test_injected(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    """Whichever function raises for the bad objects, each packet ends in one verdict, the good flows are forwarded as
    ever, and a client that is revoked is refused."""
    if not module.endswith(".maglev"):
        monkeypatch.setattr(dispatch_tables, "build_ring", RINGS)
    good = [segment(address("gold", 1001, nonce=n), port=1000 + n) for n in range(4)]
    right = DispatchTables(snapshot())
    flows = Flows(100)
    expected = [_server(outcome(each, right, flows, NOW_NS)[0]) for each in good]
    raised = inject(monkeypatch, package, (module, name), about_bad)
    tables, flows = DispatchTables(bad_snapshot()), Flows(100)
    seen = [outcome(each, tables, flows, NOW_NS)[0] for each in packets()]
    assert [_server(outcome(each, tables, flows, NOW_NS)[0]) for each in good] == expected
    if raised:
        assert tables.problems, (raised[:3], seen)
        named = {problem.where for problem in tables.problems}
        assert name.endswith(SEVERAL) or all("bad" in where or where == "dispatcher" for where in named), named
    clients = {**BAD_SITE.clients, "acme": replace(CLIENTS["acme"], state=ClientState.DISABLED)}
    later = DispatchTables(replace(bad_snapshot(replace(BAD_SITE, clients=clients)), generation=2), tables)
    verdict, _ = outcome(segment(address("gold", 1001), port=2000), later, flows, NOW_NS)
    assert (verdict.action, verdict.reason) == (Action.DROP, "revoked")


def _server(verdict: Verdict) -> str:
    """Its name; its number is another one beside a bad pool."""
    assert verdict.server is not None
    return verdict.server.name


@pytest.mark.parametrize(
    ("kind", "broken", "reasons"),
    [
        ("pools", {"servers": (None,)}, {0: "no-server"}),
        ("tiers", {"rate": 7}, {0: "tier-drop"}),
        ("tiers", {"code": []}, {0: "bad-payload"}),
        ("clients", {"proof": None}, {1: "failed"}),
        ("clusters", {"layout": 7}, {2: "plain", 3: "unknown-epoch"}),
        ("clusters", {"prefix": 7}, {2: "not-ours"}),
    ],
    ids=str,
)
def test_broken_records(kind: str, broken: dict[str, Any], reasons: dict[int, str]) -> None:
    """A record with a value that no rule would have let in: its packets are dropped for the reason that its stand-in
    gives, it is named, and once it is mended it is as any other."""
    objects: dict[str, Any] = dict(getattr(BAD_SITE, kind))
    site = replace(BAD_SITE, **{kind: {**objects, "bad": replace(objects["bad"], **broken)}})
    before = DispatchTables(bad_snapshot())
    for tables in (DispatchTables(bad_snapshot(site)), DispatchTables(bad_snapshot(site), before)):
        flows = Flows(100)
        seen = [outcome(packet, tables, flows, NOW_NS)[0] for packet in packets()]
        assert {at: seen[at].reason for at in reasons} == reasons
        assert outcome(segment(address("gold")), tables, flows, NOW_NS)[0].reason == "issued"
        assert [problem.where.split(".")[1] for problem in tables.problems] == ["bad"]
        assert all(seen[at].action is not Action.FORWARD for at in reasons)
        assert not DispatchTables(bad_snapshot(), tables).problems


def test_a_packet_that_fails_is_counted() -> None:
    """A packet at which the program fails has the verdict `failed`; its object is named once."""
    tables = DispatchTables(bad_snapshot())
    tables.limits.pop("bad")
    flows = Flows(100)
    first, again = (outcome(packets()[0], tables, flows, NOW_NS) for _ in range(2))
    assert (first[0].action, first[0].reason) == (Action.DROP, "failed")
    assert first[1] is not None
    assert first[1].where == "tier.bad"
    assert again[1] is None


async def test_a_check_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool whose check makes the health loop raise is named and stays as it is set; the others are checked on."""

    async def probed(*_: object) -> Result:
        return Result(passed=False, note="down")

    monkeypatch.setattr(checks, "_PROBES", {"tcp": probed})
    check = Check(tcp=1, interval=0.01, fall=1)
    server = Server("one", ip_address("fd00::1"))
    bad: tuple[dict[str, Any], ...] = ({"interval": "x"}, {"fall": None})
    pools = {f"bad{n}": Pool(f"bad{n}", (server,), check=replace(check, **each)) for n, each in enumerate(bad)}
    pools |= {"none": Pool("none", (None,), check=check), "good": Pool("good", (server,), check=check)}  # type: ignore[arg-type]
    health = Health()
    health.update(Snapshot(1, Site(pools=pools)))
    for _ in range(100):
        await asyncio.sleep(0.01)
        if health.applied().site.pools["good"].servers[0].state == "down" and len(health.problems) == 3:
            break
    assert health.applied().site.pools["good"].servers[0].state == "down"
    assert {problem.where for problem in health.problems} == {"pool.bad0", "pool.bad1", "pool.none"}
    status = with_health({"servers": []}, health)
    assert {row["pool"] for row in status["health"]} >= {"good"}
    report = reported(health.status(), status["problems"])
    assert set(report["broken_objects"]) == {"pool.bad0", "pool.bad1", "pool.none"}
    assert len(report["warnings"]) == 3
    await health.stop()
