"""Flows that come from another dispatcher, or that this one has lost: whether they are taken over now.

Each cluster has a token bucket for them (`resume_rate`), apart from those of tiers, whose rates are for new flows:
after the loss of a dispatcher all its flows come at once.
"""

from __future__ import annotations

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.reason import AddressReason, PacketReason
from dnsvip.dispatcher.verdict import AddressVerdict

ERRORS_ELSEWHERE = "icmp errors elsewhere"
"""The bucket of ICMP errors about flows that are not known here."""


def resume(address: AddressVerdict, tables: DispatchTables, flows: Flows, now: int) -> AddressReason | PacketReason:
    """The reason to go on with for a flow that is RESUMED, at `now` (unix ns), or RESUMED_OVER_RATE."""
    name = address.cluster.name if address.cluster else ""
    taken = flows.buckets.take(f"{name} resumed", tables.resume_limits[name], now)
    return PacketReason.RESUMED_OVER_RATE if taken is None else AddressReason.RESUMED
