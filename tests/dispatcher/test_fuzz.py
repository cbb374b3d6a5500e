"""Broken packets: none raises, each is counted once, and memory stays bounded."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.output import output_bytes
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.packet import ip_length
from dnsvip.dispatcher.reason import ACTIONS, REASONS, Action
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.site import Forward
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENT4,
    CLIENTS,
    FIN,
    NOW_NS,
    PLAIN,
    PLAIN4,
    POOLS,
    RST,
    TIERS,
    address,
    datagram,
    echo,
    icmp_error,
    ip4,
    ip6,
    proven,
    segment,
    snapshot,
)
from tests.long import long_or

PACKETS = long_or(100_000, long=220_000)
_SENT = {
    (Action.FORWARD, Forward.DIRECT): len,
    (Action.FORWARD, Forward.NAT): len,
    (Action.FORWARD, Forward.ENCAP): lambda data: len(data) + 40,
    (Action.PASS, Forward.DIRECT): len,
    (Action.DROP, Forward.DIRECT): lambda _: 0,
}
"""Number of bytes sent for a packet, by action."""
ROUTER = 0x2001_0DB8 << 96 | 0xFE
TABLES = DispatchTables(snapshot(), mtus={server.address.packed: 120 for server in POOLS["slow"].servers})


def seeds() -> list[bytes]:
    """Packets of every kind there is a path for."""
    vips = [address(tier) for tier in TIERS] + [address("gold", expiry=0)]
    vips += [PLAIN, proven(CLIENTS["once"]), proven(CLIENTS["acme"])]
    found = [make(vip) for vip in vips for make in (segment, datagram, echo)]
    found += [segment(vip, flags, data=b"x" * 60) for vip in vips for flags in (ACK, ACK | FIN, RST)]
    found += [icmp_error(ROUTER, vip, segment(CLIENT, ACK, 80, vip, 40_000)) for vip in vips]
    found += [segment(PLAIN4 + n) for n in range(10)] + [datagram(PLAIN4 + 7)]
    found += [ip4(9, PLAIN4 + 7, 1, struct.pack("!BBHI", 3, 4, 0, 1300) + segment(CLIENT4, ACK, 80, PLAIN4 + 7)[:28])]
    tcp = segment(PLAIN)[40:]
    for chain, kind in ((bytes([60, 0] + [0] * 6), 0), (bytes([43, 0] + [0] * 6), 60), (bytes([44, 0] + [0] * 6), 43)):
        found.append(ip6(CLIENT, PLAIN, 6, tcp, chain + bytes([6, 0, 0, 1, 0, 0, 0, 9]), kind))
    for piece in (1, 80):
        chain = struct.pack("!BBHI", 17, 0, piece, 5)
        found += [ip6(CLIENT, vip, 17, datagram(vip)[40:] + bytes(40), chain, 44) for vip in vips]
    for server in POOLS["translated"].servers:
        source = int(server.address)
        found += [segment(CLIENT, ACK, 80, source, 40_000), datagram(CLIENT, 443, source, 40_000)]
        found.append(icmp_error(source, CLIENT, segment(source), 1, 4, 0))
    found += [ip6(CLIENT, PLAIN, protocol, bytes(40)) for protocol in (0, 41, 43, 44, 50, 58, 59, 60, 132, 255)]
    return found


def mutated(random: Random, originals: list[bytes]) -> Iterator[bytes]:
    """Originals cut, lengthened, spliced and with bytes and bits changed; some are noise, some are whole."""
    for number in range(PACKETS):
        data = bytearray(random.choice(originals))
        for _ in range(random.randrange(4)):
            match random.randrange(7):
                case 0:
                    data = data[: random.randrange(len(data) + 1)]
                case 1:
                    data += random.randbytes(random.randrange(40))
                case 2 if data:
                    data[random.randrange(len(data))] = random.randrange(256)
                case 3 if data:
                    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
                case 4 if len(data) > 48:
                    data[random.randrange(48)] = random.choice((0, 1, 6, 17, 43, 44, 58, 60, 255))
                case 5:
                    data = data[: random.randrange(len(data) + 1)] + random.choice(originals)[random.randrange(40) :]
                case _ if number % 16 == 0:
                    data = bytearray(random.randbytes(random.randrange(200)))
        yield bytes(data)


def test_no_packet_breaks_a_decision() -> None:
    """Mutated packets: no exception, one counter each, the counters sum to the packets."""
    flows = Flows(2000)
    counters: Counter[str] = Counter()
    now = NOW_NS
    for data in mutated(Random(20_260_101), seeds()):
        now += SECOND // 2000
        verdict = decide(data, TABLES, flows, now)
        counters[verdict.reason] += 1
        assert verdict.action in ACTIONS[verdict.reason]
        sent = len(output_bytes(data, verdict))
        assert verdict.server is None or ip_length(data) <= verdict.server.path_mtu
        assert verdict.action is Action.ANSWER or sent == _SENT[verdict.action, verdict.mode](data)
        if counters.total() % 500 == 0:
            flows.sweep(now // SECOND, 100)
    assert counters.total() == PACKETS
    assert counters.keys() <= set(REASONS)
    never = {"reselected", "unproven", "revoked", "no-nat-port", "replay-table-full", "failed"}  # not with this site
    never |= {"policed", "policed-marked", "resumed-over-rate", "source", "source-network", "relayed", "overload"}
    assert set(REASONS) - counters.keys() <= never
    assert len(flows) <= 2000
    assert len(flows.translations.forth) <= 2000


@given(st.binary(max_size=200), st.sampled_from(seeds()), st.integers(0, 60))
def test_any_bytes_have_a_verdict(noise: bytes, seed: bytes, at: int) -> None:
    """Noise laid over a packet anywhere gives a verdict with a known reason."""
    data = seed[:at] + noise + seed[at + len(noise) :]
    verdict = decide(data, TABLES, Flows(16), NOW_NS)
    assert verdict.reason in REASONS
    output_bytes(data, verdict)
