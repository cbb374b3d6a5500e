"""How often primaries are asked, however many zones they have."""

from __future__ import annotations

import asyncio
import time

from dnsvip.node.secondaries import _Shares


async def test_a_primary_of_thousands_of_zones() -> None:
    """Checks begin at a pace, so that a primary whose zones want to be looked for each second takes its part of the
    node's time and no more; another primary's zone is looked for meanwhile."""
    shares, begun = _Shares(8, 0.01), list[str]()

    async def check(primary: str) -> None:
        async with shares.place(primary):
            begun.append(primary)

    start = time.monotonic()
    many = [asyncio.create_task(check("192.0.2.1")) for _ in range(100)]
    await asyncio.sleep(0.1)
    await check("192.0.2.2")
    assert len(begun) < 60
    await asyncio.gather(*many)
    assert time.monotonic() - start >= 0.99
