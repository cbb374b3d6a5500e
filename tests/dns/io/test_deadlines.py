"""One timer for many deadlines."""

from __future__ import annotations

import asyncio
from typing import Any

from dnsvip.dns.io.deadlines import WIDTH, Deadlines


class Looked:
    """Notes when it is looked at."""

    def __init__(self, seen: list[Any], name: str, fails: bool = False) -> None:
        self.seen, self.name, self.fails = seen, name, fails

    def look(self) -> None:
        self.seen.append((self.name, asyncio.get_running_loop().time()))
        if self.fails:
            raise RuntimeError("made for a test")


async def test_each_in_its_time() -> None:
    """In order, also one that is earlier than those before it; not who was removed; one that fails costs no other; none
    too early."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    deadlines, seen, now = Deadlines(), list[Any](), asyncio.get_running_loop().time()
    times = {"late": 4.5, "early": 0.5, "middle": 2.5, "removed": 2.5, "beside": 2.5}
    moments = {}
    for name, after in times.items():
        one = Looked(seen, name, fails=name == "middle")
        moments[name] = one, deadlines.add(one, now + after * WIDTH)
    deadlines.remove(*moments["removed"])
    deadlines.remove(*moments["removed"])
    async with asyncio.timeout(5):
        while len(seen) < 4:
            await asyncio.sleep(WIDTH / 5)
    assert [name for name, _ in seen][::3] == ["early", "late"]
    assert {name for name, _ in seen[1:3]} == {"middle", "beside"}
    assert all(at >= now + times[name] * WIDTH - 0.001 for name, at in seen)
    assert (deadlines._due, deadlines._moments, deadlines._timer) == ({}, [], None)
    deadlines.remove(*moments["early"])


async def test_who_has_gone_wakes_nobody() -> None:
    """The times of streams that have ended pass without the timer, but for the first."""
    deadlines, now = Deadlines(), asyncio.get_running_loop().time()
    one = Looked([], "one")
    for after in (0.5, 100.5, 200.5):
        deadlines.remove(one, deadlines.add(one, now + after * WIDTH))
    async with asyncio.timeout(2):
        while deadlines._timer is not None:
            await asyncio.sleep(WIDTH / 5)
    assert (deadlines._due, deadlines._moments) == ({}, [])
