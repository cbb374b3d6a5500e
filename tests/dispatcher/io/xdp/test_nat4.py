"""Network address translation of IPv4, kernel program and reference alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from dnsvip.dispatcher.flows.maglev import flow_hash
from dnsvip.dispatcher.flows.nat import _TRIES, _other_port
from dnsvip.dispatcher.io.xdp.view import struct_of
from dnsvip.dispatcher.packet import Packet, parse
from dnsvip.site import Forward, Pool, Server, ServerState, Site, Tier
from tests.dispatcher.build import ACK, CLIENT4, PLAIN4, POOLS, SITE, TIERS, address, checksum, datagram, ip4, segment
from tests.dispatcher.io.xdp.kernel import Seen, loaded
from tests.dispatcher.io.xdp.test_attacks import FLOWS, Both
from tests.dispatcher.test_rewrite4 import ROUTER4, echo4, error4

ONE, TWO = 0x0A000021, 0x0A000022
SILVER = PLAIN4 + 9
"""A class of the tier that pool `translated` serves."""
FOUR = (Server("four-1", IPv4Address(ONE)), Server("four-2", IPv4Address(TWO)))


@pytest.fixture(scope="module")
def program() -> Iterator[Both]:
    with loaded(FLOWS) as kernel:
        yield Both(kernel)


def site(*servers: Server, forward: Forward = Forward.NAT) -> Site:
    """The site whose pool `translated` has these servers."""
    return replace(SITE, pools={**POOLS, "translated": Pool("translated", servers, forward=forward)})


@pytest.fixture
def both(program: Both) -> Both:
    program.site(site(FOUR[0]))
    return program


def sent(seen: Seen) -> bytes:
    """What left."""
    assert seen.action == "forward", seen
    return seen.data


def down(data: bytes) -> bytes:
    """A packet with its hop limit decremented, and its header's checksum anew."""
    head = data[:8] + bytes([data[8] - 1]) + data[9:10] + bytes(2) + data[12:20]
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + data[20:]


def test_there_and_back(both: Both) -> None:
    """TCP, UDP and echo reach the server under its own address, and its replies come from the VIP."""
    cases = (
        (
            segment(SILVER),
            segment(ONE),
            segment(CLIENT4, ACK, 80, ONE, 40_000),
            segment(CLIENT4, ACK, 80, SILVER, 40_000),
        ),
        (
            datagram(SILVER),
            datagram(ONE),
            datagram(CLIENT4, 443, ONE, 40_000),
            datagram(CLIENT4, 443, SILVER, 40_000),
        ),
        (echo4(SILVER, 9, CLIENT4), echo4(ONE, 9, CLIENT4), echo4(CLIENT4, 9, ONE, 0), echo4(CLIENT4, 9, SILVER, 0)),
    )
    for there, wanted, back, restored in cases:
        for reason in ("class", "known"):
            seen = both(there)
            assert (seen.reason, sent(seen)) == (reason, down(wanted))
        seen = both(back)
        assert (seen.reason, sent(seen)) == ("reply", restored)
    assert both.reasons(segment(CLIENT4, ACK, 80, ONE, 41_000)) == ["not-ours"]


def test_errors_both_ways(both: Both) -> None:
    """An error about a reply goes to the server, one of the server's to the client, each with what it quotes."""
    both(datagram(SILVER))
    error = error4(ROUTER4, SILVER, datagram(CLIENT4, 443, SILVER, 40_000), 11, 0)
    wanted = error4(ROUTER4, ONE, datagram(CLIENT4, 443, ONE, 40_000), 11, 0)
    assert sent(both(error)) == down(wanted)
    refused = error4(ONE, CLIENT4, datagram(ONE))
    seen = both(refused)
    assert (seen.reason, sent(seen)) == ("icmp-error", error4(SILVER, CLIENT4, datagram(SILVER)))


def test_fragments_of_both_directions(both: Both) -> None:
    """Later fragments follow their first one, to the server and back."""
    whole = datagram(SILVER, data=b"z" * 100)[20:]
    reply = datagram(CLIENT4, 443, ONE, 40_000, data=b"z" * 100)[20:]
    for source, to, parts in ((CLIENT4, SILVER, whole), (ONE, CLIENT4, reply)):
        first = ip4(source, to, 17, parts[:64], 0x2000, 77)
        later = ip4(source, to, 17, parts[64:], 8, 77)
        seen = [both(first), both(later)]
        assert [one.action for one in seen] == ["forward"] * 2
        assert {one.data[12:20] for one in seen} != {first[12:20]}
    assert both.reasons(ip4(CLIENT4, SILVER, 17, bytes(20), 8, 78)) == ["fragment-without-first"]


def test_two_vips_of_one_port(both: Both) -> None:
    """The second flow of one client port gets another at the server, and each reply goes to its own VIP."""
    both.site(replace(site(FOUR[0]), tiers={**TIERS, "gold": replace(TIERS["gold"], pool="translated")}))
    ports = [
        int.from_bytes(sent(both(segment(vip, port=40_000)))[20:22], "big") for vip in (SILVER, PLAIN4 + 7, PLAIN4 + 8)
    ]
    assert ports[0] == 40_000
    assert len(set(ports)) == 3
    for vip, port in zip((SILVER, PLAIN4 + 7, PLAIN4 + 8), ports, strict=True):
        assert sent(both(segment(CLIENT4, ACK, 80, ONE, port))) == segment(CLIENT4, ACK, 80, vip, 40_000)


def test_no_port_is_left(both: Both) -> None:
    """Where other flows have all ports that are tried, a flow is dropped and forgotten; with a free one it opens."""
    other, packet = segment(SILVER, port=7), segment(PLAIN4 + 8, port=40_000)
    both.site(replace(site(FOUR[0]), tiers={**TIERS, "gold": replace(TIERS["gold"], pool="translated")}))
    assert both.reasons(other) == ["class"]
    holder, key = key_of(other), key_of(packet)
    head = key[:1] + ONE.to_bytes(4, "big") + key[1:5] + key[-2:]
    tried = [key[-4:-2], *(_other_port(flow_hash(key), attempt) for attempt in range(1, _TRIES))]
    for port in tried:
        take(both, head + port, holder)
    assert both.reasons(packet, segment(PLAIN4 + 8, ACK, 40_000)) == ["no-nat-port"] * 2
    assert len(both.reference.flows) == 1
    give_back(both, head + tried[-1])
    seen = both(packet)
    assert (seen.reason, sent(seen)[20:22]) == ("class", tried[-1])


def key_of(data: bytes) -> bytes:
    packet = parse(data)
    assert isinstance(packet, Packet)
    return packet.key


def take(both: Both, reply: bytes, holder: bytes) -> None:
    """Give a reply key to the flow `holder`, in both."""
    both.reference.flows.translations.back[reply] = holder
    both.kernel.maps["replies"].put(struct_of(reply), struct_of(holder))


def give_back(both: Both, reply: bytes) -> None:
    """Free a reply key, in both."""
    del both.reference.flows.translations.back[reply]
    both.kernel.maps["replies"].delete(struct_of(reply))


def test_a_pool_of_both_versions(both: Both) -> None:
    """Each version's flows go to the servers of that version."""
    both.site(site(*FOUR, *POOLS["translated"].servers))
    four = {both(segment(SILVER, port=port)).server.split("/")[1] for port in range(1, 40)}
    six = {both(segment(address("silver"), port=port)).server.split("/")[1] for port in range(1, 40)}
    assert four == {"four-1", "four-2"}
    assert six == {server.name for server in POOLS["translated"].servers}


def test_servers_of_the_other_version_only(both: Both) -> None:
    """A pool without a server of a version answers its flows that there is none."""
    seen = both(segment(address("silver")))
    assert (seen.action, seen.reason) == ("answer", "no-server")
    both.site(site(*POOLS["translated"].servers))
    seen = both(segment(SILVER))
    assert (seen.action, seen.reason) == ("answer", "no-server")


def test_a_lost_server(both: Both) -> None:
    """The flow of a server that is down goes to another, whose replies get the VIP; the lost one's do not."""
    both.site(site(*FOUR))
    first = both(segment(SILVER))
    lost, left = (ONE, TWO) if "four-1" in first.server else (TWO, ONE)
    servers = tuple(replace(s, state=ServerState.DOWN) if int(s.address) == lost else s for s in FOUR)
    both.site(site(*servers), both.reference.tables)
    seen = both(segment(SILVER, ACK))
    assert (seen.reason, sent(seen)) == ("reselected", down(segment(left, ACK)))
    assert both.reasons(*(segment(CLIENT4, ACK, 80, one, 40_000) for one in (left, lost))) == ["reply", "not-ours"]


def test_a_pool_that_becomes_nat(both: Both) -> None:
    """Flows to servers of IPv6 addresses, which no IPv4 packet can be rewritten to, move to one of the pool that has an
    IPv4 address; where there is none they are answered and wait."""
    six = POOLS["translated"].servers
    both.site(site(*six, forward=Forward.DIRECT))
    assert both.reasons(segment(SILVER), segment(SILVER, ACK)) == ["class", "known"]
    both.site(site(*six), both.reference.tables)
    seen = both(segment(SILVER, ACK))
    assert (seen.action, seen.reason) == ("answer", "no-server")
    assert both.reasons(error4(ROUTER4, SILVER, segment(CLIENT4, ACK, 80, SILVER, 40_000))) == [
        "icmp-error-unknown-flow"
    ]
    both.site(site(*six, FOUR[0]), both.reference.tables)
    seen = both(segment(SILVER, ACK))
    assert (seen.reason, sent(seen)) == ("reselected", down(segment(ONE, ACK)))


def test_marks_under_nat(both: Both) -> None:
    """A tier's DSCP is set on what goes to the server, with the header's checksum."""
    both.site(replace(site(FOUR[0]), tiers={**TIERS, "silver": Tier("silver", 3, "translated", dscp=46)}))
    out = sent(both(segment(SILVER)))
    assert out[1] == 46 << 2
    assert checksum(out[:20]) == 0
    assert out[12:] == segment(ONE)[12:]
