"""Who has not asked before is identified in the kernel, as the engine does it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from math import inf
from random import Random

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Address, Ecs
from dnsvip.dns.io.xdp.pages import pages_for
from dnsvip.dns.io.xdp.records import records_for
from dnsvip.dns.synthesis.issuer import Kind
from dnsvip.site import Anonymous, Classify, Client, ClientState, Cluster, Match, Snapshot, Step
from dnsvip.site.identity.claims import PrefixTables
from tests.dns.dnssec.signed import P256, signed
from tests.dns.hotpath.test_fastpath import numbers, opt, question
from tests.dns.io.xdp.kernel import HOSTS, Kernel, loaded
from tests.dns.world import world_snapshot
from tests.long import long_or

pytestmark = pytest.mark.usefixtures("kernel")

DO = 0x80
TRUSTED = ("192.0.2.1/32", "192.0.2.3/32", "2001:db8:53::1/128")
RESOLVERS = [ip_address(text.partition("/")[0]) for text in TRUSTED]
NAMES = ("www.example.test", "hinted.example.test", "leaf.made.example.test")
LISTENERS = tuple(HOSTS)
CLIENTS, QUESTIONS = 600, long_or(400, long=200_000)
ROOM = {"pages": pages_for(20_000), "records": records_for(20_000)}
LENGTHS = {4: (8, 12, 16, 20, 22, 24, 25, 28, 31, 32), 6: (24, 32, 40, 44, 48, 56, 60, 64, 68, 96, 127, 128)}
"""Of networks that clients have."""
SOURCES = {4: (8, 16, 20, 24, 24, 24, 25, 32), 6: (32, 40, 48, 56, 56, 56, 64, 100, 128)}
"""SOURCE PREFIX-LENGTH of ECS options."""


def somewhere(random: Random) -> Address:
    """An address of a space that is small enough for networks to be nested."""
    if random.random() < 0.5:
        return IPv4Address((10 << 24) + random.getrandbits(random.choice((8, 16, 23))))
    high, low = random.getrandbits(random.choice((8, 16, 40))), random.getrandbits(56)
    return IPv6Address((0x20010DB8 << 96) + (high << 56) + low)


def clients_of(random: Random, ids: Iterable[int], taken: set[Match]) -> dict[str, Client]:
    """Clients with networks of both steps, some of them nested; none of those that are taken."""
    clients: dict[str, Client] = {}
    for id_ in ids:
        claims = set[Match]()
        for _ in range(3):
            address = somewhere(random)
            network = ip_network((address, random.choice(LENGTHS[address.version])), strict=False)
            claims.add(Match(random.choice((Step.ECS, Step.SOURCE)), str(network)))
        matches = tuple(sorted(claims - taken, key=str))
        taken |= claims
        state = ClientState.DISABLED if random.random() < 0.1 else ClientState.ENABLED
        tier, attributes = random.choice(("gold", "standard")), random.choice(({}, {"lang": "fr"}))
        clients[f"c{id_}"] = Client(f"c{id_}", id_, tier, matches, attributes=attributes, state=state)
    return clients


def site_of(clients: Mapping[str, Client], order: Sequence[Step], anonymous: Anonymous) -> Snapshot:
    world = world_snapshot()
    web = world.site.clusters["web"]
    assert isinstance(web, Cluster)
    site = replace(
        world.site,
        classify=Classify(tuple(order), tuple(ip_network(text) for text in TRUSTED)),
        clusters={**world.site.clusters, "web": replace(web, anonymous=anonymous)},
        clients={**world.site.clients, **clients},
    )
    return replace(world, site=site)


def asked(random: Random) -> tuple[bytes, Address, Ecs | None]:
    """A question of somebody who most likely has not asked before: message, source and ECS."""
    name, qtype, address = random.choice(NAMES), random.choice((1, 28, 28, 65)), somewhere(random)
    if random.random() < 0.4:
        return question(name, qtype, random.choice((opt(), opt(b"", DO), b""))), address, None
    bits = random.choice(SOURCES[address.version])
    network = ip_network((address, bits), strict=False).network_address
    whole = network.packed[: -(-bits // 8)]
    option = bytes((0, 8, 0, 4 + len(whole), 0, 1 if address.version == 4 else 2, bits, 0)) + whole
    source = random.choice([*RESOLVERS, ip_address("203.0.113.9"), ip_address("2001:db8:53::2"), somewhere(random)])
    return question(name, qtype, opt(option, random.choice((0, DO)))), source, Ecs(network, bits)


def is_left(engine: Engine, source: Address, ecs: Ecs | None, order: Sequence[Step]) -> bool:
    """Whether the program leaves the first question to the server: several are in its block, or in its network of 64
    bits, ECS is believed but not looked at, or a place would decide."""
    classifier = engine.tables.classifier
    if ecs is None or not classifier.trusts(source):
        is_unclear = ecs is not None and is_shared(classifier.trusted, source)
        return is_unclear or Step.GEO in order or is_shared(classifier.claims.prefixes[Step.SOURCE], source)
    if Step.ECS not in order:
        return True
    prefixes = classifier.claims.prefixes[Step.ECS][ecs.address.version]
    owner, scope = prefixes.match(int(ecs.address), ecs.source_prefix)
    is_mixed = scope > ecs.source_prefix or is_shared(classifier.claims.prefixes[Step.ECS], ecs.address)
    return is_mixed or (Step.GEO in order and not owner)


def is_shared(tables: PrefixTables, address: Address) -> bool:
    """Whether several owners are in the network of 64 bits of an IPv6 address."""
    return address.version == 6 and tables[6].match(int(address) >> 64 << 64, 64)[1] > 64


def wants_signatures(engine: Engine, wire: bytes) -> bool:
    """Whether the answer to a question takes a signature of its address."""
    at = wire.find(0, 12) + 5
    return engine.signs and len(wire) > at and bool(wire[at + 7] & DO)


def compare(kernel: Kernel, plain: Engine, behind: Engine, random: Random, order: Sequence[Step], number: int) -> int:
    """Ask so many questions once; how many the program has answered."""
    answered = 0
    for _ in range(number):
        wire, source, ecs = asked(random)
        listener = random.choice(LISTENERS)
        arrival = Arrival(listener, Transport.UDP)
        right = plain.decide(wire, source, arrival, kernel.now)
        plain.count(right)
        got = kernel.ask(wire, source, listener)
        if got is None:
            behind.count(behind.decide(wire, source, arrival, kernel.now))
            is_unsigned = wants_signatures(plain, wire) and (right.kind is not Kind.PLAIN or right.tier)
            assert right.kind is None or is_unsigned or is_left(plain, source, ecs, order), (wire, source, listener)
            continue
        answered += 1
        assert got == right.wire, (wire, source, listener)
    return answered


def ready(kernel: Kernel, edns: bytes = b"") -> None:
    """Have the program know the names, and who the resolvers are."""
    option = b"\0\x08\0\x07\0\1\x18\0\x09\x09\x09"
    for listener in LISTENERS:
        for wire in (question(name, qtype, edns) for name in NAMES for qtype in (1, 28, 65)):
            until_known(kernel, wire, "203.0.113.77", listener)
        for resolver in RESOLVERS:
            until_known(kernel, question(NAMES[0], 28, opt(option)), resolver, listener)
    kernel.learn()


def until_known(kernel: Kernel, wire: bytes, source: str | Address, listener: str) -> None:
    """Ask until the program answers: others may have the place of what was missing once."""
    for _ in range(40):
        if kernel.ask(wire, source, listener) is not None:
            return
        kernel.learn()
    raise AssertionError(kernel.feeder.reasons())


def geo(address: Address) -> tuple[tuple[tuple[str, int], ...], int]:
    """Half of all is in one place."""
    return ((("country:DE", 24),) if int(address) >> 8 & 1 else ()), 24


ORDERS: Mapping[str, tuple[Sequence[Step], Anonymous]] = {
    "usual": ((Step.TSIG, Step.ECS, Step.SOURCE, Step.LISTENER), Anonymous.ENCODED),
    "plain": ((Step.ECS, Step.LISTENER, Step.SOURCE), Anonymous.PLAIN),
    "source": ((Step.SOURCE,), Anonymous.ENCODED),
    "places": ((Step.ECS, Step.GEO, Step.SOURCE), Anonymous.ENCODED),
}


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
    for room in ({**ROOM, "pages": 6}, {**ROOM, "records": 100}, {"pages": 1, "records": 1}):
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
        answers = {kernel.ask(question(NAMES[0]), "203.0.113.201")}
        assert requesters.count() == before
        for _ in range(40):  # others may have the place where it is remembered
            answers.add(kernel.ask(question(NAMES[0]), "203.0.113.201"))
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
