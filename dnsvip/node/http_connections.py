"""Bounds on the connections of an HTTP listener: seconds for a head and between requests, numbers in all and each.

aiohttp waits for a head as long as its sender likes. A Guard stands between the transport and aiohttp's protocol and
ends what takes too long; where there are too many, the longest waiting one without a request in progress goes first.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

from dnsvip.admin.http.problems import Handler

HEAD_SECONDS = 10.0
"""From the first moment of a connection, and from the first byte of a later request, to the end of its head."""

IDLE_SECONDS = 75.0
"""Between two requests."""

LINGER_SECONDS = 1.0
"""From a request whose body took too long to the end of the connection: time to read the answer."""

MOST_EACH = 128
"""Connections of one source; a Unix socket is one source."""


def most_connections() -> int:
    """Connections in all: a quarter of the descriptors that the process may open, the rest being for DNS."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if soft == resource.RLIM_INFINITY else max(16, min(1024, soft // 4))


class Connections:
    """The connections of one listener. Seconds and numbers are those of this module unless others are given."""

    def __init__(
        self,
        most: int | None = None,
        most_each: int = MOST_EACH,
        head: float = HEAD_SECONDS,
        idle: float = IDLE_SECONDS,
    ) -> None:
        self.most, self.most_each = most or most_connections(), most_each
        self.head, self.idle = head, idle
        self._held: dict[asyncio.BaseTransport, Guard] = {}
        self._sources: Counter[str] = Counter()

    def admit(self, guard: Guard) -> None:
        """Take a connection in; where there are too many the longest waiting one goes, or this one."""
        if self._sources[guard.source] >= self.most_each:
            self._make_room(guard.source)
        elif len(self._held) >= self.most:
            self._make_room(None)
        self._held[guard.transport] = guard
        self._sources[guard.source] += 1
        if self._sources[guard.source] > self.most_each or len(self._held) > self.most:
            guard.end()

    def forget(self, guard: Guard) -> None:
        """A connection is over."""
        if self._held.pop(guard.transport, None) is not None:
            self._sources[guard.source] -= 1
            if not self._sources[guard.source]:
                del self._sources[guard.source]

    def _make_room(self, source: str | None) -> None:
        waiting = (guard for guard in self._held.values() if not guard.busy and source in (None, guard.source))
        if (oldest := next(waiting, None)) is not None:
            oldest.end()

    def factory(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Makes guarded protocols."""
        return lambda: Guard(self, make())

    def middleware(self) -> Any:
        """A middleware, the outermost one, that notes which connections have a request in progress."""

        @web.middleware
        async def noted(request: web.Request, handler: Handler) -> web.StreamResponse:
            guard = self._held.get(request.transport) if request.transport is not None else None
            if guard is None:
                return await handler(request)
            guard.begin()
            seconds = self.idle
            try:
                response = await handler(request)
                if response.status == web.HTTPRequestTimeout.status_code:
                    seconds = LINGER_SECONDS
                return response
            finally:
                guard.rest(seconds)

        return noted

    async def listen(
        self, runner: web.BaseRunner, host: str, port: int, context: ssl.SSLContext | None = None
    ) -> asyncio.Server:
        """Serve a runner's application at an address; the caller closes the server. Raises OSError."""
        assert runner.server is not None  # noqa: S101 - it is set up
        handshake = self.head if context else None
        return await asyncio.get_running_loop().create_server(
            self.factory(runner.server), host, port, ssl=context, ssl_handshake_timeout=handshake
        )


class Guard(asyncio.Protocol):
    """One connection: passes everything on to `inner`, and ends it where a head takes too long."""

    def __init__(self, connections: Connections, inner: asyncio.Protocol) -> None:
        self._connections, self._inner = connections, inner
        self._timer: asyncio.TimerHandle | None = None
        self.busy = False
        self._in_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit it, and wait for the head of its first request."""
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.source = str(peer[0]) if isinstance(peer, tuple) else ""
        self._wait(self._connections.head)
        self._in_head = True
        self._inner.connection_made(transport)
        self._connections.admit(self)

    def data_received(self, data: bytes) -> None:
        """The first bytes after a request start the clock of the next head; more of them do not restart it."""
        if not self.busy and not self._in_head:
            self._in_head = True
            self._wait(self._connections.head)
        self._inner.data_received(data)

    def begin(self) -> None:
        """A head is complete, and its request is being answered."""
        self.busy, self._in_head = True, False
        if self._timer is not None:
            self._timer.cancel()

    def rest(self, seconds: float) -> None:
        """A request is answered; the next one must begin within so many seconds."""
        self.busy = False
        self._wait(seconds)

    def end(self) -> None:
        """Close it at once."""
        self._connections.forget(self)
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end)

    def eof_received(self) -> bool | None:
        """Passed on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Passed on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Passed on."""
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        if self._timer is not None:
            self._timer.cancel()
        self._connections.forget(self)
        self._inner.connection_lost(error)
