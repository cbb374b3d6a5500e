"""The flow table (the patent's connection key table): which server a flow has, in bounded memory.

A flow is in one of two segments. New flows are in the probation segment, a ring: under a flood the oldest new flow is
evicted, never an established one, and one of a low priority before one of a higher (ranks.py). With its
second packet (TCP: the first without SYN) a flow is answered and moves to the established segment. An anonymous flow,
to an address that anybody can make up, moves with its first such packet in a later second than its opening, as long as
anonymous flows are at most half of that segment; and while it is young its life is short. A packet costs one or two
dictionary look-ups. A flow that has been idle for longer than its lifetime is unknown (now > seen + life; all times
here are whole unix seconds); an incremental sweep frees its memory. The table knows addresses only as keys and servers
only as numbers.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeAlias

from dnsvip.dispatcher.flows.expiring_map import ExpiringMap
from dnsvip.dispatcher.flows.guesses import Guesses
from dnsvip.dispatcher.flows.nat import Translations
from dnsvip.dispatcher.flows.owner import server_of
from dnsvip.dispatcher.flows.ranks import next_place, rank_of
from dnsvip.dispatcher.flows.segment import FlowRef, Segment
from dnsvip.dispatcher.flows.slot_counts import SlotCounts
from dnsvip.dispatcher.flows.usage import Usage
from dnsvip.dispatcher.flows.uses import Uses
from dnsvip.dispatcher.holding import HoldQueue
from dnsvip.dispatcher.packet import FIN, RST, SYN, TCP
from dnsvip.dispatcher.token_bucket import Buckets

NEW_SECONDS = 30
CLOSING_SECONDS = 60
DATAGRAM_SECONDS = 180
"""Idle lifetime in seconds of a flow that is not answered, of one after FIN or RST, and of other UDP and echo flows.

Other TCP flows live for their cluster's `session_lifetime`.
"""

YOUNG_SECONDS = 120
"""For so long an anonymous flow is young, and its idle lifetime no longer than that."""

STAYS_NEW = 2
"""In `Segment.anonymous`: that of a flow that another dispatcher decides about, which is never established. What is
known of it here only spares its packets' verification: nobody can take the places of others by it."""

ANONYMOUS_SHARE = 2
"""One part in so many of the established segment may be anonymous flows."""

CLIENT_SHARE, PLACES = 4, 1 << 16
"""Once no more than one part in CLIENT_SHARE of the established places is left, no client that has that many is given
another. Clients are counted in PLACES counters, so some share one: exact counts of a million would take more memory
than their flows."""

_BOUNDARY = SYN | FIN | RST  # once: for every packet, this takes as long as a look-up

MOST_TIERS = 65_535
"""Names of tiers that flows are remembered to be of."""

FRAGMENTED = 4096
"""Fragmented packets tracked at a time."""


def most_uses(bound: int) -> int:
    """How many used single-use addresses are kept beside `bound` flows."""
    return max(bound // 4, 1)


Holder: TypeAlias = tuple[int, str, int]
"""Whose a flow is: the id of its client (0: anonymous), the tier that it was opened in, and its priority."""

ANYBODY: Holder = (0, "", 0)


def place_of(client: int) -> int:
    """The counter of a client's established flows (Fibonacci hashing, as in the kernel program)."""
    return (client * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 48


class Flows:
    """All state between packets: flows, translations, fragments, used single-use addresses, bad proofs (`guesses`),
    how many relayed flows each client has opened lately (`relayed`), token buckets, the packets that the runner holds
    (`hold`), the number of flows each tier has opened (`opened`) and each server got (`opened_at`, by its number), and
    of those that a rule or their client decided the pool of (`routed`, by cluster and rule); `labels_ignored` counts
    new flows whose flow label is no claim.

    `bound` is the maximum number of flows; at most a quarter of them are new ones. `anonymous` is how many of the
    established ones are, `places` how many of the others each client has (`place_of`). `lowest_priority` is
    that of the site in force, None where all are the same; `not_recorded` counts new flows for which none gave way.
    """

    __slots__ = (
        "_tier_numbers",
        "_walked",
        "anonymous",
        "buckets",
        "established",
        "evicted",
        "expired",
        "fragments",
        "guesses",
        "hold",
        "kept_new",
        "labels_ignored",
        "lowest_priority",
        "not_recorded",
        "opened",
        "opened_at",
        "places",
        "probation",
        "relayed",
        "routed",
        "tier_names",
        "translations",
        "usage",
        "uses",
    )

    def __init__(self, bound: int, buckets: Buckets | None = None) -> None:
        self.probation = Segment(max(bound // 4, 1))
        self.established = Segment(max(bound - bound // 4, 1))
        self.translations = Translations()
        self.fragments = ExpiringMap(FRAGMENTED)
        self.uses = Uses(most_uses(bound))
        self.guesses = Guesses()
        self.relayed = SlotCounts[int]()
        self.buckets = buckets or Buckets()
        self.anonymous = self.evicted = self.expired = self.kept_new = self.labels_ignored = self.not_recorded = 0
        self.hold: HoldQueue[Any] = HoldQueue()
        self.places: Counter[int] = Counter()
        self._walked = -1
        self.lowest_priority: int | None = None
        self.opened: Counter[str] = Counter()
        self.opened_at: Counter[int] = Counter()
        self.routed: Counter[tuple[str, int]] = Counter()
        self.usage = Usage()
        self.tier_names = [""]
        self._tier_numbers = {"": 0}

    def __len__(self) -> int:
        return len(self.probation) + len(self.established)

    def touch(self, key: bytes, flags: int, now: int) -> FlowRef | None:
        """Account a packet to its flow; None where the flow is unknown."""
        segment = self.established
        slot = segment.slots.get(key)
        if slot is None:
            return self._touch_probation(key, flags, now)
        if segment.seen[slot] != now and self._expire(segment, slot, now):
            return None
        if flags & _BOUNDARY and not flags & SYN:
            segment.closing[slot] = 1
        segment.seen[slot] = now
        return segment, slot

    def _touch_probation(self, key: bytes, flags: int, now: int) -> FlowRef | None:
        segment = self.probation
        slot = segment.slots.get(key)
        if slot is None or (segment.seen[slot] != now and self._expire(segment, slot, now)):
            return None
        segment.seen[slot] = now
        if flags and not flags & SYN and not segment.answered[slot]:
            self.uses.end(key)
        if flags & (FIN | RST):
            segment.closing[slot] = 1
        elif not flags & SYN:
            segment.answered[slot] = 1
            anonymous = segment.anonymous[slot]
            if anonymous != STAYS_NEW and (now > segment.opened[slot] or not anonymous):
                return self._establish(slot, now)
        return segment, slot

    def _establish(self, slot: int, now: int) -> FlowRef:
        """Move a new flow to the established segment; where that is full, or its share of it, the flow stays new and is
        forwarded all the same."""
        segment, new = self.established, self.probation
        anonymous = new.anonymous[slot]
        client = new.clients[slot]
        if (
            self._is_full(anonymous, client) and now != self._walked
        ):  # once a second: each packet of such a flow comes by here
            self._walked = now
            self._walk(segment, 64, now)
        if self._is_full(anonymous, client):
            self.kept_new += 1
            return new, slot
        place = segment.free.pop() if segment.free else len(segment.keys)
        owner, life, flow_hash, closing = new.owner[slot], new.life[slot], new.hashes[slot], new.closing[slot]
        opened, resumed = new.opened[slot], new.resumed[slot]
        holder = client, new.tiers[slot], new.priorities[slot]
        segment.put(place, new.clear(slot), owner, life, flow_hash, now, anonymous, holder)
        segment.opened[place], segment.closing[place], segment.answered[place] = opened, closing, 1
        segment.resumed[place] = resumed
        self._count(client, anonymous, 1)
        return segment, place

    def _is_full(self, anonymous: int, client: int) -> bool:
        """Whether no flow can be established any more, or no anonymous one, or none of this client."""
        segment = self.established
        bound = segment.bound
        if anonymous:
            if self.anonymous >= bound // ANONYMOUS_SHARE:
                return True
        elif len(segment) >= bound - bound // CLIENT_SHARE and self.places[place_of(client)] >= bound // CLIENT_SHARE:
            return True
        return not segment.free and len(segment.keys) >= bound

    def _count(self, client: int, anonymous: int, by: int) -> None:
        """Account an established flow to those that are anonymous, or to its client."""
        if anonymous:
            self.anonymous += by
        else:
            self.places[place_of(client)] += by

    def record(
        self,
        key: bytes,
        owner: int,
        session_seconds: int,
        flow_hash: int,
        now: int,
        holder: Holder = ANYBODY,
        *,
        anonymous: int = False,
        answered: bool = False,
    ) -> FlowRef | None:
        """Add a new flow, even if it is `answered` already; where the segment is full one is evicted, None where none
        gives way."""
        segment = self.probation
        client, tier, priority = holder
        if client:
            self.usage.opened(client)
        slot = self._place(priority, now)
        if slot is None:
            self.not_recorded += 1
            return None
        if slot < len(segment.keys) and segment.keys[slot] is not None:
            self.translations.close(segment.clear(slot))
            self.evicted += 1
        life = session_seconds if key[0] == TCP else DATAGRAM_SECONDS
        segment.put(slot, key, owner, life, flow_hash, now, int(anonymous), (client, self._tier(tier), priority))
        segment.answered[slot] = answered
        return segment, slot

    def _place(self, priority: int, now: int) -> int | None:
        """The place of a new flow of a priority among the new ones (ranks.py)."""
        segment, lowest = self.probation, self.lowest_priority
        if lowest is None:
            return segment.next_slot()

        def rank_at(slot: int) -> int:
            idle = now - segment.seen[slot] > self._life(segment, slot)
            return 0 if idle else rank_of(segment.priorities[slot], lowest)

        return next_place(segment, rank_of(priority, lowest), rank_at)

    def renew(
        self, flow: FlowRef, owner: int, flow_hash: int, holder: Holder = ANYBODY, *, anonymous: int = False
    ) -> None:
        """Give a flow that is opened again the server, mark and holder that it has from now on; one that was
        another dispatcher's is `anonymous` or not from now on."""
        segment, slot = flow
        if segment.anonymous[slot] == STAYS_NEW:
            segment.anonymous[slot] = anonymous
        if segment is self.established:
            self._count(segment.clients[slot], segment.anonymous[slot], -1)
            self._count(holder[0], segment.anonymous[slot], 1)
        client, tier, priority = holder
        if segment.closing[slot] and client:
            self.usage.opened(client)
        segment.clients[slot], segment.tiers[slot], segment.priorities[slot] = client, self._tier(tier), priority
        if server_of(segment.owner[slot]) != server_of(owner):
            key = segment.keys[slot]
            assert key is not None  # noqa: S101 - a flow has one
            self.translations.close(key)
        segment.owner[slot], segment.hashes[slot] = owner, flow_hash
        segment.resumed[slot] = segment.closing[slot] = 0

    def take_over(self, flow: FlowRef | None, *, resumed: bool) -> None:
        """Note whether a flow, if it is recorded, was running already, and so not judged as a new one."""
        if flow:
            flow[0].resumed[flow[1]] = resumed

    def _tier(self, name: str) -> int:
        """The number of a tier in `tier_names`; 0 for those after MOST_TIERS."""
        number = self._tier_numbers.get(name)
        if number is None:
            number = len(self.tier_names)
            if number > MOST_TIERS:
                return 0
            self.tier_names.append(name)
            self._tier_numbers[name] = number
        return number

    def find(self, key: bytes, now: int = 0) -> FlowRef | None:
        """A flow that is known at `now`; changes nothing."""
        for segment in (self.established, self.probation):
            slot = segment.slots.get(key)
            if slot is not None:
                return None if now - segment.seen[slot] > self._life(segment, slot) else (segment, slot)
        return None

    def port_at(self, flow: FlowRef, server: bytes, now: int) -> bytes | None:
        """The client's port of a flow at a server under nat, as `Translations.open`. A flow that has been judged in
        full and is authentic displaces an anonymous one that is young: any other may be somebody's for long."""
        segment, slot = flow
        key = segment.keys[slot]
        assert key is not None  # noqa: S101 - a flow has one
        yields = segment.anonymous[slot] or segment.resumed[slot]
        return self.translations.open(key, server, now, None if yields else self._displace)

    def _displace(self, key: bytes, now: int) -> None:
        flow = self.find(key)
        if flow and flow[0].anonymous[flow[1]] and now - flow[0].opened[flow[1]] < YOUNG_SECONDS:
            self.drop(flow)

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
            self._count(segment.clients[slot], segment.anonymous[slot], -1)

    def sweep(self, now: int, budget: int = 1 << 62) -> None:
        """Remove what has expired among the next `budget` slots of each segment, fragments, uses and counts."""
        for segment in (self.established, self.probation):
            self._walk(segment, min(budget, len(segment.keys)), now)
        self.fragments.sweep(now, budget)
        self.uses.sweep(now, budget)
        self.guesses.sweep(now, budget)
        self.relayed.sweep(now, budget)

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
