"""A Unix socket whose connections have places: their users are known before anything is read.

Few are accepted in one turn of the event loop, and what gets no place is closed at once, so that descriptors remain for
keys and the token, whatever the programs of the machine open.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from dnsvip.decoder.places import Place, Places
from dnsvip.site.io.acceptor import Acceptor

BACKLOG = 128
"""Connections that wait in the kernel."""

_CREDENTIALS = struct.Struct("3i")
"""struct ucred (unix(7)): process, user, group."""


class Door:
    """Accepts the connections of a bound socket until it is closed. `make` gives each its protocol, for its guard;
    `refusal` is what one without a place is told."""

    def __init__(
        self, sock: socket.socket, places: Places, make: Callable[[Guard], asyncio.BaseProtocol], refusal: bytes
    ) -> None:
        self._loop, self._places, self._make = asyncio.get_running_loop(), places, make
        self._refusal = refusal
        self._opening: set[asyncio.Task[None]] = set()
        self._acceptor = Acceptor(sock, self._admit, BACKLOG)

    def close(self) -> None:
        """Accept nothing more."""
        self._acceptor.close()

    def _admit(self, sock: socket.socket, _peer: object) -> None:
        guard = Guard(self._places, _user_of(sock), self._loop.time())
        sock.setblocking(False)
        if not self._places.enter(guard.place):
            with suppress(OSError):
                sock.send(self._refusal)
            sock.close()
            return
        guard.inner = self._make(guard)
        opening = self._loop.create_task(self._open(guard, sock))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, guard: Guard, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: guard, sock)
        except OSError:
            self._places.leave(guard.place)
            sock.close()


class Guard(asyncio.Protocol):
    """One connection and its place: passes everything on to `inner`."""

    inner: asyncio.BaseProtocol

    def __init__(self, places: Places, user: int, now: float) -> None:
        self._places, self._loop = places, asyncio.get_running_loop()
        self.place = Place(user, now, self._end)
        self.transport: asyncio.Transport | None = None
        self._ended = False

    def use(self, *, busy: bool) -> None:
        """A question has come (`busy`), or its answer has been taken."""
        self._places.use(self.place, self._loop.time(), busy=busy)

    def _end(self) -> None:
        self._ended = True
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Passed on, unless it has lost its place already."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class
        self.inner.connection_made(transport)
        if self._ended:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Passed on."""
        cast("asyncio.Protocol", self.inner).data_received(data)

    def eof_received(self) -> bool | None:
        """Passed on."""
        return cast("asyncio.Protocol", self.inner).eof_received()

    def pause_writing(self) -> None:
        """Passed on."""
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Passed on."""
        self.inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Give the place back."""
        self._places.leave(self.place)
        self.inner.connection_lost(error)


def _user_of(sock: socket.socket) -> int:
    """The user that connected, as it was then."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])
