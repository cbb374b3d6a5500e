"""Attacks on the flow table, against the kernel program and the reference at once: each packet goes to both, and their
results are equal."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.flow import YOUNG_SECONDS
from dnsvip.dispatcher.peers import ALONE, Peers
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.site import Client, ClientState, OnInvalid, Site
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENT4,
    CLIENTS,
    CLUSTER,
    FIN,
    NOW,
    PLAIN,
    PLAIN4,
    RST,
    SITE,
    SYN,
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
from tests.dispatcher.io.xdp.kernel import Kernel, Reference, Seen, loaded
from tests.long import long_or

FLOWS = 1024
FORGED = long_or(3 * FLOWS, long=1_500_000)
"""Forged pairs of packets."""
ROUTER = CLIENT + 99


class Both:
    """The kernel program and the reference under one site, at the same time."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.site(SITE)

    def site(self, site: Site, before: DispatchTables | None = None, peers: Peers = ALONE) -> None:
        """Decide by this site from now on, with empty tables unless `before` are given."""
        tables = DispatchTables(snapshot(site), before, peers=peers)
        self.kernel.writer.apply(tables)
        if before is None:
            self.kernel.forget()
            self.reference = Reference(tables, FLOWS)
        self.reference.tables = tables

    def fresh(self, tables: DispatchTables) -> None:
        """Decide by these tables from now on, with nothing known."""
        self.kernel.writer.apply(tables)
        self.kernel.forget()
        self.reference = Reference(tables, FLOWS)

    def change(self, **changes: object) -> None:
        """Change the site; flows stay."""
        self.site(replace(SITE, **changes), self.reference.tables)  # type: ignore[arg-type]

    def __call__(self, data: bytes, after: float = 0) -> Seen:
        """The result for a packet `after` seconds."""
        now = int((NOW + after) * SECOND)
        expected = self.reference.see(data, now)
        assert self.kernel.see(data, now) == expected, data.hex()
        return expected

    def reasons(self, *packets: bytes, after: float = 0) -> list[str]:
        """The reasons for packets in turn."""
        return [self(data, after).reason for data in packets]


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    with loaded(FLOWS) as running:
        yield running


@pytest.fixture
def both(kernel: None, program: Kernel) -> Both:
    """Both with empty tables."""
    return Both(program)


def revoked(name: str) -> dict[str, object]:
    """A change that revokes a client."""
    return {"clients": {**CLIENTS, name: replace(CLIENTS[name], state=ClientState.REVOKED)}}


# A SYN on a flow that is known


def test_syn_on_a_known_flow_is_judged(both: Both) -> None:
    """After a revocation a SYN on an established flow is dropped and counted; the flow stays, with its server."""
    vip = address("gold", 1001)
    server = both(segment(vip)).server
    assert both.reasons(segment(vip, ACK), segment(vip), segment(vip, ACK)) == ["known", "known", "known"]
    both.change(**revoked("acme"))
    assert [both(segment(vip)).action for _ in range(3)] == ["drop"] * 3
    assert both.reasons(segment(vip), segment(vip, ACK), segment(vip)) == ["revoked", "known", "revoked"]
    assert both(segment(vip, ACK)).server == server


def test_syn_on_a_known_flow_whose_address_has_expired(both: Both) -> None:
    """So it is after the address has expired."""
    vip = address("gold", expiry=1)
    assert both.reasons(segment(vip), segment(vip, ACK)) == ["issued", "known"]
    assert both.reasons(segment(vip, ACK), segment(vip), segment(vip, ACK), after=900) == ["known", "expired", "known"]


@pytest.mark.parametrize("ending", [RST, FIN | ACK, RST | ACK], ids=["reset", "closed", "refused"])
def test_a_forged_end_and_a_forged_syn_end_no_flow(both: Both, ending: int) -> None:
    """Who forges a client's source may end its flow in its name, but takes it from the table or its server by no SYN
    behind that: one that is refused changes nothing, one that is admitted leaves the flow at its server."""
    vip, limited = address("gold", expiry=1), address("limited")
    server = both(segment(vip)).server
    assert both.reasons(segment(vip, ACK), segment(vip, ending), segment(vip, SYN)) == ["known", "known", "issued"]
    assert both.reasons(segment(vip, ACK), segment(vip, ending), segment(vip, ACK)) == ["known"] * 3
    both.reasons(segment(limited), segment(limited, ACK), segment(limited, ending))
    assert Counter(both.reasons(*[segment(limited)] * 9)) == {"issued": 1, "known": 3, "over-rate": 5}
    assert both(segment(limited, ACK)).reason == "known"
    fast = next(pool for pool in SITE.pools.values() if pool.name == server.partition("/")[0])
    others = tuple(replace(one, weight=0) if one.name == server.partition("/")[2] else one for one in fast.servers)
    both.change(pools={**SITE.pools, fast.name: replace(fast, servers=others)})
    assert both.reasons(segment(vip, ending), segment(vip, SYN), segment(vip, ACK)) == ["known", "issued", "known"]
    assert both(segment(vip, ACK)).server == server
    assert both.reasons(segment(vip, ending), segment(vip, ACK), after=890) == ["known", "known"]
    assert both.reasons(segment(vip, SYN), segment(vip, ACK), after=900) == ["expired", "known"]


def test_syn_on_a_known_flow_takes_a_token(both: Both) -> None:
    """SYNs on one established flow are limited like new flows, and none of its other packets is."""
    for tier, expected in (
        ("limited", {"known": 4, "over-rate": 26}),
        ("counted", {"known": 4, "over-rate-passed": 26}),
        ("held", {"known": 4, "held": 10, "over-rate": 16}),
    ):
        vip = address(tier)
        server = both(segment(vip)).server
        both(segment(vip, ACK))
        seen = [both(segment(vip)) for _ in range(30)]
        assert Counter(each.reason for each in seen) == expected
        assert {each.server for each in seen if each.action == "forward"} == {server}
        assert both(segment(vip, ACK)).reason == "known"


def test_syn_that_is_sent_again(both: Both) -> None:
    """A SYN that is sent again before the flow is answered takes no token and is no second use, whatever becomes of the
    proof's slot meanwhile; nor does a SYN with data (TCP Fast Open) that is sent again without."""
    vip, limited = proven(CLIENTS["once"]), address("limited")
    assert both(segment(vip, data=b"early")).reason == "proven"
    assert [both(segment(vip), after).reason for after in (1, 3, 7, 15, 31, 60)] == ["known"] * 6
    assert both(segment(limited)).reason == "issued"
    assert {both(segment(limited)).reason for _ in range(30)} == {"known"}


def test_syn_that_is_sent_for_ever(both: Both) -> None:
    """SYNs alone, however many, are taken for retransmissions for a minute only."""
    vip = address("gold", 1001)
    assert both(segment(vip)).reason == "issued"
    both.change(**revoked("acme"))
    assert [both(segment(vip), after).reason for after in (29, 58, 60, 61, 87, 200)] == [
        *["known"] * 3,
        *["revoked"] * 3,
    ]


def test_single_use_on_a_known_flow(both: Both) -> None:
    """A SYN on the answered flow of a single-use address is a second use; once the proof's slot is over, it proves
    nothing. The flow stays."""
    vip = proven(CLIENTS["once"])
    assert both.reasons(segment(vip), segment(vip), segment(vip, ACK)) == ["proven", "known", "known"]
    assert both.reasons(segment(vip), segment(vip, ACK), segment(vip)) == ["replayed", "known", "replayed"]
    assert both.reasons(segment(vip), segment(vip, ACK), after=100) == ["bad-proof", "known"]


@pytest.mark.parametrize(
    "ending",
    [(ACK, FIN | ACK, ACK), (ACK, RST), (FIN | ACK,), (RST,)],
    ids=["closed", "reset", "half-closed", "aborted"],
)
def test_single_use_from_one_port_again(both: Both, ending: tuple[int, ...]) -> None:
    """When the client has ended its connection, another one from the same port is a second use."""
    vip = proven(CLIENTS["once"])
    assert both.reasons(segment(vip), *(segment(vip, flags) for flags in ending))[0] == "proven"
    assert both.reasons(segment(vip), segment(vip, port=2), segment(vip)) == ["replayed"] * 3


def test_single_use_whose_flow_is_forgotten(both: Both) -> None:
    """A connection goes on when its flow has been forgotten; a SYN behind that is a second use, as one before it is."""
    vip = proven(CLIENTS["once"], now=NOW + 30)
    assert both.reasons(segment(vip), segment(vip, ACK), segment(vip, FIN | ACK)) == ["proven", "known", "known"]
    assert both.reasons(segment(vip, ACK), segment(vip), segment(vip, ACK), after=61) == [
        "resumed",
        "replayed",
        "known",
    ]
    packets = [segment(proven(CLIENTS["once"], 1, now=NOW + 61), flags) for flags in (ACK, SYN, ACK)]
    assert both.reasons(*packets, after=61) == ["resumed", "replayed", "known"]


def test_single_use_beyond_a_share(both: Both) -> None:
    """A client that fills its share of the table of uses is refused until they are out of date; another goes on. Uses
    that open no flow (a reset, a tier over its rate) take nothing of it, nor does one of an address used before."""
    once = CLIENTS["once"]
    slow = replace(once, name="slow", id=1003, tier="limited")
    both.change(clients={**CLIENTS, "slow": slow})
    assert both.reasons(*(segment(proven(once, nonce), RST) for nonce in range(64))) == ["resumed"] * 64
    seen = Counter(both.reasons(*(segment(proven(slow, nonce), port=nonce + 1) for nonce in range(64))))
    assert seen == {"proven": 5, "over-rate": 59}
    vips = [proven(once, nonce % 64, CLIENT + nonce // 64) for nonce in range(90)]
    flows = [segment(vip, source=CLIENT + n // 64) for n, vip in enumerate(vips)]
    assert Counter(both.reasons(*flows)) == {"proven": 64, "replay-table-full": 26}
    assert both.reasons(segment(vips[3], port=9), segment(vips[3])) == ["replayed", "known"]
    assert both.reasons(segment(proven(slow, 63, now=NOW + 6)), after=6) == ["proven"]
    later, vip = int(NOW) + 91, proven(once, now=NOW + 91)
    assert both.reasons(segment(vip), after=91) == ["replay-table-full"]
    both.kernel.writer.sweep(later)
    both.reference.flows.sweep(later)
    assert both.reasons(segment(vip), after=91) == ["proven"]


def test_syn_ack_opens_nothing(both: Both) -> None:
    """A SYN with ACK on an established flow is a packet of it, as a server answers it with a reset."""
    vip = address("gold", 1001)
    both.reasons(segment(vip), segment(vip, ACK))
    both.change(**revoked("acme"))
    assert both(segment(vip, SYN | ACK)).reason == "known"


def test_syn_on_a_flow_under_nat(both: Both) -> None:
    """Under nat an admitted SYN keeps the flow's port, and its reply the VIP."""
    vip = address("silver", 77)
    sent = both(segment(vip)).data
    assert both.reasons(segment(vip, ACK), segment(vip)) == ["known", "known"]
    assert both(segment(vip)).data == sent
    server = int.from_bytes(sent[24:40], "big")
    assert both(segment(CLIENT, SYN | ACK, 80, server, 40_000)).reason == "reply"


def test_syn_after_a_change_of_tier(both: Both) -> None:
    """An admitted SYN moves the flow where the address leads to now, and back; data alone moves nothing."""
    vip = address("gold", 1001)
    assert both(segment(vip)).server.startswith("fast/")
    both(segment(vip, ACK))
    for tier, pool in (("silver", "translated/"), ("tunnel", "encapsulated/"), ("gold", "fast/")):
        before = both(segment(vip, ACK)).server
        both.change(clients={**CLIENTS, "acme": replace(CLIENTS["acme"], tier=tier)})
        assert both(segment(vip, ACK)).server == before
        assert both(segment(vip)).server.startswith(pool)
        assert both(segment(vip, ACK)).server.startswith(pool)
    assert len(both.reference.flows) == 1
    assert not both.reference.flows.translations.back


def test_syn_under_a_default_tier(both: Both) -> None:
    """Where rejected addresses get the default tier, a SYN does not move another tier's flow there; a flow of the
    default tier goes on."""
    lenient = {"web": replace(CLUSTER, on_invalid=OnInvalid.DEFAULT_TIER), "legacy": SITE.clusters["legacy"]}
    vip, forged = address("gold", 1001), address("gold") ^ 1
    both.reasons(segment(vip), segment(vip, ACK))
    both.change(clusters=lenient, **revoked("acme"))
    seen = both(segment(vip))
    assert (seen.action, seen.reason) == ("drop", "revoked")
    assert both(segment(vip, ACK)).server.startswith("fast/")
    first = both(segment(forged))
    both(segment(forged, ACK), 1)
    again = both(segment(forged), 1)
    assert (again.action, again.reason, again.server) == ("forward", "bad-tag", first.server)


# Replies


@pytest.mark.parametrize("flags", [RST, RST | ACK, FIN | ACK])
def test_reply_does_not_end_a_flow(both: Both, flags: int) -> None:
    """Under nat a packet in the name of the server is returned to the client, and the flow lives on; a client's packet
    ends it."""
    vip = address("silver")
    server = int.from_bytes(both(segment(vip)).data[24:40], "big")
    both(segment(vip, ACK))
    assert both(segment(CLIENT, flags, 80, server, 40_000)).reason == "reply"
    assert both.reasons(segment(vip, ACK), segment(vip, flags), after=100) == ["known", "known"]
    assert both(segment(vip, ACK), 200).reason == "resumed"


# Fragments


def test_fragments_of_refused_packets_are_not_remembered(both: Both) -> None:
    """However many first fragments come to bad addresses, fragments of others find their first."""
    vip = address("gold")

    def piece(vip: int, offset: int, identity: int) -> bytes:
        head = struct.pack("!BBHI", 17, 0, offset << 3 | (not offset), identity)
        return ip6(CLIENT, vip, 17, struct.pack("!HHHH", 5000, 443, 3000, 1) + bytes(40), head, 44)

    assert both(piece(vip, 0, 7)).reason == "issued"
    for identity in range(8, 4200):
        assert both(piece(vip ^ 1, 0, identity)).reason == "bad-tag"
    assert both.reasons(piece(vip, 6, 7), piece(vip, 6, 8)) == ["fragment", "fragment-without-first"]
    assert len(both.reference.flows.fragments) == 1
    assert len(list(both.kernel.maps["fragments"].keys())) == 1


# Sources

NO_HOSTS = [IPv6Address(text) for text in ("::", "::1", "::ffff:198.51.100.7", "fe80::1", "febf::1", "ff02::1")]


@pytest.mark.parametrize("source", [*map(int, NO_HOSTS), address("gold")])
def test_martian_sources(both: Both, source: int) -> None:
    """A packet whose source is no host, or the VIP itself, is dropped and counted, whatever its protocol."""
    vip = address("gold")
    quoted = segment(CLIENT, ACK, 80, vip, 40_000)
    assert both(segment(vip)).reason == "issued"
    packets = [
        segment(vip, source=source),
        segment(vip, ACK, source=source),
        datagram(vip, source=source),
        echo(vip, source=source),
        echo(vip, source=source, kind=129),
        icmp_error(source, vip, quoted),
        ip6(source, vip, 132, b"sctp"),
        ip6(source, vip, 17, bytes(16), struct.pack("!BBHI", 17, 0, 80, 1), 44),
    ]
    assert both.reasons(*packets) == ["martian-source"] * len(packets)
    assert {both(data).action for data in packets} == {"drop"}
    assert both(icmp_error(ROUTER, vip, quoted)).reason == "icmp-error"
    assert len(both.reference.flows) == 1


@pytest.mark.parametrize("tier", ["gold", "silver", "tunnel"])
def test_a_source_within_the_cluster(both: Both, tier: str) -> None:
    """No client has an address of the cluster that it asks: a server would answer itself, or another one through the
    dispatcher, and services that answer every datagram for ever."""
    vip, other = address(tier), address(tier, nonce=1)
    for to, source in ((vip, other), (other, vip), (vip, PLAIN), (PLAIN, vip), (vip, vip ^ 1), (vip ^ 1, vip)):
        packets = [datagram(to, source=source), segment(to, source=source), echo(to, source=source)]
        assert both.reasons(*packets, segment(to, ACK, source=source)) == ["martian-source"] * 4
    assert both(ip4(PLAIN4, PLAIN4 + 7, 17, struct.pack("!HHHH", 7, 7, 8, 0))).reason == "martian-source"
    assert len(both.reference.flows) == 0
    assert both(segment(vip)).reason == "issued"


@pytest.mark.parametrize("source", [0, 0x00FFFFFF, 0x7F000001, 0xE0000001, 0xF0000001, 0xFFFFFFFF, PLAIN4 + 7])
def test_martian_ipv4_sources(both: Both, source: int) -> None:
    """So it is with IPv4."""
    vip, udp = PLAIN4 + 7, struct.pack("!HHHH", 1, 2, 8, 0)
    inner = segment(CLIENT4, ACK, 80, vip, 40_000)[:28]
    error = struct.pack("!BBHI", 3, 4, 0, 1300) + inner
    packets = [
        ip4(source, vip, 17, udp),
        ip4(source, vip, 1, struct.pack("!BBHHH", 8, 0, 0, 9, 1)),
        ip4(source, vip, 1, error),
        ip4(source, vip, 132, udp),
        ip4(source, vip, 17, udp, piece=100),
    ]
    assert both(segment(vip)).reason == "class"
    assert both.reasons(*packets) == ["martian-source"] * len(packets)
    assert both(ip4(CLIENT4 + 1, vip, 1, error)).reason == "icmp-error"


def test_neighbour_discovery_is_the_hosts(both: Both) -> None:
    """Neighbour discovery (RFC 4861), also from an unspecified or link-local source, passes to the host."""
    link, us = int(IPv6Address("fe80::1")), int(IPv6Address("fe80::2"))
    group, host = int(IPv6Address("ff02::1:ff00:1")), int(IPv6Address("2001:db8:ffff::1"))
    for kind in range(133, 138):
        for source, target in ((link, group), (0, group), (link, us), (link, host), (host, us)):
            seen = both(ip6(source, target, 58, bytes([kind]) + bytes(23)))
            assert (seen.action, seen.reason) == ("pass", "not-ours")


# Floods


def pair(both: Both, source: int, after: float = 0) -> None:
    """Two packets of one flow from a source that is made up, to the plain VIP, as one moment."""
    assert both.reasons(segment(PLAIN, source=source), segment(PLAIN, ACK, source=source), after=after) == [
        "plain",
        "known",
    ]


def settled(both: Both) -> tuple[int, int]:
    """How many flows are established, and how many of those are anonymous."""
    return len(both.reference.flows.established), both.reference.flows.anonymous


def test_forged_pairs_take_no_place(both: Both) -> None:
    """Pairs of packets from forged sources to the plain VIP establish nothing: flows that come later, anonymous ones
    too, are established and outlive the half minute of a new one."""
    for number in range(FORGED):
        pair(both, CLIENT + 1000 + number)
    assert settled(both) == (0, 0)
    later = [address("gold"), PLAIN]
    for vip in later:
        both.reasons(segment(vip), segment(vip, ACK))
        assert both(segment(vip, ACK), 1).reason == "known"
    for number in range(2 * FLOWS):
        pair(both, CLIENT - 1000 - number, after=1)
    assert [both(segment(vip, ACK), 100).reason for vip in later] == ["known", "known"]
    assert settled(both) == (2, 1)


def test_anonymous_flows_have_a_share(both: Both) -> None:
    """Forged flows with a second packet a second later get half of the established places, for two minutes after their
    last packet; flows to encoded addresses get all others."""
    share = (FLOWS - FLOWS // 4) // 2
    for turn in range(6):
        for number in range(200):
            both(segment(PLAIN, source=CLIENT + 1000 * turn + number), 2 * turn)
        for number in range(200):
            both(segment(PLAIN, ACK, source=CLIENT + 1000 * turn + number), 2 * turn + 1)
    assert settled(both) == (share, share)
    flows = [(address("gold", port % 4), port) for port in range(1, share + 1)]
    for vip, port in flows:
        assert both.reasons(segment(vip, port=port), segment(vip, ACK, port=port), after=12) == ["issued", "known"]
    assert settled(both) == (2 * share, share)
    assert {both(segment(vip, ACK, port=port), 100).reason for vip, port in flows} == {"known"}
    last = 12 + YOUNG_SECONDS
    both.reference.flows.sweep(NOW + last)
    both.kernel.writer.sweep(NOW + last)
    assert settled(both) == (share, 0)
    both(segment(PLAIN), last)
    both(segment(PLAIN, ACK), last + 1)
    assert settled(both) == (share + 1, 1)


def test_life_of_an_anonymous_flow(both: Both) -> None:
    """An anonymous flow lives for two minutes after its last packet until it is two minutes old, then as long as any
    other; in its first second it is answered without being established."""
    both.reasons(segment(PLAIN), segment(PLAIN, ACK))
    assert settled(both) == (0, 0)
    assert [both(segment(PLAIN, ACK), after).reason for after in (120, 121, 1000)] == ["known", "known", "known"]
    assert settled(both) == (1, 1)
    assert both.reasons(segment(PLAIN, port=7), segment(PLAIN, ACK, port=7), after=1000) == ["plain", "known"]
    assert both(segment(PLAIN, ACK, port=7), 1119).reason == "known"
    assert both(segment(PLAIN, ACK, port=7), 1240).reason == "plain"
    assert both(segment(PLAIN, ACK), 1240).reason == "known"


# Ports under nat


def test_forged_flows_leave_a_client_its_ports(both: Both) -> None:
    """Flows to the plain VIP that pretend to be a client's hold no port against it: it keeps its own to an authentic
    address, and the reply goes back from there. What is displaced gets another port, if one is left."""
    pool = replace(SITE.pools["translated"], servers=SITE.pools["translated"].servers[:1])
    cluster = replace(CLUSTER, default_tier="silver")
    both.change(pools={**SITE.pools, "translated": pool}, clusters={"web": cluster})
    forged = [segment(PLAIN, port=port) for port in (40_000, 40_001)]
    assert both.reasons(*forged) == ["plain", "plain"]
    mine = both(segment(address("silver", 77)))
    assert (mine.reason, mine.data[40:42]) == ("issued", (40_000).to_bytes(2, "big"))
    assert both(segment(address("silver", 77), ACK)).reason == "known"
    again = both(forged[0])
    assert (again.reason, again.data[40:42] != mine.data[40:42]) == ("plain", True)
    other = both(segment(address("silver", 77, 1)))  # it displaces no authentic flow
    assert (other.reason, other.data[40:42] != mine.data[40:42]) == ("issued", True)
    assert both(forged[1]).data[40:42] == (40_001).to_bytes(2, "big")


def one_translated(both: Both, **clients: Client) -> None:
    """One server under nat, for the default tier too."""
    pool = replace(SITE.pools["translated"], servers=SITE.pools["translated"].servers[:1])
    cluster = replace(CLUSTER, default_tier="silver")
    pools, web = {**SITE.pools, "translated": pool}, {"web": cluster}
    both.site(replace(SITE, pools=pools, clusters=web, clients={**CLIENTS, **clients}))


@pytest.mark.parametrize("age", [YOUNG_SECONDS - 1, YOUNG_SECONDS])
def test_a_forged_source_ends_no_old_flow(both: Both, age: int) -> None:
    """A client that pretends to be another one's flow to the plain VIP gets another port, unless that flow is young: it
    goes on from its own."""
    one_translated(both)
    assert both.reasons(segment(PLAIN), segment(PLAIN, ACK)) == ["plain", "known"]
    assert both.reasons(segment(PLAIN, ACK), after=age - 10) == ["known"]
    forged = both(segment(address("silver", 77)), age)
    mine = both(segment(PLAIN, ACK), age)
    kept = (40_000).to_bytes(2, "big")
    old = age >= YOUNG_SECONDS
    assert (forged.reason, forged.data[40:42] == kept) == ("issued", not old)
    assert (mine.reason, mine.data[40:42] == kept) == ("known" if old else "plain", old)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("make", [lambda vip: segment(vip, ACK), datagram])
def test_a_running_flow_tells_nothing_of_its_proof(both: Both, make: Callable[[int], bytes], right: bool) -> None:
    """It takes no port of another flow, whether its proof is right or guessed: whoever sees both could try them all."""
    client = replace(CLIENTS["acme"], tier="silver")
    one_translated(both, acme=client)
    vip = proven(client) ^ (0 if right else 1)
    before = both(make(PLAIN))
    assert (before.reason, both(make(vip)).reason) == ("plain", "resumed")
    after = both(make(PLAIN))
    assert (after.reason, after.data[40:42]) == ("known", before.data[40:42])


def test_one_client_does_not_take_all_established_places(both: Both) -> None:
    """A client that opens flows without end gets three quarters of the places. Other clients' connections stay, also
    while its new flows drive one another out."""
    greedy = address("gold", 77)
    for port in range(FLOWS):
        both(segment(greedy, port=port))
        assert both(segment(greedy, ACK, port=port)).reason == "known"
    bound = FLOWS - FLOWS // 4
    assert len(both.reference.flows.established) == bound - bound // 4
    mine = [address("gold", client) for client in range(1, 33)]
    for vip in mine:
        assert both.reasons(segment(vip), segment(vip, ACK)) == ["issued", "known"]
    for port in range(2000, 2000 + FLOWS):
        both(segment(greedy, port=port))
    assert {both(segment(vip, ACK)).reason for vip in mine} == {"known"}
    assert len(both.reference.flows.established) == bound - bound // 4 + len(mine)
