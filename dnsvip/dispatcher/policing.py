"""Policing: the bytes and packets that a tier's clients may send, in known flows as in new ones.

Two token buckets (token_bucket.py), of bytes and of packets, hold for a tier, or for each client or source of it. A
packet that one of them has no tokens for takes none of either; it is dropped, or forwarded with a mark by which
networks drop it first. The policer is part of a known flow's template, so a flow of a tier without policing pays one
comparison.
"""

from __future__ import annotations

from collections.abc import Mapping

from dnsvip.dispatcher.bucket_table import holder_of
from dnsvip.dispatcher.reason import Action, PacketReason
from dnsvip.dispatcher.token_bucket import SECOND, Buckets, Limit, take
from dnsvip.dispatcher.verdict import Policer, Verdict
from dnsvip.site import Excess, Per, Tier

BYTE_BITS = 20
"""A byte's cost has as many bits after the point: one of a nanosecond is too coarse for 10 Gbit/s."""
_HALF = 1 << BYTE_BITS - 1

LOWER_EFFORT = 1
"""DSCP of the lower-effort per-hop behaviour (RFC 8622, which replaces CS1 of RFC 3662)."""


def policer_of(tier: Tier) -> Policer | None:
    """A tier's policing in nanoseconds; None where it has none."""
    policing = tier.policing
    if policing is None:
        return None
    return Policer(
        tier.name,
        f"{tier.name} policing",
        byte_cost=int(SECOND * (1 << BYTE_BITS) / policing.bytes + 0.5) if policing.bytes else 0,
        packet_cost=max(1, int(SECOND / policing.packets + 0.5)) if policing.packets else 0,
        burst=int(policing.burst * SECOND + 0.5),
        marks=policing.over is Excess.MARK,
        per=policing.per,
    )


def police(verdict: Verdict, client: int, key: bytes, size: int, buckets: Buckets, now: int) -> Verdict:
    """The verdict on a packet of `size` bytes, of a flow with a client (0: anonymous) and a key, whose verdict so far
    has a policer. A held packet is not marked: it has waited."""
    policer = verdict.policer
    assert policer is not None  # noqa: S101 - see above
    if _conforms(policer, _buckets_of(policer, client, key, buckets, now), size, now):
        return verdict
    if not policer.marks:
        buckets.policed[policer.tier, "dropped"] += 1
        return Verdict(Action.DROP, PacketReason.POLICED.value, packet=verdict.packet, address=verdict.address)
    if verdict.delay:
        return verdict
    buckets.policed[policer.tier, "marked"] += 1
    return verdict._replace(reason=PacketReason.POLICED_MARKED.value, dscp=marked(verdict.dscp))


def marked(dscp: int | None) -> int:
    """The DSCP of a packet over the limit, whose flow has this one: within Assured Forwarding the highest drop
    precedence of the same class (RFC 2597 section 2), which keeps packets of a flow in order, else lower effort."""
    if dscp is not None and dscp >> 3 in (1, 2, 3, 4) and dscp & 7 in (2, 4, 6):
        return dscp & 0x38 | 6
    return LOWER_EFFORT


def policed_counts(policed: Mapping[tuple[str, str], int]) -> list[dict[str, str | int]]:
    """Counts by tier and what was done, JSON-ready, in their order."""
    return [{"tier": tier, "done": done, "packets": number} for (tier, done), number in sorted(policed.items())]


def _buckets_of(policer: Policer, client: int, key: bytes, buckets: Buckets, now: int) -> list[int]:
    """The states of the two buckets that a packet takes from."""
    if policer.per is Per.TIER:
        return buckets.pair(policer.name)
    holder = holder_of(client, key, by_source=policer.per is Per.SOURCE)
    return buckets.own(holder, policer.name, now) or buckets.pair(policer.name)


def _conforms(policer: Policer, full: list[int], size: int, now: int) -> bool:
    """Whether both buckets have tokens for a packet, which are then taken. One larger than the burst takes it all."""
    limit = Limit(0, policer.burst)
    cost = min(size * policer.byte_cost + _HALF >> BYTE_BITS, policer.burst)
    if cost:
        full[0], wait = take(full[0], cost, limit, now)
        if wait is None:
            return False
    if policer.packet_cost:
        full[1], wait = take(full[1], policer.packet_cost, limit, now)
        if wait is None:
            full[0] -= cost
            return False
    return True
