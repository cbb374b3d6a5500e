"""Everything that can arrive: malformed messages and streams, by datagram and by stream."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random

import dns.edns
import dns.message
import dns.rcode
import pytest

from dnsvip.dns.counters import Counters
from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.io.framing import Framer, frame
from dnsvip.dns.protocol.message import UDP_SIZE
from dnsvip.dns.reply import DnsOutcome, Reply
from tests.dns.protocol.test_tsig import make_key
from tests.dns.world import world_snapshot
from tests.long import long_or

WANTED = long_or(20_000, long=200_000)
SEED = 20_261_123
SILENT = {DnsOutcome.SHORT, DnsOutcome.RESPONSE}
MALFORMED = {
    *SILENT,
    DnsOutcome.BAD_HEADER,
    DnsOutcome.BAD_QUESTION,
    DnsOutcome.BAD_RECORD,
    DnsOutcome.BAD_OPT,
    DnsOutcome.BAD_ECS,
    DnsOutcome.BAD_TSIG,
    DnsOutcome.TSIG_KEY,
    DnsOutcome.TSIG_SIGNATURE,
    DnsOutcome.EDNS_VERSION,
    DnsOutcome.OPCODE,
    DnsOutcome.CLASS,
    DnsOutcome.META_TYPE,
}
NAMES = (
    "www.example.test",
    "shop2.example.test",
    "host.moved.example.test",
    "any.wild.example.test",
    "x.sub.example.test",
    "huge.example.test",
    "no.example.test",
    "a.b.c.outside.invalid",
    "example.test",
    ".",
)
SOURCES: tuple[IPv4Address | IPv6Address, ...] = tuple(map(ip_address, ("127.0.0.1", "::1", "192.0.2.9")))


def corpus() -> list[bytes]:
    """Good questions of every sort: with and without EDNS, ECS, cookies, signatures."""
    subnets = [dns.edns.ECSOption("198.51.100.0", 24), dns.edns.ECSOption("2001:db8:203::", 48)]
    cookie = dns.edns.GenericOption(10, b"12345678")
    wires = []
    for index, name in enumerate(NAMES):
        for qtype in ("A", "AAAA", "HTTPS", "ANY", "SOA", "DS"):
            wires.append(dns.message.make_query(name, qtype).to_wire())
            for options in ([subnets[index % 2]], [cookie, subnets[0]]):
                query = dns.message.make_query(name, qtype, use_edns=0, options=options, want_dnssec=index % 2 == 0)
                wires.append(query.to_wire())
                query.use_tsig(make_key())
                wires.append(query.to_wire())
    return wires


def flip(rng: Random, wire: bytearray) -> None:
    for _ in range(rng.randrange(1, 6)):
        wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)


def cut(rng: Random, wire: bytearray) -> None:
    del wire[rng.randrange(len(wire)) :]


def put(rng: Random, wire: bytearray) -> None:
    at = rng.randrange(len(wire))
    wire[at:at] = rng.randbytes(rng.randrange(1, 20))


def drop(rng: Random, wire: bytearray) -> None:
    at = rng.randrange(len(wire))
    del wire[at : at + rng.randrange(1, 8)]


def count(rng: Random, wire: bytearray) -> None:
    at = rng.choice((4, 6, 8, 10))
    wire[at : at + 2] = rng.choice((0, 1, 2, 3, 255, 65535)).to_bytes(2, "big")


def extreme(rng: Random, wire: bytearray) -> None:
    at = rng.randrange(12, max(len(wire), 13))
    wire[at : at + 2] = rng.choice((b"\xff\xff", b"\0\0", b"\xc0\x0c", b"\xc0\0", b"\x3f\x3f", b"\x7f\x80", b"\x80\0"))


def repeat(rng: Random, wire: bytearray) -> None:
    at = rng.randrange(len(wire))
    wire += wire[at:] * rng.randrange(1, 4)


def noise(rng: Random, wire: bytearray) -> None:
    head = rng.choice((0, 4, 12))
    wire[head:] = rng.randbytes(rng.randrange(0, 90))


MUTATIONS: tuple[Callable[[Random, bytearray], None], ...] = (flip, cut, put, drop, count, extreme, repeat, noise)


def mutated(rng: Random, wires: list[bytes]) -> Iterator[bytes]:
    """Questions with one or several things wrong, without end."""
    while True:
        wire = bytearray(rng.choice(wires))
        for mutation in rng.choices(MUTATIONS, k=rng.choice((1, 1, 2, 3))):
            if wire:
                mutation(rng, wire)
        yield bytes(wire)


def check(wire: bytes, reply: Reply, limit: int) -> None:
    """What holds for every reply, and what dnspython makes of the answer."""
    if reply.wire is None:
        assert reply.outcome in SILENT
        return
    assert reply.outcome not in SILENT
    answer = dns.message.from_wire(reply.wire, keyring=False)  # type: ignore[arg-type]
    assert answer.id == int.from_bytes(wire[:2], "big")
    assert answer.rcode() == reply.rcode
    assert answer.opcode() == wire[2] >> 3 & 15
    assert reply.wire[2] & 0x80
    assert len(reply.wire) <= max(limit, len(wire) + 60)  # an unsigned TSIG error repeats the requester's names


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_anything_that_arrives() -> None:
    """No message and no stream makes a reply raise, each is in exactly one counter, each answer can be read."""
    rng, engine, counters = Random(SEED), Engine(world_snapshot()), Counters()
    messages, streams, broken = 0, 0, 0
    source = mutated(rng, corpus())
    now = time.time()

    def decide(wire: bytes, transport: str, limit: int) -> None:
        nonlocal messages
        reply = engine.decide(wire, rng.choice(SOURCES), Arrival("default", Transport(transport)), now)
        counters.count(reply)
        check(wire, reply, limit)
        messages += 1

    while sum(counters.outcomes[outcome] for outcome in MALFORMED) + broken < WANTED:
        for _ in range(8):
            decide(next(source), "udp", UDP_SIZE)
        stream = b"".join(frame(next(source)[:65535]) for _ in range(2))
        damaged = bytearray(stream)
        rng.choice(MUTATIONS)(rng, damaged)
        framer = Framer()
        while damaged:
            size = rng.randrange(1, len(damaged) + 1)
            framer.feed(bytes(damaged[:size]))
            while (wire := framer.next()) is not None:
                decide(wire, "tcp", 65535)
            del damaged[:size]
        streams += 1
        broken += framer.broken or framer.partial
    assert counters.messages == messages
    assert streams > 1000
    assert broken > 1000
    assert all(counters.outcomes[outcome] for outcome in MALFORMED - {DnsOutcome.SHORT}), Counter(counters.outcomes)
    assert counters.outcomes[DnsOutcome.FAILED] == 0
