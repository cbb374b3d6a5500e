"""What a client says, on real packets: from a public resolver's plain VIP to the server for what it said."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Any

import pytest

from dnsvip.address.proof import acceptable_slots, verify
from tests.network.field import kernel_world
from tests.network.said import HOME, NAME, PLAIN, RESOLVER, ROUTED, SaidField

pytestmark = pytest.mark.network
PLANES = {"user": "d1", "xdp": "d2"}


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaidField]:
    """A dispatcher of each data plane, three servers, a DNS server of ours and a public resolver."""
    with kernel_world() as world:
        yield SaidField(world, tmp_path_factory.mktemp("said"), list(PLANES))


def first_packets(lines: list[str]) -> list[tuple[int, IPv6Address, IPv6Address]]:
    """Flow label, source and destination of the SYNs among captured packets."""
    pattern = re.compile(r"flowlabel (0x[0-9a-f]+).* ([0-9a-f:]+)\.\d+ > ([0-9a-f:]+)\.\d+: Flags \[S\]")
    found = [match for line in lines if (match := pattern.search(line))]
    return [(int(m[1], 16), IPv6Address(m[2]), IPv6Address(m[3])) for m in found]


def resolved(field: SaidField, *words: str) -> dict[str, Any]:
    """What `client resolve` says through the public resolver."""
    document: dict[str, Any] = json.loads(
        field.dnsvip("resolve", NAME, "--resolver", RESOLVER, "--json", *words).stdout
    )
    return document


@pytest.mark.parametrize("plane", PLANES)
def test_from_the_plain_vip_to_the_video_server(field: SaidField, plane: str) -> None:
    """Told the plain VIP by a public resolver, the client proves its ticket and what it says; a stranger cannot."""
    field.spread([PLANES[plane]])
    assert field.plain_connection(PLAIN) == "s3"
    seen = field.capture()
    assert field.ask(resolver=RESOLVER)[0] == "s1"
    server, to, (source, _) = field.ask(resolver=RESOLVER, claims={"content": "video"})
    assert server == "s2"
    packets = first_packets(seen.lines())
    assert {IPv6Address(source)} == {packet[1] for packet in packets}
    (_, _, first), (_, _, second) = packets[0], packets[-1]
    assert second == IPv6Address(to)
    assert first not in (second, IPv6Address(PLAIN))
    assert int(first) >> 35 == int(second) >> 35  # epoch and ciphertext are the ticket's
    assert int(first) & (1 << 35) - 1 != int(second) & (1 << 35) - 1  # claims and proof are not
    proof = field.cluster.proof
    assert proof
    slots = acceptable_slots(time.time(), 30)
    assert any(
        verify(field.cluster.address_layout, int(second), proof.key, proof.bind, int(IPv6Address(source)), 0, slot)
        for slot in slots
    )


@pytest.mark.parametrize("plane", PLANES)
def test_by_exec_and_its_proxy(field: SaidField, plane: str) -> None:
    """A program of its own comes to the video server by the command's claim, or by that of its connection."""
    field.spread([PLANES[plane]])
    curl = ("curl", "-s", "-m", "5", "--http0.9", f"http://{NAME}:8000/")
    seen = field.capture()
    field.dnsvip("exec", "--resolver", RESOLVER, "--claim", "content=video", "--", *curl, check=False)
    field.dnsvip("exec", "--resolver", RESOLVER, "--", *curl, "-H", "Dnsvip-Claim: content=video", check=False)
    field.dnsvip("exec", "--resolver", RESOLVER, "--", *curl, check=False)
    to = [packet[2] for packet in first_packets(seen.lines())]
    assert [field.plain_connection(str(address)) for address in to] == ["s2", "s2", "s1"]


@pytest.mark.parametrize("plane", PLANES)
def test_a_flipped_claim_bit_is_a_bad_proof(field: SaidField, plane: str) -> None:
    """Nobody on the way changes what a client says: the packet is dropped, and counted as a bad proof."""
    name = PLANES[plane]
    field.spread([name])
    address = int(IPv6Address(resolved(field, "--claim", "content=video")["address"]))
    before = field.counters(name)
    assert field.plain_connection(str(IPv6Address(address ^ 1 << 24))) == ""
    after = field.counters(name)
    assert after["bad-proof"] > before["bad-proof"]
    assert after["proven"] == before["proven"]
    assert field.plain_connection(str(IPv6Address(address))) == "s2"
    assert field.counters(name)["proven"] == before["proven"] + 1


@pytest.mark.parametrize("plane", PLANES)
def test_a_label_leaves_as_it_was_made(field: SaidField, plane: str) -> None:
    """What is claimed in the flow label is in the first packet, bit for bit, and leads to the server for it."""
    name = PLANES[plane]
    field.spread([name])
    ignored = field.status(name)["labels_ignored"]
    seen = field.capture()
    server, to, (source, _) = field.ask(resolver=RESOLVER, claims={"quality": 9})
    ((label, _, destination), *_) = first_packets(seen.lines())
    assert (server, destination) == ("s2", IPv6Address(to))
    form, proof = field.cluster.label_format, field.cluster.proof
    assert form
    assert proof
    slots = acceptable_slots(time.time(), 30)
    said = form.read(label, int(destination), proof.key, proof.bind, int(IPv6Address(source)), 0, slots)
    assert said == form.pack({"quality": 9})
    assert field.status(name)["labels_ignored"] == ignored


@pytest.mark.parametrize("plane", PLANES)
def test_a_label_by_the_proxy(field: SaidField, plane: str) -> None:
    """A program that knows nothing of labels says one by the command's claim, or by a field of its request."""
    name = PLANES[plane]
    field.spread([name])
    before = field.status(name)["rules"], field.status(name)["labels_ignored"]
    curl = ("curl", "-s", "-m", "5", "--http0.9", f"http://{NAME}:8000/")
    field.dnsvip("exec", "--resolver", RESOLVER, "--claim", "quality=9", "--", *curl, check=False)
    field.dnsvip("exec", "--resolver", RESOLVER, "--", *curl, "-H", "Dnsvip-Claim: quality=9", check=False)
    flows = [{rule["rule"]: rule["flows"] for rule in rules}["2"] for rules in (before[0], field.status(name)["rules"])]
    assert flows[1] == flows[0] + 2
    assert field.status(name)["labels_ignored"] == before[1]


@pytest.mark.parametrize("plane", PLANES)
def test_a_hosts_own_label_is_no_claim(field: SaidField, plane: str) -> None:
    """The random label that a host sets is ignored and counted, and the flow goes by its address."""
    name = PLANES[plane]
    field.spread([name])
    ignored = field.status(name)["labels_ignored"]
    seen = field.capture()
    assert field.ask(resolver=RESOLVER)[0] == "s1"
    ((label, _, _), *_) = first_packets(seen.lines())
    assert label
    assert field.status(name)["labels_ignored"] == ignored + 1


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("way", ["added to the interface", "routed to lo, without privilege"])
def test_from_an_address_of_its_own(field: SaidField, plane: str, way: str) -> None:
    """To the plain VIP the client comes from an address that says who it is, and is served as itself."""
    name = PLANES[plane]
    field.spread([name])
    routed = way != "added to the interface"
    drop = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin") if routed else ()
    if routed:
        field.client.ip("-6", "route", "add", "2001:db8:a:1::/64", "via", "2001:db8:77::1", "src", ROUTED)
    before = field.counters(name)
    try:
        server, to, (source, _) = field.ask(drop, resolver=RESOLVER, own_address=True)
    finally:
        if routed:
            field.client.ip("-6", "route", "del", "2001:db8:a:1::/64")
    network = ROUTED if routed else HOME
    assert (server, to) == ("s1", PLAIN)
    assert int(IPv6Address(source)) >> 64 == int(IPv6Address(network)) >> 64
    assert source != network
    after = field.counters(name)
    assert (after["source"], after["plain"]) == (before["source"] + 1, before["plain"])
    assert field.client.run("ip", "route", "get", "fd00:10::1").stdout.split(" src ")[1].split()[0] == HOME
    shown = field.client.ip("-6", "addr", "show", "to", source)
    assert ("deprecated" in shown) is not routed


@pytest.mark.parametrize("plane", PLANES)
def test_without_the_right_to_have_the_address(field: SaidField, plane: str) -> None:
    """A program that can neither add the address nor has its network on lo is told what to do."""
    field.spread([PLANES[plane]])
    drop = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    field.client.ip("-6", "addr", "flush", "dev", "router", "deprecated")
    with pytest.raises(Exception, match="Give the program CAP_NET_ADMIN, or, where 2001:db8:77::/64 is routed"):
        field.ask(drop, resolver=RESOLVER, own_address=True)


@pytest.mark.parametrize("plane", PLANES)
def test_a_foreign_network_says_nothing(field: SaidField, plane: str) -> None:
    """The same identifier in another /64 is a stranger's: served as one, and counted so."""
    name = PLANES[plane]
    field.spread([name])
    source = IPv6Address(resolved(field, "--own-address")["source"])
    foreign = str(IPv6Address(int(IPv6Address("2001:db8:99::")) | int(source) & (1 << 64) - 1))
    field.client.ip("-6", "address", "replace", f"{foreign}/128", "dev", "lo", "nodad")
    before = field.counters(name)
    assert field.plain_connection(PLAIN, foreign) == "s3"
    after = field.counters(name)
    assert (after["plain"], after["source"]) == (before["plain"] + 1, before["source"])


@pytest.mark.parametrize("plane", PLANES)
def test_behind_nat66_it_says_nothing(field: SaidField, plane: str) -> None:
    """Where a network translates source addresses the client is served as a stranger, and counted so."""
    name = PLANES[plane]
    field.spread([name])
    with field.translated(resolved(field, "--own-address")["source"]) as outside:
        seen, before = field.capture(), field.counters(name)
        server, to, _ = field.ask(resolver=RESOLVER, own_address=True)
        after = field.counters(name)
    assert (server, to) == ("s3", PLAIN)
    assert {packet[1] for packet in first_packets(seen.lines())} == {IPv6Address(outside)}
    assert (after["plain"], after["source"]) == (before["plain"] + 1, before["source"])
