"""TCP connections of one server, on an epoll of their own within the event loop.

A transport of the event loop costs a new connection more than all that we note of it. Here it costs the system calls
that it needs: it is accepted, read from when something is there, written to at once, and closed.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from select import EPOLLIN, EPOLLOUT, epoll
from typing import Protocol

BACKLOG = 512
"""Connections that the kernel holds for us to accept."""

READ = 1 << 13
"""Bytes read at once."""

MOST = 64
"""Connections that are read from before the event loop has its turn."""

HIGH, LOW = 1 << 16, 1 << 14
"""Bytes that wait to be sent beyond which a stream is told to pause, and at which it may go on."""

PAUSE = 0.5
"""Seconds without accepting, where there are no descriptors or no memory for another connection."""

_FULL = EMFILE, ENFILE, ENOBUFS, ENOMEM


class Served(Protocol):
    """A stream, as its wire sees it. It is told of its end once, and never while it is in a call to the wire."""

    def connection_made(self, wire: Wire) -> None:
        """Begin; it may be aborted at once."""

    def received(self, data: bytes) -> None:
        """Take what was read."""

    def eof_received(self) -> None:
        """The peer sends no more."""

    def pause_writing(self) -> None:
        """The peer does not read."""

    def resume_writing(self) -> None:
        """The peer reads again."""

    def connection_lost(self) -> None:
        """The connection is over."""


class Wire:
    """One connection. What is written is sent at once, or kept until the peer reads."""

    __slots__ = ("_lost", "_mask", "_paused", "_reading", "_stream", "_unsent", "_wires", "closing", "fd", "peer")

    def __init__(self, wires: Wires, fd: int, peer: str, stream: Served) -> None:
        self._wires, self.fd, self.peer, self._stream = wires, fd, peer, stream
        self._unsent: bytearray | None = None
        self._mask = EPOLLIN
        self._reading = True
        self._lost = self._paused = self.closing = False

    @property
    def waiting(self) -> int:
        """Bytes that are written and not sent."""
        return len(self._unsent) if self._unsent is not None else 0

    def write(self, data: bytes) -> None:
        """Send; nothing is sent where the connection is closing."""
        if self.closing or not data:
            return
        if self._unsent is None:
            try:
                sent = os.write(self.fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.abort()
                return
            if sent == len(data):
                return
            self._unsent = bytearray(memoryview(data)[sent:])
            self._watch()
        else:
            self._unsent += data
        if len(self._unsent) > HIGH and not self._paused:
            self._paused = True
            self._stream.pause_writing()

    def pause_reading(self) -> None:
        """Leave what the peer sends to the kernel."""
        self._reading = False
        self._watch()

    def resume_reading(self) -> None:
        """Read again."""
        if not self.closing:
            self._reading = True
            self._watch()

    def close(self) -> None:
        """Read no more, and end when all is sent."""
        if self.closing:
            return
        self.closing, self._reading = True, False
        if self._unsent is None:
            self.abort()
        else:
            self._watch()

    def abort(self) -> None:
        """End now."""
        if not self._lost:
            self._lost = self.closing = True
            self._reading, self._unsent = False, None
            self._wires.lost(self)

    def ready(self, events: int) -> None:
        """Read, or send what waits. Others of the same moment may have ended it before."""
        if self._unsent is not None and events != EPOLLIN:
            self._send()
        if not self._reading or events == EPOLLOUT:
            return
        try:
            data = os.read(self.fd, READ)
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if data:
            self._stream.received(data)
        else:
            self._reading = False
            self._stream.eof_received()
            self._watch()

    def begin(self) -> None:
        """Be told of what is read, and have the stream begin."""
        self._wires.add(self.fd, self)
        try:
            self._stream.connection_made(self)
        except Exception:
            self.abort()
            raise

    def end(self) -> None:
        """Release it; nothing refers to it any more but its stream."""
        os.close(self.fd)
        stream = self._stream
        del self._stream
        stream.connection_lost()

    def _send(self) -> None:
        unsent = self._unsent
        assert unsent is not None  # noqa: S101 - its caller has seen to it
        try:
            del unsent[: os.write(self.fd, unsent)]
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if not unsent:
            self._unsent = None
            if self.closing:
                self.abort()
                return
            self._watch()
        if self._paused and len(unsent) <= LOW:
            self._paused = False
            self._stream.resume_writing()

    def _watch(self) -> None:
        """Be told of what matters now. Of nothing else: who has nothing to do with a connection that was reset would be
        told of it for ever."""
        mask = (EPOLLIN if self._reading else 0) | (EPOLLOUT if self._unsent is not None else 0)
        if mask != self._mask and not self._lost:
            self._wires.watch(self.fd, self._mask, mask)
            self._mask = mask


class Door:
    """A socket that connections come by; `serve` makes the stream of each."""

    def __init__(self, wires: Wires, sock: socket.socket, serve: Callable[[], Served]) -> None:
        self._wires, self._sock, self._serve = wires, sock, serve
        self.fd = sock.fileno()

    def ready(self, _events: int) -> None:
        """Accept one: the others have their turn behind those that are being served."""
        try:
            fd, peer = self._sock._accept()  # type: ignore[attr-defined]  # no socket object
        except OSError as error:
            if error.errno in _FULL:
                self._wires.pause(self)
            return  # or it has gone before it was accepted
        os.set_blocking(fd, False)
        Wire(self._wires, fd, peer[0], self._serve()).begin()

    def end(self) -> None:
        """Accept no more."""
        self._sock.close()


class Wires:
    """The connections of a server and the doors they come by; `turn` is called before any are served in a turn of the
    event loop. Belongs to it, until it is closed and the last of them has ended."""

    def __init__(self, turn: Callable[[], None]) -> None:
        self._loop, self._turn = asyncio.get_running_loop(), turn
        self._epoll = epoll()
        self._poll = self._epoll.poll
        self._open: dict[int, Wire | Door] = {}
        self._ended: list[Wire] = []
        self._serving = self._closed = False
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def listen(self, sock: socket.socket, serve: Callable[[], Served]) -> None:
        """Accept connections of a bound socket."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # of each connection
        sock.listen(BACKLOG)
        door = Door(self, sock, serve)
        self.add(door.fd, door)

    def close(self) -> None:
        """Accept no more; the connections end as they are closed."""
        self._closed = True
        for one in list(self._open.values()):
            if isinstance(one, Door):
                del self._open[one.fd]
                one.end()
        self._end()

    def add(self, fd: int, one: Wire | Door) -> None:
        """Be told when there is something to read."""
        self._open[fd] = one
        self._epoll.register(fd, EPOLLIN)

    def watch(self, fd: int, before: int, mask: int) -> None:
        """Be told of other events."""
        if not mask:
            self._epoll.unregister(fd)
        elif not before:
            self._epoll.register(fd, mask)
        else:
            self._epoll.modify(fd, mask)

    def pause(self, door: Door) -> None:
        """Accept nothing for a while."""
        self._epoll.unregister(door.fd)
        self._loop.call_later(PAUSE, self._resume, door)

    def lost(self, wire: Wire) -> None:
        """Have a connection end soon: its stream may be in the middle of something."""
        self._ended.append(wire)
        if not self._serving and len(self._ended) == 1:
            self._loop.call_soon(self._end)

    def _resume(self, door: Door) -> None:
        if self._open.get(door.fd) is door:
            self._epoll.register(door.fd, EPOLLIN)

    def _ready(self) -> None:
        self._serving = True
        self._turn()
        for fd, events in self._poll(0, MOST):
            one = self._open.get(fd)
            if one is not None:
                try:
                    one.ready(events)
                except Exception as error:  # noqa: BLE001 - a fault of ours costs one connection
                    self._failed(one, error)
        self._serving = False
        if self._ended:
            self._end()

    def _end(self) -> None:
        for wire in self._ended:  # and those that it makes end
            del self._open[wire.fd]
            try:
                wire.end()
            except Exception as error:  # noqa: BLE001 - see above
                self._failed(wire, error)
        self._ended.clear()
        if self._closed and not self._open and not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _failed(self, one: Wire | Door, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "a connection failed", "exception": error})
        if isinstance(one, Wire):
            one.abort()
