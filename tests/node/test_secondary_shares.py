"""How often primaries are asked, however many zones they have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from dnsvip.node.secondaries import _Shares


async def test_a_primary_of_thousands_of_zones() -> None:
    """Checks begin at a pace, so that a primary whose zones want to be looked for each second takes its part of the
    node's time and no more; another primary's zone is looked for meanwhile."""
    shares, begun = _Shares(8, 0.01), list[str]()

    async def check(primary: str) -> None:
        async with shares.place(f"{primary}:53"):
            begun.append(primary)

    start = time.monotonic()
    many = [asyncio.create_task(check("192.0.2.1")) for _ in range(100)]
    await asyncio.sleep(0.1)
    await check("198.51.100.2")
    assert len(begun) < 60
    await asyncio.gather(*many)
    assert time.monotonic() - start >= 0.99


@pytest.mark.parametrize(
    ("many", "other"),
    [
        (lambda number: f"192.0.2.{number}:53", "198.51.100.1:53"),
        (lambda number: f"tls://[2001:db8:0:{number}::{number}]:853#a.test", "[2001:db8:1::1]:53"),
    ],
)
async def test_a_primary_of_many_addresses(many: Callable[[int], str], other: str) -> None:
    """Zones whose primaries are one host with very many addresses leave a place to the primary of another network."""
    shares, done = _Shares(4), asyncio.Event()

    async def transfer(primary: str) -> None:
        async with shares.place(primary):
            await done.wait()

    slow = [asyncio.create_task(transfer(many(number))) for number in range(1, 50)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5), shares.place(other):
        assert not any(task.done() for task in slow)
    done.set()
    await asyncio.gather(*slow)
