"""Clusters compiled for the verifier: layout, keys, tiers, and the verdicts on addresses in them."""

from __future__ import annotations

from collections.abc import Mapping

from dnsvip.address.keyring import Keyring
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.dispatcher.verify.claims import CompiledClaims, CompiledSource
from dnsvip.dispatcher.verify.payload import Payload
from dnsvip.site import ClassCluster, Client, Cluster, OnInvalid, Site, Snapshot, Tier


class CompiledCluster:
    """One IPv6 cluster, compiled."""

    def __init__(self, cluster: Cluster, snapshot: Snapshot) -> None:
        tiers = snapshot.site.tiers
        self.cluster, self.name, self.plain = cluster, cluster.name, int(cluster.plain)
        self.layout = cluster.address_layout
        self.keyring: Keyring | None = snapshot.keyrings.get(cluster.name)
        self.master = snapshot.masters.get(cluster.name)
        self.default_tier = tiers.get(cluster.default_tier)
        self.resumes = cluster.resume_rate > 0
        self.fallback = self.default_tier if cluster.on_invalid is OnInvalid.DEFAULT_TIER else None
        self._expired = self.default_tier if cluster.serves_expired else None
        self._rejected: dict[tuple[AddressReason, int], AddressVerdict] = {}
        self._tiers = tiers
        self.payload = Payload(cluster, self.layout.fields, tiers)
        self.claims = CompiledClaims(cluster, self.layout) if cluster.claims or cluster.label else None
        form = cluster.source_format
        self.source = CompiledSource(cluster, form, self.keyring, tiers) if form else None

    def tier_of(self, client: Client) -> Tier | None:
        """The tier of a client that no payload tells of; None where the site has none of that name."""
        return self._tiers.get(client.tier)

    def plainly(self) -> AddressVerdict:
        """The verdict on the plain VIP."""
        return AddressVerdict(AddressReason.PLAIN, self.default_tier, self.cluster)

    def bare(self, slot: int) -> int:
        """An issued address of an epoch slot that says nothing."""
        return self.layout.prefix_int | slot << self.layout.epoch_shift

    def verdict(
        self,
        reason: AddressReason,
        tier: Tier | None,
        address: int,
        values: Mapping[str, int],
        record: Client | None = None,
        *,
        unproven: bool = False,
        ignored: bool = False,
    ) -> AddressVerdict:
        """A verdict on an address in this cluster's encoded space. `ignored`: its flow label is no claim."""
        mode = 1 if address & self.layout.mode_bit else 0
        slot = address >> self.layout.epoch_shift & 3
        client, session = values.get("client", 0), values.get("session", 0)
        return AddressVerdict(
            reason, tier, self.cluster, client, session, mode, slot, values, record, unproven, ignored
        )

    def reject(
        self,
        reason: AddressReason,
        address: int,
        values: Mapping[str, int] | None = None,
        record: Client | None = None,
    ) -> AddressVerdict:
        """A rejection, with the default tier where the cluster's `on_invalid`, or `on_expired`, says so.

        Rejections without a payload are cached by reason, mode and epoch, so a flood of forged addresses allocates
        none.
        """
        if values is not None:
            tier = self._expired if reason is AddressReason.EXPIRED else self.fallback
            return self.verdict(reason, tier, address, values, record)
        key = reason, address >> self.layout.epoch_shift & 7  # mode and epoch
        rejection = self._rejected.get(key)
        if rejection is None:
            rejection = self._rejected[key] = self.verdict(reason, self.fallback, address, {})
        return rejection


class CompiledClassCluster:
    """One IPv4 cluster, compiled."""

    def __init__(self, cluster: ClassCluster, site: Site) -> None:
        self.cluster, self.plain, self._table = cluster, int(cluster.plain), cluster.table
        self.default_tier, self._tiers = site.tiers.get(cluster.default_tier), site.tiers

    def tier(self, address: int) -> Tier | None:
        """The tier that a host number stands for."""
        return self._tiers.get(self._table.decode(address) or "")

    def tier_of(self, client: Client) -> Tier | None:
        """The tier of a client; None where the site has none of that name."""
        return self._tiers.get(client.tier)

    def plainly(self) -> AddressVerdict:
        """The verdict on the plain VIP."""
        return AddressVerdict(AddressReason.PLAIN, self.default_tier, self.cluster)
