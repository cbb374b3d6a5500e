"""How many questions go up to a server that cannot keep up."""

from __future__ import annotations

import pytest

from dnsvip.dns.io.xdp.budget import (
    BEHIND_SECONDS,
    CALM_SECONDS,
    LEAST,
    MOST_HELD,
    MOST_WAITING,
    SHARE,
    Budget,
    Look,
)

TICK = 0.05
LOST = Look(TICK, 500, lost=1)


def looked(budget: Budget, seconds: float, done: float, lost: int = 0, waiting: int = 0, held: int = 0) -> None:
    """So many seconds in which there is time for so many questions a second."""
    for _ in range(round(seconds / TICK)):
        budget.look(Look(TICK, round(done * TICK), lost, waiting=waiting, held=held))


def flooded(budget: Budget, seconds: float, each: float, most: float = 1.0) -> float:
    """So many seconds of a flood whose questions take so many seconds each; which part of the time of the last one
    went to them, of which there is not more than `most`."""
    share = 0.0
    for _ in range(round(seconds / TICK)):
        done = int(min((budget.rate or 1e9) * TICK, most * TICK / each))
        share = done * each / TICK
        budget.look(Look(TICK, done, refused=100_000, spent=done * each))
    return share


def test_no_budget_while_nothing_is_lost() -> None:
    """However many questions wait, none is dropped in advance."""
    budget = Budget()
    looked(budget, 60, 100_000, waiting=4000, held=4 << 20)
    assert budget.rate is None


def test_a_stall_costs_a_steady_load_nothing() -> None:
    """After a moment in which nothing was done and some was lost, as many go up as before."""
    budget = Budget()
    looked(budget, 5, 20_000)
    looked(budget, 0.3, 0)
    budget.look(Look(TICK, 1000, lost=50))
    looked(budget, 0.15, 20_000, waiting=MOST_WAITING + 1)
    assert budget.rate is not None
    assert budget.rate >= 0.9 * 20_000
    looked(budget, 2, 20_000)
    assert budget.rate > 20_000


def test_a_flood() -> None:
    """What goes up is less and less while questions wait, never less than LEAST, and more once they do not."""
    for behind in ({"waiting": MOST_WAITING + 1}, {"held": MOST_HELD + 1}, {"lost": 1}):
        budget = Budget()
        budget.look(LOST)
        assert budget.rate == 500 / TICK
        looked(budget, 2 * BEHIND_SECONDS, 10_000, **behind)
        assert budget.rate < 0.7 * 10_000
        looked(budget, 60, 10_000, **behind)
        assert budget.rate == LEAST
        looked(budget, 2, LEAST)
        assert budget.rate > 1.4 * LEAST


def test_the_end_of_a_flood() -> None:
    """There is no budget any more once hardly any of it has been used for a while."""
    budget = Budget()
    budget.look(LOST)
    looked(budget, CALM_SECONDS - 1, 100)
    assert budget.rate is not None
    looked(budget, 2, 100)
    assert budget.rate is None


@pytest.mark.parametrize("each", [20e-6, 100e-6])
def test_the_rest_of_the_process_has_its_time(each: float) -> None:
    """In a flood, questions take SHARE of the server's time, whatever each of them takes and interrupts leave it."""
    budget = Budget()
    budget.look(LOST)
    assert flooded(budget, 5, each) == pytest.approx(SHARE, rel=0.1)
    assert flooded(budget, 10, each * 2, most=0.5) == pytest.approx(SHARE, rel=0.1)
    assert flooded(budget, 30, each) == pytest.approx(SHARE, rel=0.2)


def test_questions_that_take_very_long() -> None:
    """LEAST go up whatever they take."""
    budget = Budget()
    budget.look(LOST)
    flooded(budget, 10, 0.9 / LEAST)
    assert budget.rate == LEAST


def test_a_busy_server_that_is_not_flooded() -> None:
    """Who takes nearly all of the time keeps it, after a moment in which some was lost, while the kernel drops less
    than goes up."""
    budget = Budget()
    looked(budget, 5, 20_000)
    budget.look(Look(TICK, 1000, lost=50, spent=TICK))
    for _ in range(100):
        budget.look(Look(TICK, 1000, refused=900, spent=0.95 * TICK))
    assert budget.rate is not None
    assert budget.rate >= 20_000


def test_what_waits_when_a_flood_begins() -> None:
    """It is of the flood: told once for each."""
    budget = Budget()
    assert [budget.look(Look(TICK, 500, lost=1, refused=900)) for _ in range(4)] == [False, True, False, False]
    looked(budget, CALM_SECONDS + 1, 100)
    assert budget.rate is None
    assert [budget.look(Look(TICK, 500, lost=1, refused=900)) for _ in range(3)] == [False, True, False]
