"""The bytes that leave for a packet and its verdict, whatever the mode: the one truth for every runner.

A pure function of the packet, the verdict and one setting of the node. It changes no hop limit: that of a
forwarded packet is counted down by whoever took it off the wire (the kernel before the TUN device, the
XDP program itself), before the packet is given here.
"""

from __future__ import annotations

from dnsvip.dispatcher.egress.encap import DISCARD, encapsulate
from dnsvip.dispatcher.egress.icmp import answer
from dnsvip.dispatcher.egress.rewrite import rewrite
from dnsvip.dispatcher.reason import Action
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import Forward


def output_bytes(data: bytes, verdict: Verdict, encap_source: bytes = DISCARD) -> bytes:
    """What is sent: to the server, to the client, or on; empty where nothing is.

    `encap_source` is the high half (8 bytes) of outer sources. Bytes after the packet's stated end go along.
    """
    if verdict.action is Action.FORWARD:
        if verdict.mode is Forward.ENCAP and verdict.server is not None:
            return encapsulate(data, verdict.server.address, verdict.dscp, verdict.flow_hash, encap_source)
        return rewrite(data, verdict)
    if verdict.action is Action.ANSWER:
        return answer(data, verdict)
    return data if verdict.action is Action.PASS else b""
