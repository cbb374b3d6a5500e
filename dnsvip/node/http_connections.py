"""Bounds on the connections of an HTTP listener: seconds for a head and between requests, numbers in all and each.

aiohttp waits for a head as long as its sender likes. A Guard stands between the transport and aiohttp's protocol and
ends what takes too long. Where there are too many, one without a request in progress goes first, of the network (/24,
/48) with most of them the one that waits longest; where all have one, the oldest of a network with more than the
newcomer's.
A TLS handshake that has not ended is a head that has not ended.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from dnsvip.admin.http.problems import Handler
from dnsvip.dns.protection.crowds import Crowds, network_of
from dnsvip.node.give_way import never
from dnsvip.site.io.acceptor import Acceptor
from dnsvip.site.node_admin import AdminLimits

LINGER_SECONDS = 1.0
"""From a request whose body took too long to the end of the connection: time to read the answer."""

# aiohttp logs what does not parse as HTTP with a traceback: the sender's address, and up to megabytes of what it sent.
logging.getLogger("aiohttp.server").addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
)

BACKLOG = 512
BUFFER = 1 << 17
"""Bytes of answers that the kernel holds of a connection, at twice as much memory; by default up to 4 MB, for anybody
who sends requests and does not read."""

Context = Callable[[], ssl.SSLContext | None]
"""What a connection that begins now speaks TLS with; None for plain HTTP."""


def plain() -> None:
    """No TLS."""


class Connections:
    """The connections of one listener within `limits`; `most` (descriptors) bounds them further.

    A peer that is `shared`, such as a proxy, speaks for many: its connections are bounded like all together.
    `give_way` is called before each step: a connection, a piece of a request, a request, a TLS handshake, an end.
    """

    def __init__(
        self,
        limits: AdminLimits | None = None,
        most: int | None = None,
        shared: Callable[[str], bool] = lambda _: False,
        give_way: Callable[..., None] = never,
    ) -> None:
        self.give_way = give_way
        self.shared = shared
        self.limits = limits or AdminLimits()
        self.most = min(self.limits.connections, most or self.limits.connections)
        self.by_transport: dict[asyncio.BaseTransport, Guard] = {}
        self._held: dict[Guard, None] = {}
        self._sources: Counter[str] = Counter()
        self._waiting: Crowds[Guard] = Crowds()
        self._all: Crowds[Guard] = Crowds()

    def admit(self, guard: Guard) -> bool:
        """Take a connection in; where there are too many another one goes, or this one: False."""
        per_source = self.most if guard.shared else self.limits.per_source
        if self._sources[guard.source] >= per_source:
            self._end_waiting_of(guard.source)
        elif len(self._held) >= self.most and (gone := self._in_the_way(guard)) is not None:
            gone.end()
        if self._sources[guard.source] >= per_source or len(self._held) >= self.most:
            return False
        self._held[guard] = None
        self._sources[guard.source] += 1
        self._all.add(guard.network, guard)
        self._waiting.add(guard.network, guard)
        return True

    def note(self, guard: Guard) -> None:
        """Whether a connection has a request in progress has changed."""
        if guard in self._held:
            self._waiting.remove(guard.network, guard)
            if not guard.busy:
                self._waiting.add(guard.network, guard)

    def forget(self, guard: Guard) -> None:
        """A connection is over."""
        if guard.transport is not None:
            self.by_transport.pop(guard.transport, None)
        if guard in self._held:
            del self._held[guard]
            self._all.remove(guard.network, guard)
            self._waiting.remove(guard.network, guard)
            self._sources[guard.source] -= 1
            if not self._sources[guard.source]:
                del self._sources[guard.source]

    def _end_waiting_of(self, source: str) -> None:
        waiting = (guard for guard in self._held if not guard.busy and guard.source == source)
        if (oldest := next(waiting, None)) is not None:
            oldest.end()

    def _in_the_way(self, newcomer: Guard) -> Guard | None:
        """Who makes room for a newcomer where all places are taken: nobody of a network that has fewer than its own."""
        network, own = newcomer.network, self._all.size(newcomer.network)
        waiting, busy = self._waiting.in_the_way(network), self._all.in_the_way(network)
        if waiting is not None and self._all.size(waiting.network) >= own:
            return waiting
        return busy if busy is not None and self._all.size(busy.network) > own + 1 else None

    def middleware(self) -> Any:
        """A middleware, the outermost one, that notes which connections have a request in progress."""

        @web.middleware
        async def noted(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.give_way()
            guard = self.by_transport.get(request.transport) if request.transport is not None else None
            if guard is None:
                return await handler(request)
            guard.begin()
            seconds = self.limits.idle_seconds
            try:
                response = await handler(request)
                if response.status == web.HTTPRequestTimeout.status_code:
                    seconds = LINGER_SECONDS
                return response
            finally:
                guard.rest(seconds)

        return noted

    def listen(self, runner: web.BaseRunner, sock: socket.socket, context: Context = plain) -> Listening:
        """Serve a runner's application at a bound socket, until that is closed. Raises OSError."""
        assert runner.server is not None  # noqa: S101 - it is set up
        return Listening(sock, lambda inner=runner.server: Guard(self, inner()), context)  # type: ignore[misc]


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket at an address, whose connections hold answers up to BUFFER. Raises OSError."""
    sock = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return sock


class Listening:
    """A listening socket whose connections are bounded from the moment they are accepted, TLS or not."""

    def __init__(self, sock: socket.socket, make: Callable[[], Guard], context: Context = plain) -> None:
        self.address: tuple[str, int] = sock.getsockname()[:2]
        """Address and port."""
        self._make, self._context = make, context
        self._acceptor = Acceptor(sock, self._open, BACKLOG)

    def close(self) -> None:
        """Accept nothing more."""
        self._acceptor.close()

    def _open(self, sock: socket.socket, peer: object) -> None:
        self._make().open(sock, peer, self._context())


class Guard(asyncio.Protocol):
    """One connection: passes everything on to `inner`, and ends it where a head takes too long.

    A TLS handshake is part of the first head: a peer that never begins one holds a connection like any other.
    """

    def __init__(self, connections: Connections, inner: asyncio.Protocol) -> None:
        self._connections, self._inner = connections, inner
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.source, self.shared = "", False
        self.network: tuple[int, int] | None = None
        self.busy = self._lost = False
        self._in_head = True

    def open(self, sock: socket.socket, peer: object, context: ssl.SSLContext | None) -> None:
        """Admit an accepted connection, or close it."""
        if isinstance(peer, tuple):  # else it comes by a Unix socket, which is one source
            address = ip_address(str(peer[0]).partition("%")[0])
            self.source, self.network = _source(address), network_of(address)
        self.shared = self._connections.shared(str(peer[0]) if isinstance(peer, tuple) else "")
        if not self._connections.admit(self):
            sock.close()
            return
        self._wait(self._connections.limits.head_seconds)
        self._sock = sock
        self._opening = asyncio.ensure_future(self._open(sock, context))

    async def _open(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        seconds = None
        if context is not None:
            context.sni_callback = self._connections.give_way  # before the handshake computes anything costly
            seconds = self._connections.limits.head_seconds
        try:
            await loop.connect_accepted_socket(lambda: self, sock, ssl=context, ssl_handshake_timeout=seconds)
        except (OSError, EOFError, asyncio.CancelledError):  # the peer's fault, it is gone, or it made room
            sock.detach()  # the transport closes the descriptor
            self.end()
        finally:
            self._opening = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the head of its first request."""
        self._connections.give_way()
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class
        self._connections.by_transport[transport] = self
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """The first bytes after a request start the clock of the next head; more of them do not restart it."""
        self._connections.give_way()
        if not self.busy and not self._in_head:
            self._in_head = True
            self._wait(self._connections.limits.head_seconds)
        self._inner.data_received(data)

    def begin(self) -> None:
        """A head is complete, and its request is being answered."""
        self.busy, self._in_head = True, False
        self._connections.note(self)
        if self._timer is not None:
            self._timer.cancel()

    def rest(self, seconds: float) -> None:
        """A request is answered; the next one must begin within so many seconds."""
        self.busy = False
        self._connections.note(self)
        if not self._lost:
            self._wait(seconds)

    def end(self) -> None:
        """Close it at once."""
        if self._timer is not None:
            self._timer.cancel()
        self._connections.forget(self)
        if self.transport is not None:
            self.transport.abort()
        elif self._opening is not None:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)  # a transport in its handshake would say goodbye first
            self._opening.cancel()

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end)

    def eof_received(self) -> bool | None:
        """Passed on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Passed on; the peer has some time to read."""
        self._watch_reader(self._unread)
        self._inner.pause_writing()

    @property
    def _unread(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def _watch_reader(self, before: int) -> None:
        """Close it unless its peer takes some of the `before` bytes in time, and so again and again."""
        limits = self._connections.limits

        def look() -> None:
            left = self._unread
            if keeps_up(before, left, limits.write_seconds, limits.body_rate):
                self._watch_reader(left)
            else:
                self.end()

        self._stuck = asyncio.get_running_loop().call_later(limits.write_seconds, look)

    def resume_writing(self) -> None:
        """Passed on."""
        if self._stuck is not None:
            self._stuck.cancel()
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        self._connections.give_way()
        self._lost = True
        for handle in (self._timer, self._stuck):
            if handle is not None:
                handle.cancel()
        self._connections.forget(self)
        self._inner.connection_lost(error)


def keeps_up(before: int, left: int, seconds: float, rate: int) -> bool:
    """Whether a peer that has left so many bytes of `before` reads at an eighth of a rate, bytes/s, at least."""
    return before - left >= seconds * rate / 8


def _source(address: IPv4Address | IPv6Address) -> str:
    """What connections are counted by: an IPv4 address, an IPv6 /64."""
    return str(address) if address.version == 4 else str(int(address) >> 64)
