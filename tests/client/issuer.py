"""A DNS server that issues test_agent's address to signed queries: `python -m tests.client.issuer HOST PORT`."""

from __future__ import annotations

import asyncio
import sys

from tests.client.responder import Responder
from tests.client.test_agent import honest


async def _main(host: str, port: str) -> None:
    async with Responder(honest, host, int(port)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
