"""The dispatcher's decision function: figure 4 of the patent, one verdict per packet.

Parse the packet and look up its flow in the connection key table. For a new flow verify the destination address,
apply quality of service, select a server and record the flow. A packet is parsed once and no flow key is looked up
twice. Pure but for `flows`, the state between packets; the clock is an argument. It never raises, whatever the bytes;
`outcome` makes a verdict of what an object of the site makes it raise all the same.
"""

from __future__ import annotations

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.icmp import ANSWERS, may_answer
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.segment import is_resumed, opens_again
from dnsvip.dispatcher.known_flows import ITS_PEER_IS_LOST, follow_known, reply_to
from dnsvip.dispatcher.new_flows import open_flow
from dnsvip.dispatcher.packet import SYN, Malformed, Packet, Shape, flow_label, ip_length, is_running, parse
from dnsvip.dispatcher.reason import Action, PacketReason
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.unusual import UNUSUAL, malformed
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.errors import Problem

_FLOW, _ANSWER, _FORWARD, _DROP = Shape.FLOW, Action.ANSWER, Action.FORWARD, Action.DROP
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
        return malformed(data, packet, tables)
    seconds = now // SECOND
    if packet.shape is not _FLOW:
        return UNUSUAL[packet.shape](data, packet, tables, flows, now, step)
    flags = packet.flags
    flow = flows.touch(packet.key, flags, seconds)
    if flow is None:
        verdict = reply_to(packet.key, PacketReason.REPLY, packet, flows, seconds) or open_flow(
            packet, tables, flows, now, running=is_running(data, packet), label=flow_label(data), step=step
        )
        client = verdict.address.client if verdict.address else 0
    elif (flags & SYN and opens_again(flow, flags, seconds)) or (
        not flags and is_resumed(flow) and not is_running(data, packet)
    ):
        verdict = open_flow(packet, tables, flows, now, flow, label=flow_label(data), step=step)
        client = verdict.address.client if verdict.address else 0
    else:
        client = flow[0].clients[flow[1]]
        verdict = follow_known(packet, flow, tables, flows, now)
        if verdict is ITS_PEER_IS_LOST:
            flows.drop(flow)
            running, label = is_running(data, packet), flow_label(data)
            verdict = open_flow(packet, tables, flows, now, running=running, label=label, step=step)
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


def _rate_limited(data: bytes, packet: Packet, verdict: Verdict, flows: Flows, now: int) -> Verdict:
    """An ANSWER, if an ICMP error may be sent about this packet and the rate allows it; else a drop for its reason."""
    if may_answer(data, packet, verdict.reason) and flows.buckets.take(f"{verdict.reason} answers", ANSWERS, now) == 0:
        return verdict
    return Verdict(Action.DROP, verdict.reason, packet=packet, address=verdict.address)
