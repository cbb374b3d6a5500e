"""Verifies destination addresses: what an address carries and whether it may open a flow.

The steps are those of address/README.md, "Decoding, in this order". An AddressVerifier compiles one snapshot; the
clock, the packet's source and the set of used single-use addresses are arguments. It knows no packets, flows or
servers. Verifying a valid address costs little more than decrypting it, a forged one costs one SipHash. Packets of
known flows are not verified again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

from dnsvip.address.keyring import Epoch, Keyring
from dnsvip.address.layout import RESERVED_NAMES
from dnsvip.address.proof import acceptable_slots, client_key, verify
from dnsvip.dispatcher.reason import ACCEPTED, AddressReason
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.dispatcher.verify.explain import DecodingStep, explain
from dnsvip.errors import ObjectError
from dnsvip.site import ClassCluster, Client, ClientState, Cluster, Fallback, OnInvalid, Site, Snapshot, Tier
from dnsvip.site.cow_map import CowMap, difference

Used: TypeAlias = Callable[[int], bool]
"""Whether another flow has already used a proven address ("Single use"). It is called last, only for an address that
is otherwise accepted and whose client's record asks for single use, so a caller may take the call as its use."""

_Compiled = TypeVar("_Compiled")

MAX_KEYS = 1 << 16
"""Client keys cached by an AddressVerifier; the oldest is evicted first."""


class AddressVerifier:
    """Verifies addresses under one snapshot. One per thread: ciphers and derived keys are shared between calls.

    `before` is the verifier of an earlier snapshot, from which the index of unchanged clients is taken.
    """

    def __init__(self, snapshot: Snapshot, before: AddressVerifier | None = None) -> None:
        self._snapshot = snapshot
        self._clients = _by_id(snapshot, before)
        self._keys: dict[tuple[str, int], bytes] = {}
        self._clusters: dict[int, dict[int, CompiledCluster]] = {}
        self._class_clusters: dict[int, dict[int, CompiledClassCluster]] = {}
        for cluster in snapshot.site.clusters.values():
            shift = cluster.prefix.max_prefixlen - cluster.prefix.prefixlen
            number = int(cluster.prefix.network_address) >> shift
            if isinstance(cluster, ClassCluster):
                self._class_clusters.setdefault(shift, {})[number] = CompiledClassCluster(cluster, snapshot.site)
            else:
                self._clusters.setdefault(shift, {})[number] = CompiledCluster(cluster, snapshot)

    def verify(self, address: int, source: int, port: int, now: float, used: Used = lambda _: False) -> AddressVerdict:
        """The verdict on a new flow from `source` and `port` to `address` at `now` (unix seconds).

        Addresses are integers; one below 2^32 is read as IPv4, since nothing in ::/96 is ever routed. Raises
        ObjectError where a client or cluster makes it fail.
        """
        if address < 1 << 32:
            class_cluster = _matching(self._class_clusters, address)
            return class_cluster.verify(address) if class_cluster else AddressVerdict(AddressReason.NOT_OURS)
        cluster = _matching(self._clusters, address)
        if cluster is None:
            return AddressVerdict(AddressReason.NOT_OURS)
        if address == cluster.plain:
            return AddressVerdict(AddressReason.PLAIN, cluster.default_tier, cluster.cluster)
        try:
            return self._decode(cluster, _NewFlow(address, source, port, now, used))
        except ObjectError:
            raise
        except Exception as error:
            raise ObjectError(f"cluster.{cluster.name}", error) from error

    def explain(self, verdict: AddressVerdict, address: int, now: float) -> tuple[DecodingStep, ...]:
        """The steps that led to `verdict`, which `verify` returned for `address` at `now`."""
        return explain(verdict, address, self._snapshot, now)

    def client(self, number: int) -> Client | None:
        """The record of the client with this id; None where the site has no such client."""
        client: Client | None = self._clients.get(number)
        return client

    def _decode(self, cluster: CompiledCluster, flow: _NewFlow) -> AddressVerdict:
        """Step 3, authenticity; then `_judge`."""
        address = flow.address
        entry = cluster.keyring.of(address) if cluster.keyring else None
        if entry is None:
            return cluster.reject(AddressReason.UNKNOWN_EPOCH, address)
        epoch, codec = entry
        if not codec.authentic(address):
            return cluster.reject(AddressReason.BAD_TAG, address)
        values = codec.decode(address)
        client = self._clients.get(values.get("client", 0))
        try:
            return self._judge(cluster, epoch, values, client, flow)
        except Exception as error:
            if client is None:
                raise
            raise ObjectError(f"client.{client.name}", error) from error

    def _judge(
        self, cluster: CompiledCluster, epoch: Epoch, values: Mapping[str, int], client: Client | None, flow: _NewFlow
    ) -> AddressVerdict:
        """Steps 4 to 8 of an address that is authentic."""
        address = flow.address
        tier = cluster.tier(values, client)
        if tier is None:
            return cluster.reject(AddressReason.BAD_PAYLOAD, address, values, client)
        if cluster.expired(epoch, values, flow.now):
            return cluster.reject(AddressReason.EXPIRED, address, values, client)
        if client is None and values.get("client", 0) in self._snapshot.deleted:
            return cluster.reject(AddressReason.REVOKED, address, values)
        reason = self._admit(cluster, tier, client, flow)
        if reason in ACCEPTED:
            return cluster.verdict(reason, tier, address, values, client)
        if reason is AddressReason.UNPROVEN and tier.unproven is Fallback.DEFAULT_TIER:
            return cluster.verdict(reason, cluster.default_tier, address, values, client)
        return cluster.reject(reason, address, values, client)

    def _admit(self, cluster: CompiledCluster, tier: Tier, client: Client | None, flow: _NewFlow) -> AddressReason:
        """Steps 7 and 8: the client's state, and its proof where one is carried or required."""
        if client and client.state is not ClientState.ENABLED:
            return AddressReason.REVOKED
        if not flow.address & cluster.layout.mode_bit:
            required = tier.require_proof or (client is not None and client.proof.required)
            return AddressReason.UNPROVEN if required else AddressReason.ISSUED
        if client is None or not self._proves(cluster, client, flow):
            return AddressReason.BAD_PROOF
        replayed = client.proof.single_use and flow.used(flow.address)
        return AddressReason.REPLAYED if replayed else AddressReason.PROVEN

    def _proves(self, cluster: CompiledCluster, client: Client, flow: _NewFlow) -> bool:
        key = self._key(cluster, client)
        if key is None:
            return False
        address, source, port, now, _ = flow
        slots = acceptable_slots(now, cluster.cluster.slot_seconds)
        return any(verify(cluster.layout, address, key, client.proof.bind, source, port, slot) for slot in slots)

    def _key(self, cluster: CompiledCluster, client: Client) -> bytes | None:
        """The client's key in a cluster, cached; None where the cluster has no client master yet."""
        key = self._keys.get((cluster.name, client.id))
        if key is None and cluster.master is not None:
            if len(self._keys) >= MAX_KEYS:
                del self._keys[next(iter(self._keys))]
            key = client_key(cluster.master, cluster.layout, client.id, client.key_generation)
            self._keys[cluster.name, client.id] = key
        return key


class _NewFlow(NamedTuple):
    """The arguments of `AddressVerifier.verify`."""

    address: int
    source: int
    port: int
    now: float
    used: Used


class CompiledCluster:
    """One IPv6 cluster, compiled."""

    def __init__(self, cluster: Cluster, snapshot: Snapshot) -> None:
        tiers = snapshot.site.tiers
        self.cluster, self.name, self.plain = cluster, cluster.name, int(cluster.plain)
        self.layout = cluster.address_layout
        self.keyring: Keyring | None = snapshot.keyrings.get(cluster.name)
        self.master = snapshot.masters.get(cluster.name)
        self.default_tier = tiers.get(cluster.default_tier)
        self._fallback = self.default_tier if cluster.on_invalid is OnInvalid.DEFAULT_TIER else None
        self._rejected: dict[tuple[AddressReason, int], AddressVerdict] = {}
        self._tiers = tiers
        self._by_code = {tier.code: tier for tier in tiers.values()}
        self._has_tier = bool(self.layout.bits("tier"))
        self._never = (1 << self.layout.bits("expiry")) - 1
        self._allowed = [
            (name, frozenset(cluster.values[name].values()) | {0})
            for name, _ in self.layout.fields
            if name in cluster.values and name not in RESERVED_NAMES
        ]

    def tier(self, values: Mapping[str, int], client: Client | None) -> Tier | None:
        """The tier of an authentic payload, the client's record taking precedence; None for an invalid payload.

        Without a record (not replicated yet, or deleted long ago) the payload's tier applies.
        """
        tier = self._by_code.get(values["tier"]) if self._has_tier else self.default_tier
        if tier is None or any(values[name] not in numbers for name, numbers in self._allowed):
            return None
        return self._tiers.get(client.tier, tier) if client else tier

    def expired(self, epoch: Epoch, values: Mapping[str, int], now: float) -> bool:
        """Whether the address has expired. The highest value never expires before its epoch does. Nor does an address
        of an epoch whose activation this node has not learned of yet: its first addresses may arrive earlier."""
        expiry = values.get("expiry", self._never)
        if expiry == self._never or not epoch.activated_at:
            return False
        return now >= epoch.activated_at + expiry * self.cluster.expiry_unit

    def verdict(
        self,
        reason: AddressReason,
        tier: Tier | None,
        address: int,
        values: Mapping[str, int],
        record: Client | None = None,
    ) -> AddressVerdict:
        """A verdict on an address in this cluster's encoded space."""
        mode = 1 if address & self.layout.mode_bit else 0
        slot = address >> self.layout.epoch_shift & 3
        client, session = values.get("client", 0), values.get("session", 0)
        return AddressVerdict(reason, tier, self.cluster, client, session, mode, slot, values, record)

    def reject(
        self,
        reason: AddressReason,
        address: int,
        values: Mapping[str, int] | None = None,
        record: Client | None = None,
    ) -> AddressVerdict:
        """A rejection, with the default tier where the cluster's `on_invalid` says so.

        Rejections without a payload are cached by reason, mode and epoch, so a flood of forged addresses allocates
        none.
        """
        if values is not None:
            return self.verdict(reason, self._fallback, address, values, record)
        key = reason, address >> self.layout.epoch_shift & 7  # mode and epoch
        rejection = self._rejected.get(key)
        if rejection is None:
            rejection = self._rejected[key] = self.verdict(reason, self._fallback, address, {})
        return rejection


class CompiledClassCluster:
    """One IPv4 cluster, compiled."""

    def __init__(self, cluster: ClassCluster, site: Site) -> None:
        self._cluster, self._plain, self._table = cluster, int(cluster.plain), cluster.table
        self._default_tier, self._tiers = site.tiers.get(cluster.default_tier), site.tiers

    def verify(self, address: int) -> AddressVerdict:
        """The verdict on an address; a host number that belongs to no tier is a bad payload."""
        if address == self._plain:
            return AddressVerdict(AddressReason.PLAIN, self._default_tier, self._cluster)
        tier = self._tiers.get(self._table.decode(address) or "")
        return AddressVerdict(AddressReason.CLASS if tier else AddressReason.BAD_PAYLOAD, tier, self._cluster)


def _by_id(snapshot: Snapshot, before: AddressVerifier | None) -> CowMap[int, Client]:
    clients = snapshot.site.clients
    if before is None:
        return CowMap((client.id, client) for client in clients.values())
    differences = list(difference(before._snapshot.site.clients, clients))
    removed = [old.id for _, old, _ in differences if old]
    return before._clients.changed(removed, [(new.id, new) for _, _, new in differences if new])


def _matching(clusters: Mapping[int, Mapping[int, _Compiled]], address: int) -> _Compiled | None:
    """The cluster whose prefix holds an address; prefixes never overlap (site rules)."""
    for shift, by_prefix in clusters.items():
        cluster = by_prefix.get(address >> shift)
        if cluster is not None:
            return cluster
    return None
