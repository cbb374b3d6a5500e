"""Compiles a snapshot into the contents of the kernel program's maps. Bytes out, nothing written.

Numbers and value tables keep their meaning from one image to the next (IdAllocator), so flows, client records and
packets under way read the same before and after.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from ipaddress import ip_address
from operator import or_

from dnsvip.address.layout import Layout
from dnsvip.address.proof import Bind
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator, digest
from dnsvip.dispatcher.io.xdp.image_clusters import Clusters
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES, absent, padded
from dnsvip.site import (
    Client,
    ClientState,
    Fallback,
    Forward,
    Over,
    Site,
    Tier,
    TierAction,
)

PLACE_BITS = (1, 2, 4, 8, 16)
"""The widths that a ring place may have."""


@dataclass(frozen=True)
class Image:
    """The contents of the maps. `values`, `rings` and `ciphers` (AES keys) are written before `site` is put in place,
    and those that only an older image used are removed afterwards. `masters`: client master and layout by cluster
    number."""

    site: bytes = field(repr=False)
    tables: frozenset[int]
    values: Mapping[bytes, bytes]
    rings: Mapping[int, bytes]
    ciphers: Mapping[int, bytes] = field(repr=False)
    prefixes6: Mapping[bytes, bytes]
    prefixes4: Mapping[bytes, bytes]
    masters: Mapping[int, tuple[bytes, Layout]] = field(repr=False)

    @property
    def clusters(self) -> bytes:
        """The part of `site` that says which addresses are forged (`struct cluster`s)."""
        member = TYPES.struct("site").members["clusters"]
        return self.site[member.offset : member.offset + member.size]


def compile_image(tables: DispatchTables, ids: IdAllocator, encap_source: bytes) -> Image:
    """The image of a snapshot's tables; `ids` gains what is new in it. Raises PlatformError where the maps cannot hold
    it. `encap_source` is the high half of outer source addresses."""
    return _Compiler(tables, ids).image(encap_source)


def client_records(site: Site, ids: IdAllocator) -> Callable[[Client], bytes]:
    """A function that makes a client's record. A client whose tier is not in the site gets the tier of its address, as
    in dispatcher/verify."""
    pack, none = TYPES.struct("client").pack, absent()
    tiers = {name: ids.tiers.get(name) for name in site.tiers}

    def record(client: Client) -> bytes:
        proof = client.proof
        bind = proof.bind
        tier = tiers.get(client.tier)
        return pack(
            tier=none if tier is None else tier,
            enabled=client.state is ClientState.ENABLED,
            proof_required=proof.required,
            single_use=proof.single_use,
            bind_address=bind is not Bind.NONE,
            bind_port=bind is Bind.ADDRESS_PORT,
        )

    return record


def server_name(pool: str, server: str, address: str) -> str:
    """The name that a server number stands for."""
    return f"{pool}/{server}/{address}"


class _Compiler:
    """Compiles one image."""

    def __init__(self, tables: DispatchTables, ids: IdAllocator) -> None:
        self._tables, self._ids = tables, ids
        self._site: Site = tables.sound.site
        self._none = absent()
        self._no_dscp = TYPES.constants("absent")["NO_DSCP"]
        ids.servers.assign(
            server_name(pool.name, server.name, str(server.address))
            for pool in self._site.pools.values()
            for server in pool.servers
        )
        self._rings = {(pool, version): self._ring(pool, version) for pool in self._site.pools for version in (4, 6)}
        ids.rings.assign(digest(ring) for ring in self._rings.values() if ring)
        ids.tiers.assign(self._site.tiers)
        ids.pools.assign(self._site.pools)
        ids.translates |= any(pool.forward is Forward.NAT for pool in self._site.pools.values())
        self._clusters = Clusters(tables.sound, ids)

    def image(self, encap_source: bytes) -> Image:
        ids, clusters, none = self._ids, self._clusters, self._none
        no_tier = TYPES.struct("tier").pack_sparse(pool=none, drop=1, dscp=self._no_dscp)
        no_pool = TYPES.struct("pool").pack_sparse(ring4=none, ring6=none)
        site = TYPES.struct("site").pack(
            encap_source=encap_source,
            translates=ids.translates,
            clusters=_array("clusters", clusters.entries(), TYPES.struct("cluster").pack_sparse()),
            tiers=_array("tiers", self._tiers(), no_tier),
            pools=_array("pools", self._pools(), no_pool),
            servers=_array("servers", self._servers(), TYPES.struct("server").pack_sparse(pool=none)),
        )
        return Image(
            site,
            frozenset(clusters.tables),
            clusters.values,
            {ids.rings[digest(ring)]: ring for ring in self._rings.values() if ring},
            {ids.ciphers[digest(key)]: key for key in clusters.keys.values()},
            clusters.prefixes(6),
            clusters.prefixes(4),
            clusters.masters(),
        )

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
            over_passes=tier.rate is not None and tier.rate.over is Over.PASS,
        )

    def _pool(self, name: str | None) -> int:
        """The number of a pool that the site has; NONE."""
        number = self._ids.pools.get(name) if name in self._site.pools else None
        return self._none if number is None else number

    def _pools(self) -> dict[int, bytes]:
        stickiness = TYPES.words("stickiness", "STICKY_")
        return {
            self._ids.pools[pool.name]: TYPES.struct("pool").pack(
                ring4=self._ring_number(pool.name, 4),
                ring6=self._ring_number(pool.name, 6),
                stickiness=stickiness[pool.stickiness],
            )
            for pool in self._site.pools.values()
        }

    def _ring_number(self, pool: str, version: int) -> int:
        ring = self._rings[pool, version]
        return self._ids.rings[digest(ring)] if ring else self._none

    def _ring(self, pool: str, version: int) -> bytes:
        """A `struct ring`; empty where no server takes new flows."""
        ring = self._tables.ring(pool, version)
        if not ring.places:
            return b""
        numbers = [self._ids.servers[server_name(t.pool, t.name, str(ip_address(t.address)))] for t in ring.targets]
        bits = next(bits for bits in PLACE_BITS if len(numbers) <= 1 << bits)
        return TYPES.struct("ring").pack(
            bits=bits, servers=array("H", numbers).tobytes(), places=packed_places(ring.places, bits)
        )

    def _servers(self) -> dict[int, bytes]:
        """The site's servers, and former ones that flows may still have."""
        targets = {
            self._ids.servers[server_name(t.pool, t.name, str(ip_address(t.address)))]: t
            for t in self._tables.targets.values()
        }
        modes, packed = TYPES.words("mode", "MODE_"), {}
        for number, name in self._ids.servers.names.items():
            pool, _, text = name.split("/")
            address = ip_address(text)
            target = targets.get(number)
            mode = target.mode if target else self._site.pools[pool].forward if pool in self._site.pools else "direct"
            packed[number] = TYPES.struct("server").pack(
                address=padded(address.packed),
                pool=self._pool(pool),
                path_mtu=target.path_mtu if target else 0,
                version=address.version,
                mode=modes[mode],
                keeps=target is not None,
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
