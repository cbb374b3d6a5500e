"""Work that nobody waits for takes a small share of the loop, and ends where it is of no use any longer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from dnsvip.node import gradually as module
from dnsvip.node.gradually import REST, SECONDS, gradually

STEP = 0.0003


class Clock:
    """Time that passes with steps and rests alone, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.rests = 0.0, list[float]()
        monkeypatch.setattr(module, "perf_counter", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self._rest)

    async def _rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds

    def steps(self, number: int) -> Iterator[int]:
        """So many steps that take STEP each."""
        for step in range(number):
            self.now += STEP
            yield step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock in place of the real one."""
    return Clock(monkeypatch)


async def test_a_tenth_of_the_time(clock: Clock) -> None:
    """All steps are taken, none of the slices is longer than one step more than it may, and rests are nine times so
    long."""
    steps = clock.steps(1000)
    await gradually(steps, lambda: False)
    assert next(steps, None) is None
    assert max(clock.rests) <= REST * (SECONDS + STEP)
    assert clock.now == pytest.approx((REST + 1) * 1000 * STEP, rel=0.02)


async def test_no_step_that_is_of_no_use(clock: Clock) -> None:
    """What is over after a rest is left."""
    steps = clock.steps(1000)
    await gradually(steps, lambda: len(clock.rests) == 2)
    assert next(steps) == 2 * 4
