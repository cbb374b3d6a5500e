"""A snapshot compiled into what the maps of the kernel's program hold. Pure: bytes out, nothing written.

Numbers and tables keep their meaning from one image to the next (State), so that flows, client records and
packets on their way read the same thing before and after.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from ipaddress import ip_address
from operator import or_

from dnsvip.address.layout import Layout
from dnsvip.address.proof import Bind
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator, digest
from dnsvip.dispatcher.io.xdp.image_clusters import Clusters
from dnsvip.dispatcher.io.xdp.layout import (
    CLIENT,
    CLUSTER,
    MAX_CLUSTERS,
    MAX_POOLS,
    MAX_SERVERS,
    MAX_TIERS,
    MODES,
    NO_DSCP,
    NONE,
    POOL,
    RING,
    SERVER,
    SITE,
    STICKINESS,
    TIER,
    padded,
)
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
"""What a place on a ring may take."""


@dataclass(frozen=True)
class Image:
    """What is to be in the maps. `values`, `rings` and `ciphers` (AES keys) are there before `site` is put in place,
    and what only an older image used goes afterwards. `masters`: client master and layout by cluster number."""

    site: bytes = field(repr=False)
    tables: frozenset[int]
    values: Mapping[bytes, bytes]
    rings: Mapping[int, bytes]
    ciphers: Mapping[int, bytes] = field(repr=False)
    prefixes6: Mapping[bytes, bytes]
    prefixes4: Mapping[bytes, bytes]
    masters: Mapping[int, tuple[bytes, Layout]] = field(repr=False)


def compile_image(tables: DispatchTables, state: IdAllocator, encap_source: bytes) -> Image:
    """The image of a snapshot's tables; `state` gains what is new in it. Raises PlatformError where something is more
    than the maps hold. `encap_source` is the high half of outer source addresses."""
    return _Compiler(tables, state).image(encap_source)


def client_record(client: Client, site: Site, state: IdAllocator) -> bytes:
    """A client as the program knows it. With a tier that the site has not the address's own counts, as in judge.py."""
    bind = client.proof.bind
    tier = state.tiers.get(client.tier) if client.tier in site.tiers else None
    return CLIENT.pack(
        tier=NONE if tier is None else tier,
        enabled=client.state is ClientState.ENABLED,
        proof_required=client.proof.required,
        single_use=client.proof.single_use,
        bind_address=bind is not Bind.NONE,
        bind_port=bind is Bind.ADDRESS_PORT,
    )


def server_name(pool: str, server: str, address: str) -> str:
    """What a server number stands for."""
    return f"{pool}/{server}/{address}"


class _Compiler:
    """One image in the making."""

    def __init__(self, tables: DispatchTables, state: IdAllocator) -> None:
        self._tables, self._state = tables, state
        self._site: Site = tables.snapshot.site
        state.servers.settle(
            server_name(pool.name, server.name, str(server.address))
            for pool in self._site.pools.values()
            for server in pool.servers
        )
        self._rings = {(pool, version): self._places(pool, version) for pool in self._site.pools for version in (4, 6)}
        state.rings.settle(digest(places) for places in self._rings.values() if places)
        state.tiers.settle(self._site.tiers)
        state.pools.settle(self._site.pools)
        state.translates |= any(pool.forward is Forward.NAT for pool in self._site.pools.values())
        self._clusters = Clusters(tables.snapshot, state)

    def image(self, encap_source: bytes) -> Image:
        state, clusters = self._state, self._clusters
        packed = SITE.pack(
            encap_source=encap_source,
            translates=state.translates,
            clusters=self._spread(MAX_CLUSTERS, CLUSTER.size, clusters.entries(), b""),
            tiers=self._spread(MAX_TIERS, TIER.size, self._tiers(), TIER.pack(pool=NONE, drop=1, dscp=NO_DSCP)),
            pools=self._spread(MAX_POOLS, POOL.size, self._pools(), POOL.pack(ring4=NONE, ring6=NONE)),
            servers=self._spread(MAX_SERVERS, SERVER.size, self._servers(), SERVER.pack(pool=NONE)),
        )
        return Image(
            packed,
            frozenset(clusters.tables),
            clusters.values,
            {state.rings[digest(places)]: places for places in self._rings.values() if places},
            {state.ciphers[digest(key)]: key for key in clusters.keys.values()},
            clusters.prefixes(6),
            clusters.prefixes(4),
            clusters.masters(),
        )

    @staticmethod
    def _spread(count: int, size: int, entries: Mapping[int, bytes], empty: bytes) -> bytes:
        nothing = empty or bytes(size)
        return b"".join(entries.get(number, nothing) for number in range(count))

    def _tiers(self) -> dict[int, bytes]:
        return {self._state.tiers[tier.name]: self._tier(tier) for tier in self._site.tiers.values()}

    def _tier(self, tier: Tier) -> bytes:
        limit = self._tables.limits.get(tier.name)
        pool = self._state.pools.get(tier.pool) if tier.pool in self._site.pools else None
        return TIER.pack(
            present=1,
            pool=NONE if pool is None else pool,
            interval=limit.interval if limit else 0,
            burst=limit.burst if limit else 0,
            debt=limit.debt if limit else 0,
            drop=tier.action is TierAction.DROP,
            require_proof=tier.require_proof,
            unproven_default=tier.unproven is Fallback.DEFAULT_TIER,
            dscp=NO_DSCP if tier.dscp is None else tier.dscp,
            over_passes=tier.rate is not None and tier.rate.over is Over.PASS,
        )

    def _pools(self) -> dict[int, bytes]:
        return {
            self._state.pools[pool.name]: POOL.pack(
                ring4=self._ring(pool.name, 4), ring6=self._ring(pool.name, 6), stickiness=STICKINESS[pool.stickiness]
            )
            for pool in self._site.pools.values()
        }

    def _ring(self, pool: str, version: int) -> int:
        places = self._rings[pool, version]
        return self._state.rings[digest(places)] if places else NONE

    def _places(self, pool: str, version: int) -> bytes:
        """A `struct ring`; empty where nobody takes new flows."""
        ring = self._tables.ring(pool, version)
        if not ring.places:
            return b""
        numbers = [self._state.servers[server_name(t.pool, t.name, str(ip_address(t.address)))] for t in ring.targets]
        bits = next(bits for bits in PLACE_BITS if len(numbers) <= 1 << bits)
        return RING.pack(bits=bits, servers=array("H", numbers).tobytes(), places=packed_places(ring.places, bits))

    def _servers(self) -> dict[int, bytes]:
        """Those of the site, and those it had, which flows may still hold."""
        here = {
            self._state.servers[server_name(t.pool, t.name, str(ip_address(t.address)))]: t
            for t in self._tables.targets.values()
        }
        packed = {}
        for number, name in self._state.servers.names.items():
            pool, _, address = name.split("/")
            known = ip_address(address)
            target = here.get(number)
            of = self._state.pools.get(pool) if pool in self._site.pools else None
            mode = target.mode if target else self._site.pools[pool].forward if pool in self._site.pools else "direct"
            packed[number] = SERVER.pack(
                address=padded(known.packed),
                pool=NONE if of is None else of,
                room=target.path_mtu if target else 0,
                version=known.version,
                mode=MODES[mode],
                keeps=target is not None,
            )
        return packed


def packed_places(places: Sequence[int], bits: int) -> bytes:
    """Numbers of so many bits each, the first in the lowest, in words of 16 bits."""
    if bits > 8:
        return array("H", places).tobytes()
    each, a_byte = array("B", places).tobytes(), 8 // bits
    lanes = (int.from_bytes(each[lane::a_byte], "little") << bits * lane for lane in range(a_byte))
    return reduce(or_, lanes).to_bytes(-(-len(each) // a_byte), "little")
