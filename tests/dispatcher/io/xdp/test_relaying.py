"""Single use and translations of several dispatchers, each of them the kernel program and the reference at once: what
one relays goes to the next, whichever it came to first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from ipaddress import IPv6Address

import pytest

from dnsvip.address.mac import derive
from dnsvip.address.proof import Bind
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.encap import DISCARD, encapsulate
from dnsvip.dispatcher.flows.flow import most_uses
from dnsvip.dispatcher.flows.uses import share_of
from dnsvip.dispatcher.peers import DIRECT_STEP, Peers, mark
from dnsvip.site import Client, ClientState, OnInvalid, Proof, Rate, Site, Snapshot, Tier
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENTS,
    CLUSTER,
    CLUSTER4,
    PLAIN,
    POOLS,
    RST,
    SITE,
    SYN,
    TIERS,
    address,
    datagram,
    icmp_error,
    proven,
    segment,
    snapshot,
)
from tests.dispatcher.io.xdp.kernel import Seen, loaded
from tests.dispatcher.io.xdp.test_attacks import FLOWS, Both

A, B, C = (IPv6Address(f"fd00:10::{n}").packed for n in range(2, 5))
FREE = Client("free", 1003, "gold", proof=Proof(Bind.NONE, single_use=True))
SHARING = replace(SITE, clients={**CLIENTS, "free": FREE})
BASE = DispatchTables(snapshot(SHARING))
"""Its rings are those of all tables here: making them takes longer than anything else."""
NAT = POOLS["translated"].servers


OLD_KEYLESS = derive(sha256(b"").digest(), b"dnsvip v1 relay")
"""What a key made of no masters would be."""


class Cluster:
    """Dispatchers by their addresses; a packet that one relays goes on to the next."""

    def __init__(self, each: dict[bytes, Both], site: Site = SHARING) -> None:
        self.each, self.site = each, site
        self.start(*each)

    def start(self, *live: bytes) -> None:
        """All of these live, with empty tables."""
        for own in live:
            self.each[own].fresh(DispatchTables(snapshot(self.site), BASE, peers=self._peers(own, live)))

    def now_live(self, *live: bytes, new: tuple[bytes, ...] = ()) -> None:
        """From now on these live; those that are `new` have empty tables."""
        for own in live:
            if own in new:
                self.each[own].fresh(DispatchTables(snapshot(self.site), BASE, peers=self._peers(own, live)))
            else:
                self.each[own].site(self.site, self.each[own].reference.tables, self._peers(own, live))

    @staticmethod
    def _peers(own: bytes, live: tuple[bytes, ...]) -> Peers:
        return Peers(own, tuple(each for each in live if each != own))

    def __call__(self, at: bytes, data: bytes, after: float = 0) -> tuple[list[bytes], Seen]:
        """Which dispatchers a packet passes, and what the last one does."""
        way = [at]
        while True:
            seen = self.each[way[-1]](data, after)
            to = seen.data[24:40]
            if seen.action != "forward" or to not in self.each:
                return way, seen
            data = seen.data
            way.append(to)
            assert len(way) <= 3, way

    def owner(self, key: int) -> bytes:
        """Who owns a key, of all that live as A sees it."""
        return self.each[A].reference.tables.peers.owner(key.to_bytes(16, "big")) or A


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[bytes, Both]]:
    with ExitStack() as stack:
        yield {own: Both(stack.enter_context(loaded(FLOWS))) for own in (A, B, C)}


@pytest.fixture
def cluster(kernel: None, programs: dict[bytes, Both]) -> Cluster:
    """Three dispatchers with empty tables."""
    return Cluster(programs)


def client_of(cluster: Cluster, owner: bytes) -> int:
    """A client's address that a dispatcher owns."""
    return next(CLIENT + n for n in range(1000) if cluster.owner(CLIENT + n) == owner)


def test_a_single_use_address_is_used_once_at_all(cluster: Cluster) -> None:
    """Whoever gets the first packet, and whoever gets another flow's: one decides. The flow goes on at each of them."""
    for first in (A, B, C):
        cluster.start(A, B, C)
        for client, key in ((CLIENTS["once"], CLIENT), (FREE, None)):
            vip = proven(client)
            owner = cluster.owner(vip if key is None else key)
            way, seen = cluster(first, segment(vip))
            assert way == ([first] if first == owner else [first, owner])
            assert (seen.action, seen.reason) == ("forward", "proven")
            for at in (A, B, C):
                assert cluster(at, segment(vip, port=9))[1].reason == "replayed"
                assert cluster(at, datagram(vip, 9, data=b"\x41 running"))[1].reason == "replayed"
            server = seen.server
            for at in (A, B, C):
                for flags in (ACK, ACK):
                    _, seen = cluster(at, segment(vip, flags))
                    assert (seen.action, seen.reason, seen.server) == ("forward", "known", server)
            for at in (A, B, C):
                assert cluster(at, segment(vip, SYN))[1].reason == "replayed"


def test_what_needs_no_owner_is_not_relayed(cluster: Cluster) -> None:
    """Neither issued, proven, plain nor refused addresses, nor a running flow whose proof holds no more."""
    for at in (A, B, C):
        for vip in (address("gold", 1001), proven(CLIENTS["acme"]), address("gold"), address("gold") ^ 1):
            assert cluster(at, segment(vip, port=7))[0] == [at]
        assert cluster(at, segment(proven(CLIENTS["once"]), ACK, 8), after=600)[0] == [at]
        assert cluster(at, segment(address("blocked"), port=7))[0] == [at]
        assert cluster(at, segment(proven(CLIENTS["once"]), RST, 8))[1].reason in ("resumed", "known")


def test_translations_are_the_owners(cluster: Cluster) -> None:
    """Both ways, and errors: a flow under nat is the same whichever dispatcher a packet comes to."""
    for owner in (A, B, C):
        client, vip = client_of(cluster, owner), address("silver")
        for port, first in ((1, A), (2, B), (3, C)):
            way, seen = cluster(first, segment(vip, SYN, port, client))
            assert way[-1] == owner
            server = int.from_bytes(seen.data[24:40], "big")
            assert IPv6Address(server) in {each.address for each in NAT}
            back = segment(client, SYN | ACK, 80, server, port)
            for at in (A, B, C):
                _, seen = cluster(at, segment(vip, ACK, port, client))
                assert (seen.reason, seen.data[24:40]) == ("known", server.to_bytes(16, "big"))
                way, seen = cluster(at, back)
                assert way == ([at] if at == owner else [at, owner])
                assert (seen.reason, seen.data[8:24]) == ("reply", vip.to_bytes(16, "big"))
        error = icmp_error(CLIENT + 5000, vip, segment(client, ACK, 80, vip, 1, b"x" * 100))
        for at in (A, B, C):
            assert cluster(at, error)[1].data[24:40] in {each.address.packed for each in NAT}


def test_a_relayed_running_flow_opens_no_connection(cluster: Cluster) -> None:
    """The relayer judges a datagram of another connection on a flow that was taken over: refused, it is not relayed;
    accepted, the owner judges it too, and from then on the flow is as any other at both."""
    client = client_of(cluster, B)

    def told(vip: int, data: bytes) -> tuple[list[bytes], str]:
        way, seen = cluster(A, datagram(vip, source=client, data=data))
        return way, seen.reason

    expired, good = address("silver", 77, expiry=0), address("silver", 77)
    for vip in (expired, good):
        assert told(vip, b"\x41 later") == ([A, B], "resumed")
    assert told(expired, b"\xc3 first") == ([A], "expired")
    assert told(expired, b"\x41 later") == ([A, B], "known")
    assert told(good, b"\xc3 first") == ([A, B], "known")
    for own, expected in ((A, [0]), (B, [0, 1])):  # running flows are recorded by their owner alone
        flows = cluster.each[own].reference.flows
        parts = (flows.probation, flows.established)
        assert sorted(part.resumed[slot] for part in parts for slot in part.slots.values()) == expected


def test_servers_own_packets_are_passed_on(cluster: Cluster) -> None:
    """A packet of a server under nat that answers no flow is passed on in the end, and never goes round."""
    server = int(NAT[0].address)
    for at in (A, B, C):
        way, seen = cluster(at, segment(CLIENT + 77, SYN, 80, server, 5))
        assert len(way) <= 3
        assert seen.action == "pass"


def test_a_lost_owner_is_replaced(cluster: Cluster) -> None:
    """Its flows go on at the next, under nat with the same server and port; a single use may then be used once more."""
    vip = address("silver")
    client = client_of(cluster, B)
    _, seen = cluster(A, segment(vip, SYN, 5, client))
    before = seen.data[24:40]
    once = proven(CLIENTS["once"], source=client)
    assert cluster(C, segment(once, source=client))[1].reason == "proven"
    cluster.now_live(A, C)
    way, seen = cluster(A, segment(vip, ACK, 5, client))
    assert B not in way
    assert (seen.reason, seen.data[24:40], seen.data[40:42]) == ("resumed", before, bytes((0, 5)))
    back = segment(client, ACK, 80, int.from_bytes(before, "big"), 5)
    assert {cluster(at, back)[1].reason for at in (A, C)} == {"reply"}
    assert cluster(C, segment(once, ACK, source=client))[1].reason in ("resumed", "known")
    assert cluster(A, segment(once, SYN, 9, source=client))[1].reason == "replayed"


def test_an_added_owner_leaves_flows_where_they_are(cluster: Cluster) -> None:
    """Replies of a flow whose translation another dispatcher has still find it, and its packets too."""
    client, vip = client_of(cluster, C), address("silver")
    cluster.start(A, B)
    way, seen = cluster(A, segment(vip, SYN, 5, client))
    holder, server = way[-1], int.from_bytes(seen.data[24:40], "big")
    cluster(A, segment(vip, ACK, 5, client))
    cluster.now_live(A, B, C, new=(C,))
    back = segment(client, ACK, 80, server, 5)
    for at in (A, B, C):
        way, seen = cluster(at, back)
        assert (way[-1], seen.reason) == (holder, "reply")
    assert cluster(A, segment(vip, ACK, 5, client))[0][-1] == holder


def test_a_made_up_mark_relays_nothing(cluster: Cluster) -> None:
    """A tunnelled packet without the mark is not unwrapped, and passes as one for the host."""
    vip = proven(CLIENTS["once"])
    at = next(each for each in (A, B, C) if each != cluster.owner(CLIENT))
    relayed = cluster.each[at](segment(vip)).data
    owner = relayed[24:40]
    forged = relayed[:16] + bytes((relayed[16] ^ 1,)) + relayed[17:]
    assert cluster.each[owner](forged).action == "pass"
    assert cluster.each[owner](relayed).reason == "proven"


def test_a_site_without_keys_unwraps_nothing(programs: dict[bytes, Both], kernel: None) -> None:
    """Its key would be one that everybody knows."""
    site = replace(SITE, clusters={"legacy": CLUSTER4})
    at = programs[B]
    at.fresh(DispatchTables(Snapshot(1, site, {}, {}), peers=Peers(B, (A,))))
    inner = datagram(address("gold"))
    for key in (bytes(16), OLD_KEYLESS):
        made = mark(key, inner[24:40], DIRECT_STEP)
        assert at(encapsulate(inner, B, None, made, DISCARD)).data[24:40] == B


def slow(name: str) -> dict[str, Tier]:
    """The tiers; one has a rate of one new flow a second."""
    return {**TIERS, name: replace(TIERS[name], rate=Rate(1, 1))}


def test_the_tiers_rate_is_for_relayed_flows_too(programs: dict[bytes, Both], kernel: None) -> None:
    """Forged SYNs to a plain address under nat are refused where they come to, and leave the flows there alone; so are
    those to an address that was used."""
    web = replace(CLUSTER, default_tier="silver")
    cluster = Cluster(programs, replace(SHARING, clusters={"web": web}, tiers=slow("silver")))
    vip = address("gold", 1001)
    assert cluster(A, segment(vip, SYN, 1))[1].reason == "issued"
    ways = [cluster(A, segment(PLAIN, SYN, 5, CLIENT + 7 + n)) for n in range(FLOWS)]
    assert sum(len(way) > 1 for way, _ in ways) <= 2
    assert {seen.reason for _, seen in ways} <= {"plain", "held", "over-rate"}
    assert cluster.each[A].reference.flows.evicted == 0
    assert cluster(A, segment(vip, ACK, 1))[1].reason == "known"

    cluster = Cluster(programs, replace(SHARING, tiers=slow("gold")))
    client = client_of(cluster, B)
    once = proven(CLIENTS["once"], source=client)
    ways = [cluster(A, segment(once, SYN, port, client)) for port in range(1, 100)]
    assert sum(len(way) > 1 for way, _ in ways) <= 2
    assert len(cluster.each[A].reference.flows) <= 2


def test_relayed_flows_take_no_established_places(cluster: Cluster) -> None:
    """Where new flows fill their places, relayed flows that gave way go on, each packet by itself."""
    client, vip = client_of(cluster, B), address("silver")
    cluster(A, segment(vip, SYN, 5, client))
    _, seen = cluster(A, segment(vip, ACK, 5, client))
    assert seen.reason == "known"
    once = proven(CLIENTS["once"], source=client)
    for port in range(1, 2 * share_of(most_uses(FLOWS))):
        cluster(A, segment(once, SYN, port, client))
        cluster(A, segment(once, ACK, port, client))
    flows = cluster.each[A].reference.flows
    assert (len(flows.established), flows.kept_new) == (0, 0)
    for port in range(FLOWS // 2):
        cluster(A, segment(PLAIN, SYN, port, client + 1))
    assert flows.evicted
    size = len(flows)
    for _ in range(2):
        way, again = cluster(A, segment(vip, ACK, 5, client))
        assert (way, again.reason, again.server) == ([A, B], "known", seen.server)
    assert len(flows) == size


def test_a_used_address_leaves_others_their_places(cluster: Cluster) -> None:
    """Who has one good proof takes no more places of new flows where they are relayed than it may have uses, from one
    address and port after the other; another client's flow is known there still. Half a minute later it has as many."""
    client, vip = client_of(cluster, B), address("silver")
    cluster(A, segment(vip, SYN, 5, client))
    flows, share = cluster.each[A].reference.flows, share_of(most_uses(FLOWS))
    for used, source in ((proven(FREE), CLIENT + 7), (proven(CLIENTS["once"], source=client), client)):
        if cluster(A, segment(used, SYN, 1, source))[0] == [A]:
            continue  # A has it itself
        before = len(flows) - 1
        for port in range(2, 3 * share):
            way, seen = cluster(A, segment(used, SYN, port, source))
            assert (len(way), seen.reason) == (2, "replayed")
        assert len(flows) == before + share
    assert not flows.evicted
    assert cluster(A, segment(vip, ACK, 5, client))[1].reason == "known"
    before = len(flows)
    assert cluster(A, segment(used, SYN, 9999, source), after=31)[1].reason == "replayed"
    assert len(flows) == before + 1


def test_a_syn_takes_no_flow_to_another_dispatcher(programs: dict[bytes, Both], kernel: None) -> None:
    """One to an address that is not valid any more, for which a default tier under nat is: the flow stays where it is,
    here with its server or relayed."""
    web = replace(CLUSTER, default_tier="silver", on_invalid=OnInvalid.DEFAULT_TIER)
    site = replace(SHARING, clusters={"web": web})
    disabled = {name: replace(client, state=ClientState.DISABLED) for name, client in site.clients.items()}
    for vip in (address("gold", 1001), proven(FREE)):
        cluster = Cluster(programs, site)
        at, default, _ = sorted((A, B, C), key=cluster.owner(vip).__eq__)
        source = client_of(cluster, default)
        for flags in (SYN, ACK, ACK):
            way, before = cluster(at, segment(vip, flags, source=source))
        cluster.site = replace(site, clients=disabled)
        cluster.now_live(A, B, C)
        assert cluster(at, segment(vip, ACK, source=source))[1].server == before.server
        assert cluster(at, segment(vip, SYN, source=source))[1].server != before.server
        after, seen = cluster(at, segment(vip, ACK, source=source))
        assert (after, seen.reason, seen.server) == (way, "known", before.server)


def test_a_relayed_flow_that_is_opened_here_is_established(cluster: Cluster) -> None:
    """Its owner is lost, the SYN comes to who owns it now: from then on it is a flow like others."""
    client = next(CLIENT + n for n in range(1000) if cluster.owner(CLIENT + n) == B)
    vip = address("silver")
    cluster(A, segment(vip, SYN, 5, client))
    cluster(A, segment(vip, ACK, 5, client))
    cluster.now_live(A)
    assert cluster(A, segment(vip, SYN, 5, client))[0] == [A]
    for flags in (ACK, ACK):
        assert cluster(A, segment(vip, flags, 5, client), after=1)[1].reason == "known"
    assert len(cluster.each[A].reference.flows.established) == 1
