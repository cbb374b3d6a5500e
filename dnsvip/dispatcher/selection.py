"""The selection of a server for a new flow: the pool, and the server of it that a hash picks.

Pure: reads the tables and the flow that is known already.
"""

from __future__ import annotations

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.maglev import flow_hash
from dnsvip.dispatcher.flows.owner import ENDED
from dnsvip.dispatcher.flows.segment import FlowRef
from dnsvip.dispatcher.packet import FlowKey, Packet
from dnsvip.dispatcher.routes import Route
from dnsvip.dispatcher.verdict import AddressVerdict, Target, Verdict
from dnsvip.site import Forward, Stickiness, Tier


def route_of(address: AddressVerdict, tier: Tier, tables: DispatchTables, version: int) -> Route:
    """Where a new flow to a verified address goes. A client's own servers count while one of them takes new flows."""
    own = tables.router.own(address)
    if own is not None and (own.pool in tables.pools or tables.ring(own.pool, version).places):
        return own
    return tables.router.shared(address, tier)


def select(packet: Packet, address: AddressVerdict, route: Route, tables: DispatchTables) -> tuple[Target | None, int]:
    """The server for a new flow, and the hash that it was picked by; None where no server takes any."""
    stickiness = tables.stickiness.get(route.pool or "")
    if stickiness is None:
        return None, 0
    sticky = flow_hash(_sticky(packet, address, stickiness, tables))
    return tables.ring(route.pool, packet.version).pick(sticky), sticky


def _sticky(packet: Packet, address: AddressVerdict, stickiness: Stickiness, tables: DispatchTables) -> bytes:
    """What the selection of a server hashes. An anonymous client is identified by its source address; a session that a
    label named is whoever's has the name."""
    if stickiness is Stickiness.FLOW:
        return packet.key
    if stickiness is Stickiness.SESSION and address.session:
        client = 0 if tables.is_shared(address) else address.client
        return b"session" + client.to_bytes(10, "big") + address.session.to_bytes(10, "big")
    if address.client:
        return b"client" + address.client.to_bytes(10, "big")
    return b"source" + FlowKey(packet.key).source.to_bytes(16, "big")


def takes(template: Verdict, version: int) -> bool:
    """Whether the server of a known flow still takes its packets: its pool may have become one under nat, which
    translates within an IP version."""
    return template.mode is not Forward.NAT or (template.server is not None and template.server.version == version)


def kept(flow: FlowRef, route: Route, tables: DispatchTables, version: int) -> tuple[Target | None, int]:
    """A flow's server and hash, if that server is of the route's pool and keeps its flows."""
    segment, slot = flow
    owner = segment.owner[slot]
    template = tables.known(owner)
    if template is None or tables.pool_of(owner) != route.pool or not takes(template, version):
        return None, 0
    return template.server, segment.hashes[slot]


def leaves(flow: FlowRef, address: AddressVerdict, route: Route, tables: DispatchTables) -> bool:
    """Whether a known flow would leave its pool for an address that is not valid, by a default tier; what has ended
    has left."""
    if address.accepted:
        return False
    segment, slot = flow
    if segment.owner[slot] & ENDED:
        return True
    pool = tables.pool_of(segment.owner[slot])
    return pool not in tables.stickiness or pool != route.pool


def reselect(flow: FlowRef, tables: DispatchTables, version: int) -> Target | None:
    """Another server for a flow whose server is gone: of its pool or that pool's fallbacks; of its client's own
    servers, or else of the pool that its own was in."""
    segment, slot = flow
    owner, picked = segment.owner[slot], segment.hashes[slot]
    pool = tables.pool_of(owner)
    return tables.ring(pool, version).pick(picked) or tables.ring(tables.home_of(owner), version).pick(picked)
