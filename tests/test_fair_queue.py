"""The queue with fair turns: order, bounds, and who has to go."""

from __future__ import annotations

from collections import Counter
from random import Random

from dnsvip.dns.protection.sources import source_of
from dnsvip.fair_queue import FairQueue


def test_each_source_in_its_turn() -> None:
    """However many items one source has, another's only one is next but one."""
    queue: FairQueue[str] = FairQueue()
    for number in range(5):
        queue.put(b"a", f"a{number}")
    queue.put(b"b", "b0")
    queue.put(b"c", "c0")
    queue.put(b"c", "c1")
    assert [queue.take() for _ in range(9)] == ["a0", "b0", "c0", "a1", "c1", "a2", "a3", "a4", None]
    assert not queue


def test_the_oldest_of_the_largest_go() -> None:
    """A full queue makes room at the expense of the source that has most, which loses its oldest items."""
    queue: FairQueue[int] = FairQueue(16)
    assert [queue.put(b"many", number) for number in range(14)] == [[]] * 14
    assert queue.put(b"few", 100) == queue.put(b"few", 101) == []
    assert [queue.put(b"few", number) for number in (102, 103, 104)] == [[0], [1], [2]]
    assert [queue.take() for _ in range(10)] == [3, 100, 4, 101, 5, 102, 6, 103, 7, 104]
    assert [queue.take() for _ in range(7)] == [*range(8, 14), None]


def test_room_is_made_one_by_one() -> None:
    """However many items have come, one goes for each that is put, so that nobody waits while many are removed; and as
    items come and go in between, it is one of whoever has most then."""
    queue: FairQueue[int] = FairQueue(64)
    for number in range(64):
        assert queue.put(b"first", number) == []
    assert queue.put(b"first", 64) == [0]
    for number in range(60):
        assert queue.take() == number + 1
    for number in range(100, 160):
        assert queue.put(b"second", number) == []
    assert [queue.put(b"third", number) for number in range(20)] == [[number] for number in range(100, 120)]
    assert len(queue) == 64


def test_who_fills_it_is_refused() -> None:
    """While there is hardly room, the member whose items go is refused more of them, and nobody else; not once it has
    no more than its share, nor without a look at what the shares are by then."""
    queue: FairQueue[int] = FairQueue(64)
    for number in range(60):
        queue.put(b"many", number, b"one")
    queue.put(b"many", 60, b"two")
    queue.put(b"few", 61)
    assert not any(map(queue.refuses, (b"manyone", b"manytwo", b"few")))
    assert [queue.put(b"many", number, b"one") for number in range(62, 65)] == [[], [], [0]]
    assert queue.crowded
    assert [queue.refuses(whose) for whose in (b"manyone", b"manytwo", b"few", b"")] == [True, False, False, False]
    assert sum(queue.refuses(b"manyone") for _ in range(20)) == 64 // 8 - 2
    assert queue.put(b"few", 65) == [1]
    assert queue.refuses(b"manyone")
    for _ in range(8):
        queue.take()
    assert not queue.crowded
    assert not queue.refuses(b"manyone")
    while len(queue) < 63:
        queue.put(b"few", 0)
    for _ in range(20):
        queue.take()
        queue.put(b"few", 0)
    assert queue.crowded
    assert not queue.refuses(b"manyone")


def test_sources_without_number() -> None:
    """A flood from forged sources, each with one item, takes the place of its own oldest ones, at little cost."""
    queue: FairQueue[int] = FairQueue(64)
    dropped = [item for number in range(1000) for item in queue.put(number.to_bytes(3, "big"), number)]
    assert dropped == list(range(len(dropped)))
    left = []
    while (item := queue.take()) is not None:
        left.append(item)
    assert dropped + left == list(range(1000))
    assert 64 - 64 // 8 <= len(left) <= 64


def test_nothing_is_lost_and_the_few_are_spared() -> None:
    """With random sources and turns each item comes out once, in order of its source, and who has few loses none."""
    rng, queue = Random(7), FairQueue[tuple[bytes, int]](40)
    put: Counter[bytes] = Counter()
    out: dict[bytes, list[int]] = {}
    waiting: Counter[bytes] = Counter()
    for _ in range(20_000):
        gone: list[tuple[bytes, int]] = []
        if rng.random() < 0.6:
            source = rng.choice(b"aaaaaaaabbcdef").to_bytes(1, "big")
            gone = queue.put(source, (source, put[source]))
            put[source] += 1
            waiting[source] += 1
            most = max(waiting.values())
            assert all(waiting[source] >= 5 or waiting[source] == most for source, _ in gone)
        elif (item := queue.take()) is not None:
            gone = [item]
        for source, number in gone:
            out.setdefault(source, []).append(number)
            waiting[source] -= 1
        assert waiting.total() <= 40
    while (item := queue.take()) is not None:
        out[item[0]].append(item[1])
    assert out == {source: list(range(number)) for source, number in put.items()}


def test_sources() -> None:
    """An IPv4 /24 and an IPv6 /56 are one source each."""
    assert source_of(bytes([192, 0, 2, 1])) == source_of(bytes([192, 0, 2, 255])) != source_of(bytes([192, 0, 3, 1]))
    assert source_of(bytes(7) + bytes(9)) == source_of(bytes(7) + b"\xff" * 9) != source_of(b"\1" + bytes(15))


def test_members_of_a_source() -> None:
    """A source has its turns whatever the number of its members, and they take these in turn; where there is no room,
    those with most give theirs up."""
    queue: FairQueue[str] = FairQueue(16)
    for number in range(6):
        assert queue.put(b"a", f"a{number}") == []
    for member in (b"x", b"y"):
        queue.put(b"a", member.decode(), member)
    for number in range(3):
        queue.put(b"b", f"b{number}")
    assert [queue.take() for _ in range(7)] == ["a0", "b0", "x", "b1", "y", "b2", "a1"]
    for member in (b"x", b"y"):
        queue.put(b"a", member.decode(), member)
    for number in range(6, 16):
        queue.put(b"a", f"a{number}")
    assert [queue.put(b"b", f"b{number}") for number in range(3, 6)] == [["a2"], ["a3"], ["a4"]]
    assert [queue.take() for _ in range(7)] == ["a5", "b3", "x", "b4", "y", "b5", "a6"]
