"""The dispatcher's decision function: figure 4 of the patent, one verdict per packet.

Parse the packet and look up its flow in the connection key table. For a new flow verify the destination address,
apply quality of service, select a server and record the flow. A packet is parsed once and no flow key is looked up
twice. Pure but for `flows`, the state between packets; the clock is an argument. It never raises, whatever the bytes;
`outcome` makes a verdict of what an object of the site makes it raise all the same.
"""

from __future__ import annotations

from dnsvip.dispatcher.admission import REFUSED, admit
from dnsvip.dispatcher.dispatch_tables import (
    DispatchTables,
    forward_to,
    proof_seconds,
    session_seconds,
)
from dnsvip.dispatcher.egress.icmp import ANSWERS, may_answer
from dnsvip.dispatcher.egress.reset import is_answered_expired
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.owner import CLIENT_ENDED, ENDED, dscp_of, owner_of, tier_of
from dnsvip.dispatcher.flows.segment import FlowRef, is_answered, is_resumed, opens, opens_again
from dnsvip.dispatcher.packet import (
    RST,
    SYN,
    FlowKey,
    Malformed,
    Packet,
    Shape,
    flow_label,
    has_martian_source,
    ip_length,
    is_running,
    parse,
)
from dnsvip.dispatcher.policing import police
from dnsvip.dispatcher.reason import ACCEPTED, MALFORMED, Action, AddressReason, PacketReason
from dnsvip.dispatcher.relaying import follow, relay, relay_reply, to_owner
from dnsvip.dispatcher.resumption import ERRORS_ELSEWHERE
from dnsvip.dispatcher.routes import Route
from dnsvip.dispatcher.selection import kept, leaves, reselect, route_of, select, takes
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import AddressVerdict, Verdict
from dnsvip.errors import ObjectError, Problem
from dnsvip.site import Cluster, Forward, TierAction

_make = tuple.__new__
"""Makes a NamedTuple of a plain tuple, on the path that every packet takes."""
_FLOW, _DIRECT, _ENCAP, _NAT = Shape.FLOW, Forward.DIRECT, Forward.ENCAP, Forward.NAT
_ANSWER, _FORWARD, _DROP = Action.ANSWER, Action.FORWARD, Action.DROP
_ELSEWHERE, _EXPIRED = AddressReason.NOT_OURS, AddressReason.EXPIRED
"""Members compared for every packet; looking one up in its enum costs three times the comparison."""

FRAGMENT_SECONDS = 60
"""Reassembly timeout (RFC 8200 section 4.5): how long later fragments follow their first one."""


def decide(
    data: bytes, tables: DispatchTables, flows: Flows, now: int, step: int = 0, parsed: Packet | Malformed | None = None
) -> Verdict:
    """The verdict on one packet at `now` (unix nanoseconds; everything but token buckets uses whole seconds). `step`:
    how another dispatcher has relayed it (peers.py); `parsed`: what `parse` made of it, where that is known."""
    packet = parsed or parse(data)
    if not isinstance(packet, Packet):  # ten times faster than a test for Malformed, an enum
        return _malformed(data, packet, tables)
    seconds = now // SECOND
    if packet.shape is not _FLOW:
        return _UNUSUAL[packet.shape](data, packet, tables, flows, now, step)
    flags = packet.flags
    flow = flows.touch(packet.key, flags, seconds)
    if flow is None:
        verdict = _reply(packet.key, PacketReason.REPLY, packet, flows, seconds) or _new(
            packet, tables, flows, now, running=is_running(data, packet), label=flow_label(data), step=step
        )
        client = verdict.address.client if verdict.address else 0
    elif (flags & SYN and opens_again(flow, flags, seconds)) or (
        not flags and is_resumed(flow) and not is_running(data, packet)
    ):
        verdict = _new(packet, tables, flows, now, flow, label=flow_label(data), step=step)
        client = verdict.address.client if verdict.address else 0
    else:
        client = flow[0].clients[flow[1]]
        verdict = _known(packet, flow, tables, flows, now)
        if verdict is _ITS_PEER_IS_LOST:
            flows.drop(flow)
            running, label = is_running(data, packet), flow_label(data)
            verdict = _new(packet, tables, flows, now, running=running, label=label, step=step)
            client = verdict.address.client if verdict.address else 0
    if packet.fragment and verdict.action is _FORWARD:
        flows.fragments.put(packet.fragment, packet.key, seconds + FRAGMENT_SECONDS)
    server = verdict.server
    if server is not None and len(data) > server.path_mtu and ip_length(data) > server.path_mtu:
        mtu = server.path_mtu
        verdict = Verdict(Action.ANSWER, PacketReason.TOO_BIG.value, mtu=mtu, packet=packet, address=verdict.address)
    if client:
        if verdict.action is _FORWARD:
            flows.usage.forwarded(client, ip_length(data))
        else:
            flows.usage.dropped(client)
    return verdict if verdict.action is not _ANSWER else _rate_limited(data, packet, verdict, flows, now)


def outcome(
    data: bytes, tables: DispatchTables, flows: Flows, now: int, step: int = 0, parsed: Packet | Malformed | None = None
) -> tuple[Verdict, Problem | None]:
    """As `decide`; a packet at which the program fails is dropped, and the object that it is put down to is named, the
    first time."""
    try:
        return decide(data, tables, flows, now, step, parsed), None
    except Exception as error:  # noqa: BLE001 - it costs this packet, not the others
        return FAILED, tables.blame(error)


FAILED = Verdict(Action.DROP, PacketReason.FAILED.value)
_ITS_PEER_IS_LOST = Verdict(Action.DROP, PacketReason.RELAYED.value)
"""In place of the verdict on a packet of a flow that was relayed to a dispatcher that is lost; nobody's but ours."""


def _known(packet: Packet, flow: FlowRef, tables: DispatchTables, flows: Flows, now: int) -> Verdict:
    """The verdict on a packet of a known flow."""
    segment, slot = flow
    template = tables.known(segment.owner[slot])
    if template is None and tables.is_peers(segment.owner[slot]):
        return _ITS_PEER_IS_LOST
    if template is None or (template.mode is _NAT and not takes(template, packet.version)):
        template = _reselect(packet, flow, tables, flows)
    if template.policer is not None:
        template = police(template, segment.clients[slot], packet.key, packet.size, flows.buckets, now)
        if template.action is _DROP:
            return template._replace(packet=packet)
    if template.mode is _DIRECT:
        return _make(Verdict, template[:10] + (packet, None, None))  # noqa: RUF005 - unpacking takes twice the time
    if template.mode is _ENCAP:
        return _of_packet(template, packet, flow_hash=segment.hashes[slot])
    assert template.server is not None  # noqa: S101 - nat has one
    port = flows.port_at(flow, template.server.address, now // SECOND)
    return _no_port(packet, flow, flows) if port is None else _of_packet(template, packet, port)


def _of_packet(template: Verdict, packet: Packet, port: bytes = b"", flow_hash: int = 0) -> Verdict:
    """A known flow's verdict for one packet. By position, which takes an eighth of the time of `_replace`."""
    return _make(Verdict, template[:6] + (port, 0, flow_hash, 0, packet, None, None))  # noqa: RUF005 - as above


def _no_port(packet: Packet, flow: FlowRef | None, flows: Flows, address: AddressVerdict | None = None) -> Verdict:
    """Drop a packet whose flow gets no port at its server under nat, and the flow, if it has been recorded."""
    if flow:
        flows.drop(flow)
    return Verdict(Action.DROP, PacketReason.NAT_PORTS.value, packet=packet, address=address)


def _reselect(packet: Packet, flow: FlowRef, tables: DispatchTables, flows: Flows) -> Verdict:
    """Move a flow whose server is gone to another server of its pool (or of the pool's fallbacks), without verifying
    its address again. Where there is none the flow stays as it is: its server may come back."""
    segment, slot = flow
    owner = segment.owner[slot]
    if owner & ENDED:
        return _ended(owner)
    target = reselect(flow, tables, packet.version)
    if target is None:
        return Verdict(Action.ANSWER, PacketReason.NO_SERVER.value)
    flows.translations.close(packet.key)
    segment.owner[slot] = owner_of(target.number, tier_of(owner), dscp_of(owner))
    verdict = forward_to(target, PacketReason.RESELECTED, dscp_of(owner))
    return verdict._replace(policer=tables.policers.get(tier_of(owner)))


def _ended(owner: int) -> Verdict:
    """The verdict on a packet of a flow that was ended with its client or its tier (ending.py)."""
    return _CLIENT_ENDED if owner & CLIENT_ENDED else _TIER_ENDED


def _new(
    packet: Packet,
    tables: DispatchTables,
    flows: Flows,
    now: int,
    known: FlowRef | None = None,
    *,
    running: bool = False,
    label: int = 0,
    step: int = 0,
) -> Verdict:
    """The verdict on a packet of an unknown flow, or on one that opens a known one again: verify, admit, select,
    record. A flow may be `running` already: another dispatcher knows it, or this one has lost it. `label` is the
    packet's flow label.

    Where it is refused a known flow stays as it is. Where it is admitted the flow stays with its server, as long as
    the address leads to that server's pool.
    """
    seconds = now // SECOND
    use = _SingleUse(packet, known is not None and is_answered(known), flows, seconds)
    address = _verify(packet, tables, flows, seconds, use, running=running, label=label)
    tier = address.tier
    if tier is None or has_martian_source(packet.key[1:-4]):
        reply = relay_reply(packet, tables, step) if address.reason is _ELSEWHERE else None
        return reply or _refused(packet, address)
    flows.labels_ignored += address.label_ignored
    route = route_of(address, tier, tables, packet.version)
    if tables.peers.live and not step and (known is None or tables.is_peers(known[0].owner[known[1]])):
        single = use.asked and address.reason in _PROVED and not address.unproven
        relayed = relay(packet, address, route, tables, single=single)
        if relayed:  # of a running flow each packet is relayed for itself
            alone = running and isinstance(address.cluster, Cluster) and address.cluster.resume_rate
            return relayed if alone else follow(relayed, address, route, tables, flows, now, known)
    if known and leaves(known, address, route, tables):
        return _refused(packet, address)
    try:
        return _admitted(packet, address, route, use, tables, flows, now, known)
    except ObjectError:
        raise
    except Exception as error:
        raise ObjectError(f"pool.{route.pool}", error) from error


def _admitted(
    packet: Packet,
    address: AddressVerdict,
    route: Route,
    use: _SingleUse,
    tables: DispatchTables,
    flows: Flows,
    now: int,
    known: FlowRef | None,
) -> Verdict:
    """As `_new`, of a flow that has a tier. Raises ObjectError where that makes it fail."""
    seconds, tier = now // SECOND, route.tier
    single = use.asked and address.reason in _PROVED and not address.unproven
    if single and not flows.uses.has_room(use.name, address.client, seconds):
        return Verdict(Action.DROP, PacketReason.USES_FULL.value, packet=packet, address=address)
    reason, delay = admit(route, address, packet.key, tables, flows, now)
    if reason in REFUSED:
        return Verdict(Action.DROP, reason.value, packet=packet, address=address)
    target, sticky = kept(known, route, tables, packet.version) if known else (None, 0)
    if target:
        reason = PacketReason.KNOWN if reason in ACCEPTED else reason
    else:
        target, sticky = select(packet, address, route, tables)
    if target is None:
        return Verdict(Action.ANSWER, PacketReason.NO_SERVER.value, packet=packet, address=address)
    verdict = forward_to(target, reason, route.dscp, delay, sticky if target.mode is Forward.ENCAP else 0)
    number = tables.tier_number(tier.name)
    verdict = verdict._replace(packet=packet, address=address, policer=tables.policers.get(number))
    if verdict.policer is not None:
        verdict = police(verdict, address.client, packet.key, packet.size, flows.buckets, now)._replace(policer=None)
    if verdict.action is _DROP or packet.flags & RST:
        return verdict  # a reset ends a flow that is unknown: there is nothing to record
    life, proof_life = _lives(address)
    owner = owner_of(target.number, number, route.dscp)
    anonymous = address.reason not in _AUTHENTIC or address.unproven
    holder = address.client, tier.name, route.priority
    if known is None:
        answered = (single and use.ends) or (address.reason is AddressReason.RESUMED and packet.flags != 0)
        flows.lowest_priority = tables.lowest_priority
        flow = flows.record(packet.key, owner, life, sticky, seconds, holder, anonymous=anonymous, answered=answered)
        flows.take_over(flow, resumed=address.reason is AddressReason.RESUMED)
        flows.opened[tier.name] += 1
        flows.opened_at[target.number] += 1
        if route.rule and address.cluster:
            flows.routed[address.cluster.name, route.rule] += 1
    else:
        flow = known
        flows.renew(flow, owner, sticky, holder, anonymous=anonymous)
    if single:
        flows.uses.put(use.name, packet.key, seconds + proof_life, address.client, ended=use.ends)
    if target.mode is not Forward.NAT:
        return verdict
    port = flows.port_at(flow, target.address, seconds) if flow else None
    return _no_port(packet, flow, flows, address) if port is None else verdict._replace(port=port)


def _lives(address: AddressVerdict) -> tuple[int, int]:
    """Seconds for which an idle flow, and a use of a proven address, is remembered."""
    try:
        return session_seconds(address.cluster), proof_seconds(address.cluster)
    except Exception as error:
        raise ObjectError(f"cluster.{address.cluster.name if address.cluster else ''}", error) from error


def _verify(
    packet: Packet,
    tables: DispatchTables,
    flows: Flows,
    seconds: int,
    use: _SingleUse,
    *,
    running: bool = False,
    label: int = 0,
) -> AddressVerdict:
    flow = FlowKey(packet.key)
    destination = flow.destination
    if packet.version == 6 and destination < 1 << 32:
        return AddressVerdict(AddressReason.NOT_OURS)  # ::/96, which the verifier would read as IPv4
    source, port, guesses, verify = flow.source, flow.source_port, flows.guesses, tables.verifier.verify
    return verify(destination, source, port, seconds, use, running=running, guesses=guesses, label=label)


def _refused(packet: Packet, address: AddressVerdict) -> Verdict:
    """The verdict on a packet that opens no flow; one that is not for us is passed on."""
    reason = address.reason
    if reason is _ELSEWHERE:
        return Verdict(Action.PASS, reason.value, packet=packet, address=address)
    if has_martian_source(packet.key[1:-4]):
        return Verdict(Action.DROP, PacketReason.MARTIAN.value, packet=packet)
    action = _ANSWER if reason is _EXPIRED and is_answered_expired(packet, address) else _DROP
    return _make(Verdict, (action, reason.value, None, None, _DIRECT, b"", b"", 0, 0, 0, packet, address, None))


class _SingleUse:
    """Tells the verifier whether a proven address was used by another connection than that of a packet, and notes that
    it was asked. The packet's flow may be known and `answered`: then by any. Where the packet `ends` its use, no other
    SYN has it: the client has answered, or its SYN was seen before the flow was forgotten."""

    __slots__ = ("_flows", "_key", "_now", "_opens", "asked", "ends", "name")

    def __init__(self, packet: Packet, answered: bool, flows: Flows, now: int) -> None:
        self._key, self._flows, self._now = b"" if answered else packet.key, flows, now
        self._opens = opens(packet.flags)
        self.ends = answered or (packet.flags != 0 and not self._opens)
        self.asked = False
        self.name = b""

    def __call__(self, address: int) -> bool:
        self.asked = True
        self.name = address.to_bytes(16, "big")
        return self._flows.uses.is_taken(self.name, self._key, self._now, opens=self._opens)


def _rate_limited(data: bytes, packet: Packet, verdict: Verdict, flows: Flows, now: int) -> Verdict:
    """An ANSWER, if an ICMP error may be sent about this packet and the rate allows it; else a drop for its reason."""
    if may_answer(data, packet, verdict.reason) and flows.buckets.take(f"{verdict.reason} answers", ANSWERS, now) == 0:
        return verdict
    return Verdict(Action.DROP, verdict.reason, packet=packet, address=verdict.address)


def _reply(key: bytes, reason: PacketReason, packet: Packet, flows: Flows, seconds: int) -> Verdict | None:
    """The verdict on a server's reply under nat; None where `key` is no reply to a known flow.

    It prolongs the flow and never ends it: replies and clients' packets may come by one interface, so that anybody may
    forge one. Under the other modes replies are not seen at all.
    """
    forward = flows.translations.back.get(key)
    flow = flows.find(forward, seconds) if forward else None
    if forward is None or flow is None:
        return None
    if packet.shape is Shape.FLOW:
        flows.refresh(flow, seconds)
    segment, slot = flow
    if segment.owner[slot] & ENDED:
        return _ended(segment.owner[slot])._replace(packet=packet)
    half = (len(forward) - 5) // 2
    vip, port = forward[1 + half : 1 + 2 * half], forward[-4:-2]
    return Verdict(Action.FORWARD, reason.value, mode=Forward.NAT, vip=vip, port=port, packet=packet)


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
    use = _SingleUse(packet, False, flows, seconds)
    address = _verify(packet, tables, flows, seconds, use, running=True)
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
        return _reply(key, reason, packet, flows, seconds)
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
    return _of_packet(template, packet, flows.translations.port(key), picked)


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


def _malformed(data: bytes, kind: Malformed, tables: DispatchTables) -> Verdict:
    """Drop it, unless its destination is readable and not ours (a packet with a segment routing header, say)."""
    version = data[0] >> 4 if data else 0
    if version == 6 and len(data) >= 40:
        destination = data[24:40]
    elif version == 4 and len(data) >= 20:
        destination = data[16:20]
    else:
        return _MALFORMED[kind]
    return _MALFORMED[kind] if tables.ours(int.from_bytes(destination, "big"), version) else _NOT_OURS


_MALFORMED = {kind: Verdict(Action.DROP, name) for kind, name in MALFORMED.items()}
_CLIENT_ENDED = Verdict(Action.DROP, AddressReason.REVOKED.value)
_TIER_ENDED = Verdict(Action.DROP, PacketReason.TIER_DROP.value)
_NOT_OURS = Verdict(Action.PASS, AddressReason.NOT_OURS.value)
_AUTHENTIC = frozenset({AddressReason.ISSUED, AddressReason.PROVEN, AddressReason.RESUMED, AddressReason.SOURCE})
"""The reasons of flows that are not anonymous."""
_PROVED = frozenset({AddressReason.PROVEN, AddressReason.RESUMED})
_UNUSUAL = {Shape.ERROR: _error, Shape.FRAGMENT: _fragment, Shape.OTHER: _other}
