"""The flow table (the patent's connection key table): which server a flow has, in bounded memory.

A flow is in one of two segments. New flows are in the probation segment, a ring: under a flood the oldest new flow is
evicted, never an established one. With its second packet (TCP: the first without SYN) a flow is answered and moves to
the established segment. An anonymous flow, to an address that anybody can make up, moves with its first such packet in
a later second than its opening, as long as anonymous flows are at most half of that segment; and while it is young its
life is short. A packet costs one or two dictionary look-ups. A flow that has been idle for longer than its lifetime is
unknown (now > seen + life; all times here are whole unix seconds); an incremental sweep frees its memory. Flows are
held in arrays, about 250 bytes each, which the garbage collector never traverses. The table knows addresses only as
keys and servers only as numbers.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TypeAlias

from dnsvip.dispatcher.flows.expiring_map import ExpiringMap
from dnsvip.dispatcher.flows.nat import Translations
from dnsvip.dispatcher.flows.uses import Uses
from dnsvip.dispatcher.packet import ACK, FIN, RST, SYN, TCP
from dnsvip.dispatcher.token_bucket import Buckets

NEW_SECONDS = 30
CLOSING_SECONDS = 60
DATAGRAM_SECONDS = 180
"""Idle lifetime in seconds of a flow that is not answered, of one after FIN or RST, and of other UDP and echo flows.

Other TCP flows live for their cluster's `session_lifetime`.
"""

RETRY_SECONDS = 60
"""For so long a SYN may be a retransmission of the first one: Linux sends it again 1, 3, 7, 15 and 31 s later."""

YOUNG_SECONDS = 120
"""For so long an anonymous flow is young, and its idle lifetime no longer than that."""

ANONYMOUS_SHARE = 2
"""One part in so many of the established segment may be anonymous flows."""

_BOUNDARY = SYN | FIN | RST  # once: for every packet, this takes as long as a look-up

FRAGMENTED = 4096
"""Fragmented packets tracked at a time."""


def most_uses(bound: int) -> int:
    """How many used single-use addresses are kept beside `bound` flows."""
    return max(bound // 4, 1)


class Segment:
    """Flows as a structure of arrays with an index by key. It grows on demand, up to `bound`."""

    __slots__ = (
        "anonymous",
        "answered",
        "bound",
        "closing",
        "cursor",
        "free",
        "hand",
        "hashes",
        "keys",
        "life",
        "opened",
        "owner",
        "seen",
        "slots",
    )

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.slots: dict[bytes, int] = {}
        self.keys: list[bytes | None] = []
        self.opened = array("I")
        self.seen = array("I")
        self.life = array("I")
        self.owner = array("I")
        self.hashes = array("Q")
        self.closing = bytearray()
        self.answered = bytearray()
        self.anonymous = bytearray()
        self.free: list[int] = []
        self.cursor = 0
        self.hand = 0

    def __len__(self) -> int:
        return len(self.slots)

    def put(self, slot: int, key: bytes, owner: int, life: int, flow_hash: int, now: int, anonymous: int) -> None:
        """Write a flow into a free slot, or append one."""
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
        else:
            self.keys[slot], self.opened[slot], self.seen[slot], self.life[slot] = key, now, now, life
            self.owner[slot], self.hashes[slot] = owner, flow_hash
            self.closing[slot], self.answered[slot], self.anonymous[slot] = 0, 0, anonymous
        self.slots[key] = slot

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


def opens(flags: int) -> bool:
    """Whether a segment with these flags asks for a connection (RFC 9293 section 3.5): a SYN without ACK."""
    return flags & (SYN | ACK) == SYN


def opens_again(flow: FlowRef, flags: int, now: int) -> bool:
    """Whether a packet of a known flow begins another connection: a SYN without ACK, unless it may be the one that
    opened the flow, sent again (RFC 9293 section 3.8.1): the flow is not answered, and RETRY_SECONDS old at most."""
    segment, slot = flow
    if not opens(flags):
        return False
    return is_answered(flow) or now - segment.opened[slot] > RETRY_SECONDS


class Flows:
    """All state between packets: flows, translations, fragments, used single-use addresses, token buckets, the number
    of packets the runner holds (`held`, maintained by the runner) and of flows each tier has opened.

    `bound` is the maximum number of flows; at most a quarter of them are new ones. `anonymous` is how many of the
    established ones are.
    """

    __slots__ = (
        "anonymous",
        "buckets",
        "established",
        "evicted",
        "expired",
        "fragments",
        "held",
        "kept_new",
        "opened",
        "probation",
        "translations",
        "uses",
    )

    def __init__(self, bound: int) -> None:
        self.probation = Segment(max(bound // 4, 1))
        self.established = Segment(max(bound - bound // 4, 1))
        self.translations = Translations()
        self.fragments = ExpiringMap(FRAGMENTED)
        self.uses = Uses(most_uses(bound))
        self.buckets = Buckets()
        self.anonymous = self.evicted = self.expired = self.kept_new = self.held = 0
        self.opened: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.probation) + len(self.established)

    def touch(self, key: bytes, flags: int, now: int) -> FlowRef | None:
        """Account a packet to its flow; None where the flow is unknown.

        A SYN on a closing flow opens a new connection: the old flow is removed.
        """
        segment = self.established
        slot = segment.slots.get(key)
        if slot is None:
            return self._touch_probation(key, flags, now)
        if segment.seen[slot] != now and self._expire(segment, slot, now):
            return None
        if flags & _BOUNDARY:
            if not flags & SYN:
                segment.closing[slot] = 1
            elif segment.closing[slot]:
                self.drop((segment, slot))
                return None
        segment.seen[slot] = now
        return segment, slot

    def _touch_probation(self, key: bytes, flags: int, now: int) -> FlowRef | None:
        segment = self.probation
        slot = segment.slots.get(key)
        if slot is None or (segment.seen[slot] != now and self._expire(segment, slot, now)):
            return None
        if flags & SYN and segment.closing[slot]:
            self.drop((segment, slot))
            return None
        segment.seen[slot] = now
        if flags and not flags & SYN and not segment.answered[slot]:
            self.uses.end(key)
        if flags & (FIN | RST):
            segment.closing[slot] = 1
        elif not flags & SYN:
            segment.answered[slot] = 1
            if now > segment.opened[slot] or not segment.anonymous[slot]:
                return self._establish(slot, now)
        return segment, slot

    def _establish(self, slot: int, now: int) -> FlowRef:
        """Move a new flow to the established segment; where that is full, or its share of it, the flow stays new and is
        forwarded all the same."""
        segment, new = self.established, self.probation
        anonymous = new.anonymous[slot]
        if self._is_full(anonymous):
            self._walk(segment, 64, now)
        if self._is_full(anonymous):
            self.kept_new += 1
            return new, slot
        place = segment.free.pop() if segment.free else len(segment.keys)
        owner, life, flow_hash, closing = new.owner[slot], new.life[slot], new.hashes[slot], new.closing[slot]
        opened = new.opened[slot]
        segment.put(place, new.clear(slot), owner, life, flow_hash, now, anonymous)
        segment.opened[place], segment.closing[place], segment.answered[place] = opened, closing, 1
        self.anonymous += anonymous
        return segment, place

    def _is_full(self, anonymous: int) -> bool:
        """Whether no flow can be established any more, or no anonymous one."""
        segment = self.established
        if anonymous and self.anonymous >= segment.bound // ANONYMOUS_SHARE:
            return True
        return not segment.free and len(segment.keys) >= segment.bound

    def record(
        self,
        key: bytes,
        owner: int,
        session_seconds: int,
        flow_hash: int,
        now: int,
        *,
        anonymous: bool = False,
        answered: bool = False,
    ) -> FlowRef:
        """Add a new flow, even if it is `answered` already; where the segment is full the oldest is evicted."""
        segment = self.probation
        slot = segment.cursor
        segment.cursor = slot + 1 if slot + 1 < segment.bound else 0
        if slot < len(segment.keys) and segment.keys[slot] is not None:
            self.translations.close(segment.clear(slot))
            self.evicted += 1
        life = session_seconds if key[0] == TCP else DATAGRAM_SECONDS
        segment.put(slot, key, owner, life, flow_hash, now, int(anonymous))
        segment.answered[slot] = answered
        return segment, slot

    def renew(self, flow: FlowRef, owner: int, flow_hash: int) -> None:
        """Give a flow that a SYN opens again the server and mark that it has from now on."""
        segment, slot = flow
        if segment.owner[slot] >> 8 != owner >> 8:
            key = segment.keys[slot]
            assert key is not None  # noqa: S101 - a flow has one
            self.translations.close(key)
        segment.owner[slot], segment.hashes[slot] = owner, flow_hash

    def find(self, key: bytes, now: int = 0) -> FlowRef | None:
        """A flow that is known at `now`; changes nothing."""
        for segment in (self.established, self.probation):
            slot = segment.slots.get(key)
            if slot is not None:
                return None if now - segment.seen[slot] > self._life(segment, slot) else (segment, slot)
        return None

    def refresh(self, flow: FlowRef, now: int) -> None:
        """Account a packet of the reverse direction (seen under nat only)."""
        segment, slot = flow
        segment.seen[slot] = now

    def remove(self, key: bytes) -> None:
        """Remove a flow, if it is known."""
        flow = self.find(key)
        if flow:
            self.drop(flow)

    def drop(self, flow: FlowRef) -> None:
        """Remove a flow and its translation."""
        segment, slot = flow
        self.translations.close(segment.clear(slot))
        if segment is self.established:
            segment.free.append(slot)
            self.anonymous -= segment.anonymous[slot]

    def sweep(self, now: int, budget: int = 1 << 62) -> None:
        """Remove expired flows among the next `budget` slots of each segment, and expired fragments and uses."""
        for segment in (self.established, self.probation):
            self._walk(segment, min(budget, len(segment.keys)), now)
        self.fragments.sweep(now, budget)
        self.uses.sweep(now, budget)

    def _walk(self, segment: Segment, count: int, now: int) -> None:
        size, hand = len(segment.keys), segment.hand
        for _ in range(min(count, size)):
            hand = hand + 1 if hand + 1 < size else 0
            if segment.keys[hand] is not None:
                self._expire(segment, hand, now)
        segment.hand = hand

    def _expire(self, segment: Segment, slot: int, now: int) -> bool:
        """Remove a flow that has been idle too long; returns whether it was."""
        if now - segment.seen[slot] <= self._life(segment, slot):
            return False
        self.drop((segment, slot))
        self.expired += 1
        return True

    def _life(self, segment: Segment, slot: int) -> int:
        if segment.closing[slot]:
            return CLOSING_SECONDS
        if not segment.answered[slot]:
            return NEW_SECONDS
        young = segment.anonymous[slot] and segment.seen[slot] - segment.opened[slot] < YOUNG_SECONDS
        return min(segment.life[slot], YOUNG_SECONDS) if young else segment.life[slot]
