"""The program gives what the server gives: generated questions through both, byte by byte and number by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from dnsvip.dns.dnstap import frame
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Address
from dnsvip.dns.io.xdp.pages import pages_for
from dnsvip.dns.io.xdp.records import records_for
from dnsvip.dns.protection.rrl import Limiter, LimitVerdict, slipped
from dnsvip.dns.protocol.names import flat_name
from dnsvip.dns.querylog import Sample, record
from dnsvip.dns.reply import DnsOutcome, Reply
from dnsvip.site import Client, Cluster, DnssecAlgorithm, DnssecDenial, Match, Snapshot, Step, Zone
from dnsvip.site.node_dns import Listener, RateLimit
from dnsvip.telemetry.sample_log import Every
from tests.dns.dnssec.signed import ED25519, P256, signed
from tests.dns.hotpath import test_fastpath
from tests.dns.hotpath.test_fastpath import BIG, ECS, JAR, Requesters, changed, moments, names_of, numbers, opt
from tests.dns.io.xdp.kernel import DROPPED, Kernel, loaded
from tests.dns.world import world_snapshot
from tests.long import long_or
from tests.samples import NOW, snapshot_of

SOURCES = [
    ip_address(text)
    for text in ("192.0.2.1", "192.0.2.3", "203.0.113.9", "2001:db8:53::1", "2001:db8:77::5", "2001:db8::1")
]
TRUSTED = (ip_network("192.0.2.1/32"), ip_network("2001:db8:53::1/128"))
COOKIES = [
    cookie
    for source in SOURCES
    for cookie in (bytes(8), *(JAR.check(bytes(8), source.packed, NOW + at).answer for at in (0, 3000, -2000, -3600)))
]
"""Client cookies, and server cookies of all sources: current, of the future, to be renewed."""

SIGNATURE = b"\0\x2e\0\x01"
"""Type and class of an RRSIG record."""

SIGNED = {DnsOutcome.ANSWER, DnsOutcome.NODATA, DnsOutcome.NXDOMAIN, DnsOutcome.REFERRAL, DnsOutcome.SERVICE}
"""What the program answers with signatures."""

ROUNDS, BATCH, BATCHES = 6, 50, long_or(60, long=3400)
"""6 times 3400 times 50 are more than a million questions, a sample is a fiftieth of them."""


HOST = Client("host", 1005, "gold", (Match(Step.SOURCE, "2001:db8::1/128"), Match(Step.ECS, "10.1.2.7/32")))
"""One in whose ECS block, and network of 64 bits, others are."""

SESSIONS = (("tier", 4), ("client", 14), ("session", 12), ("nonce", 7))
OPEN: Sequence[Listener] = ()
GUARDED = (
    Listener(
        "127.0.0.1:53", "public", allow=tuple(map(ip_network, ("192.0.2.0/24", "203.0.113.0/24", "2001:db8:53::/48")))
    ),
    Listener("[::1]:53", "six", identity="required"),
)
"""One for some networks, and one for known clients."""


def snapshot_with(layout: Sequence[tuple[str, int]] | None) -> Snapshot:
    """The world with another layout of its addresses."""
    world = world_snapshot()
    site, web = world.site, world.site.clusters["web"]
    assert isinstance(web, Cluster)
    if layout:
        web = replace(web, layout=tuple(layout), claims=())
    site = replace(
        site,
        zones={**site.zones, "big.test": Zone("big.test", BIG)},
        classify=replace(site.classify, trust_ecs_from=TRUSTED),
        clients={**site.clients, HOST.name: HOST},
        clusters={**site.clusters, "web": web},
    )
    return replace(snapshot_of(site), cookie_secrets=(bytes(range(16)), bytes(16)))


LIMIT = RateLimit(3, slip=2)
ONE_IN = (3, 7)
"""What is sampled by two logs."""


@pytest.mark.usefixtures("kernel")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("zones", "batches", "denial", "layout", "listeners"),
    [
        ({}, BATCHES, DnssecDenial.COMPACT, None, OPEN),
        ({"example.test": P256, "big.test": ED25519}, BATCHES // 3, DnssecDenial.COMPACT, None, OPEN),
        ({"example.test": P256, "big.test": ED25519}, BATCHES // 6, DnssecDenial.NSEC, None, OPEN),
        ({"example.test": P256, "big.test": ED25519}, BATCHES // 6, DnssecDenial.NSEC3, SESSIONS, OPEN),
        ({}, BATCHES // 2, DnssecDenial.COMPACT, SESSIONS, GUARDED),
    ],
)
def test_the_program_gives_what_the_server_gives(
    monkeypatch: pytest.MonkeyPatch,
    zones: Mapping[str, DnssecAlgorithm],
    batches: int,
    denial: DnssecDenial,
    layout: Sequence[tuple[str, int]] | None,
    listeners: Sequence[Listener],
) -> None:
    """Whatever is asked, the program gives the server's bytes, counts, limits and samples, or leaves the packet
    untouched. Every other round it limits the rate and samples."""
    monkeypatch.setattr(test_fastpath, "COOKIES", COOKIES)
    snapshot = signed(snapshot_with(layout), zones, denial)
    plain, behind = (Engine(snapshot, listeners=listeners) for _ in range(2))
    behind._signatures = behind.signer.signatures = plain._signatures  # of which no two are equal
    requesters, times = Requesters(names_of(plain), sorted(plain.tables.services), 11), moments(11)
    often = wanting(requesters) if zones else []
    answered: Counter[tuple[DnsOutcome, bool, str]] = Counter()
    fast = FastPath(behind)
    with loaded(fast, pages=pages_for(1000), records=records_for(1000)) as kernel:
        worker = Worker(kernel)
        for round_ in range(ROUNDS):
            plain, behind = Engine(changed(snapshot, round_), plain), Engine(changed(snapshot, round_), behind)
            fast = FastPath(behind, fast)
            kernel.feeder.use(fast)
            worker.is_limited = bool(round_ % 2)
            for _ in range(batches):
                kernel.at(next(times))
                answered += _ask(worker, plain, behind, requesters, often)
        if zones:
            assert {outcome for outcome, is_signed, _ in answered if is_signed} == SIGNED
        assert kernel.feeder.collect(behind.counters) == answered.total()
        reasons, kinds = kernel.feeder.reasons(), Counter[str]()
        for (_, _, word), number in answered.items():
            kinds[word] += number
        assert {name: reasons[name] for name in ("answered", "slipped", "dropped")} == kinds
        assert all_numbers(plain) == all_numbers(behind)
        assert sum(kernel.sampler.lost()) == 0
    assert answered.total() > ROUNDS * BATCH * batches // (40 if listeners else 20 if zones else 10)
    assert min(kinds.values()) > answered.total() // (200 if listeners else 30)
    assert worker.sampled > answered.total() // 8


def wanting(requesters: Requesters) -> list[bytes]:
    """Questions of validators, which are asked often: names that exist and do not, with DO, some with ECS."""
    pick, options = requesters.random, (b"", b"", ECS + bytes((198, 51, 100)), ECS + bytes((10, 1, 2)))
    names = [(*extra, *name) for name in requesters.popular for extra in ((), (), (b"none",), (b"q", b"foo"))]
    names += requesters.services * (len(names) // len(requesters.services))
    return [
        b"\0\0\1\0\0\1\0\0\0\0\0\1"
        + flat_name(pick.choice(names))
        + pick.choice((1, 28, 28, 65, 6, 15, 16, 43, 48)).to_bytes(2, "big")
        + b"\0\1"
        + opt(pick.choice(options), 0x80)
        for _ in range(150)
    ]


def all_numbers(engine: Engine) -> tuple[object, ...]:
    """All that is counted, by zone too."""
    return *numbers(engine), sorted(engine.counters.zones(engine.zones.by_apex, 1000))


class Worker:
    """What a worker that is asked what the program answers does with its replies."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.sampled, self._is_limited = kernel, 0, False
        self._limiter = Limiter(LIMIT.responses_per_second, LIMIT.slip)
        self._samplers = [Every(one_in) for one_in in ONE_IN]

    @property
    def is_limited(self) -> bool:
        """Whether replies are limited and sampled."""
        return self._is_limited

    @is_limited.setter
    def is_limited(self, limited: bool) -> None:
        self._is_limited = limited
        self.kernel.feeder.limit(LIMIT if limited else None)
        self.kernel.feeder.sample(ONE_IN if limited else ())

    def judge(self, reply: Reply, source: Address) -> tuple[str, Reply]:
        """What becomes of a packet, and the reply as it is sent."""
        verdict = self._limiter.judge(reply, source.packed, self.kernel.now) if self._is_limited else LimitVerdict.SEND
        if verdict is LimitVerdict.SEND:
            return "answered", reply
        slip = verdict is LimitVerdict.SLIP
        return ("slipped", slipped(reply)) if slip else ("dropped", reply._replace(wire=None))

    def compare(self, sample: Sample) -> None:
        """The program has taken this sample where a worker takes it."""
        picked = sum(1 << n for n, every in enumerate(self._samplers) if every.picks(1)) if self._is_limited else 0
        taken = self.kernel.taken()
        assert [takers for takers, _ in taken] == ([picked] if picked else [])
        for _, got in taken:
            self.sampled += 1
            assert record(got, str) == record(sample, str)
            assert frame(got, str, whole=True) == frame(sample, str, whole=True)
            assert got._replace(reply=sample.reply) == sample._replace(in_kernel=True)
            kept = ("wire", "outcome", "rcode", "cookie_valid", "step", "kind", "tier")
            assert [getattr(got.reply, name) for name in kept] == [getattr(sample.reply, name) for name in kept]


def _ask(
    worker: Worker, plain: Engine, behind: Engine, requesters: Requesters, often: list[bytes]
) -> Counter[tuple[DnsOutcome, bool, str]]:
    """Ask a batch of both; how many questions the program has answered, by outcome, whether with signatures, and what
    the rate limit made of them."""
    answered: Counter[tuple[DnsOutcome, bool, str]] = Counter()
    kernel = worker.kernel
    listener = requesters.random.choice(("public", "six"))
    arrival = Arrival(listener, Transport.UDP)
    for _ in range(BATCH):
        wire, source = requesters.message(), requesters.random.choice(SOURCES)
        if often and requesters.random.random() < 0.6:
            wire = requesters.random.choice(often)
        right = plain.decide(wire, source, arrival, kernel.now)
        plain.count(right)
        got = kernel.ask(wire, source, listener)
        if got is None:
            behind.count(behind.decide(wire, source, arrival, kernel.now))
            continue
        word, right = worker.judge(right, source)
        answered[right.outcome, SIGNATURE in got, word] += 1
        assert got == (right.wire or DROPPED), (wire, source, listener, kernel.now)
        if right.kind is None:  # as the fast path, which identifies nobody whom the answer does not depend on
            right = right._replace(step=None, tier=None)
        worker.compare(Sample(kernel.now, Transport.UDP, listener, source, wire, right))
    kernel.learn()
    return answered
