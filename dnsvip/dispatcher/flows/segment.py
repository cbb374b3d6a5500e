"""Flows as a structure of arrays, about 250 bytes each, which the garbage collector never traverses; and what a flow
that is found there says of itself. Where a flow is and how long it stays is for flow.py to decide.
"""

from __future__ import annotations

from array import array
from typing import TypeAlias

from dnsvip.dispatcher.packet import ACK, SYN

RETRY_SECONDS = 60
"""For so long a SYN may be a retransmission of the first one: Linux sends it again 1, 3, 7, 15 and 31 s later."""


class Segment:
    """Flows as a structure of arrays with an index by key. It grows on demand, up to `bound`."""

    __slots__ = (
        "anonymous",
        "answered",
        "bound",
        "clients",
        "closing",
        "cursor",
        "free",
        "hand",
        "hashes",
        "keys",
        "life",
        "opened",
        "owner",
        "priorities",
        "resumed",
        "seen",
        "slots",
        "tiers",
    )

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.slots: dict[bytes, int] = {}
        self.keys: list[bytes | None] = []
        self.opened = array("I")
        self.seen = array("I")
        self.life = array("I")
        self.owner = array("Q")
        self.hashes = array("Q")
        self.clients = array("Q")
        self.tiers = array("H")
        self.closing = bytearray()
        self.answered = bytearray()
        self.anonymous = bytearray()
        self.resumed = bytearray()
        self.priorities = bytearray()
        self.free: list[int] = []
        self.cursor = 0
        self.hand = 0

    def __len__(self) -> int:
        return len(self.slots)

    def put(
        self,
        slot: int,
        key: bytes,
        owner: int,
        life: int,
        flow_hash: int,
        now: int,
        anonymous: int,
        holder: tuple[int, int, int],
    ) -> None:
        """Write a flow into a free slot, or append one; `holder`: the numbers of its client and tier, its priority."""
        client, tier, priority = holder
        if slot == len(self.keys):
            self.keys.append(key)
            self.opened.append(now)
            self.seen.append(now)
            self.life.append(life)
            self.owner.append(owner)
            self.hashes.append(flow_hash)
            self.closing.append(0)
            self.answered.append(0)
            self.anonymous.append(anonymous)
            self.resumed.append(0)
            self.clients.append(client)
            self.tiers.append(tier)
            self.priorities.append(priority)
        else:
            self.keys[slot], self.opened[slot], self.seen[slot], self.life[slot] = key, now, now, life
            self.owner[slot], self.hashes[slot] = owner, flow_hash
            self.closing[slot], self.answered[slot], self.anonymous[slot] = 0, 0, anonymous
            self.resumed[slot] = 0
            self.clients[slot], self.tiers[slot], self.priorities[slot] = client, tier, priority
        self.slots[key] = slot

    def next_slot(self) -> int:
        """The slot at the cursor, which moves on."""
        slot = self.cursor
        self.cursor = slot + 1 if slot + 1 < self.bound else 0
        return slot

    def clear(self, slot: int) -> bytes:
        """Empty a slot; returns its key."""
        key = self.keys[slot]
        assert key is not None  # noqa: S101 - only slots in `slots` are cleared
        self.keys[slot] = None
        del self.slots[key]
        return key


FlowRef: TypeAlias = tuple[Segment, int]
"""A flow by its segment and slot: what one look-up finds. Valid until the table changes, so within one packet."""


def is_answered(flow: FlowRef) -> bool:
    """Whether the client has gone on after its first packet (TCP: with a segment other than SYN)."""
    segment, slot = flow
    return segment.answered[slot] == 1


def is_closing(flow: FlowRef) -> bool:
    """Whether its client has ended a flow, or somebody in its name (FIN or RST)."""
    segment, slot = flow
    return segment.closing[slot] != 0


def is_resumed(flow: FlowRef) -> bool:
    """Whether a flow was taken over from another dispatcher, and has not been judged as a new one since."""
    segment, slot = flow
    return segment.resumed[slot] == 1


def opens(flags: int) -> bool:
    """Whether a segment with these flags asks for a connection (RFC 9293 section 3.5): a SYN without ACK."""
    return flags & (SYN | ACK) == SYN


def opens_again(flow: FlowRef, flags: int, now: int) -> bool:
    """Whether a packet of a known flow begins another connection: a SYN without ACK, unless it may be the one that
    opened the flow, sent again (RFC 9293 section 3.8.1): the flow is neither answered nor closing, and at most
    RETRY_SECONDS old. Both the SYN and an end before it may be forged: the flow stays as it is until the SYN is
    admitted."""
    segment, slot = flow
    if not opens(flags):
        return False
    return is_answered(flow) or is_closing(flow) or now - segment.opened[slot] > RETRY_SECONDS
