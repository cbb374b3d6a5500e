"""Encrypted channels to DNS servers, kept and used again: one to each server, opened when it is asked.

A server that cannot be reached is left alone for a while, longer each time, so that the next one is asked at once. A
query on a kept connection that turns out to be closed goes once more on a new one.
"""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Awaitable, Callable
from typing import Protocol

import dns.opcode

from dnsvip.client.io.encrypted.credentials import CertificateRefused, ChannelError, Closed, Credentials, tls_context
from dnsvip.client.io.encrypted.streams import ALPN, TlsChannel
from dnsvip.client.outline import OPCODE
from dnsvip.site.server_forms import Scheme, ServerForm, parse_server

OPEN_SECONDS = 5.0
"""For a connection with its handshake, whoever waits for it."""
IDLE_SECONDS = 60.0
"""A connection that nobody has used for so long is closed."""
PAUSE_SECONDS, LONGEST_PAUSE = 1.0, 60.0
"""After the second failure in a row to connect, doubled with each more."""
REFUSED_SECONDS = 60.0
"""A server that has refused the client's certificate is not shown it for so long."""


class Channel(Protocol):
    """An open connection; `heard` counts what has come on it."""

    open: bool
    heard: int

    async def ask(self, wire: bytes) -> bytes:
        """The answer to a query; raises ChannelError."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Channels:
    """The channels of one client with the same credentials, in one event loop at a time. `warn` is told what the user
    should know, once. A server that refuses the client's certificate is asked with the credentials `instead` for a
    while."""

    def __init__(
        self,
        credentials: Credentials | None = None,
        warn: Callable[[str], None] = warnings.warn,
        instead: Credentials | None = None,
    ) -> None:
        self._credentials, self._instead = credentials or Credentials(), instead
        self._warn, self._warned = warn, False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lines: dict[str, _Line] = {}
        self._refused: dict[str, float] = {}

    async def ask(self, server: str, wire: bytes) -> bytes:
        """The answer of a server (a checked encrypted form) to a query. Raises ChannelError; the caller bounds the
        time."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # what was open went with the loop before
            self._loop, self._lines, self._refused = loop, {}, {}
        if self._refused.get(server, math.inf) < loop.time():
            del self._refused[server]
            self._drop(server)
        try:
            return await self._line(server).ask(wire)
        except CertificateRefused:
            if self._instead is None:
                raise
            if server not in self._refused:
                self._refused[server] = loop.time() + REFUSED_SECONDS
                self._drop(server)
            return await self._line(server).ask(wire)

    def _drop(self, server: str) -> None:
        line = self._lines.pop(server, None)
        if line is not None:
            line.close()

    def _line(self, server: str) -> _Line:
        line = self._lines.get(server)
        if line is None:
            credentials = self._instead if self._instead and server in self._refused else self._credentials
            line = self._lines[server] = _Line(parse_server(server), credentials)
        return line

    def falls_back(self, server: str) -> None:
        """Say that a server is asked in plain text, as encrypted ones have failed."""
        if not self._warned:
            self._warned = True
            self._warn(f"encrypted DNS servers do not answer: {server} is asked in plain text, as the enrolment allows")

    def close(self) -> None:
        """Close all."""
        if self._loop is not None and not self._loop.is_closed():
            for line in self._lines.values():
                line.close()
        self._lines = {}


class _Line:
    """One server: its channel where one is open, and how it went so far."""

    def __init__(self, server: ServerForm, credentials: Credentials) -> None:
        self._open = _opener(server, credentials)
        self._channel: Channel | None = None
        self._opening: asyncio.Task[Channel] | None = None
        self._failures, self._pause_until, self._failure = 0, 0.0, ""
        self._using = 0
        self._idle: asyncio.TimerHandle | None = None

    async def ask(self, wire: bytes) -> bytes:
        """The answer, on the open channel or a new one."""
        self._using += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        try:
            kept = self._channel
            if kept is not None and kept.open:
                repeatable = int.from_bytes(wire[2:4], "big") & OPCODE == dns.opcode.QUERY
                try:
                    return await self._on(kept, wire)
                except Closed as error:
                    if not repeatable or isinstance(error, CertificateRefused):
                        raise
            return await self._on(await self._opened(), wire)
        finally:
            self._using -= 1
            if not self._using and self._channel is not None:
                self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self.close)

    def close(self) -> None:
        """Close the channel, and stop opening one."""
        if self._idle is not None:
            self._idle.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if self._channel is not None:
            self._channel.close()
        self._channel = self._opening = self._idle = None

    async def _on(self, channel: Channel, wire: bytes) -> bytes:
        """Ask on a channel; one that is silent all the time that a query waits is not used again."""
        heard = channel.heard
        try:
            return await channel.ask(wire)
        except asyncio.CancelledError:
            if channel.heard == heard and channel is self._channel:
                self._channel = None
                channel.close()
            raise

    async def _opened(self) -> Channel:
        """A new channel, or the one that another query is opening. Raises ChannelError."""
        loop = asyncio.get_running_loop()
        if self._opening is None:
            if self._channel is not None and self._channel.open:
                return self._channel
            if loop.time() < self._pause_until:
                raise ChannelError(f"{self._failure}; tried again in {self._pause_until - loop.time():.0f} s")
            self._opening = loop.create_task(self._try())
            self._opening.add_done_callback(_seen)
        return await asyncio.shield(self._opening)

    async def _try(self) -> Channel:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                self._channel = await self._open()
            self._failures = 0
        except (ChannelError, TimeoutError) as error:
            self._failure = str(error) or "no connection in time"
            self._failures += 1
            pause = PAUSE_SECONDS * 2 ** (self._failures - 2) if self._failures > 1 else 0.0
            self._pause_until = loop.time() + min(pause, LONGEST_PAUSE)
            raise ChannelError(self._failure) from None
        finally:
            self._opening = None
        return self._channel


def _seen(task: asyncio.Task[Channel]) -> None:
    """Look at a failure that nobody may be waiting for any more."""
    if not task.cancelled():
        task.exception()


def _opener(server: ServerForm, credentials: Credentials) -> Callable[[], Awaitable[Channel]]:
    """What opens a channel to a server. Raises ChannelError."""
    name = credentials.server_name(server)
    if server.scheme is Scheme.QUIC:
        from dnsvip.client.io.encrypted.quic import QuicChannel, QuicSettings  # noqa: PLC0415 - it takes long

        settings = QuicSettings(credentials, name)
        return lambda: QuicChannel.to(server, settings, credentials)
    if server.is_http:
        from dnsvip.client.io.encrypted.http_versions import HttpVersions  # noqa: PLC0415 - as above

        return HttpVersions(server, name, credentials).open
    context = tls_context(credentials, ALPN)
    return lambda: TlsChannel.to(server, context, name, credentials)
