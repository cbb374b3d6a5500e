"""Places for what callers ask of the database: bounded for each and in all, fair, and never lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from dnsvip.errors import DatabaseBusy, OwnRequests
from dnsvip.store.database.places import FOR_UNKNOWN, UNKNOWN, Places


async def hold(places: Places, caller: str, order: list[str], seconds: float = 60) -> None:
    """Hold a place for a while, and tell when it was got."""
    async with places.place(caller):
        order.append(caller)
        await asyncio.sleep(seconds)


async def begun(*tasks: asyncio.Task[None]) -> None:
    """Let tasks get as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for them."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_next_is_of_who_has_fewest() -> None:
    """A place that gets free goes to the caller with the fewest, though another has waited longer."""
    places, order = Places(3, 3, 60), list[str]()
    first = [asyncio.create_task(hold(places, "a", order)) for _ in range(5)]
    await begun()
    other = asyncio.create_task(hold(places, "b", order))
    await begun()
    assert order == ["a", "a", "a"]
    await ended(first[0])
    await begun()
    assert order == ["a", "a", "a", "b"]
    await ended(*first, other)
    assert await asyncio.wait_for(hold(places, "c", order, 0), 1) is None


async def test_what_is_for_unknown_callers_nobody_fills() -> None:
    """Who is not known yet has places apart, a few; known ones cannot take them."""
    places, order = Places(1, 1, 0.01), list[str]()
    known = asyncio.create_task(hold(places, "a", order))
    await begun()
    unknown = [asyncio.create_task(hold(places, UNKNOWN, order)) for _ in range(FOR_UNKNOWN)]
    await begun()
    assert order == ["a", *[UNKNOWN] * FOR_UNKNOWN]
    with pytest.raises(DatabaseBusy, match="busy with requests of others") as caught:
        await hold(places, UNKNOWN, order)
    assert not isinstance(caught.value, OwnRequests)
    with pytest.raises(OwnRequests, match="1 requests of this token"):
        await hold(places, "a", order)
    await ended(known, *unknown)


async def test_a_task_has_one_place() -> None:
    """What a task asks within what it asks already takes no further place: it would wait for itself."""
    places = Places(1, 1, 0.01)
    async with places.place("a"), places.place("a"):
        pass
    async with places.place("b"):
        pass


async def test_no_place_is_lost() -> None:
    """Whatever ends waiting or holding, at whatever moment, all places are free afterwards."""
    places, order = Places(2, 2, 0.003), list[str]()
    for number in range(200):
        tasks = [asyncio.create_task(hold(places, "ab"[at % 2], order, 0.002)) for at in range(6)]
        for task in tasks[: number % 7]:
            await asyncio.sleep(0.0005)
            task.cancel()
        with suppress(DatabaseBusy):
            await asyncio.gather(*tasks, return_exceptions=True)
    two = [asyncio.create_task(hold(places, "c", order)) for _ in range(2)]
    await begun()
    assert order[-2:] == ["c", "c"]
    assert not places._waiting
    await ended(*two)
    assert not places._held
