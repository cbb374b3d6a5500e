"""How many questions go up to a server that cannot keep up."""

from __future__ import annotations

from dnsvip.dns.io.xdp.budget import BEHIND_SECONDS, CALM_SECONDS, LEAST, MOST_HELD, MOST_WAITING, Budget

TICK = 0.05


def looked(budget: Budget, seconds: float, done: float, lost: int = 0, waiting: int = 0, held: int = 0) -> None:
    """So many seconds in which there is time for so many questions a second."""
    for _ in range(round(seconds / TICK)):
        budget.look(TICK, round(done * TICK), lost, waiting, held)


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
    budget.look(TICK, 1000, 50, 0, 0)
    looked(budget, 0.15, 20_000, waiting=MOST_WAITING + 1)
    assert budget.rate is not None
    assert budget.rate >= 0.9 * 20_000
    looked(budget, 2, 20_000)
    assert budget.rate > 20_000


def test_a_flood() -> None:
    """What goes up is less and less while questions wait, never less than LEAST, and more once they do not."""
    for behind in ({"waiting": MOST_WAITING + 1}, {"held": MOST_HELD + 1}, {"lost": 1}):
        budget = Budget()
        budget.look(TICK, 500, 1, 0, 0)
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
    budget.look(TICK, 500, 1, 0, 0)
    looked(budget, CALM_SECONDS - 1, 100)
    assert budget.rate is not None
    looked(budget, 2, 100)
    assert budget.rate is None
