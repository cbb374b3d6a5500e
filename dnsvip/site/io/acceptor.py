"""Accepting connections a few at a time, so that a stream of them leaves the event loop to others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

ACCEPTED = 8
"""Connections accepted in one turn of the event loop."""

PAUSE_SECONDS = 0.1
"""Without accepting, where there is no descriptor."""


class Acceptor:
    """Gives `take` each connection of a bound socket, and its peer's address, until it is closed. `backlog` connections
    wait in the kernel."""

    def __init__(self, sock: socket.socket, take: Callable[[socket.socket, Any], None], backlog: int) -> None:
        self._loop, self._sock, self._take = asyncio.get_running_loop(), sock, take
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        sock.listen(backlog)
        self._resume()

    def close(self) -> None:
        """Accept nothing more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _resume(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor: the kernel keeps them waiting
                self._loop.remove_reader(self._sock.fileno())
                self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)
                return
            self._take(sock, peer)
