"""Packets and a site for the dispatcher's tests. Checksums are computed here from scratch, word by word."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from dnsvip.address.keyring import Epoch, EpochState, Keyring
from dnsvip.address.proof import Bind, client_key, prove
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import (
    ClassCluster,
    Client,
    Cluster,
    Forward,
    Over,
    Pool,
    Proof,
    Rate,
    Server,
    ServerState,
    Site,
    Snapshot,
    Stickiness,
    Tier,
    TierAction,
)

NOW = 1_000_000
"""Unix seconds; `decide` is given `NOW_NS`."""
NOW_NS = NOW * SECOND
CLIENT = int(IPv6Address("2001:db8:77::10"))
CLIENT4 = int(IPv4Address("198.51.100.7"))
PLAIN = int(IPv6Address("2001:db8:a:1::1"))
PLAIN4 = int(IPv4Address("192.0.2.1"))
SYN, ACK, FIN, RST, PUSH = 2, 16, 1, 4, 8

CLUSTER = Cluster(
    name="web",
    prefix=IPv6Network("2001:db8:a:1::/64"),
    plain=IPv6Address(PLAIN),
    layout=(("tier", 4), ("client", 20), ("expiry", 7), ("nonce", 6)),
    tag_bits=24,
    default_tier="standard",
)
CLUSTER4 = ClassCluster(
    "legacy",
    IPv4Network("192.0.2.0/28"),
    IPv4Address(PLAIN4),
    {"gold": (8, 9), "silver": (10,)},
    "standard",
)
TIERS = {
    tier.name: tier
    for tier in (
        Tier("gold", 1, "fast", dscp=34),
        Tier("standard", 2, "slow"),
        Tier("silver", 3, "translated"),
        Tier("limited", 4, "slow", rate=Rate(10, 5)),
        Tier("held", 5, "slow", rate=Rate(10, 5, Over.HOLD)),
        Tier("counted", 6, "slow", rate=Rate(10, 5, Over.PASS)),
        Tier("empty", 7, "nobody"),
        Tier("tunnel", 8, "encapsulated"),
        Tier("sticky", 9, "per-client"),
        Tier("blocked", 15, action=TierAction.DROP),
    )
}


def servers(prefix: str, count: int, weight: int = 100) -> tuple[Server, ...]:
    """Servers prefix-1 and so on."""
    base = IPv6Address(f"fd00:{len(prefix)}::10")
    return tuple(Server(f"{prefix}-{n}", base + n, weight) for n in range(1, count + 1))


POOLS = {
    pool.name: pool
    for pool in (
        Pool("fast", servers("fast", 2)),
        Pool("slow", servers("slo", 3)),
        Pool("translated", servers("nat64", 2), forward=Forward.NAT),
        Pool("nobody", tuple(replace(s, state=ServerState.MAINT) for s in servers("nobody", 2))),
        Pool("encapsulated", servers("encap", 1), forward=Forward.ENCAP),
        Pool("per-client", servers("perclient", 3), stickiness=Stickiness.CLIENT),
    )
}
CLIENTS = {
    client.name: client
    for client in (
        Client("acme", 1001, "gold"),
        Client("once", 1002, "gold", proof=Proof(Bind.ADDRESS, single_use=True)),
    )
}
SITE = Site(clusters={"web": CLUSTER, "legacy": CLUSTER4}, tiers=TIERS, pools=POOLS, clients=CLIENTS)
EPOCH = Epoch(1, EpochState.ACTIVE, bytes(range(32)), activated_at=int(NOW) - 100)
KEYRING = Keyring(CLUSTER.address_layout, [EPOCH])
MASTER = bytes(32)


def snapshot(site: Site = SITE) -> Snapshot:
    """The site with its keys."""
    return Snapshot(1, site, {"web": KEYRING}, {"web": MASTER})


def with_pool(name: str, **changes: object) -> Site:
    """The site with one pool changed."""
    return replace(SITE, pools={**POOLS, name: replace(POOLS[name], **changes)})  # type: ignore[arg-type]


def with_state(pool: str, server: str, state: ServerState) -> Site:
    """The site with one server in another state."""
    changed = tuple(replace(s, state=state) if s.name == server else s for s in POOLS[pool].servers)
    return with_pool(pool, servers=changed)


def address(tier: str, client: int = 0, nonce: int = 0, expiry: int = 127) -> int:
    """An issued address."""
    assert KEYRING.active
    values = {"tier": TIERS[tier].code, "client": client, "expiry": expiry, "nonce": nonce}
    return KEYRING.active[1].encode(values)


def proven(client: Client, nonce: int = 0, source: int = CLIENT, now: float = NOW) -> int:
    """A proven address of a client."""
    layout = CLUSTER.address_layout
    key = client_key(MASTER, layout, client.id, client.key_generation)
    issued = address(client.tier, client.id, nonce)
    return prove(layout, issued, key, client.proof.bind, source, 0, int(now) // CLUSTER.slot_seconds)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071), the plain way."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data + b"\0" * (len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ip6(
    source: int, destination: int, protocol: int, payload: bytes, extensions: bytes = b"", first: int = -1
) -> bytes:
    """An IPv6 packet; `extensions` stand before the payload, `first` is the type of the first one."""
    head = struct.pack("!IHBB", 6 << 28, len(extensions) + len(payload), protocol if first < 0 else first, 64)
    return head + source.to_bytes(16, "big") + destination.to_bytes(16, "big") + extensions + payload


def ip4(source: int, destination: int, protocol: int, payload: bytes, piece: int = 0, identity: int = 7) -> bytes:
    """An IPv4 packet."""
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(payload), identity, piece, 64, protocol, 0, source, destination)
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + payload


def pseudo(source: int, destination: int, protocol: int, size: int) -> bytes:
    """The pseudo-header over which upper layers are summed (RFC 8200 section 8.1, RFC 9293)."""
    if destination < 1 << 32:
        return struct.pack("!IIBBH", source, destination, 0, protocol, size)
    return source.to_bytes(16, "big") + destination.to_bytes(16, "big") + struct.pack("!IxxxB", size, protocol)


def summed(source: int, destination: int, protocol: int, payload: bytes, at: int, head: bool = True) -> bytes:
    """A payload with its checksum at `at` filled in."""
    empty = payload[:at] + bytes(2) + payload[at + 2 :]
    prefix = pseudo(source, destination, protocol, len(empty)) if head else b""
    value = checksum(prefix + empty)
    if protocol == 17 and not value:
        value = 0xFFFF
    return empty[:at] + value.to_bytes(2, "big") + empty[at + 2 :]


def ip(source: int, destination: int, protocol: int, payload: bytes) -> bytes:
    """A packet of the version that the destination has."""
    return (ip4 if destination < 1 << 32 else ip6)(source, destination, protocol, payload)


def segment(
    destination: int, flags: int = SYN, port: int = 40_000, source: int = CLIENT, to: int = 80, data: bytes = b""
) -> bytes:
    """A TCP segment."""
    source = CLIENT4 if destination < 1 << 32 and source == CLIENT else source
    tcp = struct.pack("!HHIIBBHHH", port, to, 1, 0, 0x50, flags, 65535, 0, 0) + data
    return ip(source, destination, 6, summed(source, destination, 6, tcp, 16))


def with_label(packet: bytes, label: int) -> bytes:
    """An IPv6 packet with a flow label."""
    return (6 << 28 | label).to_bytes(4, "big") + packet[4:]


def datagram(
    destination: int, port: int = 40_000, source: int = CLIENT, to: int = 443, data: bytes = b"hello"
) -> bytes:
    """A UDP datagram."""
    source = CLIENT4 if destination < 1 << 32 and source == CLIENT else source
    udp = struct.pack("!HHHH", port, to, 8 + len(data), 0) + data
    return ip(source, destination, 17, summed(source, destination, 17, udp, 6))


def echo(destination: int, identity: int = 9, source: int = CLIENT, kind: int = 128) -> bytes:
    """An ICMPv6 echo request, or reply (129)."""
    body = struct.pack("!BBHHH", kind, 0, 0, identity, 1) + b"ping"
    return ip6(source, destination, 58, summed(source, destination, 58, body, 2))


def icmp_error(source: int, destination: int, inner: bytes, kind: int = 2, code: int = 0, word: int = 1280) -> bytes:
    """An ICMPv6 error about a packet that `destination` sent."""
    body = struct.pack("!BBHI", kind, code, 0, word) + inner
    return ip6(source, destination, 58, summed(source, destination, 58, body, 2))


def valid(packet: bytes) -> bool:
    """Whether the upper layer's checksum of an unfragmented IPv6 packet without extensions is right."""
    source, destination = int.from_bytes(packet[8:24], "big"), int.from_bytes(packet[24:40], "big")
    payload = packet[40:]
    return checksum(pseudo(source, destination, packet[6], len(payload)) + payload) == 0


def bare(verdict: Verdict) -> Verdict:
    """A verdict without its packet and address, to compare what is done."""
    return verdict._replace(packet=None, address=None)


def established(tables: DispatchTables, flows: Flows, tier: str, port: int) -> bytes:
    """A data segment of a TCP flow that `flows` knows as established afterwards."""
    vip = address(tier)
    decide(segment(vip, port=port), tables, flows, NOW_NS)
    packet = segment(vip, ACK | PUSH, port, data=b"x" * 100)
    decide(packet, tables, flows, NOW_NS)
    return packet
