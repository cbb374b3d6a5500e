"""A look at every name of a kind on the event loop, in slices so short that DNS and other requests do not wait."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

SLICE_SECONDS = 0.002
"""How long the event loop is held at a time."""

BATCH = 250
"""Names between two looks at the clock."""


async def first_in_order(
    names: Iterable[str], fits: Callable[[str], bool], most: int, *, descending: bool = False
) -> Sequence[str]:
    """The first `most` names in order that fit. `names` must not change meanwhile, as those of a snapshot do not."""
    pick = heapq.nlargest if descending else heapq.nsmallest
    left, best = iter(names), list[str]()
    end = time.perf_counter() + SLICE_SECONDS
    while batch := list(islice(left, BATCH)):
        if some := list(filter(fits, batch)):
            best = pick(most, [*best, *some])
        if time.perf_counter() >= end:
            await asyncio.sleep(0)
            end = time.perf_counter() + SLICE_SECONDS
    return best
