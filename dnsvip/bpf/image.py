"""A snapshot compiled into what the maps of the kernel's program hold. Pure: bytes out, nothing written.

Numbers and tables keep their meaning from one image to the next (State), so that flows, client records and
packets on their way read the same thing before and after.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address

from dnsvip.bpf.layout import (
    CLIENT,
    CLUSTER,
    EPOCH,
    FIELD,
    MAX_ATTRIBUTES,
    MAX_CIPHERS,
    MAX_CLUSTERS,
    MAX_POOLS,
    MAX_RINGS,
    MAX_SERVERS,
    MAX_TIERS,
    MODES,
    NO_DSCP,
    NONE,
    POOL,
    PREFIX4,
    PREFIX6,
    SERVER,
    SITE,
    STICKINESS,
    TIER,
    VALUE_KEY,
    padded,
    wide,
    word,
)
from dnsvip.bpf.numbers import Numbers
from dnsvip.codec.ff1 import Ff1
from dnsvip.codec.keyring import Epoch
from dnsvip.codec.layout import RESERVED_NAMES, Layout
from dnsvip.codec.proof import Bind
from dnsvip.codec.suffix import derive_key
from dnsvip.dispatcher.tables import SESSION_SECONDS, Tables
from dnsvip.errors import PlatformError
from dnsvip.model import (
    ClassCluster,
    Client,
    ClientState,
    Cluster,
    Fallback,
    Forward,
    OnInvalid,
    Over,
    Site,
    Tier,
    TierAction,
)

KINDS = (
    ("clusters", MAX_CLUSTERS),
    ("tiers", MAX_TIERS),
    ("pools", MAX_POOLS),
    ("servers", MAX_SERVERS),
    ("rings", MAX_RINGS),
    ("keys", MAX_CIPHERS),
)
"""What has numbers, and how many of it there may be."""


class State:
    """What stays from one image to the next: the numbers of names (rings and keys have digests for names), and of
    tables of values, which never change: a changed table is a new one."""

    def __init__(self, names: Mapping[int, Mapping[int, str]] | None = None, first_table: int = 1) -> None:
        known = names or {}
        numbers = [Numbers(kind, bound, known.get(n)) for n, (kind, bound) in enumerate(KINDS)]
        self.clusters, self.tiers, self.pools, self.servers, self.rings, self.ciphers = self.kinds = tuple(numbers)
        self.tables: dict[frozenset[tuple[int, int]], int] = {}
        self.next_table = first_table
        self.translates = False

    def enforce(self, image: Image) -> None:
        """An image is in force: what only older ones used may be used anew."""
        for numbers in self.kinds:
            numbers.enforce()
        self.tables = {content: number for content, number in self.tables.items() if number in image.tables}


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


def compile_image(tables: Tables, state: State, encap_source: bytes) -> Image:
    """The image of a snapshot's tables; `state` gains what is new in it. Raises PlatformError where something is more
    than the maps hold. `encap_source` is the high half of outer source addresses."""
    return _Compiler(tables, state).image(encap_source)


def client_record(client: Client, state: State) -> bytes:
    """A client as the program knows it."""
    bind = client.proof.bind
    tier = state.tiers.get(client.tier)
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

    def __init__(self, tables: Tables, state: State) -> None:
        self._tables, self._state = tables, state
        self._site: Site = tables.snapshot.site
        state.servers.settle(
            server_name(pool.name, server.name, str(server.address))
            for pool in self._site.pools.values()
            for server in pool.servers
        )
        self._values: dict[bytes, bytes] = {}
        self._used: set[int] = set()
        self._rings = {(pool, version): self._places(pool, version) for pool in self._site.pools for version in (4, 6)}
        self._keys = {
            (name, epoch.slot): derive_key(epoch.secret, b"dnsvip v1 enc", keyring.layout)
            for name, keyring in tables.snapshot.keyrings.items()
            if name in self._site.clusters
            for epoch in keyring.epochs
        }

    def image(self, encap_source: bytes) -> Image:
        site, state = self._site, self._state
        state.clusters.settle(f"{name}/{cluster.prefix}" for name, cluster in site.clusters.items())
        state.tiers.settle(site.tiers)
        state.pools.settle(site.pools)
        state.translates |= any(pool.forward is Forward.NAT for pool in site.pools.values())
        state.rings.settle(_digest(places) for places in self._rings.values() if places)
        state.ciphers.settle(_digest(key) for key in self._keys.values())
        packed = SITE.pack(
            encap_source=encap_source,
            translates=state.translates,
            clusters=self._spread(MAX_CLUSTERS, CLUSTER.size, self._clusters(), b""),
            tiers=self._spread(MAX_TIERS, TIER.size, self._tiers(), TIER.pack(pool=NONE, drop=1, dscp=NO_DSCP)),
            pools=self._spread(MAX_POOLS, POOL.size, self._pools(), POOL.pack(ring4=NONE, ring6=NONE)),
            servers=self._spread(MAX_SERVERS, SERVER.size, self._servers(), SERVER.pack(pool=NONE)),
        )
        return Image(
            packed,
            frozenset(self._used),
            self._values,
            {state.rings[_digest(places)]: places for places in self._rings.values() if places},
            {state.ciphers[_digest(key)]: key for key in self._keys.values()},
            self._prefixes(6),
            self._prefixes(4),
            self._masters(),
        )

    @staticmethod
    def _spread(count: int, size: int, entries: Mapping[int, bytes], empty: bytes) -> bytes:
        nothing = empty or bytes(size)
        return b"".join(entries.get(number, nothing) for number in range(count))

    def _number(self, name: str) -> int:
        found = self._state.tiers.get(name) if name in self._site.tiers else None
        return NONE if found is None else found

    def _cluster_number(self, cluster: Cluster | ClassCluster) -> int:
        return self._state.clusters[f"{cluster.name}/{cluster.prefix}"]

    def _prefixes(self, version: int) -> dict[bytes, bytes]:
        form = PREFIX6 if version == 6 else PREFIX4
        return {
            form.pack(bits=c.prefix.prefixlen, address=c.prefix.network_address.packed): word(self._cluster_number(c))
            for c in self._site.clusters.values()
            if c.prefix.version == version
        }

    def _masters(self) -> dict[int, tuple[bytes, Layout]]:
        masters = self._tables.snapshot.masters
        return {
            self._cluster_number(c): (masters[c.name], c.address_layout)
            for c in self._site.clusters.values()
            if isinstance(c, Cluster) and c.name in masters
        }

    def _clusters(self) -> dict[int, bytes]:
        codes = self._table({(tier.code, self._state.tiers[tier.name]) for tier in self._site.tiers.values()})
        return {
            self._cluster_number(cluster): (
                self._classes(cluster) if isinstance(cluster, ClassCluster) else self._cluster(cluster, codes)
            )
            for cluster in self._site.clusters.values()
        }

    def _classes(self, cluster: ClassCluster) -> bytes:
        network, table = int(cluster.prefix.network_address), cluster.table
        hosts = {
            (network + host, self._number(tier))
            for tier, numbers in cluster.classes.items()
            for host in numbers
            if self._number(tier) != NONE and table.decode(network + host) == tier
        }
        return CLUSTER.pack(
            **_prefix(cluster),
            plain=wide(int(cluster.plain)),
            tier=FIELD.pack(table=self._table(hosts)),
            present=1,
            version=4,
            default_tier=self._number(cluster.default_tier),
            fallback_tier=NONE,
            session_seconds=SESSION_SECONDS,
        )

    def _cluster(self, cluster: Cluster, codes: int) -> bytes:
        layout = cluster.address_layout
        default = self._number(cluster.default_tier)
        proof_bits = layout.tag_bits - layout.cheap_tag_bits
        everything = (1 << 128) - 1
        attributes = self._attributes(cluster, layout)
        return CLUSTER.pack(
            **_prefix(cluster),
            plain=wide(int(cluster.plain)),
            mac_mask=wide(everything & ~(layout.mode_bit | layout.tag_mask)),
            mode_bit=wide(layout.mode_bit),
            tag_mask=layout.tag_mask,
            cheap_mask=layout.tag_mask >> proof_bits << proof_bits,
            epochs=self._epochs(cluster, layout),
            tier=_field(layout, "tier", codes),
            client=_field(layout, "client"),
            expiry=_field(layout, "expiry"),
            session=_field(layout, "session"),
            attributes=b"".join(attributes),
            attribute_count=len(attributes),
            present=1,
            version=6,
            epoch_shift=layout.epoch_shift,
            tag_bits=layout.tag_bits,
            payload_bits=layout.payload_bits,
            proof_bits=proof_bits,
            default_tier=default,
            fallback_tier=default if cluster.on_invalid is OnInvalid.DEFAULT_TIER else NONE,
            expiry_unit=cluster.expiry_unit,
            slot_seconds=cluster.slot_seconds,
            session_seconds=cluster.session_lifetime,
            master=self._cluster_number(cluster),
        )

    def _attributes(self, cluster: Cluster, layout: Layout) -> list[bytes]:
        names = [name for name, _ in layout.fields if name in cluster.values and name not in RESERVED_NAMES]
        if len(names) > MAX_ATTRIBUTES:
            raise PlatformError(
                f"cluster.{cluster.name}.values: {len(names)} tables; mode = "
                f'"xdp" takes at most {MAX_ATTRIBUTES}, use fewer or mode = "user"'
            )
        return [
            _field(layout, name, self._table({(number, 0) for number in cluster.values[name].values()}))
            for name in names
        ]

    def _epochs(self, cluster: Cluster, layout: Layout) -> bytes:
        keyring = self._tables.snapshot.keyrings.get(cluster.name)
        held = [keyring.at(slot) if keyring else None for slot in range(4)]
        return b"".join(self._epoch(cluster.name, entry[0], layout) if entry else bytes(EPOCH.size) for entry in held)

    def _epoch(self, cluster: str, epoch: Epoch, layout: Layout) -> bytes:
        key = self._keys[cluster, epoch.slot]
        return EPOCH.pack(
            mac_key=derive_key(epoch.secret, b"dnsvip v1 mac", layout),
            mid=wide(Ff1(key, layout.payload_bits).constant_block),
            activated_at=epoch.activated_at,
            identity=int(_digest(key)[:16], 16),
            cipher=self._state.ciphers[_digest(key)],
            present=1,
        )

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
        return self._state.rings[_digest(places)] if places else NONE

    def _places(self, pool: str, version: int) -> bytes:
        """A `struct ring`; empty where nobody takes new flows."""
        ring = self._tables.ring(pool, version)
        if not ring.places:
            return b""
        numbers = [self._state.servers[server_name(t.pool, t.name, str(ip_address(t.address)))] for t in ring.targets]
        return array("H", [numbers[place] for place in ring.places]).tobytes() + bytes(2)

    def _table(self, pairs: set[tuple[int, int]]) -> int:
        content = frozenset(pairs)
        number = self._state.tables.get(content)
        if number is None:
            number = self._state.tables[content] = self._state.next_table
            self._state.next_table += 1
        self._used.add(number)
        for value, meaning in pairs:
            self._values[VALUE_KEY.pack(table=number, value=value)] = word(meaning)
        return number

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
                room=target.room if target else 0,
                version=known.version,
                mode=MODES[mode],
                keeps=target is not None,
            )
        return packed


def _prefix(cluster: Cluster | ClassCluster) -> dict[str, bytes]:
    network = cluster.prefix.network_address.packed
    mask = cluster.prefix.netmask.packed
    return {"prefix": padded(network), "mask": mask.rjust(16, b"\xff")}


def _field(layout: Layout, name: str, table: int = 0) -> bytes:
    below = layout.payload_bits
    for known, bits in layout.fields:
        below -= bits
        if known == name:
            return FIELD.pack(shift=below, bits=bits, table=table)
    return FIELD.pack()


def _digest(content: bytes) -> str:
    return sha256(b"dnsvip digest" + content).hexdigest()[:32]
