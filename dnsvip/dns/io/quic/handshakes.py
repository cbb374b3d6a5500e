"""Handshakes of a server's connections: whose turn it is, how many are under way, and from where.

A handshake costs a millisecond of processor time, a thousand times as much as its first datagram costs who sends it,
from an address that may be forged. So they take half of the time at most, one at a time, of each source (/24, /56) in
its turn; and where MOST_UNPROVEN are under way, a newcomer has to prove first that it receives what is sent to it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from dnsvip.dns.io.buffers import Destination
from dnsvip.dns.io.gate import Gate, StreamLimits
from dnsvip.dns.io.quic.connection import Connection
from dnsvip.dns.protection.sources import source_of
from dnsvip.fair_queue import FairQueue

SLICE = 0.0005
"""Seconds after which no other handshake is begun or continued in one turn of the event loop: one takes longer."""

PAUSE = 0.001
"""Seconds between two slices."""

MOST_UNPROVEN = 16
"""Handshakes under way whose peers may have forged their addresses."""

MOST_PROVEN, MOST_OF_SOURCE = 512, 16
"""Handshakes under way whose peers have not, in all and of one source (as `Gate` counts them)."""

MOST_NEWCOMERS = 1024
"""First datagrams that wait for their turn; of sources that have most of them, the oldest go."""


class Newcomer(NamedTuple):
    """A first datagram, and the address that it is from."""

    data: bytes
    destination: Destination
    packed: bytes


class Handshakes:
    """All that are under way at one server."""

    def __init__(self, tally: Counter[str]) -> None:
        self._gate = Gate(StreamLimits(MOST_PROVEN, MOST_OF_SOURCE))
        self._unproven: set[Connection] = set()
        self._opening: FairQueue[Connection] = FairQueue(sys.maxsize)  # each is in it once, and they are bounded
        self._newcomers: FairQueue[tuple[Newcomer, Callable[[Newcomer], None]]] = FairQueue(MOST_NEWCOMERS)
        self._scheduled: asyncio.Handle | None = None
        self._tally = tally

    @property
    def crowded(self) -> bool:
        """Whether newcomers have to prove their addresses."""
        return len(self._unproven) >= MOST_UNPROVEN

    def enter(self, connection: Connection, *, proven: bool) -> bool:
        """Begin a handshake; False where its source has too many under way."""
        if proven:
            return self._gate.enter(connection)
        self._unproven.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """It is over."""
        self._unproven.discard(connection)
        self._gate.leave(connection)

    def welcome(self, newcomer: Newcomer, take: Callable[[Newcomer], None]) -> None:
        """Have a newcomer taken in its turn."""
        dropped = self._newcomers.put(source_of(newcomer.packed), (newcomer, take))
        if dropped:
            self._tally["quic_busy"] += len(dropped)
        self._schedule()

    def add(self, connection: Connection) -> None:
        """Give a connection a turn; it must not have one."""
        self._opening.put(source_of(connection.source.packed), connection)
        self._schedule()

    def close(self) -> None:
        """Take nobody any more."""
        self._newcomers = FairQueue(MOST_NEWCOMERS)

    def _schedule(self) -> None:
        if self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        """Continue a handshake, begin another, and so on, for a slice of time."""
        end = perf_counter() + SLICE
        while self._continue() | self._begin():
            if perf_counter() >= end:
                break
        self._scheduled = None
        if self._opening or self._newcomers:
            self._scheduled = asyncio.get_running_loop().call_later(PAUSE, self._run)

    def _continue(self) -> bool:
        """Go on with the handshake whose turn it is."""
        connection = self._opening.take()
        if connection is None:
            return False
        try:
            if connection.work():
                connection.next_turn()
        except Exception as error:  # noqa: BLE001 - a fault of ours costs one connection, not the turns of all
            _report(error)
            connection.fail()
        return True

    def _begin(self) -> bool:
        """Take the newcomer whose turn it is."""
        if (next_ := self._newcomers.take()) is None:
            return False
        newcomer, take = next_
        try:
            take(newcomer)
        except Exception as error:  # noqa: BLE001 - as above
            _report(error)
        return True


def _report(error: Exception) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": "a handshake failed", "exception": error})
