"""Translations of IPv4 of several dispatchers, each of them the kernel program and the reference at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from dnsvip.dispatcher.egress.encap import DISCARD, encapsulate
from dnsvip.dispatcher.peers import DIRECT_STEP, mark, relay_key, widened
from dnsvip.site import Pool, Server
from tests.dispatcher.build import (
    ACK,
    CLIENT4,
    MASTER,
    PLAIN4,
    POOLS,
    SITE,
    SYN,
    address,
    checksum,
    datagram,
    ip4,
    segment,
)
from tests.dispatcher.io.xdp.kernel import Seen, loaded
from tests.dispatcher.io.xdp.test_attacks import FLOWS, Both
from tests.dispatcher.io.xdp.test_relaying import A, B, C, Cluster, slow
from tests.dispatcher.test_rewrite4 import ROUTER4, echo4, error4

SILVER, GOLD = PLAIN4 + 9, PLAIN4 + 7
SERVERS = tuple(Server(f"four-{n}", IPv4Address(0x0A000020 + n)) for n in (1, 2))
OURS = {server.address.packed for server in SERVERS}
BOTH = replace(
    SITE, pools={**POOLS, "translated": replace(POOLS["translated"], servers=POOLS["translated"].servers + SERVERS)}
)
"""The pool `translated` has servers of both IP versions."""


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[bytes, Both]]:
    with ExitStack() as stack:
        yield {own: Both(stack.enter_context(loaded(FLOWS))) for own in (A, B, C)}


@pytest.fixture
def cluster(kernel: None, programs: dict[bytes, Both]) -> Cluster:
    """Three dispatchers with empty tables."""
    return Cluster(programs, BOTH)


def client_of(cluster: Cluster, owner: bytes) -> int:
    """A client's address that a dispatcher owns."""
    return next(CLIENT4 + n for n in range(200) if cluster.owner(CLIENT4 + n) == owner)


def server_of(seen: Seen) -> int:
    """The server that a translated packet goes to."""
    assert (seen.action, seen.data[0] >> 4) == ("forward", 4), seen
    assert seen.data[16:20] in OURS
    return int.from_bytes(seen.data[16:20], "big")


def flow(kind: str, to: int, port: int, client: int) -> bytes:
    """The first packet of a client's flow."""
    if kind == "echo":
        return echo4(to, port, client)
    return segment(to, SYN, port, client) if kind == "tcp" else datagram(to, port, client)


def answer(kind: str, source: int, port: int, client: int) -> bytes:
    """What answers it."""
    if kind == "echo":
        return echo4(client, port, source, 0)
    return segment(client, SYN | ACK, 80, source, port) if kind == "tcp" else datagram(client, 443, source, port)


@pytest.mark.parametrize("kind", ["tcp", "udp", "echo"])
def test_translations_are_the_owners(cluster: Cluster, kind: str) -> None:
    """Both ways: a flow is the same whichever dispatcher a packet of it comes to."""
    for owner in (A, B, C):
        client = client_of(cluster, owner)
        for port, first in ((1, A), (2, B), (3, C)):
            there = flow(kind, SILVER, port, client)
            way, seen = cluster(first, there)
            assert (way, seen.reason) == ([first] if first == owner else [first, owner], "class")
            server = server_of(seen)
            for at in (A, B, C):
                way, seen = cluster(at, there)
                assert (way[-1], seen.reason, server_of(seen)) == (owner, "known", server)
                way, seen = cluster(at, answer(kind, server, port, client))
                assert way == ([at] if at == owner else [at, owner])
                assert (seen.reason, checksum(seen.data[:20])) == ("reply", 0)
                assert seen.data[12:] == answer(kind, SILVER, port, client)[12:]


def test_errors_reach_the_server(cluster: Cluster) -> None:
    """An ICMP error about what the server sent goes to the owner of its translation, and from there to the server."""
    client = client_of(cluster, B)
    server = server_of(cluster(A, datagram(SILVER, 5, client))[1])
    error = error4(ROUTER4, SILVER, datagram(client, 443, SILVER, 5), 11, 0)
    for at in (A, B, C):
        way, seen = cluster(at, error)
        assert (way[-1], seen.reason, server_of(seen)) == (B, "icmp-error", server)


def test_later_fragments_follow(cluster: Cluster) -> None:
    """Those of what a client sends, by way of the dispatcher that the first one came to."""
    client = client_of(cluster, B)
    whole = datagram(SILVER, 5, client, data=b"z" * 100)[20:]
    server = server_of(cluster(A, ip4(client, SILVER, 17, whole[:64], 0x2000, 77))[1])
    way, seen = cluster(A, ip4(client, SILVER, 17, whole[64:], 8, 77))
    assert (way, seen.reason, server_of(seen)) == ([A, B], "fragment", server)


def test_what_needs_no_owner_is_not_relayed(cluster: Cluster) -> None:
    """Flows to pools without nat, and those of an IP version that a pool has no servers for."""
    for at in (A, B, C):
        for vip in (PLAIN4, GOLD):
            assert cluster(at, segment(vip, port=7))[0] == [at]
    cluster = Cluster(cluster.each, SITE)
    assert {len(cluster(at, segment(SILVER))[0]) for at in (A, B, C)} == {1}
    four = Pool("translated", SERVERS, forward=POOLS["translated"].forward)
    cluster = Cluster(cluster.each, replace(SITE, pools={**POOLS, "translated": four}))
    assert {len(cluster(at, segment(address("silver")))[0]) for at in (A, B, C)} == {1}
    assert sorted(len(cluster(at, segment(SILVER))[0]) for at in (A, B, C)) == [1, 2, 2]


def test_servers_own_packets_are_passed_on(cluster: Cluster) -> None:
    """A packet of a server that answers no flow is passed on in the end, and never goes round."""
    for server in SERVERS:
        for at in (A, B, C):
            way, seen = cluster(at, segment(CLIENT4 + 77, SYN, 80, int(server.address), 5))
            assert (seen.action, len(way) <= 3) == ("pass", True)


def test_a_lost_owner_is_replaced(cluster: Cluster) -> None:
    """Its flows go on at the next with their next packet, with the same server and port."""
    client = client_of(cluster, B)
    server = server_of(cluster(A, segment(SILVER, SYN, 5, client))[1])
    cluster.now_live(A, C)
    way, seen = cluster(A, segment(SILVER, ACK, 5, client))
    assert B not in way
    assert (seen.reason, server_of(seen), seen.data[20:22]) == ("class", server, bytes((0, 5)))
    back = segment(client, ACK, 80, server, 5)
    assert {cluster(at, back)[1].reason for at in (A, C)} == {"reply"}


def test_an_added_owner_leaves_flows_where_they_are(cluster: Cluster) -> None:
    """Replies of a flow whose translation another dispatcher has still find it, and its packets too."""
    client = client_of(cluster, C)
    cluster.start(A, B)
    way, seen = cluster(A, segment(SILVER, SYN, 5, client))
    holder, server = way[-1], server_of(seen)
    cluster(A, segment(SILVER, ACK, 5, client))
    cluster.now_live(A, B, C, new=(C,))
    for at in (A, B, C):
        way, seen = cluster(at, segment(client, ACK, 80, server, 5))
        assert (way[-1], seen.reason) == (holder, "reply")
    assert cluster(A, segment(SILVER, ACK, 5, client))[0][-1] == holder


def test_a_running_flow_is_as_a_new_one(cluster: Cluster) -> None:
    """No flow of IPv4 is taken over: one whose record was lost takes a token of its tier's rate, and is recorded where
    it comes to."""
    client = client_of(cluster, B)
    way, seen = cluster(A, segment(SILVER, ACK, 5, client))
    assert (way, seen.reason) == ([A, B], "class")
    assert [len(cluster.each[at].reference.flows) for at in (A, B, C)] == [1, 1, 0]
    cluster = Cluster(cluster.each, replace(BOTH, tiers=slow("silver")))
    reasons = [cluster(A, segment(SILVER, ACK, port, client))[1].reason for port in range(1, 5)]
    assert reasons == ["class", "over-rate", "over-rate", "over-rate"]


def test_only_a_mark_of_the_site_counts(cluster: Cluster) -> None:
    """A tunnelled packet without the mark, of another destination, or of another version than the outer header says, is
    not unwrapped."""
    inner = segment(SILVER, source=client_of(cluster, B))
    relayed = cluster.each[A](inner).data
    made = mark(relay_key({"web": MASTER}), widened(SILVER.to_bytes(4, "big")), DIRECT_STEP)
    assert relayed[8:24] == DISCARD + made.to_bytes(8, "big")
    for forged in (
        relayed[:16] + bytes((relayed[16] ^ 1,)) + relayed[17:],
        relayed[:6] + bytes((41,)) + relayed[7:],
        relayed[:59] + bytes((relayed[59] ^ 1,)) + relayed[60:],
        encapsulate(bytes((0x65,)) + inner[1:], B, None, made),
    ):
        assert cluster.each[B](forged).action == "pass"
    assert cluster.each[B](relayed).reason == "class"
