"""A look at all of very many on the event loop, in slices so short that DNS and other requests do not wait."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence, Sized
from itertools import islice
from typing import TypeVar

SLICE_SECONDS = 0.002
"""How long the event loop is held at a time."""

BATCH = 250
"""Items between two looks at the clock."""

T = TypeVar("T")


def batch_of(patterns: Sized | None) -> int:
    """How large batches of names are that are compared with so many patterns."""
    return BATCH if not patterns else max(1, BATCH // len(patterns))


async def in_slices(items: Iterable[T], batch_size: int = BATCH) -> AsyncIterator[list[T]]:
    """All items in batches, between which others have their turn. `items` must not change meanwhile, as those of a
    snapshot do not."""
    left, end = iter(items), time.perf_counter() + SLICE_SECONDS
    while batch := list(islice(left, batch_size)):
        yield batch
        if time.perf_counter() >= end:
            await asyncio.sleep(0)
            end = time.perf_counter() + SLICE_SECONDS


async def first_in_order(
    names: Iterable[str], fits: Callable[[str], bool], most: int, *, descending: bool = False, batch_size: int = BATCH
) -> Sequence[str]:
    """The first `most` names in order that fit."""
    pick, best = heapq.nlargest if descending else heapq.nsmallest, list[str]()
    async for batch in in_slices(names, batch_size):
        if some := list(filter(fits, batch)):
            best = pick(most, [*best, *some])
    return best
