"""Where a new connection would go, told to people: a SYN is made and given to the function that decides on packets.

The flow table it is decided with is empty and the tiers' buckets are full, so the answer is that of a
dispatcher with nothing else to do. Health checks are the dispatcher's own knowledge and not seen here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dnsvip.dispatcher.dispatch_tables import Candidate, DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.packet import SYN, TCP
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.routes import Route
from dnsvip.dispatcher.selection import route_of
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import AddressVerdict, Verdict
from dnsvip.dispatcher.verify.explain import DecodingStep
from dnsvip.site import Address

FLOWS = 4


@dataclass(frozen=True, slots=True)
class SimulatedFlow:
    """What becomes of a connection: the judgement on its address, step by step, the verdict, the route (None: no
    tier serves it), who could have it."""

    address_verdict: AddressVerdict
    steps: tuple[DecodingStep, ...]
    verdict: Verdict
    route: Route | None
    candidates: tuple[Candidate, ...]


def simulate(
    tables: DispatchTables, source: Address, port: int, address: Address, service_port: int, now: float
) -> SimulatedFlow:
    """What a dispatcher with these tables does with the first packet of a TCP connection; both of one IP version."""
    packet = syn(source, port, address, service_port)
    verdict = decide(packet, tables, Flows(FLOWS), int(now * SECOND))
    address_verdict = verdict.address or AddressVerdict(AddressReason.NOT_OURS)
    steps = tables.verifier.explain(address_verdict, int(address), now)
    tier = address_verdict.tier
    route = route_of(address_verdict, tier, tables, address.version) if tier else None
    candidates = tables.candidates(route.pool if route else None, address.version)
    return SimulatedFlow(address_verdict, steps, verdict, route, candidates)


def syn(source: Address, port: int, address: Address, service_port: int) -> bytes:
    """A TCP SYN without options (RFC 9293 section 3.1); its checksums are left zero, as nothing here reads them."""
    tcp = struct.pack(">HHIIBBHHH", port, service_port, 0, 0, 5 << 4, SYN, 65_535, 0, 0)
    if address.version == 6:
        head = struct.pack(">IHBB", 6 << 28, len(tcp), TCP, 64)
    else:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, TCP, 0)
    return head + source.packed + address.packed + tcp
