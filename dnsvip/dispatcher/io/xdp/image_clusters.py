"""Compiles the clusters of a snapshot for the kernel program: address layouts, keys and value tables. Bytes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dnsvip.address.ff1 import Ff1
from dnsvip.address.keyring import Epoch
from dnsvip.address.layout import RESERVED_NAMES, Layout
from dnsvip.address.source import SourceFormat, source_keys
from dnsvip.address.suffix import derive_key
from dnsvip.dispatcher.dispatch_tables import SESSION_SECONDS
from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator, digest
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES, absent, padded, wide
from dnsvip.dispatcher.io.xdp.payload_fields import IN_SOURCE, IN_VIP, Parts, carried, field_at, places_of
from dnsvip.dispatcher.token_bucket import resume_limit
from dnsvip.errors import ObjectError, PlatformError
from dnsvip.site import ClassCluster, Cluster, OnExpired, OnInvalid, Snapshot
from dnsvip.site.session_rules import shared_sessions
from dnsvip.xdp.structs import u32


class Clusters:
    """The clusters of one snapshot; `values` are the entries of the value tables they use, `tables` those tables'
    numbers. `rules` are the `struct rules` by cluster."""

    def __init__(self, snapshot: Snapshot, ids: IdAllocator, rules: Mapping[str, bytes]) -> None:
        self._rules = rules
        self._snapshot, self._site, self._ids = snapshot, snapshot.site, ids
        self._shared = shared_sessions(self._site)
        self._none = absent()
        self.values: dict[bytes, bytes] = {}
        self.tables: set[int] = set()
        self.keys = dict(self._keys())
        """AES keys by carrier, cluster and epoch slot."""
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
            fields=TYPES.struct("fields").pack_sparse(tier=TYPES.struct("field").pack_sparse(table=self._table(hosts))),
            present=1,
            identify_source=cluster.identify_source,
            version=4,
            default_tier=self._tier_number(cluster.default_tier),
            fallback_tier=self._none,
            session_seconds=SESSION_SECONDS,
            rules=self._rules.get(cluster.name, b""),
        )

    def _cluster(self, cluster: Cluster, tiers: int) -> bytes:
        layout = cluster.address_layout
        default = self._tier_number(cluster.default_tier)
        all_bits = (1 << 128) - 1
        label, own = cluster.label_format, cluster.source_format
        return TYPES.struct("cluster").pack(
            **_prefix(cluster),
            plain=wide(int(cluster.plain)),
            mac_mask=wide(all_bits & ~(layout.mode_bit | layout.claim_mask | layout.tag_mask)),
            claim_mask=wide(layout.claim_mask),
            claim_bits=layout.claim_bits + (label.claim_bits if label else 0),
            label_bits=label.claim_bits if label else 0,
            label_mac_bits=label.mac_bits if label else 0,
            mode_bit=wide(layout.mode_bit),
            tag_mask=layout.tag_mask,
            cheap_mask=layout.tag_mask & ~layout.proof_mask,
            epochs=self._epochs(cluster, IN_VIP),
            fields=b"".join(self._fields(cluster, parts, tiers) for parts in carried(cluster)),
            own=self._own(cluster, own) if own else b"",
            present=1,
            identify_source=cluster.identify_source,
            version=6,
            epoch_shift=layout.epoch_shift,
            tag_bits=layout.tag_bits,
            payload_bits=layout.payload_bits,
            proof_bits=layout.proof_bits,
            default_tier=default,
            fallback_tier=default if cluster.on_invalid is OnInvalid.DEFAULT_TIER else self._none,
            expired_tier=default if cluster.serves_expired else self._none,
            resets_expired=cluster.on_expired is OnExpired.RESET,
            expiry_unit=cluster.expiry_unit,
            slot_seconds=cluster.slot_seconds,
            session_seconds=cluster.session_lifetime,
            resume_interval=resume_limit(cluster.resume_rate).interval if cluster.resume_rate else 0,
            master=self._cluster_number(cluster) if cluster.name in self._snapshot.masters else self._none,
            shared_shift=self._shared.get(cluster.name, 1) - 1,
            rules=self._rules.get(cluster.name, b""),
        )

    def _keys(self) -> Iterator[tuple[tuple[str, str, int], bytes]]:
        for name, keyring in self._snapshot.keyrings.items():
            cluster = self._site.clusters.get(name)
            if not isinstance(cluster, Cluster):
                continue
            own = cluster.source_format
            for epoch in keyring.epochs:
                yield (IN_VIP, name, epoch.slot), derive_key(epoch.secret, b"dnsvip v1 enc", keyring.layout)
                if own and epoch.secret:
                    yield (IN_SOURCE, name, epoch.slot), source_keys(epoch.secret, own).encryption

    def _fields(self, cluster: Cluster, parts: Parts, tiers: int) -> bytes:
        """The `struct fields` of one carrier."""
        kind, places = TYPES.struct("fields"), places_of(parts)
        named = {name: field_at(places.get(name)) for name in ("client", "expiry", "session")}
        tabled = [[name for name, _ in part if name in cluster.values and name not in RESERVED_NAMES] for part in parts]
        bound, count = TYPES.constants("bounds")["MAX_ATTRIBUTES"], sum(map(len, tabled))
        if count > bound:
            limit = PlatformError(f'{count} tables; mode = "xdp" takes at most {bound}, use fewer or mode = "user"')
            raise ObjectError(f"cluster.{cluster.name}.values", limit)
        layout, claims, label = map(len, tabled)
        return kind.pack(
            **named,
            tier=field_at(places.get("tier"), tiers),
            attributes=b"".join(
                field_at(places[name], self._table({(number, 0) for number in cluster.values[name].values()}))
                for names in tabled
                for name in names
            ),
            attribute_count=layout,
            claim_count=claims,
            label_count=label,
        )

    def _own(self, cluster: Cluster, form: SourceFormat) -> bytes:
        """The `struct own`."""
        return TYPES.struct("own").pack(
            epochs=self._epochs(cluster, IN_SOURCE),
            present=1,
            tag_bits=form.tag_bits,
            payload_bits=form.payload_bits,
        )

    def _epochs(self, cluster: Cluster, carrier: str) -> bytes:
        keyring = self._snapshot.keyrings.get(cluster.name)
        slots = range(TYPES.constants("bounds")["EPOCH_SLOTS"])
        entries = [keyring.at(slot) if keyring else None for slot in slots]
        empty = TYPES.struct("epoch").pack_sparse()
        return b"".join(
            self._epoch(cluster, entry[0], carrier) if entry and (carrier, cluster.name, slot) in self.keys else empty
            for slot, entry in enumerate(entries)
        )

    def _epoch(self, cluster: Cluster, epoch: Epoch, carrier: str) -> bytes:
        key, layout, own = self.keys[carrier, cluster.name, epoch.slot], cluster.address_layout, cluster.source_format
        tag, bits = (
            (source_keys(epoch.secret, own).tag, own.payload_bits)
            if own and carrier == IN_SOURCE
            else (derive_key(epoch.secret, b"dnsvip v1 mac", layout), layout.payload_bits)
        )
        return TYPES.struct("epoch").pack(
            mac_key=tag,
            mid=wide(Ff1(key, bits).constant_block),
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
