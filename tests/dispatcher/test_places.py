"""Places for probes, in time that passes only where all wait."""

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from dnsvip.dispatcher.io.health.places import GaveWay, ProbePlaces

INTERVAL, SILENT_TIMEOUT = 0.1, 60.0
WHILE = 1e-6
"""Seconds that a turn of the event loop takes."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to what is next."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        self.now += WHILE
        super()._run_once()


async def check(places: ProbePlaces, pool: str, takes: float, results: list[tuple[float, bool]] | None = None) -> None:
    """Probe a server again and again that answers after some seconds; what takes longer than a minute fails."""
    loop = asyncio.get_running_loop()

    async def probe() -> Any:
        await asyncio.sleep(min(takes, SILENT_TIMEOUT))
        return SimpleNamespace(passed=takes < SILENT_TIMEOUT)

    while True:
        try:
            passed = (await places.run(pool, probe)).passed
        except GaveWay:
            passed = False
        if results is not None:
            results.append((loop.time(), passed))
        await asyncio.sleep(INTERVAL)


async def beside(pools: int, takes: float, before: float, seconds: float) -> list[tuple[float, bool]]:
    """When the probes of one server ended and whether they passed, in some seconds beside so many pools of others that
    do not answer; `before` says how long these have been there."""
    random, places, results = Random(1), ProbePlaces(32), []
    tasks = []
    for number in range(pools):
        tasks.append(asyncio.ensure_future(check(places, f"p{number}", 1e9)))
        await asyncio.sleep(random.random() * INTERVAL / pools)
    await asyncio.sleep(before)
    tasks.append(asyncio.ensure_future(check(places, "other", takes, results)))
    begun = asyncio.get_running_loop().time()
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return [(at - begun, passed) for at, passed in results]


@pytest.mark.parametrize("before", [0, 400])
@pytest.mark.parametrize("takes", [1.5, 3, 4.5])
@pytest.mark.parametrize("pools", [50, 250])
def test_slow_servers_are_found_to_answer(pools: int, takes: float, before: float) -> None:
    """A server that answers within the timeout of its check is found to do so, and from then on each time, however many
    pools have servers that do not; sooner where it is not as new as they are."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        results = runner.run(beside(pools, takes, before, 600))
    first = next(number for number, (_, passed) in enumerate(results) if passed)
    assert results[first][0] < (60 if before > takes else 400)
    assert all(passed for _, passed in results[first:])
    assert len(results) - first >= 10


def test_others_have_their_probes() -> None:
    """The spared ones take a quarter of the places: of a server that answers at once the probes go on."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        results = runner.run(beside(250, 0.01, 400, 100))
    assert all(passed for _, passed in results)
    assert len(results) >= 8
