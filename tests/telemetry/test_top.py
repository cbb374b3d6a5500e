"""The sketch of what there is most of, and the thinning of what it counts."""

from __future__ import annotations

from random import Random

from dnsvip.telemetry.top import HALF_SECONDS, PLACES, Thinning, Top


def test_heavy_items_are_found() -> None:
    """Whatever has more than its share of the places is found among a million others, and hardly overestimated."""
    pick, top = Random(1), Top[int](0.0)
    for number in range(20_000):
        top.add(pick.choice((1, 1, 1, 2)) if number % 2 else 1000 + number)
    best = top.most(2, 60.0)
    assert [item for item, _ in best] == [1, 2]
    assert best[0][1] > 2 * best[1][1]


def test_rates_fade() -> None:
    """A steady stream has its rate; what has ended fades by half, and is forgotten."""
    top = Top[str](0.0)
    for second in range(1, 601):
        top.add("steady", 10)
        if second % 10 == 0:
            top.most(1, float(second))
    (_, rate), *_ = top.most(1, 600.0)
    assert 9 < rate < 11
    (_, later), *_ = top.most(1, 600.0 + HALF_SECONDS)
    assert 0.49 < later / rate < 0.51
    assert top.most(1, 600.0 + 30 * HALF_SECONDS) == []


def test_a_short_stream_has_its_rate() -> None:
    """The first seconds are not divided by minutes."""
    top = Top[str](0.0)
    for _ in range(10):
        top.add("new", 5)
    assert 4.5 < top.most(1, 10.0)[0][1] < 6


def test_places_are_bounded() -> None:
    """A flood of names takes no memory: the places are what there is."""
    top = Top[int](0.0)
    for number in range(10_000):
        top.add(number)
    assert len(top.most(10_000, 1.0)) == PLACES


def test_few_are_all_picked() -> None:
    """Of few items each is picked, and stands for itself."""
    thinning = Thinning(most=64)
    assert sum(len(thinning.picks(1)) for _ in range(50)) == 50
    assert thinning.weight == 1


def test_a_flood_is_thinned() -> None:
    """Of a million items in a second some hundreds are picked, and stand for about all; a calm minute undoes that."""
    thinning, picked, stood_for = Thinning(most=64), 0, 0
    for _ in range(1_000_000 // 64):
        places = thinning.picks(64)
        assert all(0 <= place < 64 for place in places)
        picked += len(places)
        stood_for += len(places) * thinning.weight
    assert 500 < picked < 1500
    assert 900_000 < stood_for < 1_100_000
    for _ in range(20):
        thinning.relax()
    assert len(thinning.picks(8)) == 8
