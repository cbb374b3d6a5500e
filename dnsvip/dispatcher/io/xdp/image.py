"""Compiles a snapshot into the contents of the kernel program's maps. Bytes out, nothing written.

Numbers and value tables keep their meaning from one image to the next (IdAllocator), so flows, client records and
packets under way read the same before and after.
"""

from __future__ import annotations

from array import array
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from hashlib import sha256
from ipaddress import ip_address
from itertools import chain
from operator import or_

from dnsvip.address.layout import Layout
from dnsvip.address.proof import Bind
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.attribute_masks import Attributed, attributed
from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator, digest
from dnsvip.dispatcher.io.xdp.image_clusters import Clusters
from dnsvip.dispatcher.io.xdp.image_routes import NO_POOL, Rules
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES, absent, padded
from dnsvip.dispatcher.verdict import Target
from dnsvip.dispatcher.verify.networks import SourceNetworks
from dnsvip.site import (
    Client,
    ClientState,
    Fallback,
    Forward,
    Networks,
    Over,
    Site,
    Tier,
    TierAction,
)
from dnsvip.xdp.structs import u32, u64

PLACE_BITS = (1, 2, 4, 8, 16)
"""The widths that a ring place may have."""

_NO_SETS: Mapping[tuple[str, ...], int] = {}


@dataclass(frozen=True)
class Image:
    """The contents of the maps. `values`, `masks`, `rings` and `ciphers` (AES keys) are written before `site` is put in
    place, and those that only an older image used are removed afterwards. `masters`: client master and layout by
    cluster number. `own`: the pool numbers of the sets of servers that clients name. `networks`: those of clients.
    `attributed`: the clusters whose rules name attributes of clients that are known by them."""

    site: bytes = field(repr=False)
    tables: frozenset[int]
    values: Mapping[bytes, bytes]
    masks: Mapping[bytes, bytes]
    rings: Mapping[int, bytes]
    ciphers: Mapping[int, bytes] = field(repr=False)
    prefixes6: Mapping[bytes, bytes]
    prefixes4: Mapping[bytes, bytes]
    masters: Mapping[int, tuple[bytes, Layout]] = field(repr=False)
    own: Mapping[tuple[str, ...], int]
    networks: SourceNetworks = field(repr=False)
    attributed: Mapping[int, Attributed] = field(repr=False)
    translated: Mapping[bytes, bytes]

    @property
    def clusters(self) -> bytes:
        """The part of `site` that says which addresses are forged (`struct cluster`s)."""
        member = TYPES.struct("site").members["clusters"]
        return self.site[member.offset : member.offset + member.size]


def compile_image(tables: DispatchTables, ids: IdAllocator, encap_source: bytes) -> Image:
    """The image of a snapshot's tables; `ids` gains what is new in it. Raises PlatformError where the maps cannot hold
    it. `encap_source` is the high half of outer source addresses."""
    return _Compiler(tables, ids).image(encap_source)


def client_records(
    site: Site, ids: IdAllocator, own: Mapping[tuple[str, ...], int] = _NO_SETS
) -> Callable[[Client], bytes]:
    """A function that makes a client's record. A client whose tier is not in the site is not in force, as in
    `Payload.serves`. `own`: the numbers of sets of clients' own servers."""
    pack, none = TYPES.struct("client").pack, absent()
    tiers = {name: ids.tiers.get(name) for name in site.tiers}
    pools = {name: ids.pools.get(name) for name in site.pools}

    def record(client: Client) -> bytes:
        proof = client.proof
        bind = proof.bind
        tier = tiers.get(client.tier)
        pool = own.get(client.servers) if client.servers else pools.get(client.pool or "")
        return pack(
            tier=none if tier is None else tier,
            enabled=client.state is ClientState.ENABLED and tier is not None,
            ended=client.is_ended,
            proof_required=proof.required,
            single_use=proof.single_use,
            bind_address=bind is not Bind.NONE,
            bind_port=bind is Bind.ADDRESS_PORT,
            pool=NO_POOL if pool is None else pool,
            networks_only=client.networks is Networks.ONLY,
        )

    return record


def server_name(pool: str, server: str, address: str, own: str = "") -> str:
    """The name that a server number stands for; `own` is the key of the set that it is in, where it is in one."""
    return f"{pool}{set_name(own) if own else ''}/{server}/{address}"


def set_name(key: str) -> str:
    """The name that the pool number of a set of clients' own servers stands for."""
    return f"@{urlsafe_b64encode(sha256(key.encode()).digest()[:6]).decode()}"


def parts_of(name: str) -> tuple[str, str, str, str]:
    """Pool, set (its name, or empty), server and address of a server's name."""
    within, _, rest = name.partition("/")
    server, _, address = rest.partition("/")
    pool, at, own = within.partition("@")
    return pool, at + own, server, address


class _Compiler:
    """Compiles one image."""

    def __init__(self, tables: DispatchTables, ids: IdAllocator) -> None:
        self._tables, self._ids = tables, ids
        self._site: Site = tables.sound.site
        self._none = absent()
        self._no_dscp = TYPES.constants("absent")["NO_DSCP"]
        rosters = tables.rosters()
        ids.servers.assign(
            chain(
                (
                    server_name(pool.name, server.name, str(server.address), self._own(key))
                    for key, members in rosters.items()
                    for pool, server in members
                ),
                (server_name("", peer.name, peer.name) for peer in tables.peer_targets.values()),
            )
        )
        self._rings = {(key, version): self._ring(key, version) for key in rosters for version in (4, 6)}
        ids.rings.assign(digest(ring) for ring in self._rings.values() if ring)
        ids.tiers.assign(self._site.tiers)
        ids.pools.assign(map(self._pool_name, rosters))
        ids.translates |= any(pool.forward is Forward.NAT for pool in self._site.pools.values())
        pools = {name: ids.pools[name] for name in self._site.pools}
        self._rules = Rules(self._site, tables.router, ids, pools)
        self._clusters = Clusters(tables.sound, ids, self._rules.by_cluster)

    def image(self, encap_source: bytes) -> Image:
        ids, clusters, none = self._ids, self._clusters, self._none
        no_tier = TYPES.struct("tier").pack_sparse(pool=none, drop=1, dscp=self._no_dscp)
        no_pool = TYPES.struct("pool").pack_sparse(ring4=none, ring6=none)
        site = TYPES.struct("site").pack(
            encap_source=encap_source,
            translates=ids.translates,
            shares=bool(self._tables.peers.own),
            policed=self._policed(),
            ranked=self._tables.lowest_priority is not None,
            lowest=self._lowest_priority(),
            clusters=_array("clusters", clusters.entries(), TYPES.struct("cluster").pack_sparse()),
            tiers=_array("tiers", self._tiers(), no_tier),
            pools=_array("pools", self._pools(), no_pool),
            servers=_array("servers", self._servers(), TYPES.struct("server").pack_sparse(pool=none, home=none)),
            masks=self._rules.masks,
            peers=self._peers(),
        )
        return Image(
            site,
            frozenset(clusters.tables | self._rules.tables),
            clusters.values,
            self._rules.entries,
            {ids.rings[digest(ring)]: ring for ring in self._rings.values() if ring},
            {ids.ciphers[digest(key)]: key for key in clusters.keys.values()},
            clusters.prefixes(6),
            clusters.prefixes(4),
            clusters.masters(),
            {names: ids.pools[set_name(key)] for names, key in self._tables.own.users()},
            self._tables.verifier.networks,
            self._attributed(),
            {address: u32(version) for address, version in self._tables.translated.items()},
        )

    def _attributed(self) -> dict[int, Attributed]:
        """By number, the clusters where attributes of clients that are known by their networks matter."""
        rules = self._tables.router.rules
        found = {
            self._ids.clusters[f"{name}/{cluster.prefix}"]: attributed(cluster, rules.get(name))
            for name, cluster in self._site.clusters.items()
        }
        return {number: one for number, one in found.items() if one}

    def _lowest_priority(self) -> int:
        """The lowest priority of tiers and rules, or the only one that they have."""
        if self._tables.lowest_priority is not None:
            return self._tables.lowest_priority
        return next((tier.priority for tier in self._site.tiers.values()), 0)

    def _tiers(self) -> dict[int, bytes]:
        return {self._ids.tiers[tier.name]: self._tier(tier) for tier in self._site.tiers.values()}

    def _tier(self, tier: Tier) -> bytes:
        """A `struct tier`. A field that C has under the same name needs no line here."""
        limit, kind = self._tables.limits.get(tier.name), TYPES.struct("tier")
        return kind.pack(
            **{"dscp": self._no_dscp, **kind.namesakes(tier)},
            present=1,
            pool=self._pool(tier.pool),
            interval=limit.interval if limit else 0,
            burst=limit.burst if limit else 0,
            debt=limit.debt if limit else 0,
            drop=tier.action is TierAction.DROP,
            unproven_default=tier.unproven is Fallback.DEFAULT_TIER,
            networks_only=tier.networks is Networks.ONLY,
            over_passes=tier.rate is not None and tier.rate.over is Over.PASS,
            rate_per=TYPES.words("per", "PER_")[tier.rate.per] if tier.rate else 0,
            **self._policing(tier),
        )

    def _policing(self, tier: Tier) -> dict[str, int]:
        """The members of a `struct tier` that say how it is policed."""
        policer = self._tables.policers.get(self._tables.tier_number(tier.name))
        return {
            "police_bytes": policer.byte_cost if policer else 0,
            "police_packets": policer.packet_cost if policer else 0,
            "police_burst": policer.burst if policer else 0,
            "police_per": TYPES.words("per", "PER_")[policer.per] if policer else 0,
            "police_marks": policer.marks if policer else 0,
        }

    def _peers(self) -> bytes:
        """The `struct peers`."""
        own, kind, peer = self._tables.peers.own, TYPES.struct("peers"), TYPES.struct("peer")
        entries = {
            number: peer.pack_sparse(address=address, server=self._number(target))
            for number, (address, target) in enumerate(self._tables.peer_targets.items())
        }
        members = kind.members["peer"].count * peer.size
        return kind.pack_sparse(
            key=self._tables.relay_key or bytes(16),
            own=own or bytes(16),
            count=len(entries),
            peer=b"".join(entries.values()).ljust(members, b"\0"),
        )

    def _policed(self) -> bytes:
        """A bit for each tier, set where it is policed."""
        bits = sum(1 << self._ids.tiers[tier.name] for tier in self._site.tiers.values() if tier.policing)
        words = TYPES.struct("site").members["policed"].size // 8
        return b"".join(u64(bits >> 64 * word & (1 << 64) - 1) for word in range(words))

    def _pool(self, name: str | None) -> int:
        """The number of a pool that the site has; NONE."""
        number = self._ids.pools.get(name) if name in self._site.pools else None
        return self._none if number is None else number

    def _own(self, key: str) -> str:
        """The key, where it is that of a set."""
        return key if key in self._tables.own.sets else ""

    def _set(self, name: str) -> int:
        """The number of a set that there is now; NONE."""
        return self._ids.pools[name] if name in map(set_name, self._tables.own.sets) else self._none

    def _pool_name(self, key: str) -> str:
        return set_name(key) if self._own(key) else key

    def _pools(self) -> dict[int, bytes]:
        words = TYPES.words("stickiness", "STICKY_")
        return {
            self._ids.pools[self._pool_name(key)]: TYPES.struct("pool").pack(
                ring4=self._ring_number(key, 4),
                ring6=self._ring_number(key, 6),
                stickiness=words[stickiness],
                own=bool(self._own(key)),
                translates4=(key, 4) in self._tables.translating,
                translates6=(key, 6) in self._tables.translating,
            )
            for key, stickiness in self._tables.stickiness.items()
        }

    def _ring_number(self, pool: str, version: int) -> int:
        ring = self._rings[pool, version]
        return self._ids.rings[digest(ring)] if ring else self._none

    def _ring(self, pool: str, version: int) -> bytes:
        """A `struct ring`; empty where no server takes new flows."""
        ring = self._tables.ring(pool, version)
        if not ring.places:
            return b""
        numbers = [self._number(target) for target in ring.targets]
        bits = next(bits for bits in PLACE_BITS if len(numbers) <= 1 << bits)
        return TYPES.struct("ring").pack(
            bits=bits, servers=array("H", numbers).tobytes(), places=packed_places(ring.places, bits)
        )

    def _number(self, target: Target) -> int:
        name = server_name(target.pool, target.name, str(ip_address(target.address)), target.own)
        return self._ids.servers[name]

    def _servers(self) -> dict[int, bytes]:
        """The site's servers, and former ones that flows may still have."""
        targets = {self._number(target): target for target in self._tables.targets.values()}
        modes, packed = TYPES.words("mode", "MODE_"), {}
        for number, name in self._ids.servers.names.items():
            pool, own, _, text = parts_of(name)
            address = ip_address(text)
            target = targets.get(number)
            mode = target.mode if target else self._site.pools[pool].forward if pool in self._site.pools else "direct"
            packed[number] = TYPES.struct("server").pack(
                address=padded(address.packed),
                pool=self._set(own) if own else self._pool(pool),
                home=self._pool(pool),
                path_mtu=target.path_mtu if target else 0,
                version=address.version,
                mode=modes[mode],
                keeps=target is not None,
                peer=not pool,
            )
        return packed


def _array(member: str, entries: Mapping[int, bytes], empty: bytes) -> bytes:
    """An array of `struct site` from its entries by index."""
    return b"".join(entries.get(index, empty) for index in range(TYPES.struct("site").members[member].count))


def packed_places(places: Sequence[int], bits: int) -> bytes:
    """Numbers of `bits` bits each, the first in the lowest, in words of 16 bits."""
    if bits > 8:
        return array("H", places).tobytes()
    numbers, in_a_byte = array("B", places).tobytes(), 8 // bits
    lanes = (int.from_bytes(numbers[lane::in_a_byte], "little") << bits * lane for lane in range(in_a_byte))
    packed = reduce(or_, lanes).to_bytes(-(-len(numbers) // in_a_byte), "little")
    return packed + bytes(len(packed) % 2)
