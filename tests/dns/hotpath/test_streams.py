"""The fast path of streams gives what the engine gives, whoever the connection is known to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath import fastpath
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.hotpath.hits import Miss
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.io.responder import Responder
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.dns.protocol.builder import finished
from dnsvip.dns.protocol.padding import BLOCK
from dnsvip.site import Client, DnssecAlgorithm, DnssecDenial, Match, Snapshot, Step, Zone
from tests.dns.dnssec.signed import ED25519, P256, signed
from tests.dns.hotpath.test_fastpath import (
    BATCH,
    BIG,
    SOURCES,
    Requesters,
    changed,
    moments,
    names_of,
    numbers,
    opt,
    question,
)
from tests.dns.world import world_snapshot
from tests.long import long_or
from tests.samples import NOW

ROUNDS, BATCHES = 4, long_or(12, long=275)
ARRIVALS = [
    Arrival("public", Transport.TCP),
    Arrival("six", Transport.TLS),
    Arrival("public", Transport.TLS, ("sha256:" + "0" * 64, "gold.example.test")),
    Arrival("public", Transport.HTTPS, (), "bearer"),
    Arrival("public", Transport.HTTPS, ("nobody.example.test",), "another"),
]


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """The world, with clients that a certificate and a token identify."""
    world = replace(world_snapshot(), cookie_secrets=(bytes(range(16)), bytes(16)))
    zones = {**world.site.zones, "big.test": Zone("big.test", BIG)}
    clients = {
        **world.site.clients,
        "zz-held": Client("zz-held", 2001, "gold", match=(Match(Step.TLS, "gold.example.test"),)),
        "zz-bearer": Client("zz-bearer", 2002, "gold", match=(Match(Step.TOKEN, "bearer"),)),
    }
    return replace(world, site=replace(world.site, zones=zones, clients=clients))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("zones", [{}, {"example.test": P256, "big.test": ED25519}])
def test_streams_get_what_the_engine_gives(snapshot: Snapshot, zones: Mapping[str, DnssecAlgorithm]) -> None:
    """Whatever is asked, and however it came, bytes and counts are the engine's."""
    snapshot = signed(snapshot, zones, DnssecDenial.COMPACT)
    plain, behind = Engine(snapshot), Engine(snapshot)
    behind._signatures = behind.signer.signatures = plain._signatures  # of which no two are equal
    requesters, times = Requesters(names_of(plain), sorted(plain.tables.services), 11), moments(11)
    fast, hits, steps = None, 0, Counter[object]()
    for round_ in range(ROUNDS):
        plain, behind = Engine(changed(snapshot, round_), plain), Engine(changed(snapshot, round_), behind)
        fast = FastPath(behind, fast)
        loading = fast.load()
        for _ in range(BATCHES):
            next(islice(loading, 499, None), None)  # beside the answers, as a server does it
            now = next(times)
            for _ in range(BATCH):
                wire = requesters.message()
                source, arrival = requesters.random.choice(SOURCES), requesters.random.choice(ARRIVALS)
                right = finished(plain.steps(wire, source, arrival, now))
                plain.counters.count(right, arrival.transport)
                steps[right.step] += 1
                got = fast.stream(wire, source, arrival, now)
                if isinstance(got, Miss):
                    reply = finished(behind.steps(wire, source, arrival, now, got.known))
                    behind.counters.count(reply, arrival.transport)
                    if got.keep is not None:
                        fast.keep(got.keep, reply, now)
                    if got.tail is not None:
                        fast.learn(got.tail, reply.query)
                    assert reply.wire == right.wire
                else:
                    hits += 1
                    assert wire[:2] + got[0] == right.wire, (wire, source, arrival, now)
                    assert (got[1].key[1], got[1].key[3]) == (right.rcode, right.kind)
        assert numbers(plain) == numbers(behind)
    assert hits > ROUNDS * BATCH * BATCHES // (20 if zones else 4)
    assert min(steps["tls"], steps["token"]) > 30


def test_answers_are_private_to_who_has_proved_something(snapshot: Snapshot) -> None:
    """Hits and misses alike: what is made for a requester, or for what it has proved, is its own."""
    responder = Responder(Engine(snapshot), FrontEnds(()), Counter())
    plain, held = ARRIVALS[0], ARRIVALS[2]
    for _ in range(3):
        assert responder.https(question("www.example.test"), SOURCES[2], plain)[1]
        assert not responder.https(question("ns.example.test", 1), SOURCES[2], plain)[1]
        assert responder.https(question("ns.example.test", 1), SOURCES[2], held)[1]
    streams = responder.fast.engine.counters.streams
    assert {transport: sum(n for (by, _), n in streams.items() if by is transport) for transport in Transport} == {
        **dict.fromkeys(Transport, 0),
        Transport.TCP: 6,
        Transport.TLS: 3,
    }


def test_padded_questions_are_answered_fast(snapshot: Snapshot) -> None:
    """However long the padding of a question is, the second one like it asks no engine; its answer is padded over an
    encrypted transport alone."""
    fast = FastPath(Engine(snapshot))
    for arrival, size in ((ARRIVALS[0], 95), (ARRIVALS[3], BLOCK)):
        for n in range(8):
            wire = question("ns.example.test", 1, opt(b"\0\x0c\0" + bytes((n,)) + bytes(n)))
            got = fast.stream(wire, SOURCES[0], arrival, NOW)
            reply = fast.engine.decide(wire, SOURCES[0], arrival, NOW)
            if isinstance(got, Miss):
                assert n < 2
                assert got.tail is not None
                fast.learn(got.tail, reply.query)
            else:
                assert wire[:2] + got[0] == reply.wire
                assert len(reply.wire) == size


@pytest.mark.parametrize("length", [0, 3, 4, 5, 17, 65_535])
def test_padding_beyond_its_record(snapshot: Snapshot, length: int) -> None:
    """Padding that says it is longer than its record is malformed as elsewhere, and raises nothing: what a stream makes
    raise makes the server forget all that it has learned."""
    fast = FastPath(Engine(snapshot))
    for options in (b"\0\x0c" + length.to_bytes(2, "big") + bytes(4), b"\0\x0b\0\0\0\x0c" + length.to_bytes(2, "big")):
        wire = question("ns.example.test", 1, opt(options))
        for arrival in ARRIVALS:
            got = fast.stream(wire, SOURCES[0], arrival, NOW)
            assert isinstance(got, Miss) or wire[:2] + got[0] == fast.engine.decide(wire, SOURCES[0], arrival, NOW).wire


def test_what_only_streams_give_is_the_engines(snapshot: Snapshot) -> None:
    """Keepalive is answered by the engine, however often a datagram has asked for it."""
    fast, options = FastPath(Engine(snapshot)), b"\0\x0b\0\0"
    wire = question("ns.example.test", 1, opt(options))
    reply = fast.engine.decide(wire, SOURCES[0], ARRIVALS[0], NOW)
    fast.learn(opt(options), reply.query)
    for _ in range(3):
        assert isinstance(fast.stream(wire, SOURCES[0], ARRIVALS[0], NOW), Miss)


def test_memory_of_many_arrivals(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each certificate and token is an arrival of its own; what is remembered of them is bounded."""
    for name in ("ARRIVALS", "SENDERS", "WHOLE"):
        monkeypatch.setattr(fastpath, name, 64)
    fast, wire = FastPath(Engine(snapshot)), question("www.example.test")
    for n in range(1000):
        for _ in range(3):
            assert not isinstance(
                fast.stream(wire, SOURCES[0], Arrival("public", Transport.TLS, (f"c{n}",)), NOW), Miss
            )
    (room,) = fast._rooms.values()
    assert len(fast._tags) <= 64
    assert len(room.senders) <= 128
    assert len(room.whole) <= 128
