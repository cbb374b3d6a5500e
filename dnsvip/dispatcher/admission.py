"""Quality of service for a new flow: whether its tier's action and rate admit it now, later or not at all, and which
turn it then waits for.

It comes after the address was verified and before a server is selected (figure 4 of the patent). It knows no server.
"""

from __future__ import annotations

from collections.abc import Hashable

from dnsvip.dispatcher.bucket_table import holder_of
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.holding import priority_of
from dnsvip.dispatcher.reason import AddressReason, PacketReason
from dnsvip.dispatcher.resumption import resume
from dnsvip.dispatcher.routes import Route
from dnsvip.dispatcher.selection import route_of
from dnsvip.dispatcher.verdict import AddressVerdict, Verdict
from dnsvip.errors import ObjectError
from dnsvip.site import Over, Per, Tier, TierAction

REFUSED = frozenset({PacketReason.TIER_DROP, PacketReason.OVER_RATE, PacketReason.RESUMED_OVER_RATE})
"""The reasons of flows that are not admitted."""


def admit(
    route: Route, address: AddressVerdict, key: bytes, tables: DispatchTables, flows: Flows, now: int
) -> tuple[AddressReason | PacketReason, int]:
    """The reason to go on with (or one of REFUSED) and the nanoseconds to hold the packet, at `now` (unix ns), of a new
    flow with a key. Raises ObjectError where the tier makes it fail."""
    tier = route.tier
    if tier.action is TierAction.DROP:
        return PacketReason.TIER_DROP, 0
    if address.reason is AddressReason.RESUMED:
        return resume(address, tables, flows, now), 0
    if tier.rate is None:
        return address.reason, 0
    try:
        delay = _take(tier.name, tier.rate.per, address.client, key, tables, flows, now)
    except Exception as error:
        raise ObjectError(f"tier.{tier.name}", error) from error
    if delay is None:
        return (PacketReason.OVER_RATE_PASSED if tier.rate.over is Over.PASS else PacketReason.OVER_RATE), 0
    if delay and not flows.hold.has_room(_bucket_of(tier, address, key), priority_of(route.priority, address)):
        return PacketReason.OVER_RATE, 0
    return (PacketReason.HELD if delay else address.reason), delay


def queue_of(verdict: Verdict, tables: DispatchTables) -> tuple[Hashable, int]:
    """The bucket whose turn a held packet waits for, and the packet's priority; by the tables of the verdict."""
    address, packet = verdict.address, verdict.packet
    if address is None or packet is None or address.tier is None or address.tier.rate is None:
        return "", 0
    priority = priority_of(route_of(address, address.tier, tables, packet.version).priority, address)
    return _bucket_of(address.tier, address, packet.key), priority


def _bucket_of(tier: Tier, address: AddressVerdict, key: bytes) -> Hashable:
    """Who waits together: the flows of a tier, or of one client or source of it."""
    if tier.rate is None or tier.rate.per is Per.TIER:
        return tier.name
    return tier.name, holder_of(address.client, key, by_source=tier.rate.per is Per.SOURCE)


def _take(tier: str, per: Per, client: int, key: bytes, tables: DispatchTables, flows: Flows, now: int) -> int | None:
    """Take a token of whoever has to: the nanoseconds to wait for it, or None if there is none."""
    if per is Per.TIER:
        return flows.buckets.take(tier, tables.limits[tier], now)
    holder = holder_of(client, key, by_source=per is Per.SOURCE)
    return flows.buckets.take_own(holder, tier, tables.limits[tier], now)
