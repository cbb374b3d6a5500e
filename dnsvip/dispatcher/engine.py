"""The dispatcher's decision function: figure 4 of the patent, one verdict per packet.

Parse the packet and look up its flow in the connection key table. For a new flow verify the destination address,
apply quality of service, select a server and record the flow. A packet is parsed once and no flow key is looked up
twice. Pure but for `flows`, the state between packets; the clock is an argument. It never raises, whatever the bytes;
`outcome` makes a verdict of what an object of the site makes it raise all the same.
"""

from __future__ import annotations

from dnsvip.dispatcher.dispatch_tables import (
    DispatchTables,
    dscp_of,
    forward_to,
    owner_of,
    proof_seconds,
    session_seconds,
)
from dnsvip.dispatcher.egress.icmp import ANSWERS, may_answer
from dnsvip.dispatcher.flows.flow import FlowRef, Flows, is_answered, opens, opens_again
from dnsvip.dispatcher.flows.maglev import flow_hash
from dnsvip.dispatcher.packet import (
    RST,
    SYN,
    FlowKey,
    Malformed,
    Packet,
    Shape,
    has_martian_source,
    ip_length,
    parse,
)
from dnsvip.dispatcher.reason import ACCEPTED, MALFORMED, Action, AddressReason, PacketReason
from dnsvip.dispatcher.token_bucket import HELD_PACKETS, SECOND
from dnsvip.dispatcher.verdict import AddressVerdict, Target, Verdict
from dnsvip.errors import ObjectError, Problem
from dnsvip.site import Forward, Over, Stickiness, Tier, TierAction

_make = tuple.__new__
"""Makes a NamedTuple of a plain tuple, on the path that every packet takes."""
_FLOW, _DIRECT, _ENCAP = Shape.FLOW, Forward.DIRECT, Forward.ENCAP
_ANSWER, _FORWARD, _DROP, _ELSEWHERE = Action.ANSWER, Action.FORWARD, Action.DROP, AddressReason.NOT_OURS
"""Members compared for every packet; looking one up in its enum costs three times the comparison."""

FRAGMENT_SECONDS = 60
"""Reassembly timeout (RFC 8200 section 4.5): how long later fragments follow their first one."""


def decide(data: bytes, tables: DispatchTables, flows: Flows, now: int) -> Verdict:
    """The verdict on one packet at `now` (unix nanoseconds; everything but token buckets uses whole seconds)."""
    packet = parse(data)
    if not isinstance(packet, Packet):  # ten times faster than a test for Malformed, an enum
        return _malformed(data, packet, tables)
    seconds = now // SECOND
    if packet.shape is not _FLOW:
        return _UNUSUAL[packet.shape](data, packet, tables, flows, seconds)
    flags = packet.flags
    flow = flows.touch(packet.key, flags, seconds)
    if flow is None:
        verdict = _reply(packet.key, PacketReason.REPLY, packet, flows, seconds) or _new(packet, tables, flows, now)
    elif flags & SYN and opens_again(flow, flags, seconds):
        verdict = _new(packet, tables, flows, now, flow)
    else:
        verdict = _known(packet, flow, tables, flows)
    if packet.fragment and verdict.action is _FORWARD:
        flows.fragments.put(packet.fragment, packet.key, seconds + FRAGMENT_SECONDS)
    server = verdict.server
    if server is not None and len(data) > server.path_mtu and ip_length(data) > server.path_mtu:
        mtu = server.path_mtu
        verdict = Verdict(Action.ANSWER, PacketReason.TOO_BIG.value, mtu=mtu, packet=packet, address=verdict.address)
    return verdict if verdict.action is not _ANSWER else _rate_limited(data, packet, verdict, flows, now)


def outcome(data: bytes, tables: DispatchTables, flows: Flows, now: int) -> tuple[Verdict, Problem | None]:
    """As `decide`; a packet at which the program fails is dropped, and the object that it is put down to is named, the
    first time."""
    try:
        return decide(data, tables, flows, now), None
    except Exception as error:  # noqa: BLE001 - it costs this packet, not the others
        return FAILED, tables.blame(error)


FAILED = Verdict(Action.DROP, PacketReason.FAILED.value)


def _known(packet: Packet, flow: FlowRef, tables: DispatchTables, flows: Flows) -> Verdict:
    """The verdict on a packet of a known flow."""
    segment, slot = flow
    template = tables.known(segment.owner[slot]) or _reselect(packet, flow, tables, flows)
    if template.mode is _DIRECT:
        return _make(Verdict, template[:10] + (packet, None))  # noqa: RUF005 - unpacking takes twice the time
    if template.mode is _ENCAP:
        return _of_packet(template, packet, flow_hash=segment.hashes[slot])
    assert template.server is not None  # noqa: S101 - nat has one
    port = flows.translations.open(packet.key, template.server.address)
    return _no_port(packet, flow, flows) if port is None else _of_packet(template, packet, port)


def _of_packet(template: Verdict, packet: Packet, port: bytes = b"", flow_hash: int = 0) -> Verdict:
    """A known flow's verdict for one packet. By position, which takes an eighth of the time of `_replace`."""
    return _make(Verdict, template[:6] + (port, 0, flow_hash, 0, packet, None))  # noqa: RUF005 - as above


def _no_port(packet: Packet, flow: FlowRef, flows: Flows, address: AddressVerdict | None = None) -> Verdict:
    """Drop a packet whose flow gets no port at its server under nat, and the flow."""
    flows.drop(flow)
    return Verdict(Action.DROP, PacketReason.NAT_PORTS.value, packet=packet, address=address)


def _reselect(packet: Packet, flow: FlowRef, tables: DispatchTables, flows: Flows) -> Verdict:
    """Move a flow whose server is gone to another server of its pool (or of the pool's fallbacks), without verifying
    its address again. Where there is none the flow stays as it is: its server may come back."""
    segment, slot = flow
    owner = segment.owner[slot]
    target = tables.ring(tables.pool_of(owner), packet.version).pick(segment.hashes[slot])
    if target is None:
        return Verdict(Action.ANSWER, PacketReason.NO_SERVER.value)
    flows.translations.close(packet.key)
    segment.owner[slot] = owner_of(target, dscp_of(owner))
    return forward_to(target, PacketReason.RESELECTED, dscp_of(owner))


def _new(packet: Packet, tables: DispatchTables, flows: Flows, now: int, known: FlowRef | None = None) -> Verdict:
    """The verdict on a packet of an unknown flow, or on a SYN on a known one: verify, admit, select, record.

    Where it is refused a known flow stays as it is. Where it is admitted the flow stays with its server, as long as
    the address leads to that server's pool.
    """
    seconds = now // SECOND
    use = _SingleUse(packet, known is not None and is_answered(known), flows, seconds)
    address = _verify(packet, tables, seconds, use)
    tier = address.tier
    if tier is None or has_martian_source(packet.key[1:-4]) or (known and _leaves(known, address, tables)):
        return _refused(packet, address)
    try:
        return _admitted(packet, address, tier, use, tables, flows, now, known)
    except ObjectError:
        raise
    except Exception as error:
        raise ObjectError(f"pool.{tier.pool}", error) from error


def _admitted(
    packet: Packet,
    address: AddressVerdict,
    tier: Tier,
    use: _SingleUse,
    tables: DispatchTables,
    flows: Flows,
    now: int,
    known: FlowRef | None,
) -> Verdict:
    """As `_new`, of a flow that has a tier. Raises ObjectError where that makes it fail."""
    seconds = now // SECOND
    single = use.asked and address.reason is AddressReason.PROVEN
    if single and not flows.uses.has_room(seconds):
        return Verdict(Action.DROP, PacketReason.USES_FULL.value, packet=packet, address=address)
    reason, delay = _admit(tier, address.reason, tables, flows, now)
    if reason in _REFUSED:
        return Verdict(Action.DROP, reason.value, packet=packet, address=address)
    target, sticky = _kept(known, tier, tables) if known else (None, 0)
    if target:
        reason = PacketReason.KNOWN if reason in ACCEPTED else reason
    else:
        target, sticky = _select(packet, address, tier, tables)
    if target is None:
        return Verdict(Action.ANSWER, PacketReason.NO_SERVER.value, packet=packet, address=address)
    verdict = forward_to(target, reason, tier.dscp, delay, sticky if target.mode is Forward.ENCAP else 0)
    verdict = verdict._replace(packet=packet, address=address)
    if packet.flags & RST:
        return verdict  # it ends a flow that is unknown: there is nothing to record
    life, proof_life = _lives(address)
    owner = owner_of(target, tier.dscp)
    if known is None:
        anonymous = address.reason not in _AUTHENTIC
        flow = flows.record(packet.key, owner, life, sticky, seconds, anonymous=anonymous, answered=single and use.ends)
        flows.opened[tier.name] += 1
    else:
        flow = known
        flows.renew(flow, owner, sticky)
    if single:
        flows.uses.put(use.name, packet.key, seconds + proof_life, ended=use.ends)
    if target.mode is not Forward.NAT:
        return verdict
    port = flows.translations.open(packet.key, target.address)
    return _no_port(packet, flow, flows, address) if port is None else verdict._replace(port=port)


def _lives(address: AddressVerdict) -> tuple[int, int]:
    """Seconds for which an idle flow, and a use of a proven address, is remembered."""
    try:
        return session_seconds(address.cluster), proof_seconds(address.cluster)
    except Exception as error:
        raise ObjectError(f"cluster.{address.cluster.name if address.cluster else ''}", error) from error


def _verify(packet: Packet, tables: DispatchTables, seconds: int, use: _SingleUse) -> AddressVerdict:
    flow = FlowKey(packet.key)
    destination = flow.destination
    if packet.version == 6 and destination < 1 << 32:
        return AddressVerdict(AddressReason.NOT_OURS)  # ::/96, which the verifier would read as IPv4
    return tables.verifier.verify(destination, flow.source, flow.source_port, seconds, use)


def _refused(packet: Packet, address: AddressVerdict) -> Verdict:
    """The verdict on a packet that opens no flow; one that is not for us is passed on."""
    reason = address.reason
    if reason is _ELSEWHERE:
        return Verdict(Action.PASS, reason.value, packet=packet, address=address)
    if has_martian_source(packet.key[1:-4]):
        return Verdict(Action.DROP, PacketReason.MARTIAN.value, packet=packet)
    return _make(Verdict, (_DROP, reason.value, None, None, _DIRECT, b"", b"", 0, 0, 0, packet, address))


def _leaves(flow: FlowRef, address: AddressVerdict, tables: DispatchTables) -> bool:
    """Whether a known flow would leave its pool for an address that is not valid, by a default tier."""
    if address.accepted or address.tier is None:
        return False
    segment, slot = flow
    pool = tables.pool_of(segment.owner[slot])
    return pool not in tables.pools or pool != address.tier.pool


def _kept(flow: FlowRef, tier: Tier, tables: DispatchTables) -> tuple[Target | None, int]:
    """A flow's server and hash, if that server is of the tier's pool and keeps its flows."""
    segment, slot = flow
    template = tables.known(segment.owner[slot])
    if template is None or template.server is None or template.server.pool != tier.pool:
        return None, 0
    return template.server, segment.hashes[slot]


def _select(packet: Packet, address: AddressVerdict, tier: Tier, tables: DispatchTables) -> tuple[Target | None, int]:
    """The server for a new flow, and the hash that it was picked by; None where no server takes any."""
    pool = tables.pools.get(tier.pool or "")
    if pool is None:
        return None, 0
    sticky = flow_hash(_sticky(packet, address, pool.stickiness))
    return tables.ring(pool.name, packet.version).pick(sticky), sticky


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


def _admit(
    tier: Tier, accepted: AddressReason, tables: DispatchTables, flows: Flows, now: int
) -> tuple[AddressReason | PacketReason, int]:
    """Quality of service: the reason to go on with (or one of _REFUSED) and nanoseconds to hold the packet."""
    if tier.action is TierAction.DROP:
        return PacketReason.TIER_DROP, 0
    if tier.rate is None:
        return accepted, 0
    try:
        delay = flows.buckets.take(tier.name, tables.limits[tier.name], now)
    except Exception as error:
        raise ObjectError(f"tier.{tier.name}", error) from error
    if delay is None:
        return (PacketReason.OVER_RATE_PASSED if tier.rate.over is Over.PASS else PacketReason.OVER_RATE), 0
    if delay and flows.held >= HELD_PACKETS:
        return PacketReason.OVER_RATE, 0
    return (PacketReason.HELD if delay else accepted), delay


def _sticky(packet: Packet, address: AddressVerdict, stickiness: Stickiness) -> bytes:
    """What the selection of a server hashes. An anonymous client is identified by its source address."""
    if stickiness is Stickiness.FLOW:
        return packet.key
    if stickiness is Stickiness.SESSION and address.session:
        return b"session" + address.client.to_bytes(10, "big") + address.session.to_bytes(10, "big")
    if address.client:
        return b"client" + address.client.to_bytes(10, "big")
    return b"source" + FlowKey(packet.key).source.to_bytes(16, "big")


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
    vip, port = forward[17:33], forward[-4:-2]
    return Verdict(Action.FORWARD, reason.value, mode=Forward.NAT, vip=vip, port=port, packet=packet)


def _error(data: bytes, packet: Packet, tables: DispatchTables, flows: Flows, seconds: int) -> Verdict:
    """An ICMP error follows the flow that it is about."""
    if has_martian_source(data[8:40] if packet.version == 6 else data[12:20]):
        return _drop_or_pass(packet, tables, PacketReason.MARTIAN)
    verdict = _follow(packet.key, PacketReason.ICMP_ERROR, packet, tables, flows, seconds)
    return _fitting(data, verdict) if verdict else _drop_or_pass(packet, tables, PacketReason.ICMP_ORPHAN)


def _fragment(data: bytes, packet: Packet, tables: DispatchTables, flows: Flows, seconds: int) -> Verdict:
    """A later fragment follows its first one; one that arrives before its first is dropped."""
    key = flows.fragments.get(packet.fragment, seconds)
    verdict = _follow(key, PacketReason.FRAGMENT, packet, tables, flows, seconds) if key else None
    return _fitting(data, verdict) if verdict else _unfit(packet, tables, PacketReason.FRAGMENT_ORPHAN)


def _follow(
    key: bytes, reason: PacketReason, packet: Packet, tables: DispatchTables, flows: Flows, seconds: int
) -> Verdict | None:
    """The verdict on a packet that belongs to the flow `key`, or to a reply of it; None where that is unknown."""
    flow = flows.find(key, seconds)
    if flow is None:
        return _reply(key, reason, packet, flows, seconds)
    segment, slot = flow
    template = tables.known(segment.owner[slot])
    if template is None:
        return None
    picked = segment.hashes[slot] if template.mode is Forward.ENCAP else 0
    verdict = _of_packet(template, packet, flows.translations.port(key), picked)
    return verdict._replace(reason=reason.value)


def _fitting(data: bytes, verdict: Verdict) -> Verdict:
    """Drop a packet larger than the path MTU about which no ICMP error may be sent."""
    fits = verdict.server is None or ip_length(data) <= verdict.server.path_mtu
    return verdict if fits else Verdict(Action.DROP, PacketReason.TOO_BIG.value, packet=verdict.packet)


def _other(_: bytes, packet: Packet, tables: DispatchTables, _flows: Flows, _seconds: int) -> Verdict:
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
_NOT_OURS = Verdict(Action.PASS, AddressReason.NOT_OURS.value)
_AUTHENTIC = frozenset({AddressReason.ISSUED, AddressReason.PROVEN})
"""The reasons of flows that are not anonymous."""
_REFUSED = frozenset({PacketReason.TIER_DROP, PacketReason.OVER_RATE})
_UNUSUAL = {Shape.ERROR: _error, Shape.FRAGMENT: _fragment, Shape.OTHER: _other}
