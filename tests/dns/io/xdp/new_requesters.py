"""Requesters that have not asked before, of sites with many networks, and what the program says to their questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from random import Random

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Address, Ecs
from dnsvip.dns.io.xdp.pages import pages_for
from dnsvip.dns.io.xdp.records import records_for
from dnsvip.dns.synthesis.issuer import Kind
from dnsvip.site import (
    Anonymous,
    Classify,
    Client,
    ClientState,
    Cluster,
    Match,
    Snapshot,
    Step,
)
from dnsvip.site.identity.claims import PrefixTables
from tests.dns.hotpath.test_fastpath import opt, question
from tests.dns.io.xdp.kernel import HOSTS, Kernel
from tests.dns.world import world_snapshot
from tests.long import long_or
from tests.samples import snapshot_of

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


def site_of(
    clients: Mapping[str, Client], order: Sequence[Step], anonymous: Anonymous, web: Cluster | None = None
) -> Snapshot:
    world = world_snapshot()
    web = web or web_of(world)
    site = replace(
        world.site,
        classify=Classify(tuple(order), tuple(ip_network(text) for text in TRUSTED)),
        clusters={**world.site.clusters, "web": replace(web, anonymous=anonymous)},
        clients={**world.site.clients, **clients},
    )
    return snapshot_of(site)


def web_of(snapshot: Snapshot) -> Cluster:
    web = snapshot.site.clusters["web"]
    assert isinstance(web, Cluster)
    return web


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
