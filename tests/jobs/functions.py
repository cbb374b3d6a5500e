"""Jobs for the tests."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import IO

from dnsvip.errors import InvalidSite, Problem
from dnsvip.jobs.jobs import Jobs


async def pieces(number: int, file: IO[bytes]) -> AsyncIterator[bytes]:
    """The file in front of each of so many large pieces."""
    text = file.read()
    for _ in range(number):
        yield text + bytes(1 << 20)


def refuse() -> None:
    """Raise what the site's rules raise."""
    raise InvalidSite([Problem("tier.gold", "is wrong")], "site.toml")


def fail() -> None:
    """Raise what nobody expects."""
    raise LookupError("a fault")


def greedy() -> int:
    """Take a lot of memory."""
    return len(bytearray(4 << 30))


def crash() -> None:
    """End without a word."""
    os._exit(1)


async def _parent() -> None:
    jobs = Jobs()
    task = asyncio.ensure_future(jobs.run(time.sleep, 60, seconds=60))
    while not jobs.pids:
        await asyncio.sleep(0.01)
    print(*jobs.pids, flush=True)
    await task


if __name__ == "__main__":
    sys.exit(asyncio.run(_parent()))
