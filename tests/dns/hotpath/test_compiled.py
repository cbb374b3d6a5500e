"""Templates that are ready when zones are loaded: what they are for, how many, and when they are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath import compiled
from dnsvip.dns.hotpath.compiled import Templates
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.site import Client, Site, Snapshot, Zone
from tests.dns.hotpath.test_fastpath import ask, question
from tests.dns.world import world_snapshot
from tests.samples import NOW

ANYBODY = IPv4Address(0)


@pytest.mark.parametrize(
    ("name", "rtype"),
    [
        ("www.example.test", 28),
        ("WWW.Example.Test", 1),
        ("www.example.test", 65),
        ("mail.example.test", 1),
        ("mail.example.test", 28),
        ("example.test", 6),
        ("example.test", 15),
        ("alias.example.test", 28),
        ("missing.example.test", 1),
        ("anything.wild.example.test", 1),
        ("anything.each.example.test", 28),
        ("host.sub.example.test", 28),
    ],
    ids=str,
)
def test_the_first_question_finds_its_answer_ready(name: str, rtype: int) -> None:
    """Names that exist, that do not, delegated ones and wildcards are answered at once, as the engine answers them."""
    engine = Engine(world_snapshot())
    [answer] = ask(FastPath(engine), [question(name, rtype)], [bytes(4)])
    assert answer is not None
    assert answer == engine.decide(question(name, rtype), ANYBODY, Arrival("public", Transport.UDP), NOW).wire


def test_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more templates are made than the bound says, those of services first; the rest is learned."""
    monkeypatch.setattr(compiled, "LOADED", 5)
    templates = Templates(Engine(world_snapshot()))
    assert 0 < len(templates.loaded) + len(templates._loaded_below) <= 5
    assert all(
        any(hole.service for hole in template.holes) or not template.holes for template in templates.loaded.values()
    )


def without_a_client(site: Site) -> Site:
    name = next(iter(site.clients))
    return replace(site, clients={n: client for n, client in site.clients.items() if n != name})


def another_client(site: Site) -> Site:
    return replace(site, clients={**site.clients, "another": Client("another", 999, "gold", ())})


def another_zone(site: Site) -> Site:
    text = "@ 60 SOA ns.late.test. h.late.test. 1 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.1\n"
    return replace(site, zones={**site.zones, "late.test": Zone("late.test", text)})


def without_a_service(site: Site) -> Site:
    name = next(iter(site.services))
    return replace(site, services={n: service for n, service in site.services.items() if n != name})


def another_ttl(site: Site) -> Site:
    name, cluster = next(iter(site.clusters.items()))
    return replace(site, clusters={**site.clusters, name: replace(cluster, ttl=cluster.ttl + 1)})


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (without_a_client, True),
        (another_client, True),
        (another_zone, False),
        (without_a_service, False),
        (another_ttl, False),
    ],
)
def test_what_a_change_leaves(change: Callable[[Site], Site], kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of clients makes no template anew, however many there are. One of names or TTLs makes all anew, but
    waits for none."""
    snapshot = world_snapshot()
    fast = FastPath(Engine(snapshot))
    made: list[object] = []
    learn = compiled.learn
    monkeypatch.setattr(compiled, "learn", lambda *args, **named: made.append(args) or learn(*args, **named))
    later = Engine(changed(snapshot, change), fast.engine)
    after = FastPath(later, fast)
    assert (after._templates.named is fast._templates.named) is kept
    assert not made
    before = len(fast._templates.loaded)
    steps = sum(1 for _ in after.load())
    assert bool(steps) is bool(made) is not kept
    assert len(after._templates.loaded) > before / 2
    wires = [question(name, rtype) for name in ("www.example.test", "a.example.test") for rtype in (1, 28, 65)]
    for wire, answer in zip(wires, ask(after, wires, [bytes(4)] * len(wires)), strict=True):
        assert answer in {None, later.decide(wire, ANYBODY, Arrival("public", Transport.UDP), NOW).wire}


def test_loading_goes_on_where_names_are_the_same() -> None:
    """A change of clients amid the loading goes on with it; the end has what a new start has."""
    snapshot = world_snapshot()
    first = FastPath(Engine(snapshot))
    second = FastPath(Engine(changed(snapshot, another_zone), first.engine), first)
    steps = second.load()
    for _ in range(7):
        next(steps)
    assert len(second._templates.loaded) + len(second._templates._loaded_below) <= 7
    third = FastPath(Engine(changed(changed(snapshot, another_zone), another_client), second.engine), second)
    for _ in third.load():
        pass
    assert next(steps, None) is None, "done twice"
    fresh = FastPath(Engine(changed(snapshot, another_zone)))
    assert third._templates.loaded.keys() == fresh._templates.loaded.keys()
    assert third._templates._loaded_below.keys() == fresh._templates._loaded_below.keys()


def changed(snapshot: Snapshot, change: Callable[[Site], Site]) -> Snapshot:
    return replace(snapshot, generation=snapshot.generation + 1, site=change(snapshot.site))
