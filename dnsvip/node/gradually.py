"""Work of the event loop that nobody waits for: done in slices, with rests that are longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import perf_counter

SECONDS = 0.001
"""How long a slice takes, but for the step that ends it."""

REST = 9
"""A rest is so many times as long as the slice before: a tenth of one processor is used."""


async def gradually(steps: Iterator[object], is_over: Callable[[], bool]) -> None:
    """Take the steps until there are no more, or `is_over` says after a rest that they are of no use any longer."""
    while not is_over():
        begun = perf_counter()
        for _ in steps:
            if perf_counter() - begun >= SECONDS:
                break
        else:
            return
        await asyncio.sleep(REST * (perf_counter() - begun))
