"""Packets that another dispatcher decides about: it owns the single use or the translation of their flow (peers.py)."""

from __future__ import annotations

from dnsvip.address.proof import Bind
from dnsvip.dispatcher.admission import REFUSED, admit
from dnsvip.dispatcher.dispatch_tables import DispatchTables, forward_to, session_seconds
from dnsvip.dispatcher.flows.flow import NEW_SECONDS, STAYS_NEW, Flows
from dnsvip.dispatcher.flows.owner import owner_of
from dnsvip.dispatcher.flows.segment import FlowRef
from dnsvip.dispatcher.packet import FlowKey, Packet
from dnsvip.dispatcher.peers import DIRECT_STEP, mark, widened
from dnsvip.dispatcher.reason import Action, PacketReason
from dnsvip.dispatcher.routes import Route
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import AddressVerdict, Verdict
from dnsvip.site import TierAction

NOBODY = 0
"""Whose relayed flows are: what a client uses is counted by the owner."""


def relay(
    packet: Packet, address: AddressVerdict, route: Route, tables: DispatchTables, *, single: bool
) -> Verdict | None:
    """The verdict on a packet of a new flow that another dispatcher owns; None where this one decides."""
    translates = (route.pool, packet.version) in tables.translating
    if not (translates or single) or route.tier.action is TierAction.DROP:
        return None
    unbound = address.record is not None and address.record.proof.bind is Bind.NONE
    by_vip = single and unbound and not translates
    return to_owner(packet, tables, PacketReason.RELAYED, by_vip=by_vip)


def follow(
    verdict: Verdict,
    address: AddressVerdict,
    route: Route,
    tables: DispatchTables,
    flows: Flows,
    now: int,
    known: FlowRef | None,
) -> Verdict:
    """The verdict on a packet that opens a flow, of which `verdict` is to be relayed: it takes a token of its tier's
    rate, and later packets follow it, or are relayed each by itself where its client has opened very many. A known
    flow goes on as it did where the address is not valid, and goes by a default tier."""
    packet = verdict.packet
    if verdict.server is None or packet is None:
        return verdict
    reason, _ = admit(route, address, packet.key, tables, flows, now)
    if reason in REFUSED:
        return Verdict(Action.DROP, reason.value, packet=packet, address=address)
    owner = owner_of(verdict.server.number, tables.tier_number(route.tier.name), None)
    holder = NOBODY, route.tier.name, route.priority
    if known is None:
        if not _has_place(address.client, flows, now // SECOND):
            return verdict
        life = session_seconds(address.cluster)
        flows.lowest_priority = tables.lowest_priority
        flows.record(packet.key, owner, life, verdict.flow_hash, now // SECOND, holder, anonymous=STAYS_NEW)
    elif address.accepted:
        flows.renew(known, owner, verdict.flow_hash, holder, anonymous=STAYS_NEW)
    return verdict


def _has_place(client: int, flows: Flows, now: int) -> bool:
    """Whether one more relayed flow of a client is recorded: in NEW_SECONDS as many as it may have uses, as only the
    owner knows what it has used. Sources of those who are no clients can be forged: nothing is counted of them."""
    return not client or flows.relayed.takes(client, flows.uses.share, now, NEW_SECONDS)


def to_owner(packet: Packet, tables: DispatchTables, reason: PacketReason, *, by_vip: bool = False) -> Verdict | None:
    """The verdict that relays a packet to the owner of what its client has, or its VIP; None where that is this
    dispatcher."""
    source, destination = map(widened, FlowKey(packet.key).addresses)
    owner = tables.peers.owner(destination if by_vip else source)
    if owner is None:
        return None
    verdict = forward_to(tables.peer_targets[owner], reason, None, 0, mark(tables.relay_key, destination, DIRECT_STEP))
    return verdict._replace(packet=packet)


def relay_reply(packet: Packet, tables: DispatchTables, step: int) -> Verdict | None:
    """The verdict on a packet of a server under nat that answers no flow known here; None where it is passed on."""
    if not tables.peers.live:
        return None
    source, destination = map(widened, FlowKey(packet.key).addresses)
    if tables.translated.get(source) != packet.version:
        return None
    found = tables.peers.replies(destination, step)
    if found is None:
        return None
    peer, onward = found
    verdict = forward_to(
        tables.peer_targets[peer], PacketReason.RELAYED, None, 0, mark(tables.relay_key, destination, onward)
    )
    return verdict._replace(packet=packet)
