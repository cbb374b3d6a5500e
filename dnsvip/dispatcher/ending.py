"""Ends known flows of clients that are disabled, revoked or deleted, and of tiers that drop, where that was asked for.

A flow that has ended stays known, so that its packets are dropped for their reason and open nothing anew, for
CLOSING_SECONDS after its last packet. The mark is in the flow's owner, which then is no server's: only packets of such
flows take the way that looks at it. Each change of the site walks the table once, new flows first, as a flow that is
established meanwhile takes its mark along.
"""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.owner import CLIENT_ENDED, ENDED, TIER_ENDED
from dnsvip.dispatcher.flows.segment import Segment
from dnsvip.site import Site, Snapshot
from dnsvip.site.cow_map import difference

CLOSED_BY_END = 2
"""The bit in `Segment.closing` of a flow that has ended this way."""


def walk(flows: Flows, tables: DispatchTables, budget: int = 1 << 62) -> Iterator[int]:
    """Mark the flows that have ended, and unmark those that go on; yields after every `budget` flows how many have
    changed so far."""
    changed = 0
    for segment in (flows.probation, flows.established):
        slot = 0
        while slot < len(segment.keys):
            end = min(slot + budget, len(segment.keys))
            changed += sum(_settle(segment, place, flows, tables) for place in range(slot, end))
            slot = end
            yield changed


def _settle(segment: Segment, slot: int, flows: Flows, tables: DispatchTables) -> bool:
    """Mark or unmark one flow; whether that has changed it."""
    if segment.keys[slot] is None:
        return False
    before = segment.owner[slot]
    owner = before & ~ENDED | _mark(segment, slot, flows, tables)
    if owner == before:
        return False
    segment.owner[slot] = owner
    closing = segment.closing[slot] & ~CLOSED_BY_END
    segment.closing[slot] = closing | CLOSED_BY_END if owner & ENDED else closing
    return True


def _mark(segment: Segment, slot: int, flows: Flows, tables: DispatchTables) -> int:
    """The mark that a flow is to have. One that it has stays while its client or tier has been lost."""
    tiers, marked = tables.sound.site.tiers, segment.owner[slot] & ENDED
    client, tier = segment.clients[slot], flows.tier_names[segment.tiers[slot]]
    record = tables.verifier.client(client) if client else None
    is_lost = record.tier not in tiers if record else client in tables.sound.deleted
    if record.is_ended if record else client in tables.sound.ended:
        return CLIENT_ENDED
    if marked & CLIENT_ENDED and (is_lost or record is None):
        return CLIENT_ENDED
    if any(name in tiers and tiers[name].is_ended for name in (tier, record.tier if record else "")):
        return TIER_ENDED
    return marked & TIER_ENDED if is_lost or (tier and tier not in tiers) else 0


def concerns(old: Snapshot, new: Snapshot) -> bool:
    """Whether a change of the site may end flows, or let flows go on that had ended."""
    before, after = (_ended_tiers(snapshot.site) for snapshot in (old, new))
    if old.site.tiers.keys() != new.site.tiers.keys():  # what was lost may be back
        return True
    if before != after or (after and old.site.clients is not new.site.clients):
        return True
    if old.ended != new.ended:
        return True
    return any(
        client is not None and (client.end_flows or not client.tier)
        for _, *pair in difference(old.site.clients, new.site.clients)
        for client in pair
    )


def _ended_tiers(site: Site) -> set[str]:
    return {tier.name for tier in site.tiers.values() if tier.is_ended}
