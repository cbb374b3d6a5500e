"""Who has not asked before is identified in the kernel, as the engine does it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv6Network, ip_address
from itertools import product
from math import inf
from random import Random

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.site import Anonymous, Client, Match, Service, SessionFrom, Step
from dnsvip.site.node_dns import Listener
from tests.dns.dnssec.signed import P256, signed
from tests.dns.hotpath.test_fastpath import numbers, opt, question
from tests.dns.io.xdp.kernel import loaded
from tests.dns.io.xdp.new_requesters import (
    CLIENTS,
    DO,
    LISTENERS,
    NAMES,
    ORDERS,
    QUESTIONS,
    RESOLVERS,
    ROOM,
    asked,
    clients_of,
    compare,
    geo,
    ready,
    site_of,
    somewhere,
    web_of,
)
from tests.dns.world import world_snapshot
from tests.samples import snapshot_of

pytestmark = [pytest.mark.usefixtures("kernel"), pytest.mark.timeout(7200)]


@pytest.mark.parametrize("which", ORDERS)
def test_new_requesters_get_what_the_engine_gives(which: str) -> None:
    """Whatever the order of steps, the first question of a prefix or source is answered in the kernel, with the
    engine's bytes and counters."""
    order, anonymous = ORDERS[which]
    random = Random(which)
    clients = clients_of(random, range(2000, 2000 + CLIENTS), set())
    clients["placed"] = Client("placed", 1999, "gold", (Match(Step.GEO, "country:DE"),))
    snapshot = site_of(clients, order, anonymous)
    plain, behind = Engine(snapshot, geo=geo), Engine(snapshot, geo=geo)
    with loaded(FastPath(behind), **ROOM) as kernel:
        ready(kernel)
        kernel.feeder.collect(Engine(snapshot).counters)
        answered = compare(kernel, plain, behind, random, order, QUESTIONS)
        assert kernel.feeder.collect(behind.counters) == answered > QUESTIONS // 5
        assert numbers(plain) == numbers(behind)


LAYOUTS: Sequence[tuple[str, Sequence[tuple[str, int]], int]] = (
    ("2001:db8:a:1::/64", (("tier", 4), ("client", 14), ("session", 12), ("nonce", 7)), 24),
    ("2001:db8:a:1::/64", (("session", 12), ("tier", 4), ("client", 14), ("expiry", 7)), 24),
    ("2001:db8::/32", (("expiry", 9), ("client", 11), ("session", 31), ("tier", 4), ("nonce", 25)), 13),
)


@pytest.mark.parametrize(("prefix", "layout", "tag_bits"), LAYOUTS)
@pytest.mark.parametrize("labels", [False, True])
def test_new_requesters_get_sessions(
    prefix: str, layout: Sequence[tuple[str, int]], tag_bits: int, *, labels: bool
) -> None:
    """Where the layout has a session, strangers have that of their prefix, and clients theirs: also from when labels
    name other ones."""
    order, anonymous = ORDERS["usual"]
    random, network = Random(prefix + layout[0][0]), IPv6Network(prefix)
    web = replace(
        web_of(world_snapshot()),
        prefix=network,
        plain=network[1],
        layout=tuple(layout),
        tag_bits=tag_bits,
        claims=(),
    )
    clients = clients_of(random, range(1100, 1100 + CLIENTS), set())
    before = snapshot = site_of(clients, order, anonymous, web)
    if labels:
        named = Service("*.s.example.test", "web", session=SessionFrom.LABEL)
        services = {**before.site.services, named.name: named}
        snapshot = replace(before, site=replace(before.site, services=services))
    plain, behind = Engine(snapshot), Engine(before)
    with loaded(fast := FastPath(behind), **ROOM) as kernel:
        ready(kernel)
        behind = Engine(snapshot, behind)
        kernel.feeder.use(FastPath(behind, fast))
        kernel.at(kernel.now)
        ready(kernel)
        kernel.feeder.collect(Engine(snapshot).counters)
        answered = compare(kernel, plain, behind, random, order, QUESTIONS // 2)
        assert kernel.feeder.collect(behind.counters) == answered > QUESTIONS // 10
        assert numbers(plain) == numbers(behind)


def test_new_requesters_get_signed_addresses() -> None:
    """Whose address has been signed for somebody else gets it in the kernel with his first question, signature and
    all."""
    order, _ = ORDERS["usual"]
    random = Random(7)
    clients = clients_of(random, range(2000, 2000 + CLIENTS), set())
    snapshot = signed(site_of(clients, order, Anonymous.PLAIN), {"example.test": P256})
    plain, behind = Engine(snapshot), Engine(snapshot)
    behind._signatures = behind.signer.signatures = plain._signatures  # of which no two are equal
    with loaded(FastPath(behind), **ROOM) as kernel:
        for edns in (b"", opt(b"", DO)):
            ready(kernel, edns)
        kernel.feeder.collect(Engine(snapshot).counters)
        answered = compare(kernel, plain, behind, random, order, QUESTIONS)
        assert kernel.feeder.collect(behind.counters) == answered > QUESTIONS // 5
        assert numbers(plain) == numbers(behind)


def test_changes_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that change, come and go are so for the program too, once it has all of it; until then, who has not asked
    before is the server's. A change may come while another one is followed."""
    order, anonymous = ORDERS["usual"]
    random = Random(4)
    taken: set[Match] = set()
    clients = clients_of(random, range(2000, 2000 + CLIENTS), taken)
    plain = behind = Engine(site_of(clients, order, anonymous))
    fast = FastPath(behind)
    with loaded(fast, **ROOM) as kernel:
        ready(kernel)
        for turn in range(8):
            for name in random.sample(sorted(clients), 1 if turn % 2 else 200):
                changed = clients.pop(name)
                if random.random() < 0.8:
                    tier = {"gold": "standard", "standard": "gold"}[changed.tier]
                    clients[name] = replace(changed, tier=tier, match=changed.match[: random.randrange(4)])
            clients |= clients_of(random, range(4000 + 100 * turn, 4010 + 100 * turn), taken)
            snapshot = site_of(clients, order, anonymous)
            plain, behind = Engine(snapshot), Engine(snapshot, behind)
            fast = FastPath(behind, fast)
            kernel.feeder.use(fast)
            kernel.feeder.work(inf)  # the program still answers as before
            kernel.at(kernel.now)
            wire, source, _ = question(NAMES[0]), somewhere(random), None
            assert kernel.ask(wire, source) is None
            if turn % 3 == 1:  # it is left half done
                for _ in range(random.randrange(1, 6)):
                    with monkeypatch.context() as clock:
                        clock.setattr(time, "monotonic", iter((0, 2)).__next__)
                        assert not kernel.feeder.work(1)
                assert kernel.ask(wire, source) is None
                continue
            ready(kernel)
            assert compare(kernel, plain, behind, random, order, 100) > 20


def test_runs_under_way_end_before_anything_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program may still read by the generation before stays for a moment after each change."""
    order, anonymous = ORDERS["usual"]
    snapshot = site_of(clients_of(Random(6), range(2000, 2010), set()), order, anonymous)
    engine = Engine(snapshot)
    fast = FastPath(engine)
    with loaded(fast, **ROOM) as kernel, monkeypatch.context() as clock:
        feeder, now = kernel.feeder, time.monotonic()
        for start in (now, now + 100):
            feeder.use(fast := FastPath(Engine(snapshot, engine), fast))
            clock.setattr(time, "monotonic", lambda start=start: start)
            kernel.at(kernel.now)
            assert not feeder.has_settled()
            clock.setattr(time, "monotonic", lambda start=start: start + 1)
            kernel.at(kernel.now)
            assert feeder.has_settled()


def test_no_room() -> None:
    """Where not all prefixes have room, those that do not are the server's."""
    order, anonymous = ORDERS["usual"]
    random = Random(5)
    snapshot = site_of(clients_of(random, range(2000, 5000), set()), order, anonymous)
    plain, behind = Engine(snapshot), Engine(snapshot)
    for room in ({**ROOM, "pages": 2}, {**ROOM, "records": 2}, {"pages": 1, "records": 1}):
        with loaded(FastPath(behind), **room) as kernel:
            ready(kernel)
            assert kernel.feeder.prefixes.is_lacking == (room["pages"] > 1)
            for _ in range(100):
                wire, source, _ = asked(random)
                got = kernel.ask(wire, source)
                right = plain.decide(wire, source, Arrival("public", Transport.UDP), kernel.now)
                assert got in (None, right.wire)


def test_who_asks_again_is_kept() -> None:
    """The second question of a prefix has its address kept for further ones."""
    order, anonymous = ORDERS["usual"]
    with loaded(FastPath(Engine(site_of({}, order, anonymous))), **ROOM) as kernel:
        ready(kernel)
        requesters = kernel.maps["requesters"]
        before = requesters.count()
        answers = {kernel.ask(question(NAMES[0]), "203.0.114.201")}
        assert requesters.count() == before
        for n in range(40):  # others may have the place where it is remembered
            answers.add(kernel.ask(question(NAMES[0]), f"203.0.114.{n}"))
        assert requesters.count() == before + 1
        assert len(answers) == 1


def test_ipv6_networks_longer_than_64_bits() -> None:
    """A network of 64 bits that several share is the server's, and no other one."""
    order, anonymous = ORDERS["usual"]
    client = Client("one", 2000, "gold", (Match(Step.SOURCE, "2001:db8:9::1/128"),))
    engine = Engine(site_of({"one": client}, order, anonymous))
    with loaded(FastPath(engine), **ROOM) as kernel:
        ready(kernel)
        assert kernel.ask(question(NAMES[0]), "2001:db8:9::1") is None
        assert kernel.ask(question(NAMES[0]), "2001:db8:9::2") is None
        assert kernel.ask(question(NAMES[0]), "2001:db8:9:1::1")
        assert kernel.ask(question(NAMES[0]), "2001:db8:8:ffff::1")
        assert not kernel.feeder.prefixes.is_lacking


@pytest.mark.parametrize("which", ["plain", "source"])
@pytest.mark.parametrize("clients", [10, 1000])
def test_the_kernel_keeps_whom_sources_are_taken_for(which: str, clients: int) -> None:
    """Of many sources of few networks the kernel keeps one record for each client and each prefix of strangers, none
    of strangers who have one address for all; each source gets what the engine gives, also in the next slot."""
    order, anonymous = ORDERS[which]
    network = Match(Step.SOURCE, "198.18.9.0/24")
    taken = {network}
    snapshot = site_of(
        {
            "one": Client("one", 3999, "gold", (network,)),
            **clients_of(Random(which), range(2000, 2000 + clients), taken),
        },
        order,
        anonymous,
    )
    wire = question("www.example.test", 28)
    with loaded(FastPath(engine := Engine(snapshot)), **ROOM) as kernel:
        ready(kernel)
        kernel.maps["requesters"].clear()
        for now in (kernel.now, kernel.now + 100_000):
            kernel.at(now)
            for n in range(32):
                for third in (7, 8, 9):
                    source = ip_address(f"198.18.{third}.{n}")
                    right = engine.decide(wire, source, Arrival("public", Transport.UDP), now)
                    for _ in range(3):
                        assert kernel.ask(wire, source) == right.wire
        kept = kernel.maps["requesters"].count()
    assert kept == (1 if anonymous is Anonymous.PLAIN else 3)


def test_ecs_prefixes_share_what_they_are_taken_for() -> None:
    """Of many ECS options in few networks, and of sources in the same, the kernel keeps one record for each whom they
    are taken for; scope and step are those of each question."""
    order, anonymous = ORDERS["usual"]
    client = Client("one", 3999, "gold", (Match(Step.ECS, "198.18.9.0/24"), Match(Step.SOURCE, "198.18.8.0/23")))
    snapshot = site_of({"one": client}, order, anonymous)
    plain, behind = Engine(snapshot), Engine(snapshot)
    arrival = Arrival("public", Transport.UDP)
    with loaded(FastPath(behind), **ROOM) as kernel:
        ready(kernel)
        kernel.feeder.collect(Engine(snapshot).counters)
        kernel.maps["requesters"].clear()
        for n in range(32):
            for third in (7, 9):
                option = bytes((0, 8, 0, 8, 0, 1, 32, 0, 198, 18, third, n))
                asked = [(opt(option), RESOLVERS[0]), (opt(), ip_address(f"198.18.{third}.{n}"))]
                for edns, source in asked * 2:
                    wire = question("www.example.test", 28, edns)
                    right = plain.decide(wire, source, arrival, kernel.now)
                    plain.count(right)
                    assert kernel.ask(wire, source) == right.wire
        kernel.feeder.collect(behind.counters)
        kept = kernel.maps["requesters"].count()
    assert numbers(plain) == numbers(behind)
    assert kept == 2


def test_strangers_of_one_prefix_differ_by_cluster_and_tier() -> None:
    """Strangers of one prefix have an address for each cluster, and for the tier of each listener, however often they
    ask."""
    order, anonymous = ORDERS["usual"]
    before = site_of({}, order, anonymous)
    web = web_of(before)
    network = IPv6Network("2001:db8:b::/64")
    other = replace(web, name="other", prefix=network, plain=network[1], claims=())
    site = replace(
        before.site,
        clusters={**before.site.clusters, "other": other},
        services={**before.site.services, NAMES[1]: Service(NAMES[1], "other")},
        clients={name: client for name, client in before.site.clients.items() if name != "six"},
    )
    listeners = Listener("127.0.0.1:0", "public"), Listener("[::1]:0", "six", tier="gold")
    engine, seen = Engine(snapshot_of(site), listeners=listeners), set[bytes]()
    with loaded(FastPath(engine), **ROOM) as kernel:
        ready(kernel)
        kernel.maps["requesters"].clear()
        for n in range(32):
            source = ip_address(f"198.18.7.{n}")
            for name, listener in product(NAMES[:2], LISTENERS):
                wire = question(name, 28)
                for _ in range(2):
                    right = engine.decide(wire, source, Arrival(listener, Transport.UDP), kernel.now)
                    assert kernel.ask(wire, source, listener) == right.wire
                seen.add(right.wire[-16:])
        assert kernel.maps["requesters"].count() == len(seen) == 4


def test_who_asks_often_is_found_again_until_it_changes() -> None:
    """Who has got an address lately gets the same in its slot, without a record, and another one as soon as the clients
    change, or the slot ends."""
    order, anonymous = ORDERS["usual"]
    source, wire = "198.18.7.1", question("www.example.test", 28)
    engine = Engine(site_of({}, order, anonymous))
    with loaded(fast := FastPath(engine), **ROOM) as kernel:
        ready(kernel)
        answers = [kernel.ask(wire, source) for _ in range(3)]
        kernel.maps["requesters"].clear()
        assert kernel.ask(wire, source) == answers[0] == answers[2]
        kernel.at(kernel.now + 100_000)
        assert kernel.ask(wire, source) not in (None, answers[0])
        client = Client("one", 3999, "gold", (Match(Step.SOURCE, "198.18.7.0/24"),))
        changed = Engine(site_of({"one": client}, order, anonymous), engine)
        kernel.feeder.use(FastPath(changed, fast))
        kernel.at(kernel.now)
        assert kernel.ask(wire, source) is None
        kernel.feeder.work(inf)
        right = changed.decide(wire, ip_address(source), Arrival("public", Transport.UDP), kernel.now)
        assert kernel.ask(wire, source) == right.wire
