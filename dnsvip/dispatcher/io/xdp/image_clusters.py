"""The clusters of a snapshot as the kernel's program reads them: layouts, keys, and tables of values. Pure."""

from __future__ import annotations

from dnsvip.address.ff1 import Ff1
from dnsvip.address.keyring import Epoch
from dnsvip.address.layout import RESERVED_NAMES, Layout
from dnsvip.address.suffix import derive_key
from dnsvip.dispatcher.dispatch_tables import SESSION_SECONDS
from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator, digest
from dnsvip.dispatcher.io.xdp.layout import (
    CLUSTER,
    EPOCH,
    FIELD,
    MAX_ATTRIBUTES,
    NONE,
    PREFIX4,
    PREFIX6,
    VALUE_KEY,
    padded,
    wide,
    word,
)
from dnsvip.errors import PlatformError
from dnsvip.site import ClassCluster, Cluster, OnInvalid, Snapshot


class Clusters:
    """The clusters of one snapshot; `values` are the entries of the tables that they use, `tables` their numbers."""

    def __init__(self, snapshot: Snapshot, state: IdAllocator) -> None:
        self._snapshot, self._site, self._state = snapshot, snapshot.site, state
        self.values: dict[bytes, bytes] = {}
        self.tables: set[int] = set()
        self.keys = {
            (name, epoch.slot): derive_key(epoch.secret, b"dnsvip v1 enc", keyring.layout)
            for name, keyring in snapshot.keyrings.items()
            if name in self._site.clusters
            for epoch in keyring.epochs
        }
        """AES keys by cluster and epoch slot."""
        state.clusters.settle(f"{name}/{cluster.prefix}" for name, cluster in self._site.clusters.items())
        state.ciphers.settle(digest(key) for key in self.keys.values())

    def entries(self) -> dict[int, bytes]:
        """Each cluster by its number. Tiers have theirs by then."""
        codes = self._table({(tier.code, self._state.tiers[tier.name]) for tier in self._site.tiers.values()})
        return {
            self._cluster_number(cluster): (
                self._classes(cluster) if isinstance(cluster, ClassCluster) else self._cluster(cluster, codes)
            )
            for cluster in self._site.clusters.values()
        }

    def prefixes(self, version: int) -> dict[bytes, bytes]:
        """Cluster numbers by the keys of the tries."""
        form = PREFIX6 if version == 6 else PREFIX4
        return {
            form.pack(bits=c.prefix.prefixlen, address=c.prefix.network_address.packed): word(self._cluster_number(c))
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

    def _number(self, name: str) -> int:
        found = self._state.tiers.get(name) if name in self._site.tiers else None
        return NONE if found is None else found

    def _cluster_number(self, cluster: Cluster | ClassCluster) -> int:
        return self._state.clusters[f"{cluster.name}/{cluster.prefix}"]

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
        keyring = self._snapshot.keyrings.get(cluster.name)
        held = [keyring.at(slot) if keyring else None for slot in range(4)]
        return b"".join(self._epoch(cluster.name, entry[0], layout) if entry else bytes(EPOCH.size) for entry in held)

    def _epoch(self, cluster: str, epoch: Epoch, layout: Layout) -> bytes:
        key = self.keys[cluster, epoch.slot]
        return EPOCH.pack(
            mac_key=derive_key(epoch.secret, b"dnsvip v1 mac", layout),
            mid=wide(Ff1(key, layout.payload_bits).constant_block),
            activated_at=epoch.activated_at,
            identity=int(digest(key)[:16], 16),
            cipher=self._state.ciphers[digest(key)],
            present=1,
        )

    def _table(self, pairs: set[tuple[int, int]]) -> int:
        number = self._state.table(frozenset(pairs))
        self.tables.add(number)
        for value, meaning in pairs:
            self.values[VALUE_KEY.pack(table=number, value=value)] = word(meaning)
        return number


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
