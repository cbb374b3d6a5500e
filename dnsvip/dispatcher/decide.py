"""Figure 4 of the patent as one function: what becomes of a packet.

Read it, find its source-side information, look into the connection key table, else judge the address,
apply quality of service, select a server, record the flow, forward. Pure but for `flows`, which is the
memory between packets; the clock is an argument. It never raises, whatever the bytes.
"""

from __future__ import annotations

from dataclasses import replace

from dnsvip.dispatcher.flow import Flows
from dnsvip.dispatcher.maglev import flow_hash
from dnsvip.dispatcher.packet import RST, Malformed, Packet, Shape, parse
from dnsvip.dispatcher.reason import Judgement, Reason
from dnsvip.dispatcher.tables import Tables, dscp_of, forward_to, owner_of
from dnsvip.dispatcher.verdict import MALFORMED, Action, Outcome, Verdict
from dnsvip.model import Forward, Over, Stickiness, Tier, TierAction

FRAGMENT_SECONDS = 60
"""How long the rest of a fragmented packet may take (RFC 8200 section 4.5)."""


def decide(data: bytes, tables: Tables, flows: Flows, now: float) -> Verdict:
    """The verdict on one packet at `now` (unix seconds)."""
    packet = parse(data)
    if isinstance(packet, Malformed):
        return _MALFORMED[packet]
    if packet.shape is not Shape.FLOW:
        return _UNUSUAL[packet.shape](packet, tables, flows, now)
    owner = flows.touch(packet.key, packet.flags, now)
    if packet.fragment:
        flows.fragments.put(packet.fragment, packet.key, now + FRAGMENT_SECONDS)
    if owner is None:
        return _reply(packet.key, Outcome.REPLY, packet, flows, now) or _new(packet, tables, flows, now)
    verdict = tables.known(owner)
    if verdict is None:
        verdict = _reselect(packet, owner, tables, flows)
        if verdict is None:
            return _new(packet, tables, flows, now)
    return verdict if verdict.mode is Forward.DIRECT else _translated(verdict, packet.key, flows)


def _new(packet: Packet, tables: Tables, flows: Flows, now: float) -> Verdict:
    """Judge, admit, select, record."""
    if not tables.ours(packet.destination, packet.version):
        return _NOT_OURS
    use = _Use(packet.key, flows, now)
    judgement = tables.judge.judge(packet.destination, packet.source, packet.source_port, now, use)
    tier = judgement.tier
    if tier is None:
        return _drop(judgement.reason)
    single = use.asked and judgement.reason is Reason.PROVEN
    if single and not flows.uses.room(now):
        return _drop(Outcome.USES_FULL)
    reason, delay = _admit(tier, judgement.reason, tables, flows, now)
    if reason in _REFUSED:
        return _drop(reason)
    pool = tables.pools[tier.pool or ""]
    sticky = flow_hash(_sticky(packet, judgement, pool.stickiness))
    target = tables.ring(pool.name, packet.version).pick(sticky)
    if target is None:
        return _drop(Outcome.NO_SERVER)
    verdict = forward_to(target, reason, tier.dscp, delay)
    if packet.flags & RST:
        return verdict  # ends what is not there: nothing to remember
    flows.record(packet.key, owner_of(target, tier.dscp), tables.session_seconds(judgement.cluster), sticky, now)
    if single:
        flows.uses.put(use.name, packet.key, now + tables.proof_seconds(judgement.cluster))
    return verdict if target.mode is Forward.DIRECT else _translated(verdict, packet.key, flows)


class _Use:
    """Answers the judge whether a proven address has opened another flow, and notes that it was asked."""

    __slots__ = ("_flows", "_key", "_now", "asked", "name")

    def __init__(self, key: bytes, flows: Flows, now: float) -> None:
        self._key, self._flows, self._now = key, flows, now
        self.asked = False
        self.name = b""

    def __call__(self, address: int) -> bool:
        self.asked = True
        self.name = address.to_bytes(16, "big")
        return self._flows.uses.get(self.name, self._now) not in (None, self._key)


def _admit(tier: Tier, accepted: Reason, tables: Tables, flows: Flows, now: float) -> tuple[Reason | Outcome, float]:
    """Quality of service: the reason to go on with (or one of _REFUSED) and seconds to hold the packet."""
    if tier.action is TierAction.DROP:
        return Outcome.TIER_DROP, 0.0
    pool = tables.pools.get(tier.pool or "")
    if pool is None or pool.forward is Forward.ENCAP:
        return (Outcome.UNSUPPORTED if pool else Outcome.NO_SERVER), 0.0
    if tier.rate is None:
        return accepted, 0.0
    delay = flows.buckets.take(tier.name, tier.rate, now)
    if delay is None:
        return (Outcome.OVER_RATE_PASSED if tier.rate.over is Over.PASS else Outcome.OVER_RATE), 0.0
    return (Outcome.HELD if delay else accepted), delay


def _sticky(packet: Packet, judgement: Judgement, stickiness: Stickiness) -> bytes:
    """What the choice of a server hangs on; who is anonymous is known by the source address."""
    if stickiness is Stickiness.FLOW:
        return packet.key
    if stickiness is Stickiness.SESSION and judgement.session:
        return b"session" + judgement.client.to_bytes(10, "big") + judgement.session.to_bytes(10, "big")
    if judgement.client:
        return b"client" + judgement.client.to_bytes(10, "big")
    return b"source" + packet.source.to_bytes(16, "big")


def _reselect(packet: Packet, owner: int, tables: Tables, flows: Flows) -> Verdict | None:
    """Another server of the same pool for a flow whose own is gone, without judging its address again."""
    place = flows.find(packet.key)
    if place is None:
        return None
    lane, slot = place
    target = tables.ring(tables.pool_of(owner), packet.version).pick(lane.hashes[slot])
    if target is None:
        flows.remove(packet.key)
        return None
    flows.translations.close(packet.key)
    lane.owner[slot] = owner_of(target, dscp_of(owner))
    return forward_to(target, Outcome.RESELECTED, dscp_of(owner))


def _translated(verdict: Verdict, key: bytes, flows: Flows) -> Verdict:
    """A verdict for a flow under nat, with the client's port at its server."""
    address = verdict.server.address if verdict.server else b""
    if key not in flows.translations.forth and flows.translations.open(key, address, flow_hash(key)) is None:
        flows.remove(key)
        return _drop(Outcome.NAT_PORTS)
    port = flows.translations.port(key)
    return replace(verdict, port=port) if port else verdict


def _reply(key: bytes, outcome: Outcome, packet: Packet, flows: Flows, now: float) -> Verdict | None:
    """The verdict on what a server answers under nat, None where it is no such answer."""
    forward = flows.translations.back.get(key)
    if forward is None:
        return None
    if packet.shape is Shape.FLOW:
        flows.refresh(forward, packet.flags, now)
    return Verdict(Action.FORWARD, outcome.value, mode=Forward.NAT, vip=forward[17:33], port=forward[-4:-2])


def _error(packet: Packet, tables: Tables, flows: Flows, now: float) -> Verdict:
    """An ICMP error goes where the flow inside it goes; without a flow it goes nowhere."""
    return _follow(packet.key, Outcome.ICMP_ERROR, packet, tables, flows, now) or _stray(
        packet, tables, Outcome.ICMP_ORPHAN
    )


def _fragment(packet: Packet, tables: Tables, flows: Flows, now: float) -> Verdict:
    """A later fragment goes where its first one went. One that comes before its first is dropped."""
    key = flows.fragments.get(packet.fragment, now)
    found = _follow(key, Outcome.FRAGMENT, packet, tables, flows, now) if key else None
    return found or _stray(packet, tables, Outcome.FRAGMENT_ORPHAN)


def _follow(key: bytes, outcome: Outcome, packet: Packet, tables: Tables, flows: Flows, now: float) -> Verdict | None:
    place = flows.find(key)
    if place is None:
        return _reply(key, outcome, packet, flows, now)
    lane, slot = place
    verdict = tables.known(lane.owner[slot])
    return replace(verdict, reason=outcome.value, port=flows.translations.port(key)) if verdict else None


def _other(packet: Packet, tables: Tables, flows: Flows, now: float) -> Verdict:
    return _stray(packet, tables, Outcome.PROTOCOL)


def _stray(packet: Packet, tables: Tables, outcome: Outcome) -> Verdict:
    """Dropped where it came for a cluster; what others sent to others is passed on."""
    return _drop(outcome) if tables.ours(packet.destination, packet.version) else _NOT_OURS


def _drop(reason: Reason | Outcome) -> Verdict:
    return Verdict(Action.DROP, reason.value)


_MALFORMED = {kind: Verdict(Action.DROP, name) for kind, name in MALFORMED.items()}
_NOT_OURS = Verdict(Action.PASS, Reason.NOT_OURS.value)
_REFUSED = frozenset({Outcome.TIER_DROP, Outcome.OVER_RATE, Outcome.UNSUPPORTED, Outcome.NO_SERVER})
_UNUSUAL = {Shape.ERROR: _error, Shape.FRAGMENT: _fragment, Shape.OTHER: _other}
