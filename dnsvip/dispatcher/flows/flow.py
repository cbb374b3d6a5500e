"""The flow table (the patent's connection key table): which server a flow has, in bounded memory.

A flow is in one of two segments. New flows are in the probation segment, a ring: under a flood the oldest new flow is
evicted, never an established one. With its second packet (TCP: the first without SYN) a flow moves to the established
segment. A packet costs one or two dictionary look-ups. A flow that has been idle for longer than its lifetime is
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
from dnsvip.dispatcher.packet import FIN, RST, SYN, TCP
from dnsvip.dispatcher.token_bucket import Buckets

NEW_SECONDS = 30
CLOSING_SECONDS = 60
DATAGRAM_SECONDS = 180
"""Idle lifetime in seconds of a new flow, of one after FIN or RST, and of an established UDP or echo flow.

An established TCP flow lives for its cluster's `session_lifetime`.
"""

FRAGMENTED = 4096
"""Fragmented packets tracked at a time."""


def most_uses(bound: int) -> int:
    """How many used single-use addresses are kept beside `bound` flows."""
    return max(bound // 4, 1)


class Segment:
    """Flows as a structure of arrays with an index by key. It grows on demand, up to `bound`."""

    __slots__ = ("bound", "closing", "cursor", "free", "hand", "hashes", "keys", "life", "owner", "seen", "slots")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.slots: dict[bytes, int] = {}
        self.keys: list[bytes | None] = []
        self.seen = array("I")
        self.life = array("I")
        self.owner = array("I")
        self.hashes = array("Q")
        self.closing = bytearray()
        self.free: list[int] = []
        self.cursor = 0
        self.hand = 0

    def __len__(self) -> int:
        return len(self.slots)

    def put(self, slot: int, key: bytes, owner: int, life: int, flow_hash: int, now: int) -> None:
        """Write a flow into a free slot, or append one."""
        if slot == len(self.keys):
            self.keys.append(key)
            self.seen.append(now)
            self.life.append(life)
            self.owner.append(owner)
            self.hashes.append(flow_hash)
            self.closing.append(0)
        else:
            self.keys[slot], self.seen[slot], self.life[slot] = key, now, life
            self.owner[slot], self.hashes[slot], self.closing[slot] = owner, flow_hash, 0
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


class Flows:
    """All state between packets: flows, translations, fragments, used single-use addresses, token buckets, the number
    of packets the runner holds (`held`, maintained by the runner) and of flows each tier has opened.

    `bound` is the maximum number of flows; at most a quarter of them are new ones.
    """

    __slots__ = (
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
        self.evicted = self.expired = self.kept_new = self.held = 0
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
        if flags & (SYN | FIN | RST):
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
        if flags & (FIN | RST):
            segment.closing[slot] = 1
        elif not flags & SYN:
            return self._establish(slot, now)
        return segment, slot

    def _establish(self, slot: int, now: int) -> FlowRef:
        """Move a new flow to the established segment; where that is full it stays new and is forwarded all the same."""
        segment, new = self.established, self.probation
        if not segment.free and len(segment.keys) >= segment.bound:
            self._walk(segment, 64, now)
        if segment.free:
            place = segment.free.pop()
        elif len(segment.keys) < segment.bound:
            place = len(segment.keys)
        else:
            self.kept_new += 1
            return new, slot
        owner, life, flow_hash, closing = new.owner[slot], new.life[slot], new.hashes[slot], new.closing[slot]
        segment.put(place, new.clear(slot), owner, life, flow_hash, now)
        segment.closing[place] = closing
        return segment, place

    def record(self, key: bytes, owner: int, session_seconds: int, flow_hash: int, now: int) -> FlowRef:
        """Add a new flow; where the segment is full the oldest new flow is evicted."""
        segment = self.probation
        slot = segment.cursor
        segment.cursor = slot + 1 if slot + 1 < segment.bound else 0
        if slot < len(segment.keys) and segment.keys[slot] is not None:
            self.translations.close(segment.clear(slot))
            self.evicted += 1
        segment.put(slot, key, owner, session_seconds if key[0] == TCP else DATAGRAM_SECONDS, flow_hash, now)
        return segment, slot

    def find(self, key: bytes, now: int = 0) -> FlowRef | None:
        """A flow that is known at `now`; changes nothing."""
        for segment in (self.established, self.probation):
            slot = segment.slots.get(key)
            if slot is not None:
                return None if now - segment.seen[slot] > self._life(segment, slot) else (segment, slot)
        return None

    def refresh(self, flow: FlowRef, flags: int, now: int) -> None:
        """Account a packet of the reverse direction (seen under nat only)."""
        segment, slot = flow
        segment.seen[slot] = now
        segment.closing[slot] |= 1 if flags & (FIN | RST) else 0

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
        return NEW_SECONDS if segment is self.probation else segment.life[slot]
