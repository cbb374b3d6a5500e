"""The fast path gives what the engine gives: generated queries through both, byte by byte and number by number."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address
from itertools import islice

import pytest

from dnsvip.dns import two_generation_cache
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.hotpath.hits import Miss, reply_of
from dnsvip.dns.hotpath.keys import WIDTH, key_of
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Address
from dnsvip.dns.io.responder import Responder
from dnsvip.dns.protection.cookies import Cookies
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.dns.protocol.names import Labels, flat_name
from dnsvip.dns.protocol.parser import parse
from dnsvip.dns.two_generation_cache import TwoGenerationCache
from dnsvip.site import Anonymous, Cluster, DnssecAlgorithm, DnssecDenial, NonceOf, Snapshot, Zone
from tests.dns.dnssec.signed import ED25519, P256, signed
from tests.dns.world import world_snapshot
from tests.long import long_or
from tests.samples import NOW, snapshot_of

ROUNDS, BATCH, BATCHES = 6, 64, long_or(90, long=275)
"""6 times 275 times 64 are more than a hundred thousand queries, a sample is a third of them."""

SOURCES = [
    ip_address(text) for text in ("127.0.0.1", "127.0.0.3", "203.0.113.9", "::1", "2001:db8:77::5", "2001:db8::1")
]
TYPES = (1, 2, 5, 6, 12, 15, 16, 28, 33, 39, 43, 64, 65, 255, 257, 1, 28, 28, 28, 0, 41, 249, 250, 251, 252, 65280, 300)
SIZES = (0, 511, 512, 600, 1232, 4096, 65535)
FLAGS = (0, 0x0100, 0x0100, 0x0120, 0x0010, 0x0400, 0x0200, 0x8000, 0x2000, 0x2800, 0x0800, 0x7800, 0x000F)

JAR = Cookies([bytes(range(16))])
COOKIES = [
    cookie
    for source in SOURCES
    for cookie in (bytes(8), *(JAR.check(bytes(8), source.packed, at).answer for at in (NOW, NOW - 2000, NOW - 9000)))
]
"""Client cookies, and server cookies of all sources: fresh, to be renewed, too old."""


BIG = "\n".join(
    ["@ 60 SOA ns h 1 1 1 1 1", "@ 60 NS ns", "ns 60 A 192.0.2.1", f"c7{'x' * 60} 60 CNAME www.example.test."]
    + [f"c{n}{'x' * 60} 60 CNAME c{n + 1}{'x' * 60}" for n in range(7)]
    + [f"a{size} 60 A 192.0.2.{n}" for size in (30, 70, 80, 200) for n in range(size)]
    + [f"m{size} 60 MX {n} mx{n % 12}.m" for size in (30, 70, 200) for n in range(size)]
    + [f"mx{n}.m 60 {data}{n}" for n in range(12) for data in ("A 192.0.2.", "AAAA 2001:db8::", "AAAA 2001:db8:1::")]
    + [f"_s._tcp 60 SRV 0 0 {n} mx{n % 12}.m" for n in range(20)]
    + [f"*.w 60 TXT {'t' * 40}{n}" for n in range(40)]
    + [f"cut 60 NS ns{n}.cut\nns{n}.cut 60 A 192.0.2.{n}\nns{n}.cut 60 A 192.0.3.{n}" for n in range(12)]
    + [f"far 60 NS mx{n}.m" for n in range(12)]
)
"""A zone with record sets, delegations and aliases that do not fit an answer over UDP, or only one with EDNS."""


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    world = replace(world_snapshot(), cookie_secrets=(bytes(range(16)), bytes(16)))
    zones = {**world.site.zones, "big.test": Zone("big.test", BIG)}
    return replace(world, site=replace(world.site, zones=zones))


def names_of(engine: Engine) -> list[Labels]:
    zones = [zone for zone in engine.zones.by_apex.values() if zone]
    existing = {name for zone in zones for name in zone.nodes} | set(engine.zones.services)
    targets = {
        target for zone in zones for node in zone.nodes.values() for rrset in node.values() for target in rrset.targets
    }
    return sorted(
        existing | targets | {(), (b"invalid",), (b"www", b"outside", b"invalid"), (b"nul\0label", b"example", b"test")}
    )


class Requesters:
    """Generated messages, from one seed the same ones; most are asked again and again, as real ones are."""

    def __init__(self, names: list[Labels], services: list[Labels], seed: int) -> None:
        self.random = random.Random(seed)
        self.names, self.services = names, services
        self.popular = [*self.random.sample(names, len(names) // 4), *services * 3]
        self.asked: list[bytes] = []

    def message(self) -> bytes:
        chance = self.random.random()
        if self.asked and chance < 0.4:
            wire = self.random.choice(self.asked)
        else:
            wire = self._query()
            if chance > 0.97:
                wire = self._damage(wire)
            self.asked = [*self.asked[-200:], wire]
        return self.random.randbytes(2) + wire[2:]

    def _query(self) -> bytes:
        pick = self.random
        flags = pick.choice(FLAGS) if pick.random() < 0.15 else pick.choice((0, 0x0100))
        qclass = 1 if pick.random() < 0.98 else pick.choice((3, 255))
        question = (
            self._name()
            + pick.choice(TYPES if pick.random() < 0.5 else (1, 28, 65)).to_bytes(2, "big")
            + qclass.to_bytes(2, "big")
        )
        extra = [self._opt()] if pick.random() < 0.6 else []
        if pick.random() < 0.02:
            extra.append(
                pick.choice((self._opt(), b"\3key\0\0\xfa\0\xff\0\0\0\0\0\2ab", b"\0\0\1\0\1\0\0\0\0\0\4abcd"))
            )
        trailing = b"junk" if pick.random() < 0.01 else b""
        counts = b"\0\1\0\0\0\0" + len(extra).to_bytes(2, "big")
        return b"\0\0" + flags.to_bytes(2, "big") + counts + question + b"".join(extra) + trailing

    def _name(self) -> bytes:
        pick = self.random
        name = pick.choice(self.names if pick.random() < 0.3 else self.popular)
        while pick.random() < 0.3 and len(flat_name(name)) < 230:
            label = pick.choice(
                (b"ns", b"ns1", b"www", b"host", b"*", b"x\0", pick.randbytes(pick.randint(1, 9)), b"foo", b"bar")
            )
            name = (label, *name)
        if pick.random() < 0.3:
            name = tuple(pick.choice((label.upper(), label, label.title())) for label in name)
        return flat_name(name)

    def _opt(self) -> bytes:
        pick = self.random
        ttl = pick.choice((0, 0x8000)) if pick.random() < 0.9 else pick.choice((0x10000, 0x1000000, 0x4001))
        options = b"".join(self._option() for _ in range(pick.choice((0, 1, 1, 1, 2, 3))))
        owner = b"\1a\0" if pick.random() < 0.01 else b"\0"
        length = len(options) + (pick.choice((-1, 1)) if pick.random() < 0.01 else 0)
        size = pick.choice(SIZES) if pick.random() < 0.8 else pick.randint(512, 1232)
        head = b"\0\x29" + size.to_bytes(2, "big") + ttl.to_bytes(4, "big")
        return owner + head + max(0, length).to_bytes(2, "big") + options

    def _option(self) -> bytes:
        pick = self.random
        if pick.random() < 0.25:
            data = pick.choice((b"", b"", *COOKIES)) if pick.random() < 0.8 else pick.randbytes(pick.choice((8, 24)))
            return pick.choice((3, 10, 12)).to_bytes(2, "big") + len(data).to_bytes(2, "big") + data
        family = pick.choice((1, 1, 1, 2, 2, 0, 3)) if pick.random() < 0.2 else pick.choice((1, 2))
        near = pick.choice(("198.51.100.7", "198.51.101.1", "2001:db8:203::9", "2001:db8:204::1", "0.0.0.0"))  # noqa: S104
        address = ip_address(near).packed if pick.random() < 0.5 else pick.randbytes(4 if family == 1 else 16)
        width = 32 if family == 1 else 128 if family == 2 else 0
        source = pick.choice((24, 32, 56, 48, 0, pick.randint(0, 130))) if pick.random() < 0.9 else 200
        if pick.random() < 0.95:
            source = min(source, width, len(address) * 8)
        kept = int.from_bytes(address, "big") >> max(0, len(address) * 8 - source) << max(0, len(address) * 8 - source)
        packed = kept.to_bytes(len(address), "big") if pick.random() < 0.97 else address
        scope = 0 if pick.random() < 0.98 else 24
        data = family.to_bytes(2, "big") + bytes([source, scope]) + packed[: (source + 7) // 8]
        return b"\0\x08" + len(data).to_bytes(2, "big") + data

    def _damage(self, wire: bytes) -> bytes:
        at = self.random.randrange(len(wire))
        if self.random.random() < 0.5:
            return wire[:at]
        return wire[:at] + self.random.randbytes(1) + wire[at + 1 :]


def moments(seed: int) -> Iterator[float]:
    """Times that mostly stay, and step across renewals, forwards and once back."""
    now, pick = NOW, random.Random(seed)
    while True:
        yield now
        if pick.random() < 0.1:
            now += pick.choice((0.5, 30.0, 300.0, 3600.0, -300.0))


def numbers(engine: Engine) -> tuple[object, ...]:
    counters = engine.counters
    return counters.outcomes, counters.rcodes, counters.steps, counters.kinds, counters.tiers


def changed(snapshot: Snapshot, round_: int) -> Snapshot:
    """The same site a generation later, without some of its clients; every other time anonymous clients get encoded
    VIPs."""
    clients = dict(sorted(snapshot.site.clients.items())[round_ % 3 :])
    clusters = dict(snapshot.site.clusters)
    web = clusters["web"]
    assert isinstance(web, Cluster)
    if round_ % 2:
        clusters["web"] = replace(web, anonymous=Anonymous.ENCODED)
    return replace(snapshot, generation=round_ + 1, site=replace(snapshot.site, clients=clients, clusters=clusters))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("zones", "batches", "denial"),
    [
        ({}, BATCHES, DnssecDenial.COMPACT),
        ({"example.test": P256, "big.test": ED25519}, BATCHES // 3, DnssecDenial.COMPACT),
        ({"example.test": P256, "big.test": ED25519}, BATCHES // 3, DnssecDenial.NSEC),
    ],
)
def test_the_fast_path_gives_what_the_engine_gives(
    snapshot: Snapshot, zones: Mapping[str, DnssecAlgorithm], batches: int, denial: DnssecDenial
) -> None:
    """Whatever is asked, the fast path gives the engine's bytes and counts or leaves the message to the engine, of
    signed zones too."""
    snapshot = signed(snapshot, zones, denial)
    plain, behind = Engine(snapshot), Engine(snapshot)
    behind._signatures = behind.signer.signatures = plain._signatures  # of which no two are equal
    requesters, times = Requesters(names_of(plain), sorted(plain.tables.services), 7), moments(7)
    answered, fast = 0, None
    for round_ in range(ROUNDS):
        plain, behind = Engine(changed(snapshot, round_), plain), Engine(changed(snapshot, round_), behind)
        fast = FastPath(behind, fast)
        loading = fast.load()
        for _ in range(batches):
            next(islice(loading, 99, None), None)  # beside the answers, as a server does it
            now = next(times)
            wires = [requesters.message() for _ in range(BATCH)]
            sources = [requesters.random.choice(SOURCES) for _ in wires]
            listener = requesters.random.choice(("public", "six"))
            quick = run(fast, wires, [source.packed for source in sources], listener, now)
            for wire, source, got in zip(wires, sources, quick, strict=True):
                right = decided(plain, wire, source, listener, now)
                answered += isinstance(got, bytes) or got.unsigned is not None
                ours = got if isinstance(got, bytes) else missed(fast, got, wire, source, listener, now)
                assert ours == right, (wire, source, listener, now)
        assert numbers(plain) == numbers(behind)
    assert answered > ROUNDS * BATCH * batches // 10 * (1 if zones else 3)  # most OPT records are new, and so misses


def missed(fast: FastPath, miss: Miss, wire: bytes, source: Address, listener: str, now: float) -> bytes | None:
    """The answer to a miss, counted: with the signatures that it lacked, or the engine's, kept where the fast path says
    so."""
    if miss.unsigned is not None:
        hit = fast.finish(miss.unsigned, listener, WIDTH[source.version], now)
        assert hit is not None
        return wire[:2] + hit[0]
    reply = fast.engine.decide(wire, source, Arrival(listener, Transport.UDP), now, miss.known)
    fast.engine.counters.count(reply)
    if miss.keep is not None:
        fast.keep(miss.keep, reply, now)
    return reply.wire


def decided(engine: Engine, wire: bytes, source: Address, listener: str, now: float) -> bytes | None:
    """The engine's answer, counted."""
    reply = engine.decide(wire, source, Arrival(listener, Transport.UDP), now)
    engine.counters.count(reply)
    return reply.wire


def run(
    fast: FastPath, wires: list[bytes], peers: list[bytes], listener: str = "public", now: float = NOW
) -> list[bytes | Miss]:
    """The answers to messages, of which those of one IP version are one batch; the misses among them."""
    results: dict[int, bytes | Miss] = {}
    for size, version in ((4, 4), (16, 6)):
        places = [place for place, peer in enumerate(peers) if len(peer) == size]
        keys = [key_of(peers[place], wires[place]) for place in places]
        ids = bytearray().join(wires[place][:2] for place in places)
        hits, misses = fast.answers(keys, ids, listener, WIDTH[version], now)
        results |= {place: wires[place][:2] + hit[0] for place, hit in zip(places, hits, strict=True) if hit}
        results |= {places[miss.place]: miss for miss in misses}
        for miss in misses:
            if miss.tail is not None:  # as whoever answers it does
                fast.learn(miss.tail, parse(wires[places[miss.place]]))
    return [results[place] for place in range(len(wires))]


def ask(
    fast: FastPath, wires: list[bytes], peers: list[bytes], listener: str = "public", now: float = NOW
) -> list[bytes | None]:
    """As `run`, with None for misses."""
    return [got if isinstance(got, bytes) else None for got in run(fast, wires, peers, listener, now)]


def question(name: str, rtype: int = 28, edns: bytes = b"", flags: int = 0) -> bytes:
    labels = tuple(label.encode() for label in name.split("."))
    asked = flat_name(labels) + rtype.to_bytes(2, "big") + b"\0\1"
    return b"\0\7" + flags.to_bytes(2, "big") + b"\0\1\0\0\0\0\0" + bytes([bool(edns)]) + asked + edns


def opt(options: bytes = b"", do: int = 0) -> bytes:
    return b"\0\0\x29\x04\xd0\0\0" + bytes([do, 0]) + len(options).to_bytes(2, "big") + options


ECS = b"\0\x08\0\x07\0\1\x18\0"
COOKIE = b"\0\x0a\0\x08"


@pytest.mark.parametrize(
    "make",
    [
        lambda n: question("www.example.test"),
        lambda n: question("wWw.ExAmPlE.tEsT" if n % 2 else "WWW.example.test", edns=opt()),
        lambda n: question("www.example.test", 1, opt(do=0x80), 0x0100),
        lambda n: question("www.example.test", 65, opt(COOKIE + n.to_bytes(8, "big"))),
        lambda n: question("www.example.test", 28, opt(ECS + bytes([198, 51, n]))),
        lambda n: question("shop.example.test", 28, opt(ECS + bytes([10, n, 0]) + COOKIE + bytes(8))),
        lambda n: question("_svc.example.test", 64),
        lambda n: question("mail.example.test", 1),
        lambda n: question("example.test", 15),
        lambda n: question(f"nothing-{n:03}.example.test"),
        lambda n: question(f"{n:03}.wild.example.test", 16),
        lambda n: question(f"{n:03}.each.example.test", 28),
        lambda n: question(f"{n:03}.sub.example.test", 1, opt(do=0x80)),
        lambda n: question(f"{n:03}.nowhere.invalid", 1),
        lambda n: question("a200.big.test", 1, opt(ECS + bytes([10, n, 0]))),
        lambda n: question("a70.big.test", 1, opt(COOKIE + n.to_bytes(8, "big"))),
        lambda n: question("a80.big.test", 1),
        lambda n: question(f"c0{'x' * 60}.big.test", 28),
        lambda n: question("a30.big.test", 1),
        lambda n: question("m200.big.test", 15, opt()),
        lambda n: question("m30.big.test", 15, opt(COOKIE + n.to_bytes(8, "big"))),
        lambda n: question("_s._tcp.big.test", 33, opt()),
        lambda n: question(f"{n:03}.w.big.test", 16, opt()),
        lambda n: question(f"{n:03}.cut.big.test", 1, opt()),
        lambda n: question(f"c0{'x' * 50}.big.test", 28, opt(ECS + bytes([198, 51, n]))),
    ],
)
def test_what_it_is_fast_at(snapshot: Snapshot, make: Callable[[int], bytes]) -> None:
    """From the third question of a sort on, the fast path answers by itself, as the engine does."""
    engine = Engine(snapshot)
    fast, source = FastPath(engine), ip_address("127.0.0.1")
    for n in range(200):
        [answer] = ask(fast, [make(n)], [source.packed])
        assert n < 2 or answer == engine.decide(make(n), source, Arrival("public", Transport.UDP), NOW).wire


def test_answers_with_nonces_of_their_own_are_not_kept(snapshot: Snapshot) -> None:
    """With `nonce = "answer"` the fast path still answers, and no answer twice, whether signed or not."""
    web = snapshot.site.clusters["web"]
    assert isinstance(web, Cluster)
    layout = (("tier", 4), ("client", 11), ("nonce", 22))
    site = replace(
        snapshot.site, clusters={**snapshot.site.clusters, "web": replace(web, layout=layout, nonce=NonceOf.ANSWER)}
    )
    world = replace(snapshot_of(site), cookie_secrets=snapshot.cookie_secrets)
    fast, source = FastPath(Engine(signed(world, {"example.test": P256}))), ip_address("2001:db8:77::5")
    plain, wanting = question("www.example.test"), question("www.example.test", 28, opt(do=0x80))
    quick = [run(fast, [plain, plain], [source.packed] * 2, now=NOW + n) for n in range(3)]
    answers = [got for batch in quick[1:] for got in batch]
    assert len({got for got in answers if isinstance(got, bytes)}) == len(answers)
    made = [got for _ in range(6) for got in run(fast, [wanting], [source.packed])]
    assert all(isinstance(got, Miss) and got.keep is None for got in made)
    answers = [missed(fast, got, wanting, source, "public", NOW) for got in made if isinstance(got, Miss)]
    assert len(set(answers)) == len(answers)
    assert sum(isinstance(got, Miss) and got.unsigned is not None for got in made) > 2


@pytest.mark.parametrize(
    ("name", "qtype"),
    [("example.test", 6), ("mail.example.test", 16), ("big.example.test", 1)],
)
def test_signed_answers_are_kept(snapshot: Snapshot, name: str, qtype: int) -> None:
    """The engine signs an answer twice, the second time it is kept; without DO the template answers. What is kept is
    read as the reply that it was, and lasts until addresses change, an hour at most."""
    engine = Engine(signed(snapshot, {"example.test": P256}))
    fast, source = FastPath(engine), ip_address("127.0.0.1")
    wire, plain = question(name, qtype, opt(do=0x80)), question(name, qtype, opt())
    for _ in range(3):
        run(fast, [plain], [source.packed])
    run(fast, [question("www.example.test", 1, opt(do=0x80))], [source.packed])  # whose OPT record is learned
    for _ in range(2):
        (miss,) = run(fast, [wire], [source.packed])
        assert isinstance(miss, Miss)
        right = missed(fast, miss, wire, source, "public", NOW)
    assert ask(fast, [wire, plain], [source.packed] * 2) == [right, decided(engine, plain, source, "public", NOW)]
    reply = engine.decide(wire, source, Arrival("public", Transport.UDP), NOW)
    hit = fast._rooms["public", WIDTH[4]].whole.get(key_of(source.packed, wire))
    assert hit is not None
    assert reply_of(hit, wire[:2]) == reply._replace(query=None)
    assert ask(fast, [wire], [source.packed], now=NOW + 3600) == [None]


@pytest.mark.parametrize("name", ["www.example.test", "shop.example.test", "_svc.example.test"])
@pytest.mark.parametrize("zones", [{"example.test": P256}, {"example.test": ED25519}])
def test_new_addresses_are_signed_fast(snapshot: Snapshot, zones: Mapping[str, DnssecAlgorithm], name: str) -> None:
    """Each address that is made for one asker is signed without the engine, with the engine's bytes, from the third
    question on and again after the signatures that the template has are too old."""
    engine = Engine(signed(snapshot, zones))
    fast, source = FastPath(engine), ip_address("127.0.0.1")
    qtype = 64 if name.startswith("_svc") else 28
    run(fast, [question(name, qtype, opt(ECS + bytes([9, 9, 9]), 0x80))], [source.packed])
    for hours in (0, 2):
        later, misses = NOW + 3600 * hours, 0
        for n in range(60):
            wire = question(name, qtype, opt(ECS + bytes([10, n, hours]), 0x80))
            (got,) = run(fast, [wire], [source.packed], now=later)
            misses += isinstance(got, Miss) and got.unsigned is None
            right = missed(fast, got, wire, source, "public", later) if isinstance(got, Miss) else got
            assert right == engine.decide(wire, source, Arrival("public", Transport.UDP), later).wire
        assert misses <= 3
    wire = question(name, qtype, opt(ECS + bytes([10, 1, 2]), 0x80))
    (again,) = run(fast, [wire], [source.packed], now=later)
    assert isinstance(again, Miss)
    missed(fast, again, wire, source, "public", later)
    hit = fast._rooms["public", WIDTH[4]].whole.get(key_of(source.packed, wire))
    assert hit is not None
    assert reply_of(hit, wire[:2]) == engine.decide(wire, source, Arrival("public", Transport.UDP), later)._replace(
        query=None
    )


@pytest.mark.parametrize("below", ["", "a."])
@pytest.mark.parametrize("denial", [DnssecDenial.COMPACT, DnssecDenial.NSEC])
def test_names_that_do_not_exist_are_denied_fast(snapshot: Snapshot, denial: DnssecDenial, below: str) -> None:
    """Each of a flood of names has its proof without the engine, with the engine's bytes, whatever its case; with CO
    the engine answers."""
    engine = Engine(signed(snapshot, {"example.test": P256}, denial))
    fast, source = FastPath(engine), ip_address("127.0.0.1")
    run(fast, [question("x.example.test", 1, opt(do=0x80))], [source.packed])
    misses = 0
    for n in range(100):
        wire = question(f"NoThing-{n:03}.{below}example.test", 1, opt(do=0x80))
        (got,) = run(fast, [wire], [source.packed])
        misses += isinstance(got, Miss) and got.unsigned is None
        right = missed(fast, got, wire, source, "public", NOW) if isinstance(got, Miss) else got
        assert right == engine.decide(wire, source, Arrival("public", Transport.UDP), NOW).wire
    assert misses <= 3
    assert ask(fast, [question("nothing-000.example.test", 1, opt(do=0xC0))], [source.packed]) == [None]


@pytest.mark.parametrize(
    "tail",
    [
        opt(),
        opt(ECS + bytes([198, 51, 100])),
        opt(COOKIE + bytes(8)),
        opt(b"\xfd\xe9\0\0" * 30),
        opt(COOKIE + bytes(8) + b"\xfd\xe9\0\1x"),
        b"\3key\0\0\xfa\0\xff\0\0\0\0\0\2ab",
    ],
)
def test_nothing_is_parsed_before_its_turn(snapshot: Snapshot, tail: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a question is read by whoever answers the miss, in its turn: the next with such an OPT record is
    answered at once. TSIG stays a miss."""
    engine, peer = Engine(snapshot), bytes([127, 0, 0, 1])
    responder, wire = Responder(engine, FrontEnds(()), Counter()), question("www.example.test", 28, tail)
    for _ in range(3):
        ask(responder.fast, [question("www.example.test")], [peer])

    def parsed(*_: object) -> None:
        raise AssertionError("parsed before its turn")

    for known in (False, tail.startswith(b"\0")):
        with monkeypatch.context() as patched:
            for name in ("parse", "parse_additional"):
                patched.setattr(f"dnsvip.dns.asked.{name}", parsed)
            (answer,), later = responder.datagrams([key_of(peer, wire)], bytearray(wire[:2]), "public", WIDTH[4])
        assert (answer is not None) is known
        for waiting in later:
            assert responder.answer(waiting) is not None


def test_floods_are_forgotten(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that do not exist, new clients and senders without end take bounded room; real names stay known."""
    limits = {"WHOLE": 64, "NAMES": 64, "OTHERS": 32, "OPTS": 32, "SENDERS": 16, "SEEN": 256}
    for name, limit in limits.items():
        module = {"NAMES": "compiled", "OTHERS": "compiled", "OPTS": "opts", "SEEN": "recognize"}.get(name, "fastpath")
        monkeypatch.setattr(f"dnsvip.dns.hotpath.{module}.{name}", limit)
    engine, pick = Engine(snapshot), random.Random(3)
    fast, wanted = FastPath(engine), question("mail.example.test", 1)
    for _ in range(3):
        ask(fast, [wanted], [bytes(4)])
    for n in range(3000):
        under = pick.choice(("example.test", "wild.example.test", "each.example.test", "sub.example.test", "a.b.c"))
        wires = [
            question(f"{pick.randbytes(pick.randint(1, 20)).hex()}.{under}", pick.choice((1, 28, 65))),
            question("www.example.test", 28, opt(ECS + pick.randbytes(3))),
            question("www.example.test", 28, opt(COOKIE + pick.randbytes(8))),
        ]
        ask(fast, wires, [pick.randbytes(4) for _ in wires])
        if n % 50 == 0:
            assert ask(fast, [wanted], [pick.randbytes(4)]) != [None]
    room, templates, opts = fast._rooms["public", WIDTH[4]], fast._templates, fast._opts
    kept = [(room.whole, "WHOLE"), (templates.named, "NAMES"), (templates._below, "OTHERS"), (room.senders, "SENDERS")]
    kept += [(opts.known, "OPTS"), (opts._ecs_heads, "OPTS")]
    assert all(len(memory) <= 2 * limits[limit] for memory, limit in kept)
    assert len(fast._recognizer._seen) <= limits["SEEN"]


def padded(wire: bytes, size: int) -> bytes:
    """A query without EDNS, made `size` bytes long by padding (RFC 7830)."""
    room = size - len(wire) - 15
    return wire[:11] + b"\1" + wire[12:] + opt(b"\0\x0c" + room.to_bytes(2, "big") + bytes(room))


@pytest.mark.parametrize(("size", "kept"), [(512, True), (513, False), (4096, False), (65_000, False)])
def test_long_messages_are_not_remembered(snapshot: Snapshot, size: int, kept: bool) -> None:
    """A query over 512 bytes leaves nothing behind, and its answer is the engine's."""
    engine = Engine(snapshot)
    fast = FastPath(engine)
    wire = padded(question("www.example.test"), size)
    assert len(wire) == size
    answers = [ask(fast, [wire], [bytes([192, 0, 2, 1])]) for _ in range(4)]
    assert all(answer == [None] for answer in answers) is not kept
    room = fast._rooms["public", WIDTH[4]]
    assert (len(room.whole), len(fast._opts.known)) == ((1, 1) if kept else (0, 0))


def test_memory_of_a_flood(snapshot: Snapshot) -> None:
    """Padded queries without end, each other, take bounded memory, whatever their length."""
    fast, pick = FastPath(Engine(snapshot)), random.Random(5)
    kept = 0
    for size in (500, 65_000):
        tracemalloc.start()
        for _ in range(600):
            wires = [padded(question("www.example.test"), size)[:-4] + pick.randbytes(4) for _ in range(8)]
            for _ in range(2):  # what comes again is remembered
                ask(fast, wires, [bytes([192, 0, 2, 1])] * 8)
        kept += tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert kept < 32 << 20, f"{kept >> 20} MiB"


def test_a_cache_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generation that is full of bytes goes though there are few keys in it, and what is used stays."""
    monkeypatch.setattr(two_generation_cache, "ROOM", 1000)
    cache: TwoGenerationCache[int, bytes] = TwoGenerationCache(1 << 20, lambda _key, value: len(value))
    cache.put(0, b"used")
    for number in range(1, 500):
        cache.put(number, bytes(100))
        assert cache.get(0) == b"used"
        assert len(cache) <= 22
    assert cache.get(499)
