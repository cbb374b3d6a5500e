"""Load by DNS over QUIC, as dnsperf makes it by DoT and DoH: no such program is in Debian.

    python -m tests.bench.quic_load queries PORT CONNECTIONS SECONDS     two questions under way on each connection
    python -m tests.bench.quic_load handshakes PORT SECONDS              one connection after the other

Says "ready", begins when it reads a line, and prints how many were answered, or made.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack

from dnsvip.dns.io.framing import frame
from tests.dns.io.quic.peers import Asking, asking

QUESTION = b"\0\0\0\0\0\1\0\0\0\0\0\0\3www\5bench\4test\0\0\x1c\0\1"


async def queries(port: int, connections: int, seconds: float) -> int:
    """Ask on connections that are kept."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(asking(port)) for _ in range(connections)]
        end = _begin() + seconds
        counts = await asyncio.gather(*(_ask(client, end) for client in clients for _ in range(2)))
        return sum(counts)


def _begin() -> float:
    """The time when it may begin."""
    print("ready", flush=True)
    sys.stdin.readline()
    return time.monotonic()


async def _ask(client: Asking, end: float) -> int:
    answered = 0
    while time.monotonic() < end:
        stream = client.tell(frame(QUESTION))
        await asyncio.wait_for(client.end_of(stream), 30)
        del client.ended[stream], client.came[stream]
        answered += 1
    return answered


async def handshakes(port: int, seconds: float) -> int:
    """Open connections, and close them."""
    made, end = 0, _begin() + seconds
    while time.monotonic() < end:
        async with asking(port):
            made += 1
    return made


if __name__ == "__main__":
    what, port, *numbers = sys.argv[1:]
    if what == "queries":
        print(asyncio.run(queries(int(port), int(numbers[0]), float(numbers[1]))), flush=True)
    else:
        print(asyncio.run(handshakes(int(port), float(numbers[0]))), flush=True)
