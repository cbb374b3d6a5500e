"""DNS over TLS (RFC 7858): one connection on which many queries wait at a time, answered in any order (RFC 7766)."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

from dnsvip.client.io.encrypted.credentials import (
    ChannelError,
    Closed,
    Credentials,
    ResumingContext,
    broken,
    check_pin,
    tls_failure,
)
from dnsvip.client.outline import Malformed, Outline, outline
from dnsvip.errors import DnsvipError
from dnsvip.site.server_forms import ServerForm

ALPN = "dot"
MOST_WAITING = 100
"""Queries that wait on one connection; others wait for one of these."""
MOST_STRAYS = 100
"""Messages in a row that answer nothing, after which the server is not listened to any more."""


class _Waiting(NamedTuple):
    query: Outline
    answer: asyncio.Future[bytes]


async def connected(
    server: ServerForm, context: ResumingContext, name: str, credentials: Credentials
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, ssl.SSLObject]:
    """A verified TLS connection; raises ChannelError."""
    try:
        reader, writer = await asyncio.open_connection(server.host, server.port, ssl=context, server_hostname=name)
    except (OSError, EOFError) as error:
        raise ChannelError(tls_failure(error, name)) from None
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    try:
        check_pin(credentials.trust, tls.getpeercert(binary_form=True))
    except DnsvipError:
        writer.transport.abort()
        raise
    return reader, writer, tls


class TlsChannel:
    """An open connection. `open` tells whether it takes queries."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLObject, context: ResumingContext
    ) -> None:
        self._reader, self._writer, self._tls, self._context = reader, writer, tls, context
        self._waiting: dict[int, _Waiting] = {}
        self._room = asyncio.Semaphore(MOST_WAITING)
        self.open = True
        self.heard = 0
        """Messages that have come."""
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def to(cls, server: ServerForm, context: ResumingContext, name: str, credentials: Credentials) -> TlsChannel:
        """Connect; raises ChannelError."""
        return cls(*await connected(server, context, name, credentials), context)

    async def ask(self, wire: bytes) -> bytes:
        """The message that answers a query: the same id, opcode and question. Raises ChannelError where the connection
        ends before."""
        query = outline(wire)
        async with self._room:
            while (other := self._waiting.get(query.id)) is not None:  # the id tells answers apart
                await asyncio.wait([other.answer])
            if not self.open:
                raise Closed("closed the connection")
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting[query.id] = _Waiting(query, answer)
            try:
                self._writer.write(len(wire).to_bytes(2, "big") + wire)
                await self._writer.drain()
                return await answer
            except OSError as error:
                raise broken(error) from None
            finally:
                del self._waiting[query.id]
                answer.cancel()

    def close(self) -> None:
        """End it; whoever waits gets ChannelError."""
        self.open = False
        self._listening.cancel()
        self._end(Closed("closed the connection"))

    async def _listen(self) -> None:
        strays, end = 0, Closed("closed the connection")
        try:
            while strays < MOST_STRAYS:
                size = int.from_bytes(await self._reader.readexactly(2), "big")
                wire = await self._reader.readexactly(size)
                self.heard += 1
                strays = 0 if self._take(wire) else strays + 1
            end = Closed("sends what answers nothing")
        except Malformed:
            end = Closed("sends what is no DNS message")
        except (OSError, EOFError) as error:
            end = broken(error) if isinstance(error, ssl.SSLError) else end
        finally:
            self.open = False
            self._end(end)

    def _take(self, wire: bytes) -> bool:
        """Hand an answer to whoever waits for it; whether somebody does. Raises Malformed."""
        answer = outline(wire)
        waiting = self._waiting.get(answer.id)
        if waiting is None or waiting.answer.done() or not waiting.query.is_answered_by(answer):
            return False
        self._context.session = self._tls.session or self._context.session
        waiting.answer.set_result(wire)
        return True

    def _end(self, end: Closed) -> None:
        self._context.ended(self._tls, self.heard)
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(end)
        self._writer.transport.abort()
