"""The verdict on a packet that opens a flow: verify its address, admit it, select a server, record the flow.

All of the patent's figure 4 that a known flow skips.
"""

from __future__ import annotations

from dnsvip.dispatcher.admission import REFUSED, admit
from dnsvip.dispatcher.dispatch_tables import DispatchTables, forward_to, proof_seconds, session_seconds
from dnsvip.dispatcher.egress.reset import is_answered_expired
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.owner import owner_of
from dnsvip.dispatcher.flows.segment import FlowRef, is_answered, is_closing, opens
from dnsvip.dispatcher.known_flows import no_port
from dnsvip.dispatcher.packet import RST, FlowKey, Packet, has_martian_source
from dnsvip.dispatcher.policing import police
from dnsvip.dispatcher.reason import ACCEPTED, Action, AddressReason, PacketReason
from dnsvip.dispatcher.relaying import follow, relay, relay_reply
from dnsvip.dispatcher.routes import Route
from dnsvip.dispatcher.selection import kept, leaves, route_of, select
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import AddressVerdict, Target, Verdict
from dnsvip.errors import ObjectError
from dnsvip.site import Cluster, Forward

_make = tuple.__new__
"""Makes a NamedTuple of a plain tuple, on the path that every packet takes."""
_ELSEWHERE, _EXPIRED = AddressReason.NOT_OURS, AddressReason.EXPIRED
_DIRECT, _ANSWER, _DROP = Forward.DIRECT, Action.ANSWER, Action.DROP
"""Members compared for each such packet; looking one up in its enum costs three times the comparison."""

_AUTHENTIC = frozenset({AddressReason.ISSUED, AddressReason.PROVEN, AddressReason.RESUMED, AddressReason.SOURCE})
"""The reasons of flows that are not anonymous."""
_PROVED = frozenset({AddressReason.PROVEN, AddressReason.RESUMED})


def open_flow(
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
    if _is_nobodys(packet, tables):
        return Verdict(Action.DROP, PacketReason.MARTIAN.value, packet=packet)
    seconds = now // SECOND
    use = SingleUse(packet, known is not None and is_answered(known), flows, seconds)
    address = verify(packet, tables, flows, seconds, use, running=running, label=label)
    tier = address.tier
    if tier is None:
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
    use: SingleUse,
    tables: DispatchTables,
    flows: Flows,
    now: int,
    known: FlowRef | None,
) -> Verdict:
    """As `open_flow`, of a flow that has a tier. Raises ObjectError where that makes it fail."""
    seconds, tier = now // SECOND, route.tier
    single = use.asked and address.reason in _PROVED and not address.unproven
    if single and not flows.uses.has_room(use.name, address.client, seconds):
        return Verdict(Action.DROP, PacketReason.USES_FULL.value, packet=packet, address=address)
    reason, delay = admit(route, address, packet.key, tables, flows, now)
    if reason in REFUSED:
        return Verdict(Action.DROP, reason.value, packet=packet, address=address)
    target, sticky = kept(known, route, tables, packet.version) if known else (None, 0)
    again = known is not None and is_closing(known)
    if target:
        reason = PacketReason.KNOWN if reason in ACCEPTED and not again else reason
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
    else:
        flow = known
        flows.renew(flow, owner, sticky, holder, anonymous=anonymous)
    if known is None or again:
        _count_opened(flows, route, address, target)
    if single:
        flows.uses.put(use.name, packet.key, seconds + proof_life, address.client, ended=use.ends)
    if target.mode is not Forward.NAT:
        return verdict
    port = flows.port_at(flow, target.address, seconds) if flow else None
    return no_port(packet, flow, flows, address) if port is None else verdict._replace(port=port)


def _count_opened(flows: Flows, route: Route, address: AddressVerdict, target: Target) -> None:
    """Count a flow that is opened, or opened again after its end."""
    flows.opened[route.tier.name] += 1
    flows.opened_at[target.number] += 1
    if route.rule and address.cluster:
        flows.routed[address.cluster.name, route.rule] += 1


def _lives(address: AddressVerdict) -> tuple[int, int]:
    """Seconds for which an idle flow, and a use of a proven address, is remembered."""
    try:
        return session_seconds(address.cluster), proof_seconds(address.cluster)
    except Exception as error:
        raise ObjectError(f"cluster.{address.cluster.name if address.cluster else ''}", error) from error


def verify(
    packet: Packet,
    tables: DispatchTables,
    flows: Flows,
    seconds: int,
    use: SingleUse,
    *,
    running: bool = False,
    label: int = 0,
) -> AddressVerdict:
    """What the packet's destination says, and whether it may open a flow; other arguments as of `open_flow`."""
    flow = FlowKey(packet.key)
    destination = flow.destination
    if packet.version == 6 and destination < 1 << 32:
        return AddressVerdict(AddressReason.NOT_OURS)  # ::/96, which the verifier would read as IPv4
    source, port, guesses, verify = flow.source, flow.source_port, flows.guesses, tables.verifier.verify
    return verify(destination, source, port, seconds, use, running=running, guesses=guesses, label=label)


def _is_nobodys(packet: Packet, tables: DispatchTables) -> bool:
    """Whether a packet to a cluster has a source that no client has: no host's, or an address of that cluster, whose
    server would answer itself."""
    addresses = packet.key[1:-4]
    if has_martian_source(addresses):
        return tables.ours(FlowKey(packet.key).destination, packet.version)
    return tables.share_cluster(addresses)


def _refused(packet: Packet, address: AddressVerdict) -> Verdict:
    """The verdict on a packet that opens no flow; one that is not for us is passed on."""
    reason = address.reason
    if reason is _ELSEWHERE:
        return Verdict(Action.PASS, reason.value, packet=packet, address=address)
    action = _ANSWER if reason is _EXPIRED and is_answered_expired(packet, address) else _DROP
    return _make(Verdict, (action, reason.value, None, None, _DIRECT, b"", b"", 0, 0, 0, packet, address, None))


class SingleUse:
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
        """Whether the proven address is another connection's."""
        self.asked = True
        self.name = address.to_bytes(16, "big")
        return self._flows.uses.is_taken(self.name, self._key, self._now, opens=self._opens)
