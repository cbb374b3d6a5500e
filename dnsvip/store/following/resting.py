"""Rests between the generations that a node takes: a writer without end gets a share of it, not all.

A change after a quiet time is taken at once. One in a stream waits until the generation before it has been taken, and
at most LONGEST longer, whoever makes the stream: so does a revocation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

REST = 4
"""A rest is so many times as long as what it follows: a fifth of the time is used."""

LONGEST = 0.3
"""Seconds that a rest takes at most: less than the half a second in which a change is in the answers."""


@asynccontextmanager
async def resting() -> AsyncIterator[None]:
    """Rest after what the context holds, unless it has raised."""
    begun = perf_counter()
    yield
    await asyncio.sleep(min(REST * (perf_counter() - begun), LONGEST))
