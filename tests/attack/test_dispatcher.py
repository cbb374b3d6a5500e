"""Hostile packets against the dispatcher's decision: the counters sum to the packets, memory is bounded, and a client's
flow goes on.

Mutated packets of every kind are in tests/dispatcher/test_fuzz.py; that the kernel decides as this does is held by
tests/dispatcher/io/xdp/test_equality.py.
"""

from __future__ import annotations

import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import outcome
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.reason import Action
from dnsvip.dispatcher.token_bucket import SECOND
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENTS,
    NOW_NS,
    PLAIN,
    RST,
    SITE,
    SYN,
    address,
    datagram,
    established,
    icmp_error,
    ip6,
    proven,
    segment,
    snapshot,
)
from tests.long import long_or

PACKETS = long_or(2_000, long=500_000)
FLOWS = 2_000
SEED = 20_261_129


def forged(rng: Random) -> Iterator[bytes]:
    """New connections with forged sources, to guessed, valid and plain addresses."""
    vips = [address("gold", nonce=n) for n in range(16)] + [PLAIN]
    while True:
        vip = rng.choice(vips) if rng.random() < 0.5 else PLAIN ^ rng.getrandbits(64)
        yield segment(vip, SYN, rng.randrange(1, 65_536), source=0x2001_0DB8 << 96 | rng.getrandbits(64))


def fragments(rng: Random) -> Iterator[bytes]:
    """First fragments without an end, later ones without a beginning, overlapping and tiny ones, by the thousand."""
    while True:
        place, more = rng.choice((0, 1, 8, 8191)), rng.randrange(2)
        head = struct.pack("!BBHI", 6, 0, place << 3 | more, rng.getrandbits(32))
        body = segment(PLAIN)[40 : 40 + rng.choice((0, 1, 8, 20))]
        source = 0x2001_0DB8 << 96 | rng.getrandbits(20)
        yield ip6(source, rng.choice((PLAIN, address("gold"))), 6, body, head, 44)


def chains(rng: Random) -> Iterator[bytes]:
    """Extension headers in chains: long, repeated, of lengths that lie, that end in themselves, out of order."""
    kinds = (0, 43, 44, 51, 60, 135, 139, 140, 253)
    while True:
        names = [rng.choice(kinds) for _ in range(rng.randrange(1, 40))]
        chain = b""
        for following in (*names[1:], rng.choice((6, 17, 58, 59, names[0]))):
            length = rng.choice((0, 0, 0, 1, 255))
            chain += bytes([following, length]) + rng.randbytes(6 + 8 * length if rng.random() < 0.9 else 3)
        yield ip6(CLIENT, PLAIN, 6, segment(PLAIN)[40:], chain[:1400], names[0])


def errors(rng: Random) -> Iterator[bytes]:
    """ICMP errors about flows that do not exist, about themselves, with a smallest MTU, and resets out of nowhere."""
    while True:
        vip, port = address("gold", nonce=rng.randrange(9)), rng.randrange(65_536)
        inner = rng.choice((segment(CLIENT, ACK, 80, vip, port), b"", rng.randbytes(60), icmp_error(CLIENT, vip, b"x")))
        yield icmp_error(
            rng.getrandbits(128), vip, inner, rng.choice((1, 2, 3, 4)), rng.randrange(8), rng.randrange(1500)
        )
        yield segment(vip, rng.choice((RST, ACK, SYN | RST, 0, 63)), port, source=rng.getrandbits(128))


def floods(rng: Random) -> Iterator[bytes]:
    """Datagrams from everywhere, each of another flow."""
    while True:
        yield datagram(PLAIN, rng.randrange(1, 65_536), source=0x2001_0DB8 << 96 | rng.getrandbits(90))


@pytest.mark.parametrize("sort", [forged, fragments, chains, errors, floods], ids=lambda sort: sort.__name__)
def test_hostile_packets(sort: Callable[[Random], Iterator[bytes]]) -> None:
    """Each packet has one verdict and none fails; an established flow goes on, a new client gets through, and what is
    remembered stays within the table's bound."""
    tables, flows, rng = DispatchTables(snapshot()), Flows(FLOWS), Random(SEED)
    good = established(tables, flows, "gold", 5555)
    counters: Counter[str] = Counter()
    now = NOW_NS
    tracemalloc.start()
    for data in islice(sort(rng), PACKETS):
        now += SECOND // 10_000
        verdict, problem = outcome(data, tables, flows, now)
        counters[verdict.reason] += 1
        assert problem is None, data.hex()
        if counters.total() % 500 == 0:
            flows.sweep(now // SECOND, 100)
            assert outcome(good, tables, flows, now)[0].reason == "known"
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counters.total() == PACKETS
    assert "failed" not in counters
    assert len(flows) <= FLOWS
    assert held < 16 << 20
    assert outcome(good, tables, flows, now)[0].reason == "known"
    newcomer, _ = outcome(segment(address("gold", 1001), port=7777), tables, flows, now)
    assert (newcomer.action, newcomer.reason) == (Action.FORWARD, "issued")


def test_one_client_leaves_room_for_the_uses_of_others() -> None:
    """A client with single use that opens as many flows as it can fills its share of the table of uses, and is refused
    beyond it; another client with single use opens flows all the same."""
    greedy, other = CLIENTS["once"], replace(CLIENTS["once"], name="other", id=1003)
    site = replace(SITE, clients={**CLIENTS, "other": other})
    tables, flows = DispatchTables(snapshot(site)), Flows(FLOWS)
    sources = (CLIENT + n for n in range(FLOWS // 2 // 64))
    packets = [segment(proven(greedy, nonce, source), source=source) for source in sources for nonce in range(64)]
    seen = Counter(outcome(data, tables, flows, NOW_NS)[0].reason for data in packets)
    assert seen == {"proven": flows.uses.share, "replay-table-full": len(packets) - flows.uses.share}
    assert len(packets) > flows.uses.bound > 4 * flows.uses.share
    for nonce in range(20):
        assert outcome(segment(proven(other, nonce), port=nonce + 1), tables, flows, NOW_NS)[0].reason == "proven"
