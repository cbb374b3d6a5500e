"""What a destination address says and whether it may open a flow (address/README.md, "Decoding, in this order").

Pure: an AddressVerifier compiles one snapshot, and the clock, the packet's source and which addresses were used
before are arguments. It knows nothing of packets, flows or servers. Judging an address costs little
more than decrypting it; a forged one costs one SipHash. Known flows are not judged again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

from dnsvip.address.keyring import Epoch, Keyring
from dnsvip.address.layout import RESERVED_NAMES
from dnsvip.address.proof import acceptable_slots, client_key, verify
from dnsvip.dispatcher.reason import ACCEPTED, AddressVerdict, Reason, Step
from dnsvip.dispatcher.verify.explain import explain
from dnsvip.site import ClassCluster, Client, ClientState, Cluster, Fallback, OnInvalid, Site, Snapshot, Tier
from dnsvip.site.cow_map import CowMap, difference

Used: TypeAlias = Callable[[int], bool]
"""Whether a proven address has opened another flow already ("Single use"). Asked last, only for an address good
in all else, of a client whose record wants single use: the caller may note the address as used by then."""

_AreaT = TypeVar("_AreaT")

MAX_KEYS = 1 << 16
"""How many client keys an AddressVerifier remembers; the oldest goes first."""


class AddressVerifier:
    """Judges addresses under one snapshot. One per thread: ciphers and derived keys are shared between calls.

    `before` judged an earlier snapshot; what it knows of clients that did not change is taken over.
    """

    def __init__(self, snapshot: Snapshot, before: AddressVerifier | None = None) -> None:
        self._snapshot = snapshot
        self._clients = _by_id(snapshot, before)
        self._keys: dict[tuple[str, int], bytes] = {}
        self._areas: dict[int, dict[int, CompiledCluster]] = {}
        self._areas4: dict[int, dict[int, _Area4]] = {}
        for cluster in snapshot.site.clusters.values():
            shift = cluster.prefix.max_prefixlen - cluster.prefix.prefixlen
            number = int(cluster.prefix.network_address) >> shift
            if isinstance(cluster, ClassCluster):
                self._areas4.setdefault(shift, {})[number] = _Area4(cluster, snapshot.site)
            else:
                self._areas.setdefault(shift, {})[number] = CompiledCluster(cluster, snapshot)

    def judge(self, address: int, source: int, port: int, now: float, used: Used = lambda _: False) -> AddressVerdict:
        """The judgement on a new flow from `source` and `port` to `address` at `now` (unix seconds).

        Addresses are integers; one below 2^32 is taken for IPv4, as nothing in ::/96 is ever routed.
        """
        if address < 1 << 32:
            area4 = _find(self._areas4, address)
            return area4.judge(address) if area4 else AddressVerdict(Reason.NOT_OURS)
        area = _find(self._areas, address)
        if area is None:
            return AddressVerdict(Reason.NOT_OURS)
        if address == area.plain:
            return AddressVerdict(Reason.PLAIN, area.default_tier, area.name)
        return self._read(area, _Opening(address, source, port, now, used))

    def explain(
        self, address: int, source: int, port: int, now: float, used: Used = lambda _: False
    ) -> tuple[Step, ...]:
        """The same judgement told to people, one step after the other, as far as the address gets."""
        judgement = self.judge(address, source, port, now, used)
        return explain(judgement, address, self._snapshot, self._clients.get(judgement.client), now)

    def client(self, number: int) -> Client | None:
        """The record of the client with an id; None where there is none."""
        found: Client | None = self._clients.get(number)
        return found

    def _read(self, area: CompiledCluster, opening: _Opening) -> AddressVerdict:
        """Steps 3 to 6: is the address authentic, does it make sense, is it fresh; then `_admit`."""
        address = opening.address
        entry = area.keyring.of(address) if area.keyring else None
        if entry is None:
            return area.reject(Reason.UNKNOWN_EPOCH, address)
        epoch, codec = entry
        if not codec.authentic(address):
            return area.reject(Reason.BAD_TAG, address)
        values = codec.decode(address)
        client = self._clients.get(values.get("client", 0))
        tier = area.tier(values, client)
        if tier is None:
            return area.reject(Reason.BAD_PAYLOAD, address, values)
        if area.expired(epoch, values, opening.now):
            return area.reject(Reason.EXPIRED, address, values)
        reason = self._admit(area, tier, client, opening)
        if reason in ACCEPTED:
            return area.judgement(reason, tier, address, values)
        if reason is Reason.UNPROVEN and tier.unproven is Fallback.DEFAULT_TIER:
            return area.judgement(reason, area.default_tier, address, values)
        return area.reject(reason, address, values)

    def _admit(self, area: CompiledCluster, tier: Tier, client: Client | None, opening: _Opening) -> Reason:
        """Steps 7 and 8: is the client in good standing, and has it proven what it must."""
        if client and client.state is not ClientState.ENABLED:
            return Reason.REVOKED
        if not opening.address & area.layout.mode_bit:
            demanded = tier.require_proof or (client is not None and client.proof.required)
            return Reason.UNPROVEN if demanded else Reason.ISSUED
        if client is None or not self._proves(area, client, opening):
            return Reason.BAD_PROOF
        return Reason.REPLAYED if client.proof.single_use and opening.used(opening.address) else Reason.PROVEN

    def _proves(self, area: CompiledCluster, client: Client, opening: _Opening) -> bool:
        key = self._key(area, client)
        if key is None:
            return False
        address, source, port, now, _ = opening
        slots = acceptable_slots(now, area.cluster.slot_seconds)
        return any(verify(area.layout, address, key, client.proof.bind, source, port, slot) for slot in slots)

    def _key(self, area: CompiledCluster, client: Client) -> bytes | None:
        """The client's key in a cluster, remembered; None where the cluster has no client master yet."""
        key = self._keys.get((area.name, client.id))
        if key is None and area.master is not None:
            if len(self._keys) >= MAX_KEYS:
                del self._keys[next(iter(self._keys))]
            key = client_key(area.master, area.layout, client.id, client.key_generation)
            self._keys[area.name, client.id] = key
        return key


class _Opening(NamedTuple):
    """A new flow, as `AddressVerifier.judge` is asked about it."""

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
        self._rejected: dict[tuple[Reason, int], AddressVerdict] = {}
        self._tiers = tiers
        self._by_code = {tier.code: tier for tier in tiers.values()}
        self._has_tier = bool(self.layout.bits("tier"))
        self._forever = (1 << self.layout.bits("expiry")) - 1
        self._tables = [
            (name, frozenset(cluster.values[name].values()) | {0})
            for name, _ in self.layout.fields
            if name in cluster.values and name not in RESERVED_NAMES
        ]

    def tier(self, values: Mapping[str, int], client: Client | None) -> Tier | None:
        """The tier an authentic payload gives: the client's record first; None where the payload makes no sense.

        Where the record is not held here (it is on its way, or was deleted) the payload's tier stands.
        """
        written = self._by_code.get(values["tier"]) if self._has_tier else self.default_tier
        if written is None or any(values[name] not in numbers for name, numbers in self._tables):
            return None
        return self._tiers.get(client.tier, written) if client else written

    def expired(self, epoch: Epoch, values: Mapping[str, int], now: float) -> bool:
        """Whether the address's time is over. The highest value lives as long as the epoch, and an epoch not
        known to be active yet has no moment to count from (the news of its activation may come later than
        its first addresses do)."""
        expiry = values.get("expiry", self._forever)
        if expiry == self._forever or not epoch.activated_at:
            return False
        return now >= epoch.activated_at + expiry * self.cluster.expiry_unit

    def judgement(self, reason: Reason, tier: Tier | None, address: int, values: Mapping[str, int]) -> AddressVerdict:
        """A judgement on an address in this cluster's encoded space."""
        mode = 1 if address & self.layout.mode_bit else 0
        slot = address >> self.layout.epoch_shift & 3
        client, session = values.get("client", 0), values.get("session", 0)
        return AddressVerdict(reason, tier, self.name, client, session, mode, slot, values)

    def reject(self, reason: Reason, address: int, values: Mapping[str, int] | None = None) -> AddressVerdict:
        """A rejection, with the default tier where the cluster's `on_invalid` says so.

        A flood of forged addresses is told with a few judgements, made once each.
        """
        if values is not None:
            return self.judgement(reason, self._fallback, address, values)
        key = reason, address >> self.layout.epoch_shift & 7  # mode and epoch
        known = self._rejected.get(key)
        if known is None:
            known = self._rejected[key] = self.judgement(reason, self._fallback, address, {})
        return known


class _Area4:
    """One IPv4 cluster, compiled. A host number that stands for no tier is rejected as a bad payload."""

    def __init__(self, cluster: ClassCluster, site: Site) -> None:
        self._name, self._plain, self._table = cluster.name, int(cluster.plain), cluster.table
        self._default_tier, self._tiers = site.tiers.get(cluster.default_tier), site.tiers

    def judge(self, address: int) -> AddressVerdict:
        if address == self._plain:
            return AddressVerdict(Reason.PLAIN, self._default_tier, self._name)
        tier = self._tiers.get(self._table.decode(address) or "")
        return AddressVerdict(Reason.CLASS if tier else Reason.BAD_PAYLOAD, tier, self._name)


def _by_id(snapshot: Snapshot, before: AddressVerifier | None) -> CowMap[int, Client]:
    clients = snapshot.site.clients
    if before is None:
        return CowMap((client.id, client) for client in clients.values())
    differences = list(difference(before._snapshot.site.clients, clients))
    gone = [old.id for _, old, _ in differences if old]
    return before._clients.changed(gone, [(new.id, new) for _, _, new in differences if new])


def _find(areas: Mapping[int, Mapping[int, _AreaT]], address: int) -> _AreaT | None:
    for shift, found in areas.items():
        area = found.get(address >> shift)
        if area is not None:
            return area
    return None
