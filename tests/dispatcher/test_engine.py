"""Verdicts: figure 4 of the patent, step by step, and flows across changes of the site."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace

import pytest

from dnsvip.address.keyring import Keyring
from dnsvip.address.suffix import SuffixCodec
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.rewrite import rewrite
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.packet import Packet, parse
from dnsvip.dispatcher.reason import REASONS, Action, AddressReason, PacketReason
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import ClientState, Forward, OnInvalid, ServerState, Stickiness
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENT4,
    CLIENTS,
    CLUSTER,
    EPOCH,
    FIN,
    NOW,
    PLAIN,
    PLAIN4,
    POOLS,
    RST,
    SITE,
    SYN,
    address,
    bare,
    datagram,
    echo,
    established,
    icmp_error,
    ip4,
    ip6,
    proven,
    segment,
    servers,
    snapshot,
    valid,
    with_pool,
    with_state,
)

ROUTER = 0x2001_0DB8 << 96 | 0xFE
ELSEWHERE = 0x2001_0DB9 << 96 | 1


class Dispatcher:
    """Tables and flows in one; verdicts at NOW by default."""

    def __init__(self, flows: int = 1000) -> None:
        self.tables = DispatchTables(snapshot())
        self.flows = Flows(flows)

    def __call__(self, data: bytes, now: float = NOW) -> Verdict:
        return decide(data, self.tables, self.flows, round(now * SECOND))

    def change(self, site: object) -> None:
        self.tables = DispatchTables(snapshot(site), self.tables)  # type: ignore[arg-type]


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher()


def name(verdict: Verdict) -> str:
    assert verdict.server, verdict
    return verdict.server.name


def test_new_flow_is_judged_and_selected(dispatcher: Dispatcher) -> None:
    """An issued address leads to its tier's pool, with the tier's mark and the pool's way to forward."""
    verdict = dispatcher(segment(address("gold")))
    assert (verdict.action, verdict.reason, verdict.dscp) == (Action.FORWARD, AddressReason.ISSUED, 34)
    assert verdict.server
    assert (verdict.server.pool, verdict.mode) == ("fast", Forward.DIRECT)
    assert dispatcher(segment(PLAIN)).server.pool == "slow"  # type: ignore[union-attr]


def test_new_flows_are_counted_by_tier(dispatcher: Dispatcher) -> None:
    """A flow counts once for its tier, when it is recorded; refused packets and known flows do not count."""
    for flags in (SYN, ACK, ACK):
        dispatcher(segment(address("gold"), flags))
    dispatcher(segment(PLAIN))
    dispatcher(segment(address("blocked")))
    dispatcher(segment(address("gold") ^ 1))
    dispatcher(segment(address("gold"), RST, port=9))
    assert dispatcher.flows.opened == {"gold": 1, "standard": 1}


def test_known_flow_keeps_server_and_is_not_judged(dispatcher: Dispatcher) -> None:
    """Packets of a known flow go to its server, also after its address has expired and its epoch gone."""
    first = dispatcher(segment(address("gold")))
    dispatcher(segment(address("gold"), ACK))
    dispatcher.tables = DispatchTables(replace(snapshot(), keyrings={}), dispatcher.tables)
    later = dispatcher(segment(address("gold"), ACK), NOW + 3000)
    assert (later.action, later.reason, later.server, later.dscp) == (
        Action.FORWARD,
        PacketReason.KNOWN,
        first.server,
        34,
    )
    assert dispatcher(segment(address("gold"), port=2)).reason == AddressReason.UNKNOWN_EPOCH


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (segment(address("gold") ^ 1), AddressReason.BAD_TAG),
        (segment(address("gold", expiry=0)), AddressReason.EXPIRED),
        (segment(address("gold") ^ 1 << 62), AddressReason.UNKNOWN_EPOCH),
        (segment(address("blocked")), PacketReason.TIER_DROP),
        (segment(PLAIN4 + 13), AddressReason.BAD_PAYLOAD),
        (segment(PLAIN, 0), "malformed-flags"),
        (b"", "malformed-short"),
        (ip6(CLIENT, PLAIN, 132, b"sctp"), PacketReason.PROTOCOL),
        (icmp_error(ROUTER, PLAIN - 1, segment(CLIENT, source=PLAIN - 1)), PacketReason.ICMP_ORPHAN),
        (ip6(CLIENT, PLAIN, 6, b"rest", struct.pack("!BBHI", 6, 0, 1480, 1), 44), PacketReason.FRAGMENT_ORPHAN),
    ],
)
def test_dropped(dispatcher: Dispatcher, data: bytes, reason: str) -> None:
    """A packet that is not forwarded is dropped for its reason and leaves no state."""
    verdict = dispatcher(data)
    assert (verdict.action, verdict.reason) == (Action.DROP, reason)
    assert len(dispatcher.flows) == 0
    assert reason in REASONS


@pytest.mark.parametrize(
    "data",
    [
        segment(ELSEWHERE),
        echo(ELSEWHERE),
        ip6(CLIENT, ELSEWHERE, 132, b"sctp"),
        icmp_error(ROUTER, ELSEWHERE, segment(CLIENT, source=ELSEWHERE)),
        segment(PLAIN4 + 16),
        ip6(CLIENT, PLAIN4 + 7, 17, struct.pack("!HHHH", 1, 2, 8, 0)),  # ::192.0.2.8 is not 192.0.2.8
    ],
)
def test_not_ours_is_passed(dispatcher: Dispatcher, data: bytes) -> None:
    """A packet outside every cluster prefix is passed on unchanged."""
    assert bare(dispatcher(data)) == Verdict(Action.PASS, AddressReason.NOT_OURS)


def test_ipv4_class(dispatcher: Dispatcher) -> None:
    """An IPv4 class leads to its tier's servers, by their IPv6 addresses."""
    verdict = dispatcher(segment(PLAIN4 + 7))
    assert (verdict.reason, verdict.dscp) == (AddressReason.CLASS, 34)
    assert name(verdict).startswith("fast")


def test_choice_is_spread_and_the_same_everywhere(dispatcher: Dispatcher) -> None:
    """Flows spread over a pool, and a dispatcher that knows none of them picks the same servers."""
    packets = [segment(address("standard"), ACK, port) for port in range(1, 300)]
    chosen = [name(dispatcher(packet)) for packet in packets]
    assert all(count > 60 for count in Counter(chosen).values())
    assert [name(Dispatcher()(packet)) for packet in packets[:20]] == chosen[:20]


def test_stickiness_by_client(dispatcher: Dispatcher) -> None:
    """In a pool with client stickiness a client has one server, anonymous ones one by source address."""
    vips = [address("sticky", 5, nonce) for nonce in range(20)]
    assert len({name(dispatcher(segment(vip, port=port))) for port, vip in enumerate(vips)}) == 1
    anonymous = {source: {name(dispatcher(segment(address("sticky"), port=port, source=source))) for port in range(9)}
                 for source in range(CLIENT, CLIENT + 20)}  # fmt: skip
    assert all(len(chosen) == 1 for chosen in anonymous.values())
    assert len(set.union(*anonymous.values())) == 3


def test_stickiness_by_session() -> None:
    """In a pool with session stickiness two sessions of a client may part, one session may not."""
    layout = (("tier", 4), ("client", 15), ("session", 12), ("nonce", 6))
    cluster = replace(CLUSTER, layout=layout)
    site = replace(with_pool("per-client", stickiness=Stickiness.SESSION), clusters={"web": cluster})
    ring = Keyring(cluster.address_layout, [EPOCH])
    tables, flows = DispatchTables(replace(snapshot(site), keyrings={"web": ring})), Flows(10_000)
    chosen: dict[int, set[str]] = {}
    for number in range(300):
        values = {"tier": 9, "client": 5, "session": number % 30 + 1, "nonce": number // 30}
        vip = SuffixCodec(cluster.address_layout, EPOCH.secret, EPOCH.slot).encode(values)
        verdict = decide(segment(vip), tables, flows, NOW * SECOND)
        chosen.setdefault(number % 30, set()).add(name(verdict))
    assert all(len(servers) == 1 for servers in chosen.values())
    assert len(set.union(*chosen.values())) == 3


def test_rate_drop_hold_and_pass(dispatcher: Dispatcher) -> None:
    """Over its rate a tier's new flows are dropped, held or counted; known flows are not asked."""

    def count(tier: str) -> Counter[str]:
        return Counter(dispatcher(segment(address(tier), port=port)).reason for port in range(1, 31))

    assert count("limited") == {"issued": 5, "over-rate": 25}
    assert count("counted") == {"issued": 5, "over-rate-passed": 25}
    assert count("held") == {"issued": 5, "held": 10, "over-rate": 15}
    assert dispatcher(segment(address("limited"), ACK, 1)).reason == "known"
    assert dispatcher(segment(address("limited"), SYN, 30), NOW + 0.11).reason == "issued"
    held = dispatcher(segment(address("held"), port=99), NOW + 1)
    assert held.action is Action.FORWARD
    assert 0 < held.delay <= SECOND


def test_default_tier_for_invalid(dispatcher: Dispatcher) -> None:
    """If the cluster is so configured, the default tier serves an invalid address; its reason is still counted."""
    dispatcher.change(replace(SITE, clusters={"web": replace(CLUSTER, on_invalid=OnInvalid.DEFAULT_TIER)}))
    verdict = dispatcher(segment(address("gold") ^ 1))
    assert (verdict.action, verdict.reason) == (Action.FORWARD, AddressReason.BAD_TAG)
    assert name(verdict).startswith("slo")


def test_revoked_client_keeps_its_flow_and_gets_no_other(dispatcher: Dispatcher) -> None:
    """Revoking acts on new flows at once, also to addresses already issued."""
    vip = address("gold", 1001)
    dispatcher(segment(vip))
    revoked = {**CLIENTS, "acme": replace(CLIENTS["acme"], state=ClientState.REVOKED)}
    dispatcher.change(replace(SITE, clients=revoked))
    assert dispatcher(segment(vip, ACK)).reason == PacketReason.KNOWN
    assert dispatcher(segment(vip, port=2)).reason == AddressReason.REVOKED


def test_single_use_address_opens_one_flow(dispatcher: Dispatcher) -> None:
    """A second 4-tuple is refused while the proof may be accepted; the same one may try again."""
    vip = proven(CLIENTS["once"])
    assert dispatcher(segment(vip)).reason == AddressReason.PROVEN
    assert dispatcher(segment(vip, port=2)).reason == AddressReason.REPLAYED
    packet = parse(segment(vip))
    assert isinstance(packet, Packet)
    dispatcher.flows.remove(packet.key)
    assert dispatcher(segment(vip)).reason == AddressReason.PROVEN
    assert dispatcher(segment(vip, port=2)).reason == AddressReason.REPLAYED
    many = proven(CLIENTS["acme"])
    assert {dispatcher(segment(many, port=port)).reason for port in range(5)} == {AddressReason.PROVEN}


def test_replayed_under_default_tier_stays_replayed(dispatcher: Dispatcher) -> None:
    """A replay that is served by the default tier does not take the address over."""
    dispatcher.change(replace(SITE, clusters={"web": replace(CLUSTER, on_invalid=OnInvalid.DEFAULT_TIER)}))
    vip = proven(CLIENTS["once"])
    reasons = [dispatcher(segment(vip, port=port)).reason for port in (1, 2, 3, 1)]
    assert reasons == ["proven", "replayed", "replayed", "known"]
    dispatcher.flows.sweep(NOW + 31)
    assert [dispatcher(segment(vip, port=port)).reason for port in (2, 1)] == ["replayed", "proven"]


def test_full_replay_table_refuses(dispatcher: Dispatcher) -> None:
    """Where a use cannot be remembered no other single-use address opens a flow."""
    dispatcher.flows.uses.bound = 2
    vips = [proven(CLIENTS["once"], nonce) for nonce in range(3)]
    assert [dispatcher(segment(vip)).reason for vip in vips] == ["proven", "proven", "replay-table-full"]
    dispatcher.flows.remove(parse(segment(vips[1])).key)
    assert dispatcher(segment(vips[1])).reason == "proven"
    assert dispatcher(segment(proven(CLIENTS["once"], 4, now=NOW + 100)), NOW + 100).reason == AddressReason.PROVEN


def test_drain_keeps_flows_and_takes_none(dispatcher: Dispatcher) -> None:
    """A draining server, or one of weight 0, has its established flows and no new ones."""
    for site in (
        with_state("fast", "fast-1", ServerState.DRAIN),
        with_pool("fast", servers=(replace(POOLS["fast"].servers[0], weight=0), POOLS["fast"].servers[1])),
    ):
        dispatcher = Dispatcher()
        vip = address("gold")
        before = {port: name(dispatcher(segment(vip, port=port))) for port in range(1, 60)}
        dispatcher.change(site)
        assert {port: name(dispatcher(segment(vip, ACK, port))) for port in before} == before
        assert {name(dispatcher(segment(vip, port=port))) for port in range(100, 160)} == {"fast-2"}


@pytest.mark.parametrize("state", [ServerState.DOWN, ServerState.MAINT, None])
def test_a_server_that_is_gone_loses_its_flows(dispatcher: Dispatcher, state: ServerState | None) -> None:
    """Flows of a server that is down or removed go to another of the pool, unjudged; the others stay."""
    vip = address("gold")
    before = {port: name(dispatcher(segment(vip, port=port))) for port in range(1, 60)}
    gone = with_state("fast", "fast-1", state) if state else with_pool("fast", servers=POOLS["fast"].servers[1:])
    dispatcher.change(gone)
    dispatcher.tables = DispatchTables(replace(dispatcher.tables.snapshot, keyrings={}), dispatcher.tables)
    after = {port: dispatcher(segment(vip, ACK, port)) for port in before}
    assert {name(verdict) for verdict in after.values()} == {"fast-2"}
    expected = {port: "reselected" if server == "fast-1" else "known" for port, server in before.items()}
    assert {port: verdict.reason for port, verdict in after.items()} == expected
    assert {dispatcher(segment(vip, ACK, port)).reason for port in before} == {"known"}


def test_flows_survive_any_other_change(dispatcher: Dispatcher) -> None:
    """New servers, weights and pools move no flow."""
    vip = address("gold")
    before = {port: name(dispatcher(segment(vip, port=port))) for port in range(1, 60)}
    dispatcher.change(with_pool("fast", servers=servers("fast", 5)[::-1]))
    assert {port: name(dispatcher(segment(vip, ACK, port))) for port in before} == before
    assert len({name(dispatcher(segment(vip, port=port))) for port in range(100, 160)}) == 5


def test_unreachable_servers_are_like_gone(dispatcher: Dispatcher) -> None:
    """Servers that the runner has no way to are not chosen and keep no flows."""
    first = dispatcher(segment(address("gold")))
    assert first.server
    dispatcher.tables = DispatchTables(snapshot(), dispatcher.tables, frozenset({first.server.address}))
    verdict = dispatcher(segment(address("gold"), ACK))
    assert verdict.reason == PacketReason.RESELECTED
    assert verdict.server != first.server


def test_unknown_segments_are_selected_like_new_flows(dispatcher: Dispatcher) -> None:
    """A lost table moves no flow: a segment in the middle goes where the SYN went. RST is not remembered."""
    vip = address("gold")
    first = dispatcher(segment(vip)).server
    lost = Dispatcher()
    assert lost(segment(vip, RST)).server == first
    assert len(lost.flows) == 0
    assert lost(segment(vip, ACK)).server == first
    assert lost(segment(vip, ACK)).reason == PacketReason.KNOWN


def test_icmp_error_follows_its_flow(dispatcher: Dispatcher) -> None:
    """Packet Too Big about a packet from a server goes to that server, whichever router sent it."""
    vip = address("gold")
    for port in range(1, 20):
        server = dispatcher(segment(vip, port=port)).server
        verdict = dispatcher(icmp_error(ROUTER, vip, segment(CLIENT, ACK, 80, vip, port, b"x" * 1400)[:1232]))
        assert (verdict.action, verdict.reason, verdict.server) == (Action.FORWARD, PacketReason.ICMP_ERROR, server)
    inner = segment(CLIENT4, ACK, 80, PLAIN4 + 7, 40_000)[:28]
    server = dispatcher(segment(PLAIN4 + 7)).server
    verdict = dispatcher(ip4(CLIENT4 + 9, PLAIN4 + 7, 1, struct.pack("!BBHI", 3, 4, 0, 1300) + inner))
    assert (verdict.reason, verdict.server) == (PacketReason.ICMP_ERROR, server)


def test_fragments_follow_their_first(dispatcher: Dispatcher) -> None:
    """Later fragments go to the server of the first; the same number from another source does not."""

    def piece(source: int, offset: int, more: int, payload: bytes) -> bytes:
        return ip6(source, PLAIN, 17, payload, struct.pack("!BBHI", 17, 0, offset << 3 | more, 99), 44)

    head = struct.pack("!HHHH", 5000, 443, 3000, 1)
    first = dispatcher(piece(CLIENT, 0, 1, head + bytes(1440)))
    later = dispatcher(piece(CLIENT, 181, 0, bytes(100)))
    assert first.reason == AddressReason.PLAIN
    assert (later.reason, later.server) == (PacketReason.FRAGMENT, first.server)
    assert dispatcher(piece(CLIENT + 1, 181, 0, bytes(100))).reason == PacketReason.FRAGMENT_ORPHAN
    assert dispatcher(piece(CLIENT, 181, 0, bytes(100)), NOW + 61).reason == PacketReason.FRAGMENT_ORPHAN


def test_nat_there_and_back(dispatcher: Dispatcher) -> None:
    """Under nat the server's reply has a verdict that gives it its VIP back; errors of both sides too."""
    vip = address("silver")
    verdict = dispatcher(segment(vip))
    assert (verdict.mode, verdict.action) == (Forward.NAT, Action.FORWARD)
    assert verdict.server
    server = int.from_bytes(verdict.server.address, "big")
    there = rewrite(segment(vip), verdict)
    assert there == segment(server)
    reply = segment(CLIENT, SYN | ACK, 80, server, 40_000)
    back = dispatcher(reply)
    assert (back.reason, back.vip) == (PacketReason.REPLY, vip.to_bytes(16, "big"))
    assert rewrite(reply, back) == segment(CLIENT, SYN | ACK, 80, vip, 40_000)
    too_big = icmp_error(ROUTER, vip, segment(CLIENT, ACK, 80, vip, 40_000))
    assert rewrite(too_big, dispatcher(too_big)) == icmp_error(ROUTER, server, segment(CLIENT, ACK, 80, server, 40_000))
    closed = icmp_error(server, CLIENT, segment(server, ACK), 1, 4, 0)
    assert rewrite(closed, dispatcher(closed)) == icmp_error(vip, CLIENT, segment(vip, ACK), 1, 4, 0)


def test_nat_collisions_get_another_port(dispatcher: Dispatcher) -> None:
    """Two VIPs, one client port and one server: the server sees two ports, and replies find their VIP."""
    dispatcher.change(with_pool("translated", servers=POOLS["translated"].servers[:1]))
    vips = [address("silver", nonce=nonce) for nonce in range(10)]
    seen = [rewrite(datagram(vip), dispatcher(datagram(vip))) for vip in vips]
    assert len({data[40:42] for data in seen}) == 10
    assert all(valid(data) for data in seen)
    for vip, data in zip(vips, seen, strict=True):
        assert rewrite(datagram(vip), dispatcher(datagram(vip))) == data
        server, port = int.from_bytes(data[24:40], "big"), int.from_bytes(data[40:42], "big")
        reply = datagram(CLIENT, 443, server, port)
        assert rewrite(reply, dispatcher(reply)) == datagram(CLIENT, 443, vip, 40_000)


def test_nat_forgets_with_the_flow(dispatcher: Dispatcher) -> None:
    """After a translated flow has expired, a late reply is passed on as not ours."""
    vip = address("silver")
    verdict = dispatcher(segment(vip))
    assert verdict.server
    dispatcher.flows.sweep(NOW + 31)
    reply = segment(CLIENT, ACK, 80, int.from_bytes(verdict.server.address, "big"), 40_000)
    assert dispatcher(reply).reason == AddressReason.NOT_OURS
    assert not dispatcher.flows.translations.back


def test_nat_flow_of_a_lost_server_is_translated_anew(dispatcher: Dispatcher) -> None:
    """A translated flow that is selected again gets replies from its new server."""
    vip = address("silver")
    first = dispatcher(segment(vip))
    dispatcher.change(with_state("translated", name(first), ServerState.DOWN))
    again = dispatcher(segment(vip, ACK))
    assert again.reason == PacketReason.RESELECTED
    assert again.server
    reply = segment(CLIENT, ACK, 80, int.from_bytes(again.server.address, "big"), 40_000)
    assert dispatcher(reply).reason == PacketReason.REPLY
    assert len(dispatcher.flows.translations.back) == 1


def test_port_reuse_after_fin_is_judged_again(dispatcher: Dispatcher) -> None:
    """A SYN on a flow that has ended is a new flow: its address is judged."""
    vip = address("gold")
    packet = established(dispatcher.tables, dispatcher.flows, "gold", 40_000)
    assert dispatcher(packet).reason == PacketReason.KNOWN
    dispatcher(segment(vip, FIN | ACK))
    assert dispatcher(segment(vip, SYN)).reason == AddressReason.ISSUED
