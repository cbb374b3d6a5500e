"""Figure 4 of the patent as one function: what becomes of a packet.

Read it, find its source-side information, look into the connection key table, else judge the address,
apply quality of service, select a server, record the flow, forward. Pure but for `flows`, which is the
memory between packets; the clock is an argument. It never raises, whatever the bytes.
"""

from __future__ import annotations

from dataclasses import replace

from dnsvip.dispatcher.dispatch_tables import (
    DispatchTables,
    dscp_of,
    forward_to,
    owner_of,
    proof_seconds,
    session_seconds,
)
from dnsvip.dispatcher.egress.icmp import ANSWERS, may_answer
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.maglev import flow_hash
from dnsvip.dispatcher.packet import RST, FlowKey, Malformed, Packet, Shape, ip_length, parse
from dnsvip.dispatcher.reason import MALFORMED, Action, AddressReason, PacketReason
from dnsvip.dispatcher.token_bucket import HELD_PACKETS, SECOND
from dnsvip.dispatcher.verdict import AddressVerdict, Verdict
from dnsvip.site import Forward, Over, Stickiness, Tier, TierAction

FRAGMENT_SECONDS = 60
"""How long the rest of a fragmented packet may take (RFC 8200 section 4.5)."""


def decide(data: bytes, tables: DispatchTables, flows: Flows, now: int) -> Verdict:
    """The verdict on one packet at `now` (unix nanoseconds; all but token buckets looks at whole seconds)."""
    packet = parse(data)
    if isinstance(packet, Malformed):
        return _malformed(data, packet, tables)
    seconds = now // SECOND
    if packet.shape is not Shape.FLOW:
        return _UNUSUAL[packet.shape](data, packet, tables, flows, seconds)
    owner = flows.touch(packet.key, packet.flags, seconds)
    if packet.fragment:
        flows.fragments.put(packet.fragment, packet.key, seconds + FRAGMENT_SECONDS)
    if owner is None:
        verdict = _reply(packet.key, PacketReason.REPLY, packet, flows, seconds) or _new(packet, tables, flows, now)
    else:
        verdict = tables.known(owner) or _reselect(packet, owner, tables, flows)
        if verdict.mode is not Forward.DIRECT:
            verdict = with_flow_state(verdict, packet.key, flows)
    server = verdict.server
    if server is not None and len(data) > server.path_mtu and ip_length(data) > server.path_mtu:
        verdict = Verdict(Action.ANSWER, PacketReason.TOO_BIG.value, mtu=server.path_mtu)
    return verdict if verdict.action is not Action.ANSWER else _answered(data, packet, verdict, flows, now)


def _new(packet: Packet, tables: DispatchTables, flows: Flows, now: int) -> Verdict:
    """Judge, admit, select, record."""
    flow = FlowKey(packet.key)
    destination, source = flow.destination, flow.source
    if not tables.ours(destination, packet.version):
        return _NOT_OURS
    seconds = now // SECOND
    use = _Use(packet.key, flows, seconds)
    address_verdict = tables.verifier.verify(destination, source, flow.source_port, seconds, use)
    tier = address_verdict.tier
    if tier is None:
        return _drop(address_verdict.reason)
    single = use.asked and address_verdict.reason is AddressReason.PROVEN
    if single and not flows.uses.has_room(seconds):
        return _drop(PacketReason.USES_FULL)
    reason, delay = _admit(tier, address_verdict.reason, tables, flows, now)
    if reason in _REFUSED:
        return _drop(reason)
    pool = tables.pools.get(tier.pool or "")
    if pool is None:
        return _NO_SERVER
    sticky = flow_hash(_sticky(packet, address_verdict, pool.stickiness))
    target = tables.ring(pool.name, packet.version).pick(sticky)
    if target is None:
        return _NO_SERVER
    verdict = forward_to(target, reason, tier.dscp, delay, sticky if target.mode is Forward.ENCAP else 0)
    if packet.flags & RST:
        return verdict  # ends what is not there: nothing to remember
    flows.record(packet.key, owner_of(target, tier.dscp), session_seconds(address_verdict.cluster), sticky, seconds)
    flows.opened[tier.name] += 1
    if single:
        flows.uses.put(use.name, packet.key, seconds + proof_seconds(address_verdict.cluster))
    return _translated(verdict, packet.key, flows) if target.mode is Forward.NAT else verdict


class _Use:
    """Answers the judge whether a proven address has opened another flow, and notes that it was asked."""

    __slots__ = ("_flows", "_key", "_now", "asked", "name")

    def __init__(self, key: bytes, flows: Flows, now: int) -> None:
        self._key, self._flows, self._now = key, flows, now
        self.asked = False
        self.name = b""

    def __call__(self, address: int) -> bool:
        self.asked = True
        self.name = address.to_bytes(16, "big")
        return self._flows.uses.get(self.name, self._now) not in (None, self._key)


def _admit(
    tier: Tier, accepted: AddressReason, tables: DispatchTables, flows: Flows, now: int
) -> tuple[AddressReason | PacketReason, int]:
    """Quality of service: the reason to go on with (or one of _REFUSED) and nanoseconds to hold the packet."""
    if tier.action is TierAction.DROP:
        return PacketReason.TIER_DROP, 0
    if tier.rate is None:
        return accepted, 0
    delay = flows.buckets.take(tier.name, tables.limits[tier.name], now)
    if delay is None:
        return (PacketReason.OVER_RATE_PASSED if tier.rate.over is Over.PASS else PacketReason.OVER_RATE), 0
    if delay and flows.held >= HELD_PACKETS:
        return PacketReason.OVER_RATE, 0
    return (PacketReason.HELD if delay else accepted), delay


def _sticky(packet: Packet, address_verdict: AddressVerdict, stickiness: Stickiness) -> bytes:
    """What the choice of a server hangs on; who is anonymous is known by the source address."""
    if stickiness is Stickiness.FLOW:
        return packet.key
    if stickiness is Stickiness.SESSION and address_verdict.session:
        return b"session" + address_verdict.client.to_bytes(10, "big") + address_verdict.session.to_bytes(10, "big")
    if address_verdict.client:
        return b"client" + address_verdict.client.to_bytes(10, "big")
    return b"source" + FlowKey(packet.key).source.to_bytes(16, "big")


def _reselect(packet: Packet, owner: int, tables: DispatchTables, flows: Flows) -> Verdict:
    """Another server of the same pool (or of those it falls back to) for a flow whose own is gone, without judging
    its address again. Where there is none the flow stays as it is: its server may come back."""
    place = flows.find(packet.key)
    assert place is not None  # noqa: S101 - it was touched just now
    segment, slot = place
    target = tables.ring(tables.pool_of(owner), packet.version).pick(segment.hashes[slot])
    if target is None:
        return _NO_SERVER
    flows.translations.close(packet.key)
    segment.owner[slot] = owner_of(target, dscp_of(owner))
    return forward_to(target, PacketReason.RESELECTED, dscp_of(owner))


def with_flow_state(verdict: Verdict, key: bytes, flows: Flows) -> Verdict:
    """A verdict on a packet of a known flow, with what nat or encap need of the flow."""
    if verdict.mode is Forward.NAT:
        return _translated(verdict, key, flows)
    place = flows.find(key)
    flow = place[0].hashes[place[1]] if place else 0
    return Verdict(verdict.action, verdict.reason, verdict.server, verdict.dscp, verdict.mode, flow=flow)


def _translated(verdict: Verdict, key: bytes, flows: Flows) -> Verdict:
    """A verdict for a flow under nat, with the client's port at its server."""
    address = verdict.server.address if verdict.server else b""
    if key not in flows.translations.forth and flows.translations.open(key, address, flow_hash(key)) is None:
        flows.remove(key)
        return _drop(PacketReason.NAT_PORTS)
    port = flows.translations.port(key)
    return replace(verdict, port=port) if port else verdict


def _answered(data: bytes, packet: Packet, verdict: Verdict, flows: Flows, now: int) -> Verdict:
    """An ANSWER where one may be sent, and not too many; else the packet is dropped for the same reason."""
    if may_answer(data, packet, verdict.reason) and flows.buckets.take(f"{verdict.reason} answers", ANSWERS, now) == 0:
        return verdict
    return Verdict(Action.DROP, verdict.reason)


def _reply(key: bytes, outcome: PacketReason, packet: Packet, flows: Flows, now: int) -> Verdict | None:
    """The verdict on what a server answers under nat, None where it is no such answer."""
    forward = flows.translations.back.get(key)
    if forward is None or flows.find(forward, now) is None:
        return None
    if packet.shape is Shape.FLOW:
        flows.refresh(forward, packet.flags, now)
    return Verdict(Action.FORWARD, outcome.value, mode=Forward.NAT, vip=forward[17:33], port=forward[-4:-2])


def _error(data: bytes, packet: Packet, tables: DispatchTables, flows: Flows, now: int) -> Verdict:
    """An ICMP error goes where the flow inside it goes; without a flow it goes nowhere."""
    found = _follow(packet.key, PacketReason.ICMP_ERROR, packet, tables, flows, now)
    return _fitting(data, found) if found else drop_or_pass(packet, tables, PacketReason.ICMP_ORPHAN)


def _fragment(data: bytes, packet: Packet, tables: DispatchTables, flows: Flows, now: int) -> Verdict:
    """A later fragment goes where its first one went. One that comes before its first is dropped."""
    key = flows.fragments.get(packet.fragment, now)
    found = _follow(key, PacketReason.FRAGMENT, packet, tables, flows, now) if key else None
    return _fitting(data, found) if found else drop_or_pass(packet, tables, PacketReason.FRAGMENT_ORPHAN)


def _follow(
    key: bytes, outcome: PacketReason, packet: Packet, tables: DispatchTables, flows: Flows, now: int
) -> Verdict | None:
    place = flows.find(key, now)
    if place is None:
        return _reply(key, outcome, packet, flows, now)
    segment, slot = place
    verdict = tables.known(segment.owner[slot])
    if verdict is None:
        return None
    flow = segment.hashes[slot] if verdict.mode is Forward.ENCAP else 0
    return replace(verdict, reason=outcome.value, port=flows.translations.port(key), flow=flow)


def _fitting(data: bytes, verdict: Verdict) -> Verdict:
    """What nobody may be told about is only dropped where it is too big."""
    fits = verdict.server is None or ip_length(data) <= verdict.server.path_mtu
    return verdict if fits else _drop(PacketReason.TOO_BIG)


def _other(_: bytes, packet: Packet, tables: DispatchTables, _flows: Flows, _now: int) -> Verdict:
    return drop_or_pass(packet, tables, PacketReason.PROTOCOL)


def _malformed(data: bytes, kind: Malformed, tables: DispatchTables) -> Verdict:
    """Dropped, except where it is readably for somebody else, who may judge it (a segment routing header, say)."""
    version = data[0] >> 4 if data else 0
    if version == 6 and len(data) >= 40:
        destination = data[24:40]
    elif version == 4 and len(data) >= 20:
        destination = data[16:20]
    else:
        return _MALFORMED[kind]
    return _MALFORMED[kind] if tables.ours(int.from_bytes(destination, "big"), version) else _NOT_OURS


def drop_or_pass(packet: Packet, tables: DispatchTables, outcome: PacketReason) -> Verdict:
    """Dropped where it came for a cluster; what others sent to others is passed on."""
    return _drop(outcome) if tables.ours(FlowKey(packet.key).destination, packet.version) else _NOT_OURS


def _drop(reason: AddressReason | PacketReason) -> Verdict:
    return Verdict(Action.DROP, reason.value)


_MALFORMED = {kind: Verdict(Action.DROP, name) for kind, name in MALFORMED.items()}
_NOT_OURS = Verdict(Action.PASS, AddressReason.NOT_OURS.value)
_NO_SERVER = Verdict(Action.ANSWER, PacketReason.NO_SERVER.value)
_REFUSED = frozenset({PacketReason.TIER_DROP, PacketReason.OVER_RATE})
_UNUSUAL = {Shape.ERROR: _error, Shape.FRAGMENT: _fragment, Shape.OTHER: _other}
