"""A DNS server that issues test_agent's address to signed queries: `python -m tests.client.issuer HOST PORT [IPV4]`.

With IPV4 every name has that A record too.
"""

from __future__ import annotations

import asyncio
import sys

import dns.message
import dns.rdatatype

from tests.client.responder import Responder, reply
from tests.client.test_agent import honest


async def _main(host: str, port: str, ipv4: str = "") -> None:
    def answering(query: dns.message.Message, transport: str) -> list[bytes]:
        if ipv4 and query.question[0].rdtype == dns.rdatatype.A:
            return [reply(query, f"{query.question[0].name} 60 IN A {ipv4}").to_wire()]
        return honest(query, transport)

    async with Responder(answering, host, int(port)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
