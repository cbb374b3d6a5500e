"""Compiles the clusters of a snapshot for the kernel program: address layouts, keys and value tables. Bytes out."""

from __future__ import annotations

from dnsvip.address.ff1 import Ff1
from dnsvip.address.keyring import Epoch
from dnsvip.address.layout import RESERVED_NAMES, Layout
from dnsvip.address.suffix import derive_key
from dnsvip.dispatcher.dispatch_tables import SESSION_SECONDS
from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator, digest
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES, absent, padded, wide
from dnsvip.errors import ObjectError, PlatformError
from dnsvip.site import ClassCluster, Cluster, OnInvalid, Snapshot
from dnsvip.xdp.structs import u32


class Clusters:
    """The clusters of one snapshot; `values` are the entries of the value tables they use, `tables` those tables'
    numbers."""

    def __init__(self, snapshot: Snapshot, ids: IdAllocator) -> None:
        self._snapshot, self._site, self._ids = snapshot, snapshot.site, ids
        self._none = absent()
        self.values: dict[bytes, bytes] = {}
        self.tables: set[int] = set()
        self.keys = {
            (name, epoch.slot): derive_key(epoch.secret, b"dnsvip v1 enc", keyring.layout)
            for name, keyring in snapshot.keyrings.items()
            if name in self._site.clusters
            for epoch in keyring.epochs
        }
        """AES keys by cluster and epoch slot."""
        ids.clusters.assign(f"{name}/{cluster.prefix}" for name, cluster in self._site.clusters.items())
        ids.ciphers.assign(digest(key) for key in self.keys.values())

    def entries(self) -> dict[int, bytes]:
        """Each cluster by its number; tiers must have theirs already."""
        tiers = self._table({(tier.code, self._ids.tiers[tier.name]) for tier in self._site.tiers.values()})
        return {
            self._cluster_number(cluster): (
                self._classes(cluster) if isinstance(cluster, ClassCluster) else self._cluster(cluster, tiers)
            )
            for cluster in self._site.clusters.values()
        }

    def prefixes(self, version: int) -> dict[bytes, bytes]:
        """Cluster numbers by the keys of the prefix tries."""
        prefix = TYPES.struct("prefix6" if version == 6 else "prefix4")
        return {
            prefix.pack(bits=c.prefix.prefixlen, address=c.prefix.network_address.packed): u32(self._cluster_number(c))
            for c in self._site.clusters.values()
            if c.prefix.version == version
        }

    def masters(self) -> dict[int, tuple[bytes, Layout]]:
        """Client master and layout by cluster number."""
        masters = self._snapshot.masters
        return {
            self._cluster_number(c): (masters[c.name], c.address_layout)
            for c in self._site.clusters.values()
            if isinstance(c, Cluster) and c.name in masters
        }

    def _tier_number(self, name: str) -> int:
        """The number of a tier that the site has; NONE."""
        number = self._ids.tiers.get(name) if name in self._site.tiers else None
        return self._none if number is None else number

    def _cluster_number(self, cluster: Cluster | ClassCluster) -> int:
        return self._ids.clusters[f"{cluster.name}/{cluster.prefix}"]

    def _classes(self, cluster: ClassCluster) -> bytes:
        network, table = int(cluster.prefix.network_address), cluster.table
        hosts = {
            (network + host, self._tier_number(tier))
            for tier, numbers in cluster.classes.items()
            for host in numbers
            if self._tier_number(tier) != self._none and table.decode(network + host) == tier
        }
        return TYPES.struct("cluster").pack_sparse(
            **_prefix(cluster),
            plain=wide(int(cluster.plain)),
            tier=TYPES.struct("field").pack_sparse(table=self._table(hosts)),
            present=1,
            version=4,
            default_tier=self._tier_number(cluster.default_tier),
            fallback_tier=self._none,
            session_seconds=SESSION_SECONDS,
        )

    def _cluster(self, cluster: Cluster, tiers: int) -> bytes:
        layout = cluster.address_layout
        default = self._tier_number(cluster.default_tier)
        proof_bits = layout.tag_bits - layout.cheap_tag_bits
        all_bits = (1 << 128) - 1
        attributes = self._attributes(cluster, layout)
        return TYPES.struct("cluster").pack(
            **_prefix(cluster),
            plain=wide(int(cluster.plain)),
            mac_mask=wide(all_bits & ~(layout.mode_bit | layout.tag_mask)),
            mode_bit=wide(layout.mode_bit),
            tag_mask=layout.tag_mask,
            cheap_mask=layout.tag_mask >> proof_bits << proof_bits,
            epochs=self._epochs(cluster, layout),
            tier=_field(layout, "tier", tiers),
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
            fallback_tier=default if cluster.on_invalid is OnInvalid.DEFAULT_TIER else self._none,
            expiry_unit=cluster.expiry_unit,
            slot_seconds=cluster.slot_seconds,
            session_seconds=cluster.session_lifetime,
            master=self._cluster_number(cluster),
        )

    def _attributes(self, cluster: Cluster, layout: Layout) -> list[bytes]:
        names = [name for name, _ in layout.fields if name in cluster.values and name not in RESERVED_NAMES]
        bound = TYPES.constants("bounds")["MAX_ATTRIBUTES"]
        if len(names) > bound:
            limit = PlatformError(
                f'{len(names)} tables; mode = "xdp" takes at most {bound}, use fewer or mode = "user"'
            )
            raise ObjectError(f"cluster.{cluster.name}.values", limit)
        return [
            _field(layout, name, self._table({(number, 0) for number in cluster.values[name].values()}))
            for name in names
        ]

    def _epochs(self, cluster: Cluster, layout: Layout) -> bytes:
        keyring = self._snapshot.keyrings.get(cluster.name)
        slots = range(TYPES.constants("bounds")["EPOCH_SLOTS"])
        entries = [keyring.at(slot) if keyring else None for slot in slots]
        empty = TYPES.struct("epoch").pack_sparse()
        return b"".join(self._epoch(cluster.name, entry[0], layout) if entry else empty for entry in entries)

    def _epoch(self, cluster: str, epoch: Epoch, layout: Layout) -> bytes:
        key = self.keys[cluster, epoch.slot]
        return TYPES.struct("epoch").pack(
            mac_key=derive_key(epoch.secret, b"dnsvip v1 mac", layout),
            mid=wide(Ff1(key, layout.payload_bits).constant_block),
            activated_at=epoch.activated_at,
            identity=int(digest(key)[:16], 16),
            cipher=self._ids.ciphers[digest(key)],
            present=1,
        )

    def _table(self, pairs: set[tuple[int, int]]) -> int:
        number = self._ids.table(frozenset(pairs))
        self.tables.add(number)
        pack_key = TYPES.struct("value_key").pack
        for value, meaning in pairs:
            self.values[pack_key(table=number, value=value)] = u32(meaning)
        return number


def _prefix(cluster: Cluster | ClassCluster) -> dict[str, bytes]:
    network = cluster.prefix.network_address.packed
    mask = cluster.prefix.netmask.packed
    return {"prefix": padded(network), "mask": mask.rjust(16, b"\xff")}


def _field(layout: Layout, name: str, table: int = 0) -> bytes:
    """A `struct field`; of no bits where the layout has no such field."""
    shift = layout.payload_bits
    for label, bits in layout.fields:
        shift -= bits
        if label == name:
            return TYPES.struct("field").pack(shift=shift, bits=bits, table=table)
    return TYPES.struct("field").pack_sparse()
