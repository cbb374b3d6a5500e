"""What a packet that cannot be forwarded is answered with: never silence, never too much."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.output import output_bytes
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.packet import FlowKey, Packet, parse
from dnsvip.dispatcher.reason import Action, PacketReason
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import Forward, ServerState, Site
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    NOW_NS,
    PLAIN,
    PLAIN4,
    POOLS,
    SITE,
    TIERS,
    address,
    bare,
    datagram,
    icmp_error,
    ip4,
    ip6,
    segment,
    snapshot,
    with_pool,
    with_state,
)

ROUTER = 0x2001_0DB8 << 96 | 0xFE
MTU = 1400


class Dispatcher:
    """Tables and flows in one; every way has an MTU of 1400."""

    def __init__(self, site: Site = SITE) -> None:
        self.flows = Flows(1000)
        self.tables = DispatchTables(snapshot())
        self.change(site)

    def change(self, site: Site) -> None:
        mtus = {server.address.packed: MTU for pool in site.pools.values() for server in pool.servers}
        self.tables = DispatchTables(snapshot(site), self.tables, mtus=mtus)

    def __call__(self, data: bytes, now: int = NOW_NS) -> Verdict:
        return decide(data, self.tables, self.flows, now)


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher()


def sized(vip: int, size: int, flags: int = ACK) -> bytes:
    """A TCP segment that is an IP packet of `size` bytes."""
    return segment(vip, flags, data=bytes(size - (40 if vip < 1 << 32 else 60)))


def test_encap_forwards_known_and_new_packets_alike(dispatcher: Dispatcher) -> None:
    """All packets of a tunnelled flow carry one hash, that of its place on the ring; other flows have others."""
    verdicts = [dispatcher(segment(address("tunnel"), flags)) for flags in (2, ACK, ACK)]
    error = dispatcher(icmp_error(ROUTER, address("tunnel"), segment(CLIENT, ACK, 80, address("tunnel"), 40_000)))
    assert [v.reason for v in (*verdicts, error)] == ["issued", "known", "known", "icmp-error"]
    assert {v.mode for v in (*verdicts, error)} == {Forward.ENCAP}
    assert len({v.flow_hash for v in (*verdicts, error)}) == 1
    assert dispatcher(segment(address("tunnel"), port=9)).flow_hash != verdicts[0].flow_hash
    assert (
        output_bytes(segment(address("tunnel")), verdicts[0])[24:40] == POOLS["encapsulated"].servers[0].address.packed
    )


def test_encap_carries_ipv4() -> None:
    """A class of IPv4 addresses may lead to a pool with tunnels."""
    dispatcher = Dispatcher(replace(SITE, tiers={**TIERS, "gold": replace(TIERS["gold"], pool="encapsulated")}))
    verdict = dispatcher(segment(PLAIN4 + 7))
    assert (verdict.reason, verdict.mode) == ("class", Forward.ENCAP)


@pytest.mark.parametrize(("tier", "fits"), [("gold", 1400), ("silver", 1400), ("tunnel", 1360)])
def test_oversized_packets_get_packet_too_big(dispatcher: Dispatcher, tier: str, fits: int) -> None:
    """The largest packet that fits goes; one byte more is answered with the size that does, known flow or not."""
    assert dispatcher(sized(address(tier), fits)).action is Action.FORWARD
    assert bare(dispatcher(sized(address(tier), fits + 1))) == Verdict(Action.ANSWER, PacketReason.TOO_BIG, mtu=fits)
    new = dispatcher(sized(address(tier, nonce=9), fits + 1))
    assert bare(new) == Verdict(Action.ANSWER, PacketReason.TOO_BIG, mtu=fits)


def test_oversized_ipv4_with_df_gets_fragmentation_needed(dispatcher: Dispatcher) -> None:
    """Without DF no error is sent: the packet is dropped and counted."""
    large = bytearray(sized(PLAIN4 + 7, 1401))
    assert bare(dispatcher(bytes(large))) == Verdict(Action.DROP, PacketReason.TOO_BIG)
    large[6] |= 0x40
    assert bare(dispatcher(bytes(large))) == Verdict(Action.ANSWER, PacketReason.TOO_BIG, mtu=1400)


def test_bytes_after_the_end_do_not_count(dispatcher: Dispatcher) -> None:
    """Padding of a frame makes no packet too big."""
    assert dispatcher(sized(address("gold"), 1400) + bytes(100)).action is Action.FORWARD


def test_a_pool_without_servers_answers_unreachable(dispatcher: Dispatcher) -> None:
    """A pool without a server for new flows answers, also if its servers cannot carry the IP version."""
    unreachable = Verdict(Action.ANSWER, PacketReason.NO_SERVER)
    assert bare(dispatcher(segment(address("empty")))) == unreachable
    assert bare(dispatcher(segment(PLAIN4 + 9))) == unreachable  # silver: IPv4 cannot be translated to IPv6 servers
    assert len(dispatcher.flows) == 0


def test_known_flow_waits_for_its_server(dispatcher: Dispatcher) -> None:
    """A flow whose only server is gone gets an error, and continues when the server comes back."""
    vip = address("tunnel")
    first = dispatcher(segment(vip))
    dispatcher(segment(vip, ACK))
    dispatcher.change(with_state("encapsulated", "encap-1", ServerState.DOWN))
    assert bare(dispatcher(segment(vip, ACK))) == Verdict(Action.ANSWER, PacketReason.NO_SERVER)
    dispatcher.change(SITE)
    assert bare(dispatcher(segment(vip, ACK))) == bare(first)._replace(reason="known")


@pytest.mark.parametrize("source", [0, 1, 0xFF02 << 112 | 1])
def test_no_answer_to_what_is_no_host(dispatcher: Dispatcher, source: int) -> None:
    """The unspecified address, loopback and groups are never answered (RFC 4443 section 2.4)."""
    data = segment(address("empty"), source=source)
    assert bare(dispatcher(data)) == Verdict(Action.DROP, PacketReason.MARTIAN)


@pytest.mark.parametrize("source", [0x0000_0001, 0x7F00_0001, 0xE000_0001, 0xFFFF_FFFF])
def test_no_answer_to_what_is_no_ipv4_host(dispatcher: Dispatcher, source: int) -> None:
    """Neither are this network, loopback, groups and broadcast (RFC 1122 section 3.2.2)."""
    data = ip4(source, PLAIN4 + 9, 17, struct.pack("!HHHH", 1, 2, 8, 0))
    assert bare(dispatcher(data)) == Verdict(Action.DROP, PacketReason.MARTIAN)


def test_no_answer_to_errors_and_later_fragments(dispatcher: Dispatcher) -> None:
    """They are forwarded where they fit and dropped where they do not; a first fragment is answered."""
    vip = PLAIN

    def piece(offset: int, more: int, size: int) -> bytes:
        body = struct.pack("!HHHH", 5000, 443, 4000, 1) + bytes(size - 8)
        return ip6(CLIENT, vip, 17, body, struct.pack("!BBHI", 17, 0, offset << 3 | more, 99), 44)

    assert bare(dispatcher(piece(0, 1, 1440))) == Verdict(Action.ANSWER, PacketReason.TOO_BIG, mtu=MTU)
    assert bare(dispatcher(piece(180, 1, 1440))) == Verdict(Action.DROP, PacketReason.TOO_BIG)
    assert dispatcher(piece(360, 0, 100)).reason == PacketReason.FRAGMENT
    dispatcher(segment(vip))
    inner = segment(CLIENT, ACK, 80, vip, 40_000, b"x" * 1400)
    assert bare(dispatcher(icmp_error(ROUTER, vip, inner))) == Verdict(Action.DROP, PacketReason.TOO_BIG)
    assert dispatcher(icmp_error(ROUTER, vip, inner[:1232])).reason == PacketReason.ICMP_ERROR


def test_answers_are_limited(dispatcher: Dispatcher) -> None:
    """A hundred at once and one a millisecond, of each reason; the others are dropped and counted alike."""
    verdicts = [dispatcher(segment(address("empty"), port=port)) for port in range(150)]
    assert [v.action for v in verdicts] == [Action.ANSWER] * 100 + [Action.DROP] * 50
    assert {v.reason for v in verdicts} == {PacketReason.NO_SERVER}
    assert dispatcher(sized(address("gold"), 1500)).action is Action.ANSWER
    assert dispatcher(segment(address("empty")), NOW_NS + SECOND // 1000).action is Action.ANSWER


def test_answers_go_to_the_sender_and_are_packets(dispatcher: Dispatcher) -> None:
    """An answer is an error about its packet: the sender finds its own flow in it."""
    for data in (segment(address("empty")), datagram(address("empty")), segment(PLAIN4 + 9)):
        answer = parse(output_bytes(data, dispatcher(data)))
        asked = parse(data)
        assert isinstance(answer, Packet)
        assert isinstance(asked, Packet)
        assert FlowKey(answer.key).addresses == FlowKey(asked.key).addresses[::-1]
        assert answer.shape.value == "error"


def test_fallback_takes_new_flows(dispatcher: Dispatcher) -> None:
    """While a pool has no server, the next pool of its chain takes its new flows, and keeps them afterwards."""
    chain = {**POOLS, "nobody": replace(POOLS["nobody"], fallback="encapsulated")}
    chain["encapsulated"] = replace(POOLS["encapsulated"], servers=(), fallback="slow")
    dispatcher.change(replace(SITE, pools=chain))
    verdict = dispatcher(segment(address("empty")))
    assert verdict.server
    assert (verdict.reason, verdict.server.pool) == ("issued", "slow")
    back = tuple(replace(server, state=ServerState.UP) for server in POOLS["nobody"].servers)
    dispatcher.change(with_pool("nobody", servers=back))
    assert dispatcher(segment(address("empty"), ACK)).server == verdict.server
    assert dispatcher(segment(address("empty"), port=7)).server.pool == "nobody"  # type: ignore[union-attr]


def test_fallback_takes_flows_of_a_lost_pool(dispatcher: Dispatcher) -> None:
    """When the last server of a pool goes its flows go on in the next pool."""
    dispatcher(segment(address("tunnel")))
    pools = {**POOLS, "encapsulated": replace(POOLS["encapsulated"], servers=(), fallback="fast")}
    dispatcher.change(replace(SITE, pools=pools))
    verdict = dispatcher(segment(address("tunnel"), ACK))
    assert verdict.server
    assert (verdict.reason, verdict.server.pool) == (PacketReason.RESELECTED, "fast")


def test_held_packets_are_bounded_over_all_tiers(dispatcher: Dispatcher) -> None:
    """Where as many packets are held as may be, one more is over its rate."""
    for port in range(5):
        dispatcher(segment(address("held"), port=port))
    assert dispatcher(segment(address("held"), port=5)).reason == PacketReason.HELD
    for _ in range(4096):
        dispatcher.flows.hold.add("", 0, b"", 0)
    assert bare(dispatcher(segment(address("held"), port=6))) == Verdict(Action.DROP, PacketReason.OVER_RATE)


def test_plain_address_of_a_missing_pool_is_answered() -> None:
    """A site whose tier names no pool that is there (a node may see it for a moment) answers too."""
    dispatcher = Dispatcher(replace(SITE, pools={}))
    assert bare(dispatcher(segment(PLAIN))) == Verdict(Action.ANSWER, PacketReason.NO_SERVER)
