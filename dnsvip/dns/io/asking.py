"""Asks another server one question, by UDP, TCP or TLS; what it sends is bounded, and what is no answer passed over."""

from __future__ import annotations

import asyncio
import ssl

from dnsvip.dns.protocol.answer import AnswerFault, is_answer


async def by_udp(query: bytes, address: str, port: int, seconds: float) -> bytes:
    """The first datagram that answers a query; raises TimeoutError, and OSError where there is no way to the server."""
    loop = asyncio.get_running_loop()
    waiting = _Waiting(query, loop.create_future())
    transport, _ = await loop.create_datagram_endpoint(lambda: waiting, remote_addr=(address, port))
    try:
        transport.sendto(query)
        async with asyncio.timeout(seconds):
            return await waiting.answer
    finally:
        transport.close()


async def by_stream(
    query: bytes,
    address: str,
    port: int,
    seconds: float,
    context: ssl.SSLContext | None = None,
    name: str | None = None,
) -> bytes:
    """The one message that a server answers by TCP, or by TLS with a `context`, which verifies that it has the `name`.
    Raises TimeoutError, OSError and EOFError, and AnswerFault for what answers another question."""
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=name)
        try:
            writer.write(len(query).to_bytes(2, "big") + query)
            answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        finally:
            writer.transport.abort()  # a peer that does not close has no claim on it
    if not is_answer(query, answer):
        raise AnswerFault("answers another question")
    return answer


class _Waiting(asyncio.DatagramProtocol):
    """Waits on a connected socket for the answer to a query."""

    def __init__(self, query: bytes, answer: asyncio.Future[bytes]) -> None:
        self._query, self.answer = query, answer

    def datagram_received(self, data: bytes, _addr: object) -> None:
        """See DatagramProtocol."""
        if not self.answer.done() and is_answer(self._query, data):
            self.answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        """See DatagramProtocol. A port that is closed may be open at the next try, and anybody could say that it is."""
        if not self.answer.done() and not isinstance(error, ConnectionRefusedError):
            self.answer.set_exception(error)
