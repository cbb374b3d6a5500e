"""The verdict on a packet that is no flow's by itself: an ICMP error, a later fragment, another protocol, or malformed.

Errors and fragments follow the flow that they belong to; none of them opens one.
"""

from __future__ import annotations

from dnsvip.dispatcher.dispatch_tables import DispatchTables, forward_to
from dnsvip.dispatcher.egress.icmp import ANSWERS
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.known_flows import of_packet, reply_to
from dnsvip.dispatcher.new_flows import SingleUse, verify
from dnsvip.dispatcher.packet import FlowKey, Malformed, Packet, Shape, has_martian_source, ip_length
from dnsvip.dispatcher.policing import police
from dnsvip.dispatcher.reason import MALFORMED, Action, AddressReason, PacketReason
from dnsvip.dispatcher.relaying import to_owner
from dnsvip.dispatcher.resumption import ERRORS_ELSEWHERE
from dnsvip.dispatcher.selection import route_of, select, takes
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import Forward, TierAction

_ENCAP, _DROP = Forward.ENCAP, Action.DROP

_MALFORMED = {kind: Verdict(Action.DROP, name) for kind, name in MALFORMED.items()}
_NOT_OURS = Verdict(Action.PASS, AddressReason.NOT_OURS.value)


def _error(data: bytes, packet: Packet, tables: DispatchTables, flows: Flows, now: int, step: int) -> Verdict:
    """An ICMP error follows the flow that it is about; where that is not known here, to the server that it leads to."""
    if has_martian_source(data[8:40] if packet.version == 6 else data[12:20]):
        return _drop_or_pass(packet, tables, PacketReason.MARTIAN)
    verdict = _follow(packet.key, PacketReason.ICMP_ERROR, packet, tables, flows, now)
    verdict = verdict or _elsewhere(packet, tables, flows, now, step)
    return _fitting(data, verdict) if verdict else _drop_or_pass(packet, tables, PacketReason.ICMP_ORPHAN)


def _elsewhere(packet: Packet, tables: DispatchTables, flows: Flows, now: int, step: int) -> Verdict | None:
    """The verdict on an ICMP error about a flow that another dispatcher knows: the server that the flow's address
    leads to, at the rate of the errors that we send; under nat the owner of its translation. None where there is
    no such one. Nothing is recorded."""
    if has_martian_source(packet.key[1:-4]):
        return None
    seconds = now // SECOND
    use = SingleUse(packet, False, flows, seconds)
    address = verify(packet, tables, flows, seconds, use, running=True)
    tier = address.tier
    if tier is None or tier.action is TierAction.DROP:
        return None
    route = route_of(address, tier, tables, packet.version)
    target, sticky = select(packet, address, route, tables)
    translates = target is not None and target.mode is Forward.NAT
    owner = None
    if translates and tables.peers.live and not step:
        owner = to_owner(packet, tables, PacketReason.ICMP_ORPHAN)
    if target is None or (translates and not owner) or flows.buckets.take(ERRORS_ELSEWHERE, ANSWERS, now) is None:
        return None
    if owner:
        return owner
    verdict = forward_to(target, PacketReason.ICMP_ORPHAN, route.dscp, 0, sticky if target.mode is _ENCAP else 0)
    return verdict._replace(packet=packet, address=address)


def _fragment(data: bytes, packet: Packet, tables: DispatchTables, flows: Flows, now: int, _step: int) -> Verdict:
    """A later fragment follows its first one; one that arrives before its first is dropped."""
    key = flows.fragments.get(packet.fragment, now // SECOND)
    verdict = _follow(key, PacketReason.FRAGMENT, packet, tables, flows, now) if key else None
    return _fitting(data, verdict) if verdict else _unfit(packet, tables, PacketReason.FRAGMENT_ORPHAN)


def _follow(
    key: bytes, reason: PacketReason, packet: Packet, tables: DispatchTables, flows: Flows, now: int
) -> Verdict | None:
    """The verdict on a packet that belongs to the flow `key`, or to a reply of it; None where that is unknown. Only
    fragments are policed: routers send ICMP errors."""
    seconds = now // SECOND
    flow = flows.find(key, seconds)
    if flow is None:
        return reply_to(key, reason, packet, flows, seconds)
    segment, slot = flow
    template = tables.known(segment.owner[slot])
    if template is None or not takes(template, packet.version):
        return None
    template = template._replace(reason=reason.value)
    if template.policer is not None and reason is PacketReason.FRAGMENT:
        template = police(template, segment.clients[slot], key, packet.size, flows.buckets, now)
        if template.action is _DROP:
            return template._replace(packet=packet)
    picked = segment.hashes[slot] if template.mode is Forward.ENCAP else 0
    return of_packet(template, packet, flows.translations.port(key), picked)


def _fitting(data: bytes, verdict: Verdict) -> Verdict:
    """Drop a packet larger than the path MTU about which no ICMP error may be sent."""
    fits = verdict.server is None or ip_length(data) <= verdict.server.path_mtu
    return verdict if fits else Verdict(Action.DROP, PacketReason.TOO_BIG.value, packet=verdict.packet)


def _other(_: bytes, packet: Packet, tables: DispatchTables, _flows: Flows, _now: int, _step: int) -> Verdict:
    return _unfit(packet, tables, PacketReason.PROTOCOL)


def _unfit(packet: Packet, tables: DispatchTables, reason: PacketReason) -> Verdict:
    """`_drop_or_pass` for this reason, or for the packet's source."""
    return _drop_or_pass(packet, tables, PacketReason.MARTIAN if has_martian_source(packet.key[1:-4]) else reason)


def _drop_or_pass(packet: Packet, tables: DispatchTables, reason: PacketReason) -> Verdict:
    """Drop what is for a cluster; pass on what is not."""
    if tables.ours(FlowKey(packet.key).destination, packet.version):
        return Verdict(Action.DROP, reason.value, packet=packet)
    return Verdict(Action.PASS, AddressReason.NOT_OURS.value, packet=packet)


def malformed(data: bytes, kind: Malformed, tables: DispatchTables) -> Verdict:
    """Drop it, unless its destination is readable and not ours (a packet with a segment routing header, say)."""
    version = data[0] >> 4 if data else 0
    if version == 6 and len(data) >= 40:
        destination = data[24:40]
    elif version == 4 and len(data) >= 20:
        destination = data[16:20]
    else:
        return _MALFORMED[kind]
    return _MALFORMED[kind] if tables.ours(int.from_bytes(destination, "big"), version) else _NOT_OURS


UNUSUAL = {Shape.ERROR: _error, Shape.FRAGMENT: _fragment, Shape.OTHER: _other}
