"""Held packets go by priority, and where too many wait the lowest gives way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from dnsvip.dispatcher.admission import queue_of
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.holding import CLAIMED, LATE, HoldQueue
from dnsvip.dispatcher.token_bucket import HELD_PACKETS, HOLD_PACKETS
from dnsvip.site import Over, Per, Rate
from tests.dispatcher.build import NOW_NS, SITE, TIERS, address, segment, snapshot


def test_order() -> None:
    """At each turn of a bucket the highest priority goes, among equals who came first."""
    queue = HoldQueue[str]()
    for priority, item in ((0, "a"), (3, "b"), (0, "c"), (7, "d"), (3, "e")):
        queue.add("gold", priority, item, 0)
    queue.add("other", 7, "x", 0)
    assert [queue.release("gold", 1) for _ in range(6)] == ["d", "b", "e", "a", "c", None]
    assert (queue.release("other", 1), len(queue), queue.gave_way) == ("x", 0, 0)


def test_gives_way() -> None:
    """Where too many wait the latest of the lowest priority gives way to a higher one, and to no equal one."""
    queue = HoldQueue[str](3)
    for priority, item in ((1, "a"), (0, "b"), (0, "c")):
        queue.add("t", priority, item, 0)
    assert [queue.has_room("v", priority) for priority in (0, 1, 7)] == [False, True, True]
    queue.add("t", 2, "d", 0)
    queue.add("u", 1, "e", 0)
    assert [queue.has_room("v", priority) for priority in (0, 1, 2)] == [False, False, True]
    assert [queue.release("t", 1) for _ in range(4)] == ["d", "a", None, None]
    assert (queue.release("u", 1), len(queue), queue.gave_way) == ("e", 0, 2)


def test_late() -> None:
    """Who has waited for over a second, because others went before, is dropped and counted."""
    queue = HoldQueue[str]()
    queue.add("t", 0, "old", 0)
    queue.add("t", 0, "new", LATE)
    assert queue.release("t", LATE + 1) == "new"
    assert (len(queue), queue.gave_way) == (0, 1)


def test_nothing_stays() -> None:
    """However many come and give way, what has gone is forgotten."""
    queue, turns = HoldQueue[int](8), list[int]()
    for number in range(1000):
        if queue.has_room(number, number % 8):
            queue.add(number % 5, number % 8, number, number)
            turns.append(number % 5)
        for bucket in turns if number % 10 == 9 else ():
            queue.release(bucket, number)
        turns = [] if number % 10 == 9 else turns
    assert len(queue) == 0
    assert not queue._buckets
    assert not queue._numbers
    assert not any(queue._levels)


@pytest.mark.parametrize("crowd", [1, 3, 50])
def test_few_leave_places(crowd: int) -> None:
    """However many packets a few clients or sources bring, in turn, another of their priority finds places, and as many
    as any of them has; alone, one has what a tier may hold."""
    queue = HoldQueue[str]()
    held: Counter[str] = Counter()
    for number in range(crowd * HOLD_PACKETS):
        bucket = str(number % crowd)
        if queue.has_room(bucket, 0):
            queue.add(bucket, 0, "", 0)
            held[bucket] += 1
    if crowd == 1:
        assert held["0"] == HOLD_PACKETS
    others = 0
    while queue.has_room("other", 0):
        queue.add("other", 0, "", 0)
        others += 1
    assert others >= 0.7 * max(held.values())
    assert queue.has_room("another", 0)


def test_admission() -> None:
    """With every place taken by a lower priority a new flow is still held, with one of its own it is dropped."""
    tiers = {**TIERS, "held": replace(TIERS["held"], priority=4, rate=Rate(10, 1, Over.HOLD, Per.CLIENT))}
    tables, flows = DispatchTables(snapshot(replace(SITE, tiers=tiers))), Flows(1000)
    for number in range(HELD_PACKETS):
        flows.hold.add("other", 0 if number else 4, b"", 0)
    reasons = []
    for port in range(1, 4):
        verdict = decide(segment(address("held", 7), port=port), tables, flows, NOW_NS)
        reasons.append(verdict.reason)
        if verdict.delay:
            bucket, priority = queue_of(verdict, tables)
            assert (bucket[0], priority) == ("held", 4 * CLAIMED)  # type: ignore[index]
            flows.hold.add(bucket, priority, b"", 0)
    assert reasons == ["issued", "held", "held"]
    full = Flows(1000)
    for _ in range(HELD_PACKETS):
        full.hold.add("other", 4 * CLAIMED, b"", 0)
    reasons = [decide(segment(address("held", 7), port=port), tables, full, NOW_NS).reason for port in (1, 2)]
    assert reasons == ["issued", "over-rate"]
