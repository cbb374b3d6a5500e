"""What the fields of an authentic payload mean: the tier, and whether it has expired.

One Payload compiles the fields of a cluster's addresses, or of its clients' source addresses.
"""

from __future__ import annotations

from collections.abc import Mapping

from dnsvip.address.fields import Fields
from dnsvip.address.keyring import Epoch
from dnsvip.address.layout import RESERVED_NAMES
from dnsvip.site import Client, ClientState, Cluster, Tier


class Payload:
    """The payloads with these fields, in one cluster of a site with these tiers."""

    def __init__(self, cluster: Cluster, fields: Fields, tiers: Mapping[str, Tier]) -> None:
        widths = dict(fields)
        self._expiry_unit, self._default_tier = cluster.expiry_unit, tiers.get(cluster.default_tier)
        self._tiers = tiers
        self._by_code = {tier.code: tier for tier in tiers.values()}
        self._has_tier = "tier" in widths
        self._never = (1 << widths.get("expiry", 0)) - 1
        self._allowed = allowed_numbers(cluster, fields)

    def tier(self, values: Mapping[str, int], client: Client | None) -> Tier | None:
        """The tier of an authentic payload, the client's record taking precedence; None for an invalid payload.

        Without a record (not replicated yet, or deleted long ago) the payload's tier applies. That of a client whose
        own tier is not in the site counts only until `serves` refuses it.
        """
        tier = self._by_code.get(values["tier"]) if self._has_tier else self._default_tier
        if tier is None or not are_allowed(self._allowed, values):
            return None
        return self._tiers.get(client.tier, tier) if client else tier

    def serves(self, client: Client) -> bool:
        """Whether a client is in force. One whose tier is not in the site, as where the tier's row cannot be read, is
        not: it may have been moved there to be kept out, and its addresses still carry the tier of before."""
        return client.state is ClientState.ENABLED and client.tier in self._tiers

    def expired(self, epoch: Epoch, values: Mapping[str, int], now: float) -> bool:
        """Whether the address has expired. The highest value never expires before its epoch does. Nor does an address
        of an epoch whose activation this node has not learned of yet: its first addresses may arrive earlier."""
        expiry = values.get("expiry", self._never)
        if expiry == self._never or not epoch.activated_at:
            return False
        return now >= epoch.activated_at + expiry * self._expiry_unit


def allowed_numbers(cluster: Cluster, fields: Fields) -> list[tuple[str, frozenset[int]]]:
    """The numbers that each field with a table of values may have; 0 is "not set"."""
    return [
        (name, frozenset(cluster.values[name].values()) | {0})
        for name, _ in fields
        if name in cluster.values and name not in RESERVED_NAMES
    ]


def are_allowed(allowed: list[tuple[str, frozenset[int]]], values: Mapping[str, int]) -> bool:
    """Whether every value is in its field's table."""
    for name, numbers in allowed:  # noqa: SIM110 - a generator costs more than the look-ups
        if values[name] not in numbers:
            return False
    return True
