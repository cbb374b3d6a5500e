"""The bytes sent for a packet and its verdict, in every mode: the reference for every runner.

A pure function of the packet, the verdict and one setting of the node. It leaves the hop limit alone: the receiver has
already decremented it (the kernel before the TUN device, or the XDP program itself).
"""

from __future__ import annotations

from dnsvip.dispatcher.egress.encap import DISCARD, encapsulate
from dnsvip.dispatcher.egress.icmp import answer
from dnsvip.dispatcher.egress.reset import reset
from dnsvip.dispatcher.egress.rewrite import rewrite
from dnsvip.dispatcher.packet import TCP
from dnsvip.dispatcher.reason import Action, AddressReason
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import Forward


def output_bytes(data: bytes, verdict: Verdict, encap_source: bytes = DISCARD) -> bytes:
    """The packet to send to the server, to the client or onwards; empty for a drop.

    `encap_source` is the high half (8 bytes) of outer sources. Bytes after the packet's stated length are kept.
    """
    if verdict.action is Action.FORWARD:
        if verdict.mode is Forward.ENCAP and verdict.server is not None:
            return encapsulate(data, verdict.server.address, verdict.dscp, verdict.flow_hash, encap_source)
        return rewrite(data, verdict)
    if verdict.action is Action.ANSWER:
        packet = verdict.packet
        if packet is not None and verdict.reason == AddressReason.EXPIRED.value and packet.key[0] == TCP:
            return reset(data, packet)
        return answer(data, verdict)
    return data if verdict.action is Action.PASS else b""
