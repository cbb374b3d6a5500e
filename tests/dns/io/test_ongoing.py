"""Answers of one connection that take long."""

from __future__ import annotations

import asyncio

from dnsvip.dns.io.ongoing import Ongoing


async def test_what_is_made_elsewhere() -> None:
    """An answer that is made elsewhere is sent with its end once it is there, also where no key tells answers apart;
    one that nobody waits for is not."""
    sent: list[bytes | None] = []
    woken: list[bool] = []
    ongoing: Ongoing[None] = Ongoing(lambda _, message: sent.append(message), lambda: woken.append(True))
    later: list[asyncio.Future[bytes | None]] = [asyncio.get_running_loop().create_future() for _ in range(2)]
    ongoing.add(None, later[0])
    later[0].set_result(b"answer")
    await asyncio.sleep(0)
    assert (sent, woken, len(ongoing)) == ([b"answer", None], [True], 0)
    ongoing.add(None, later[1])
    ongoing.clear()
    later[1].set_result(b"late")
    await asyncio.sleep(0)
    assert sent == [b"answer", None]
